//! A report as one HTML page that needs nothing else: no script, no other file. Called by `run` and
//! `sweep`; computes nothing.
//!
//! Everything that is written into it is text from elsewhere (scenarios, other nodes' words) and
//! gets escaped, but for the plots, which escape what they hold.

mod text;

pub(crate) use text::{figure, plain};

use super::plot::{
    Picture,
    style::{GRID, INK, MUTED, PAPER},
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use plotters::style::RGBColor;

/// Longer scenarios are cut.
const MOST_TEXT_CHARS: usize = 100_000;
const MOST_CELL_CHARS: usize = 300;
/// Even if a page could be tricked into holding a script, no browser would run it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// A table of texts. Columns whose cells are all numbers stand to the right.
#[derive(Debug, Clone, Default)]
pub(crate) struct TextTable {
    pub title: String,
    /// What was left out, or why it is empty.
    pub note: String,
    pub header: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

/// The verdict line.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub good: bool,
    pub line: String,
    /// One for each violation.
    pub items: Vec<String>,
}

/// Everything on the page, from the top down.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub title: String,
    pub verdict: Verdict,
    /// Seed, versions, trace hash.
    pub facts: Vec<(String, String)>,
    /// Names and values.
    pub figures: Vec<(String, String)>,
    pub plots: Vec<Picture>,
    pub tables: Vec<TextTable>,
    /// The scenario as it was written, if it is known.
    pub scenario: Option<String>,
}

impl Report {
    pub(crate) fn html(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    title { (plain(&self.title, MOST_CELL_CHARS)) }
                    style { (PreEscaped(style_sheet())) }
                }
                body { main {
                    h1 { (plain(&self.title, MOST_CELL_CHARS)) }
                    (self.verdict.html())
                    (pairs("facts", &self.facts))
                    @if !self.figures.is_empty() {
                        h2 { "Key figures" }
                        (pairs("figures", &self.figures))
                    }
                    @for plot in &self.plots { figure class="plot" { (PreEscaped(plot.svg())) } }
                    @for table in &self.tables { (table.html()) }
                    @if let Some(scenario) = &self.scenario {
                        h2 { "Scenario" }
                        pre { (plain(scenario, MOST_TEXT_CHARS)) }
                    }
                } }
            }
        };
        page.into_string()
    }
}

impl Verdict {
    fn html(&self) -> Markup {
        html! {
            p.verdict.bad[!self.good] { (plain(&self.line, MOST_CELL_CHARS)) }
            @if !self.items.is_empty() {
                ul.violations {
                    @for item in &self.items { li { (plain(item, MOST_CELL_CHARS)) } }
                }
            }
        }
    }
}

impl TextTable {
    fn html(&self) -> Markup {
        let right = |column: usize| {
            let mut cells = self.rows.iter().filter_map(|row| row.get(column)).peekable();
            cells.peek().is_some() && cells.all(|cell| text::is_number(cell))
        };
        let right: Vec<bool> = (0..self.header.len()).map(right).collect();
        let is_right = |column: usize| right.get(column).copied().unwrap_or(false);
        html! {
            section {
                h2 { (plain(&self.title, MOST_CELL_CHARS)) }
                @if !self.note.is_empty() { p.note { (plain(&self.note, MOST_CELL_CHARS)) } }
                @if !self.rows.is_empty() {
                    div.wide { table {
                        thead { tr {
                            @for (column, name) in self.header.iter().enumerate() {
                                th.right[is_right(column)] { (name) }
                            }
                        } }
                        tbody { @for row in &self.rows { tr {
                            @for (column, cell) in row.iter().enumerate() {
                                td.right[is_right(column)] { (plain(cell, MOST_CELL_CHARS)) }
                            }
                        } } }
                    } }
                }
            }
        }
    }
}

fn pairs(class: &str, pairs: &[(String, String)]) -> Markup {
    html! {
        dl class=(class) {
            @for (name, value) in pairs {
                div {
                    dt { (plain(name, MOST_CELL_CHARS)) }
                    dd { (plain(value, MOST_CELL_CHARS)) }
                }
            }
        }
    }
}

/// The page's style, and rules that exchange the plots' neutral colours with the page's.
fn style_sheet() -> String {
    let mut sheet = include_str!("style.css").to_owned();
    let neutral = [("--paper", PAPER), ("--ink", INK), ("--muted", MUTED), ("--grid", GRID)];
    for (name, RGBColor(red, green, blue)) in neutral {
        for property in ["fill", "stroke"] {
            let color = format!("#{red:02X}{green:02X}{blue:02X}");
            sheet += &format!(".plot [{property}=\"{color}\"]{{{property}:var({name})}}\n");
        }
    }
    sheet
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
