//! Words and numbers for readers. Used by the report and by those who fill it; escapes nothing,
//! which is the page's business.

use crate::output::plot::{bytes, milliseconds};

/// A text without the control characters that no page should hold, and of a bounded length.
pub(crate) fn plain(text: &str, most_chars: usize) -> String {
    let clean = |one: char| match one {
        '\n' | '\t' => one,
        '\r' => '\n',
        // These would rearrange what stands around them.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        one if one.is_control() => '\u{fffd}',
        one => one,
    };
    let mut short: String =
        text.replace("\r\n", "\n").chars().take(most_chars).map(clean).collect();
    if text.chars().nth(most_chars).is_some() {
        short.push('…');
    }
    short
}

/// Whether a cell belongs in a column of numbers: it is missing, or a number with or without a
/// unit.
pub(super) fn is_number(cell: &str) -> bool {
    let first = cell.split(' ').next().unwrap_or("");
    first.is_empty() || first == "–" || first.parse::<f64>().is_ok()
}

/// A figure's name in words and its value with its unit, which its name ends with.
pub(crate) fn figure(name: &str, value: f64) -> (String, String) {
    type Show = fn(f64) -> String;
    let units: [(&str, Show); 5] = [
        ("_ms", milliseconds),
        ("_s", |value| milliseconds(value * 1e3)),
        ("_bytes", bytes),
        ("_microcredits", |value| format!("{} credits", number(value / 1e6))),
        ("_share", |value| format!("{:.1} %", value * 100.0)),
    ];
    let unit = units.iter().find_map(|(suffix, text)| {
        name.strip_suffix(suffix).map(|name| (name.to_owned(), text(value)))
    });
    let (mut name, value) = unit.unwrap_or_else(|| (name.to_owned(), number(value)));
    if value.ends_with('%') {
        name.push_str(" share");
    }
    (name.replace('_', " "), value)
}

/// A number without unit: whole if it is, else with three decimals.
pub(crate) fn number(value: f64) -> String {
    if value.abs() >= 1e15 {
        format!("{value:.3e}")
    } else if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_show_the_unit_that_their_name_ends_with() {
        let shown = |name, value| {
            let (name, value) = figure(name, value);
            format!("{name}: {value}")
        };
        assert_eq!(shown("delivery_p50_ms", 12.34), "delivery p50: 12.3 ms");
        assert_eq!(shown("job_p99_s", 75.0), "job p99: 75.0 s");
        assert_eq!(shown("sent_bytes", 2.5e6), "sent: 2.5 MB");
        assert_eq!(shown("supply_microcredits", 5e9), "supply: 5000 credits");
        assert_eq!(shown("jobs_completed_share", 0.5), "jobs completed share: 50.0 %");
        assert_eq!(shown("load_gini", 0.25), "load gini: 0.250");
        assert_eq!(shown("jobs", 12.0), "jobs: 12");
    }

    #[test]
    fn strange_characters_are_replaced_and_long_texts_cut() {
        assert_eq!(plain("a\r\nb\u{0}\u{202e}c", 9), "a\nb\u{fffd}\u{fffd}c");
        assert_eq!(plain("abc", 2), "ab…");
    }
}
