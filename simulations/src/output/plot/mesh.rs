//! How well the gossip mesh held together. Called by `run`.

use super::{
    Picture, Unit,
    axis::Axis,
    figure::{Figure, Mark, Panel},
    style::{BLUE, INK, filled, see_through, stroke},
};
use crate::output::Error;

/// The mesh neighbours of all nodes at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DegreePoint {
    pub time_s: f64,
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

/// The median over time within the band from the least to the most.
///
/// # Errors
/// [`Error::Draw`]: ours.
pub fn mesh_degree(title: &str, points: &[DegreePoint]) -> Result<Picture, Error> {
    let finite = |point: &&DegreePoint| {
        [point.time_s, point.min, point.median, point.max].iter().all(|value| value.is_finite())
    };
    let mut points: Vec<DegreePoint> = points.iter().filter(finite).copied().collect();
    points.sort_by(|one, other| one.time_s.total_cmp(&other.time_s));
    let mut figure = Figure::new(title, summary(&points));
    if points.is_empty() {
        return figure.without_data();
    }
    figure.legend = vec![
        ("median node".to_owned(), Mark::Line, INK),
        ("from the least to the most connected".to_owned(), Mark::Area, BLUE),
    ];
    let x = Axis::time(points.iter().map(|point| point.time_s));
    let y = Axis::from_zero(
        "gossip mesh neighbours",
        Unit::Count,
        points.iter().flat_map(|point| [point.min, point.max]),
    );
    figure.draw(|area| {
        let mut panel = Panel::draw(area, x, y)?;
        let low = || points.iter().map(|point| (point.time_s, point.min));
        let high = || points.iter().map(|point| (point.time_s, point.max));
        let median = || points.iter().map(|point| (point.time_s, point.median));
        panel.band(low(), high(), filled(BLUE, 0.22))?;
        panel.line(low(), see_through(BLUE, 0.7, 1.0))?;
        panel.line(high(), see_through(BLUE, 0.7, 1.0))?;
        panel.line(median(), stroke(INK, 2.25))?;
        if let [only] = points[..] {
            let values = [only.min, only.median, only.max].map(|value| (only.time_s, value));
            panel.dots(values, 4.0, filled(BLUE, 1.0))?;
        }
        Ok(())
    })
}

fn summary(points: &[DegreePoint]) -> String {
    let Some(last) = points.last() else { return String::new() };
    let lone = points.iter().filter(|point| point.min == 0.0).count();
    let lone = match lone {
        0 => String::new(),
        times => format!("; some node was alone in {times} of {} samples", points.len()),
    };
    format!("at the end: least {}, median {}, most {}{lone}", last.min, last.median, last.max)
}
