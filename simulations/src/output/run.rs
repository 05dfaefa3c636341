//! `archipelag-sim plot DIR`: plots and a report of a run that left its tables, finished or not.
//! Called by the command line; never runs a simulation.

use super::{
    Error,
    collected::Collected,
    csv_file::csv_path,
    figures::figures,
    plot::{
        Picture, Unit, inequality, job_latency, latency_cdf, mesh_degree, milliseconds, traffic,
    },
    report::{Report, TextTable, Verdict, figure},
    rows::{Job, Node, TABLES},
    summary::Summary,
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Rows of the report's tables.
const MOST_ROWS: usize = 50;
/// Violations that the report lists.
const MOST_VIOLATIONS: usize = 200;

/// Draws `plots/NAME.svg` and `plots/NAME.png` and writes `report.html`, all within `dir`, over
/// what an earlier call left. Returns the path of the report.
///
/// # Errors
/// [`Error::NotARun`] if `dir` holds no table, otherwise what reading, drawing or writing said.
pub fn plot_run(dir: &Path) -> Result<PathBuf, Error> {
    if !TABLES.iter().any(|table| csv_path(dir, table).exists()) {
        return Err(Error::NotARun { path: dir.to_owned(), missing: "table" });
    }
    let run = Collected::read(dir)?;
    let summary = Summary::read(dir)?;
    let plots = plots(&run)?;
    save(dir, plots.iter().map(|(name, plot)| (name.to_string(), plot)))?;
    let report = Report {
        title: title(dir, summary.as_ref()),
        verdict: verdict(&run, summary.is_some()),
        facts: facts(summary.as_ref(), &run),
        figures: shown_figures(summary.as_ref(), &run),
        plots: plots.into_iter().map(|(_, plot)| plot).collect(),
        tables: vec![groups(&run), faults(&run), slowest(&run), reasons(&run)],
        scenario: scenario(dir)?,
    };
    write_report(dir, "report.html", &report)
}

fn plots(run: &Collected) -> Result<Vec<(&'static str, Picture)>, Error> {
    let faults = run.fault_spans();
    let (load, earnings) = (run.load(), run.earnings());
    Ok(vec![
        ("jobs", job_latency("Jobs over time", &run.jobs, &faults)?),
        (
            "deliveries",
            latency_cdf("Gossip delivery latency", "publication", "delivered", &run.deliveries)?,
        ),
        ("mesh", mesh_degree("Gossip mesh over time", &run.degrees)?),
        (
            "lookups",
            latency_cdf("DHT look-ups that succeeded", "the question", "found", &run.lookups)?,
        ),
        ("load", inequality("Load", "Islands", "jobs run", Unit::Count, &load)?),
        ("earnings", inequality("Earnings", "Islands", "earned", Unit::Microcredits, &earnings)?),
        ("traffic", traffic("Traffic per node", &run.traffic())?),
    ])
}

/// Writes pictures into `plots/` within `dir`.
pub(super) fn save<'a>(
    dir: &Path,
    pictures: impl Iterator<Item = (String, &'a Picture)>,
) -> Result<(), Error> {
    let dir = dir.join("plots");
    fs::create_dir_all(&dir).map_err(Error::io(&dir))?;
    for (name, picture) in pictures {
        picture.save(&dir, &name)?;
    }
    Ok(())
}

pub(super) fn write_report(dir: &Path, name: &str, report: &Report) -> Result<PathBuf, Error> {
    let path = dir.join(name);
    fs::write(&path, report.html()).map_err(Error::io(&path))?;
    Ok(path)
}

fn title(dir: &Path, summary: Option<&Summary>) -> String {
    let named = summary.map(|summary| summary.scenario.clone()).filter(|name| !name.is_empty());
    named.unwrap_or_else(|| {
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned());
        name.unwrap_or_else(|| "Run".to_owned())
    })
}

fn verdict(run: &Collected, finished: bool) -> Verdict {
    let end = if finished {
        String::new()
    } else {
        format!(" The run was interrupted: its tables end at {}.", seconds(run.last_s))
    };
    let item = |violation: &super::rows::Violation| {
        let node = violation.node.map(|node| format!(", node {node}")).unwrap_or_default();
        let (oracle, what) = (&violation.oracle, &violation.what);
        format!("{} {oracle}{node}: {what}", seconds(violation.time_s))
    };
    let mut items: Vec<String> = run.violations.iter().take(MOST_VIOLATIONS).map(item).collect();
    let more = run.violations_count - items.len() as u64;
    if more > 0 {
        items.push(format!("and {more} more"));
    }
    let line = match run.violations_count {
        0 => format!("No violations.{end}"),
        1 => format!("One violation.{end}"),
        count => format!("{count} violations.{end}"),
    };
    Verdict { good: run.violations_count == 0 && finished, line, items }
}

fn facts(summary: Option<&Summary>, run: &Collected) -> Vec<(String, String)> {
    let mut facts = vec![("virtual time".to_owned(), milliseconds(run.last_s * 1e3))];
    let Some(summary) = summary else { return facts };
    facts.push(("seed".to_owned(), summary.seed.to_string()));
    let parameters = summary.parameters.iter();
    facts.extend(parameters.map(|(name, value)| (name.clone(), value.to_string())));
    facts.extend(summary.versions.iter().map(|(name, version)| (name.clone(), version.clone())));
    facts.push(("trace hash".to_owned(), summary.trace_hash.clone()));
    facts
}

/// The summary's, or if there are none what the tables say.
fn shown_figures(summary: Option<&Summary>, run: &Collected) -> Vec<(String, String)> {
    let summed = summary.map(|summary| &summary.figures).filter(|figures| !figures.is_empty());
    let computed;
    let values = if let Some(figures) = summed {
        figures
    } else {
        computed = figures(run);
        &computed
    };
    values.iter().map(|(name, value)| figure(name, *value)).collect()
}

/// The scenario's text, if the run's directory has it.
fn scenario(dir: &Path) -> Result<Option<String>, Error> {
    let path = dir.join("scenario.toml");
    match fs::read(&path) {
        Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path, source }),
    }
}

/// A time as the tables have it, so that it can be found there.
fn seconds(time_s: f64) -> String {
    format!("{time_s:.1} s")
}

fn groups(run: &Collected) -> TextTable {
    let mut groups: BTreeMap<(&str, &str), Vec<&Node>> = BTreeMap::new();
    for node in &run.nodes {
        groups.entry((&node.group, &node.role)).or_default().push(node);
    }
    let row = |((group, role), nodes): ((&str, &str), Vec<&Node>)| {
        let sum =
            |value: fn(&Node) -> u64| nodes.iter().map(|node| value(node) as f64).sum::<f64>();
        vec![
            group.to_owned(),
            role.to_owned(),
            nodes.len().to_string(),
            sum(|node| node.restarts).to_string(),
            sum(|node| node.jobs_run).to_string(),
            figure("earned_microcredits", sum(|node| node.earned_microcredits)).1,
            figure("sent_bytes", sum(|node| node.sent_bytes)).1,
            figure("received_bytes", sum(|node| node.received_bytes)).1,
        ]
    };
    let header =
        vec!["group", "role", "nodes", "restarts", "jobs run", "earned", "sent", "received"];
    listed("Groups", header, groups.len() as u64, groups.into_iter().map(row))
}

fn faults(run: &Collected) -> TextTable {
    let row = |fault: &super::rows::Fault| {
        let until = fault.until_s.map_or_else(|| "–".to_owned(), seconds);
        vec![seconds(fault.time_s), until, fault.kind.clone(), fault.target.clone()]
    };
    let header = vec!["from", "until", "kind", "target"];
    listed("Faults", header, run.faults_count, run.faults.iter().map(row))
}

fn slowest(run: &Collected) -> TextTable {
    let row = |job: &Job| {
        let taken_s = job.ended_s.unwrap_or(job.submitted_s) - job.submitted_s;
        vec![
            milliseconds(taken_s * 1e3),
            seconds(job.submitted_s),
            job.job.clone(),
            job.cargo.clone(),
            job.island.map_or_else(|| "–".to_owned(), |island| island.to_string()),
            job.attempts.to_string(),
            job.verdict.clone(),
            job.reason.clone(),
        ]
    };
    let header =
        vec!["took", "submitted", "job", "cargo", "island", "attempts", "verdict", "reason"];
    let count = run.slowest.len() as u64;
    listed("Slowest jobs", header, count, run.slowest.iter().map(row))
}

/// Why jobs did not complete, the most frequent reason first.
fn reasons(run: &Collected) -> TextTable {
    let mut reasons: Vec<_> = run.reasons.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let count = reasons.len() as u64;
    let rows = reasons
        .into_iter()
        .map(|((verdict, reason), count)| vec![count.to_string(), verdict.clone(), reason.clone()]);
    let title = "Why jobs did not complete";
    listed(title, vec!["jobs", "verdict", "reason"], count, rows)
}

/// The first rows of `count`, with a note if there are others or none.
fn listed(
    title: &str,
    header: Vec<&'static str>,
    count: u64,
    rows: impl Iterator<Item = Vec<String>>,
) -> TextTable {
    let rows: Vec<_> = rows.take(MOST_ROWS).collect();
    let note = match count - rows.len() as u64 {
        0 if rows.is_empty() => "None.".to_owned(),
        0 => String::new(),
        more => format!("The first {} of {count}: {more} more are in the tables.", rows.len()),
    };
    TextTable { title: title.to_owned(), note, header, rows }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
