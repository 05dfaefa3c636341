//! How long messages took: the share that had arrived after each time. Called by `run`.

use super::{
    Picture, Unit,
    axis::Axis,
    figure::{Figure, Mark, Panel},
    style::{MUTED, SERIES, see_through, stroke},
};
use crate::output::{Error, stats::Distribution};
use plotters::style::RGBColor;

/// Points that a curve is drawn with, however many values it has.
const CURVE_POINTS: u32 = 400;

/// The latencies of one kind of message, or of one run.
#[derive(Debug, Clone, Default)]
pub struct Curve {
    pub name: String,
    pub latencies_ms: Distribution,
}

/// The cumulative distribution of latencies, one curve for each kind. `since` is what they are
/// measured from, and `done` what happens then. Of more kinds than there are colours, those with
/// the fewest values are left out, and the picture says how many.
///
/// # Errors
/// [`Error::Draw`]: ours.
pub fn latency_cdf(
    title: &str,
    since: &str,
    done: &str,
    curves: &[Curve],
) -> Result<Picture, Error> {
    let mut shown: Vec<&Curve> =
        curves.iter().filter(|curve| curve.latencies_ms.count() > 0).collect();
    shown.sort_by_key(|curve| std::cmp::Reverse(curve.latencies_ms.count()));
    let left_out = shown.len().saturating_sub(SERIES.len());
    shown.truncate(SERIES.len());
    let all: Distribution =
        shown.iter().flat_map(|curve| curve.latencies_ms.sorted()).copied().collect();
    let mut figure = Figure::new(title, summary(done, &all, left_out));
    let (Some(typical), colored) = (all.quantile(0.1), with_colors(&shown)) else {
        return figure.without_data();
    };
    let entry = |&(curve, color): &(&Curve, RGBColor)| {
        let p50 = curve.latencies_ms.p50().map(milliseconds).unwrap_or_default();
        (format!("{} (median {p50})", curve.name), Mark::Line, color)
    };
    figure.legend = colored.iter().map(entry).collect();
    let x = Axis::spread(&format!("time since {since}"), Unit::Milliseconds, typical, all.sorted());
    figure.draw(|area| {
        let mut panel = Panel::draw(area, x, Axis::share(done))?;
        panel.line([(f64::MIN, 0.5), (f64::MAX, 0.5)], see_through(MUTED, 0.6, 1.0))?;
        for (curve, color) in &colored {
            panel.line(points(&curve.latencies_ms), stroke(*color, 2.25))?;
        }
        Ok(())
    })
}

fn with_colors<'a>(curves: &[&'a Curve]) -> Vec<(&'a Curve, RGBColor)> {
    curves.iter().copied().zip(SERIES).collect()
}

/// From no share to all of them, with a first point at the bottom.
fn points(latencies_ms: &Distribution) -> Vec<(f64, f64)> {
    let start = latencies_ms.min().map(|least| (least, 0.0));
    let rest = (0..=CURVE_POINTS).filter_map(|step| {
        let share = f64::from(step) / f64::from(CURVE_POINTS);
        latencies_ms.quantile(share).map(|latency_ms| (latency_ms, share))
    });
    // A single value is a step.
    let end = latencies_ms.max().map(|largest| (largest, 1.0));
    start.into_iter().chain(rest).chain(end).collect()
}

fn summary(done: &str, all: &Distribution, left_out: usize) -> String {
    let (Some(p50), Some(p90), Some(p99)) = (all.p50(), all.p90(), all.p99()) else {
        return String::new();
    };
    let more = match left_out {
        0 => String::new(),
        kinds => format!("; {kinds} rarer kinds are not shown"),
    };
    let (p50, p90, p99) = (milliseconds(p50), milliseconds(p90), milliseconds(p99));
    format!("{} {done}: p50 {p50}, p90 {p90}, p99 {p99}{more}", all.count())
}

/// A duration in three digits or so.
pub(crate) fn milliseconds(value_ms: f64) -> String {
    match value_ms.abs() {
        size if size >= 1e12 => format!("{:.1e} h", value_ms / 3_600_000.0),
        size if size >= 7_200_000.0 => format!("{:.1} h", value_ms / 3_600_000.0),
        size if size >= 600_000.0 => format!("{:.1} min", value_ms / 60_000.0),
        size if size >= 1e4 => format!("{:.1} s", value_ms / 1e3),
        size if size >= 1e3 => format!("{:.2} s", value_ms / 1e3),
        size if size >= 100.0 => format!("{value_ms:.0} ms"),
        size if size >= 1.0 => format!("{value_ms:.1} ms"),
        _ => format!("{value_ms:.2} ms"),
    }
}
