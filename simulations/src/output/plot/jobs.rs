//! How jobs fared over time, with the faults that hit them. Called by `run`.

use super::{
    Picture, Unit,
    axis::Axis,
    figure::{Drawn, Figure, Mark, Panel},
    latency::milliseconds,
    style::{BLUE, GREEN, INK, MUTED, ORANGE, RED, filled, label, see_through, stroke, width_px},
};
use crate::output::{Error, stats::Distribution};

/// Dots that are drawn, however many jobs there are.
const MOST_DOTS: usize = 3000;
/// Faults that are drawn, however many there are.
const MOST_FAULTS: usize = 200;
/// Spans of time over which percentiles and rates are taken.
const BINS: usize = 40;
/// Jobs in a bin below which its percentiles would only repeat the dots.
const BIN_JOBS: usize = 5;

/// One job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JobPoint {
    pub submitted_s: f64,
    /// From submission to the last event or the refusal, if there was one.
    pub latency_s: Option<f64>,
    pub completed: bool,
}

/// One fault: a mark where it began and a shade while it lasted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FaultSpan {
    pub kind: String,
    pub time_s: f64,
    pub until_s: Option<f64>,
}

/// Above, each job's latency and their percentiles; below, the share that completed. By the time of
/// submission.
///
/// # Errors
/// [`Error::Draw`]: ours.
pub fn job_latency(title: &str, jobs: &[JobPoint], faults: &[FaultSpan]) -> Result<Picture, Error> {
    let jobs: Vec<JobPoint> =
        jobs.iter().copied().filter(|job| job.submitted_s.is_finite()).collect();
    let completed: Distribution =
        jobs.iter().filter(|job| job.completed).filter_map(|job| job.latency_s).collect();
    let mut figure = Figure::new(title, summary(&jobs, &completed));
    figure.height_px = 600;
    if jobs.is_empty() {
        return figure.without_data();
    }
    figure.legend = vec![
        ("completed".to_owned(), Mark::Dot, BLUE),
        ("not completed".to_owned(), Mark::Dot, RED),
        ("median".to_owned(), Mark::Line, INK),
        ("p90".to_owned(), Mark::Line, ORANGE),
        ("completed share".to_owned(), Mark::Line, GREEN),
    ];
    if !faults.is_empty() {
        figure.legend.push(("fault".to_owned(), Mark::Area, MUTED));
    }
    let latencies: Distribution = jobs.iter().filter_map(|job| job.latency_s).collect();
    let typical = latencies.quantile(0.1).unwrap_or(1.0);
    let y = Axis::spread("job latency", Unit::Seconds, typical, latencies.sorted());
    let bounds = faults.iter().flat_map(|fault| [Some(fault.time_s), fault.until_s]).flatten();
    let x = Axis::time(jobs.iter().map(|job| job.submitted_s).chain(bounds));
    let bins = bins(&jobs);
    figure.draw(|area| {
        let (_, height) = area.dim_in_pixel();
        let (above, below) = area.split_vertically(height.cast_signed() * 13 / 20);
        let mut panel = Panel::draw(&above, x.clone().unnamed(), y)?;
        draw_faults(&mut panel, faults, true)?;
        draw_jobs(&mut panel, &jobs)?;
        draw_percentiles(&mut panel, &bins)?;
        let mut panel = Panel::draw(&below, x, Axis::share("completed"))?;
        draw_faults(&mut panel, faults, false)?;
        let rates = || bins.iter().filter_map(|bin| bin.rate().map(|rate| (bin.middle_s, rate)));
        panel.line(rates(), stroke(GREEN, 2.0))?;
        panel.dots(rates(), 2.5, filled(GREEN, 1.0))
    })
}

/// The jobs submitted in one span of time.
struct Bin<'a> {
    middle_s: f64,
    jobs: Vec<&'a JobPoint>,
}

impl Bin<'_> {
    fn rate(&self) -> Option<f64> {
        let completed = self.jobs.iter().filter(|job| job.completed).count();
        (!self.jobs.is_empty()).then(|| completed as f64 / self.jobs.len() as f64)
    }
}

fn bins(jobs: &[JobPoint]) -> Vec<Bin<'_>> {
    let times: Distribution = jobs.iter().map(|job| job.submitted_s).collect();
    let (Some(first), Some(last)) = (times.min(), times.max()) else { return Vec::new() };
    // Halves, since the whole of a huge span overflows.
    let half = (last / 2.0 - first / 2.0).max(f64::MIN_POSITIVE);
    let middle = |bin: usize| first + half * ((2 * bin + 1) as f64 / BINS as f64);
    let mut bins: Vec<Bin<'_>> =
        (0..BINS).map(|bin| Bin { middle_s: middle(bin), jobs: Vec::new() }).collect();
    for job in jobs {
        let share = (job.submitted_s / 2.0 - first / 2.0) / half;
        #[expect(clippy::cast_possible_truncation, reason = "a share of the number of bins")]
        #[expect(clippy::cast_sign_loss, reason = "no job is before the first")]
        let bin = ((share * BINS as f64) as usize).min(BINS - 1);
        bins[bin].jobs.push(job);
    }
    bins
}

fn draw_jobs(panel: &mut Panel<'_, '_>, jobs: &[JobPoint]) -> Drawn {
    let every = jobs.len().div_ceil(MOST_DOTS);
    // Those that did not complete are few and on top.
    for (completed, color, alpha) in [(true, BLUE, 0.35), (false, RED, 0.8)] {
        let dots = jobs
            .iter()
            .step_by(every)
            .filter(|job| job.completed == completed)
            .filter_map(|job| job.latency_s.map(|latency_s| (job.submitted_s, latency_s)));
        panel.dots(dots, 2.0, filled(color, alpha))?;
    }
    Ok(())
}

fn draw_percentiles(panel: &mut Panel<'_, '_>, bins: &[Bin<'_>]) -> Drawn {
    for (quantile, color) in [(0.9, ORANGE), (0.5, INK)] {
        let line = bins.iter().map(|bin| {
            let latencies: Distribution = bin
                .jobs
                .iter()
                .filter(|job| job.completed)
                .filter_map(|job| job.latency_s)
                .collect();
            let enough = latencies.count() >= BIN_JOBS;
            let percentile = latencies.quantile(quantile).filter(|_| enough);
            // Not a number breaks the line.
            (bin.middle_s, percentile.unwrap_or(f64::NAN))
        });
        panel.line(line, stroke(color, 2.25))?;
    }
    Ok(())
}

fn draw_faults(panel: &mut Panel<'_, '_>, faults: &[FaultSpan], notes: bool) -> Drawn {
    let mut free_px = 0.0;
    for fault in faults.iter().take(MOST_FAULTS) {
        if let Some(until_s) = fault.until_s {
            panel.span(fault.time_s, until_s, filled(MUTED, 0.14))?;
        }
        panel.vertical(fault.time_s, see_through(MUTED, 0.7, 1.0))?;
        let Some(across_px) = panel.across_px(fault.time_s).map(f64::from) else { continue };
        let text = label(&fault.kind, 20);
        if notes && across_px >= free_px {
            free_px = across_px + width_px(&text, 11.5) + 8.0;
            panel.note(fault.time_s, &text)?;
        }
    }
    Ok(())
}

fn summary(jobs: &[JobPoint], completed: &Distribution) -> String {
    let count = jobs.iter().filter(|job| job.completed).count();
    let share = 100.0 * count as f64 / jobs.len().max(1) as f64;
    let text = format!("{count} of {} jobs completed ({share:.1} %)", jobs.len());
    let (Some(p50), Some(p90), Some(p99)) = (completed.p50(), completed.p90(), completed.p99())
    else {
        return text;
    };
    let shown = |seconds: f64| milliseconds(seconds * 1e3);
    format!("{text}: p50 {}, p90 {}, p99 {}", shown(p50), shown(p90), shown(p99))
}
