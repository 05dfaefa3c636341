//! `archipelag-sim plot DIR` for a directory of runs: each figure by each parameter that varies.
//! Called by the command line; reads summaries only, never tables.

use super::{
    Error,
    plot::{Picture, SweepAxis, SweepLine, Unit, sweep},
    report::{Report, TextTable, Verdict, figure},
    run::{save, write_report},
    stats::Distribution,
    summary::{Parameter, Summary},
};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// One run of the sweep.
struct Run {
    name: String,
    summary: Summary,
}

/// Draws `plots/` and writes `sweep.html` within `dir`, whose subdirectories are runs. Those
/// without a summary were interrupted and are only counted. Returns the path of the report.
///
/// # Errors
/// [`Error::NotARun`] if no subdirectory has a summary, otherwise what reading, drawing or writing
/// said.
pub fn plot_sweep(dir: &Path) -> Result<PathBuf, Error> {
    let (runs, interrupted) = read(dir)?;
    if runs.is_empty() {
        return Err(Error::NotARun { path: dir.to_owned(), missing: "directory with a summary" });
    }
    let parameters = varying(&runs);
    let (varied, constant) = figures(&runs);
    let mut plots = Vec::new();
    for parameter in &parameters {
        for name in &varied {
            plots.push((
                file_name(plots.len(), parameter, name),
                plot(&runs, &parameters, parameter, name)?,
            ));
        }
    }
    save(dir, plots.iter().map(|(name, plot)| (name.clone(), plot)))?;
    let first = &runs[0].summary;
    let constant = constant.into_iter().map(|(name, value)| figure(&name, value)).collect();
    let report = Report {
        title: format!("{}: {} runs", first.scenario, runs.len()),
        verdict: verdict(&runs, interrupted),
        facts: facts(first, &parameters),
        figures: constant,
        plots: plots.into_iter().map(|(_, plot)| plot).collect(),
        tables: vec![table(&runs, &parameters)],
        scenario: None,
    };
    write_report(dir, "sweep.html", &report)
}

/// The runs in order, and how many directories have no summary.
fn read(dir: &Path) -> Result<(Vec<Run>, usize), Error> {
    let mut dirs = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
        let path = entry.map_err(Error::io(dir))?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "plots") {
            dirs.push(path);
        }
    }
    dirs.sort();
    let (mut runs, mut interrupted) = (Vec::new(), 0);
    for path in dirs {
        let Some(summary) = Summary::read(&path)? else {
            interrupted += 1;
            continue;
        };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        runs.push(Run { name: name.unwrap_or_default(), summary });
    }
    runs.sort_by(order);
    Ok((runs, interrupted))
}

/// By parameters, numbers by their size, then by seed.
fn order(one: &Run, other: &Run) -> Ordering {
    let value = |pair: (&Parameter, &Parameter)| match pair {
        (Parameter::Number(one), Parameter::Number(other)) => one.total_cmp(other),
        (one, other) => one.to_string().cmp(&other.to_string()),
    };
    let (mine, theirs) = (one.summary.parameters.values(), other.summary.parameters.values());
    let parameters = mine.zip(theirs).map(value).find(|order| order.is_ne());
    let seeds = one.summary.seed.cmp(&other.summary.seed);
    parameters.unwrap_or(Ordering::Equal).then(seeds).then_with(|| one.name.cmp(&other.name))
}

/// The parameters that are not the same in all runs. Seeds make repetitions, not parameters.
fn varying(runs: &[Run]) -> Vec<String> {
    let names: BTreeSet<&String> =
        runs.iter().flat_map(|run| run.summary.parameters.keys()).collect();
    let varies = |name: &&&String| {
        let mut values = runs.iter().map(|run| run.summary.parameters.get(**name));
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let names = names.iter().filter(varies).map(|name| (*name).clone());
    names.filter(|name| name != "seed").collect()
}

/// The figures that are not the same in all runs, and those that are with their value.
fn figures(runs: &[Run]) -> (Vec<String>, BTreeMap<String, f64>) {
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.summary.figures.keys()).collect();
    let (mut varied, mut constant) = (Vec::new(), BTreeMap::new());
    for name in names {
        let values: Distribution =
            runs.iter().filter_map(|run| run.summary.figures.get(name)).copied().collect();
        match (values.min(), values.max()) {
            (Some(min), Some(max)) if min.total_cmp(&max).is_eq() => {
                constant.insert(name.clone(), min);
            }
            _ => varied.push(name.clone()),
        }
    }
    (varied, constant)
}

fn plot(
    runs: &[Run],
    parameters: &[String],
    parameter: &str,
    name: &str,
) -> Result<Picture, Error> {
    let (axis, places) = places(runs, parameter);
    let others: Vec<&String> = parameters.iter().filter(|other| *other != parameter).collect();
    // By line, in the order of the runs, and then by place, told apart by its bits.
    let mut lines: Vec<(String, BTreeMap<u64, Vec<f64>>)> = Vec::new();
    for (run, place) in runs.iter().zip(places) {
        let (Some(place), Some(value)) = (place, run.summary.figures.get(name)) else { continue };
        let setting = setting(&run.summary, &others);
        let known = lines.iter().position(|line| line.0 == setting);
        let line = known.unwrap_or_else(|| {
            lines.push((setting, BTreeMap::new()));
            lines.len() - 1
        });
        lines[line].1.entry(place.to_bits()).or_default().push(*value);
    }
    let line = |(name, points): (String, BTreeMap<u64, Vec<f64>>)| {
        let points = points.into_iter().filter_map(|(place, values)| {
            let interval = values.into_iter().collect::<Distribution>().interval95()?;
            Some((f64::from_bits(place), interval))
        });
        SweepLine { name, points: points.collect() }
    };
    let lines: Vec<SweepLine> = lines.into_iter().map(line).collect();
    let (words, unit) = words(name);
    let title = format!("{words} by {}", parameter.replace('_', " "));
    sweep(&title, &parameter.replace('_', " "), &words, unit, &axis, &lines)
}

/// How the parameter's values stand along an axis, and where each run stands, if it has the
/// parameter.
fn places(runs: &[Run], parameter: &str) -> (SweepAxis, Vec<Option<f64>>) {
    let values: Vec<Option<&Parameter>> =
        runs.iter().map(|run| run.summary.parameters.get(parameter)).collect();
    let number = |value: Option<&Parameter>| match value {
        Some(Parameter::Number(number)) => Some(*number),
        _ => None,
    };
    if values.iter().flatten().all(|value| matches!(value, Parameter::Number(_))) {
        return (SweepAxis::Numbers, values.into_iter().map(number).collect());
    }
    let text = |value: Option<&Parameter>| value.map(ToString::to_string);
    let names: BTreeSet<String> = values.iter().filter_map(|value| text(*value)).collect();
    let names: Vec<String> = names.into_iter().collect();
    let place = |value: Option<&Parameter>| {
        let text = text(value)?;
        names.iter().position(|name| *name == text).map(|place| place as f64)
    };
    let places = values.into_iter().map(place).collect();
    (SweepAxis::Names(names), places)
}

/// The other parameters' values, in words.
fn setting(summary: &Summary, others: &[&String]) -> String {
    let one = |name: &&String| {
        let value = summary.parameters.get(*name).map(ToString::to_string);
        format!("{} {}", name.replace('_', " "), value.as_deref().unwrap_or("–"))
    };
    others.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A figure's name without its unit, and that unit.
fn words(name: &str) -> (String, Unit) {
    let units = [
        ("_ms", Unit::Milliseconds),
        ("_s", Unit::Seconds),
        ("_bytes", Unit::Bytes),
        ("_microcredits", Unit::Microcredits),
        ("_share", Unit::Share),
    ];
    let found = units.iter().find_map(|(suffix, unit)| Some((name.strip_suffix(suffix)?, *unit)));
    let (name, unit) = found.unwrap_or((name, Unit::Plain));
    (name.replace('_', " "), unit)
}

/// A file name of harmless characters only: parameters and figures are named by others.
fn file_name(number: usize, parameter: &str, figure: &str) -> String {
    let harmless = |one: char| if one.is_ascii_alphanumeric() || one == '_' { one } else { '-' };
    let name: String = format!("{figure}-by-{parameter}").chars().map(harmless).take(80).collect();
    format!("{number:03}-{name}")
}

fn verdict(runs: &[Run], interrupted: usize) -> Verdict {
    let bad = |run: &&Run| run.summary.figures.get("violations").is_some_and(|count| *count > 0.0);
    let items: Vec<String> = runs
        .iter()
        .filter(bad)
        .map(|run| format!("{} (seed {})", run.name, run.summary.seed))
        .collect();
    let mut line = match items.len() {
        0 => "No violations.".to_owned(),
        count => format!("{count} of {} runs have violations.", runs.len()),
    };
    match interrupted {
        0 => {}
        1 => line += " One run was interrupted and is left out.",
        count => line += &format!(" {count} runs were interrupted and are left out."),
    }
    Verdict { good: items.is_empty() && interrupted == 0, line, items }
}

fn facts(first: &Summary, varying: &[String]) -> Vec<(String, String)> {
    let fixed = first.parameters.iter().filter(|(name, _)| !varying.contains(name));
    let fixed = fixed.map(|(name, value)| (name.clone(), value.to_string()));
    let versions = first.versions.iter().map(|(name, version)| (name.clone(), version.clone()));
    let varied = ("varied".to_owned(), varying.join(", "));
    [varied].into_iter().chain(fixed).chain(versions).collect()
}

fn table(runs: &[Run], parameters: &[String]) -> TextTable {
    let others: Vec<&String> = parameters.iter().collect();
    let row = |run: &Run| {
        let summary = &run.summary;
        let violations =
            summary.figures.get("violations").map_or_else(|| "–".to_owned(), f64::to_string);
        vec![
            run.name.clone(),
            summary.seed.to_string(),
            setting(summary, &others),
            violations,
            summary.trace_hash.chars().take(16).collect(),
        ]
    };
    TextTable {
        title: "Runs".to_owned(),
        note: String::new(),
        header: vec!["run", "seed", "parameters", "violations", "trace hash"],
        rows: runs.iter().map(row).collect(),
    }
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
