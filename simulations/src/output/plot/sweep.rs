//! How a figure depends on a parameter, over runs with several seeds. Called by `sweep` above.

use super::{
    Picture, Unit,
    axis::Axis,
    figure::{Figure, Mark, Panel},
    style::{SERIES, filled, stroke},
};
use crate::output::{Error, stats::Interval};

/// Between two lines' points at one name, where names are 1 apart.
const NAME_POINT_GAP: f64 = 0.06;

/// The values that the parameter took: numbers, or names that stand side by side at 0, 1 and so on.
#[derive(Debug, Clone)]
pub enum SweepAxis {
    Numbers,
    Names(Vec<String>),
}

/// One line: at each place of the parameter the mean over runs and how sure it is.
#[derive(Debug, Clone, Default)]
pub struct SweepLine {
    pub name: String,
    pub points: Vec<(f64, Interval)>,
}

/// Means as lines with their 95 % confidence intervals as bars. Lines beyond the number of colours
/// are left out, and the picture says so.
///
/// # Errors
/// [`Error::Draw`]: ours.
pub fn sweep(
    title: &str,
    parameter: &str,
    figure_name: &str,
    unit: Unit,
    axis: &SweepAxis,
    lines: &[SweepLine],
) -> Result<Picture, Error> {
    let finite = |(place, interval): &&(f64, Interval)| {
        [*place, interval.mean].into_iter().all(f64::is_finite)
    };
    let mut shown: Vec<SweepLine> = lines
        .iter()
        .map(|line| SweepLine {
            name: line.name.clone(),
            points: line.points.iter().filter(finite).copied().collect(),
        })
        .filter(|line| !line.points.is_empty())
        .collect();
    for line in &mut shown {
        line.points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    let left_out = shown.len().saturating_sub(SERIES.len());
    shown.truncate(SERIES.len());
    let mut figure = Figure::new(title, summary(&shown, left_out));
    if shown.is_empty() {
        return figure.without_data();
    }
    if shown.len() > 1 {
        let entries = shown.iter().zip(SERIES);
        figure.legend =
            entries.map(|(line, color)| (line.name.clone(), Mark::Line, color)).collect();
    }
    let points = || shown.iter().flat_map(|line| &line.points);
    let x = match axis {
        SweepAxis::Numbers => {
            let mut places: Vec<f64> = points().map(|point| point.0).collect();
            places.sort_by(f64::total_cmp);
            Axis::parameter(parameter, &places)
        }
        SweepAxis::Names(names) => Axis::names(parameter, names),
    };
    let bounds = points().flat_map(|(_, interval)| [interval.mean, interval.low, interval.high]);
    let y = Axis::from_zero(figure_name, unit, bounds);
    let middle = (shown.len() as f64 - 1.0) / 2.0;
    figure.draw(|area| {
        let mut panel = Panel::draw(area, x, y)?;
        for (number, (line, color)) in shown.iter().zip(SERIES).enumerate() {
            // At a name the lines' points stand side by side.
            let aside = match axis {
                SweepAxis::Numbers => 0.0,
                SweepAxis::Names(_) => NAME_POINT_GAP * (number as f64 - middle),
            };
            for (place, interval) in &line.points {
                let bar = [(place + aside, interval.low), (place + aside, interval.high)];
                panel.line(bar, stroke(color, 1.5))?;
                panel.dots(bar, 1.75, filled(color, 1.0))?;
            }
            let means =
                || line.points.iter().map(|(place, interval)| (place + aside, interval.mean));
            if matches!(axis, SweepAxis::Numbers) {
                panel.line(means(), stroke(color, 2.25))?;
            }
            panel.dots(means(), 4.0, filled(color, 1.0))?;
        }
        Ok(())
    })
}

fn summary(lines: &[SweepLine], left_out: usize) -> String {
    let counts = lines.iter().flat_map(|line| &line.points).map(|(_, interval)| interval.count);
    let (Some(least), Some(most)) = (counts.clone().min(), counts.max()) else {
        return String::new();
    };
    let runs = match (least, most) {
        (1, 1) => "one run for each point".to_owned(),
        (least, most) if least == most => format!("{most} runs for each point"),
        (least, most) => format!("{least} to {most} runs for each point"),
    };
    let more = match left_out {
        0 => String::new(),
        lines => format!("; {lines} more lines are not shown"),
    };
    format!("mean and 95 % confidence interval of {runs}{more}")
}
