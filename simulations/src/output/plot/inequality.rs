//! Who got how much: load, earnings or anything else that is shared out. Called by `run`.

use super::{
    Picture, Unit,
    axis::Axis,
    figure::{Figure, Panel},
    style::{BLUE, MUTED, ORANGE, filled, stroke},
};
use crate::output::{Error, stats::Distribution};

/// Columns of the histogram, if there are enough values for so many.
const MOST_COLUMNS: usize = 24;

/// On the left, how many have how much; on the right, the Lorenz curve: the share that the poorest
/// have together. `who` in the plural, `what` as the axis shall call it.
///
/// # Errors
/// [`Error::Draw`]: ours.
pub fn inequality(
    title: &str,
    who: &str,
    what: &str,
    unit: Unit,
    values: &Distribution,
) -> Result<Picture, Error> {
    let gini = values.gini().map(|gini| format!("{title}: Gini {gini:.2}"));
    let figure = Figure::new(gini.as_deref().unwrap_or(title), summary(who, values));
    if values.count() == 0 {
        return figure.without_data();
    }
    let columns = columns(unit, values);
    let bounds = columns.iter().flat_map(|column| [column.from, column.until]);
    let x = Axis::from_zero(what, unit, bounds);
    let y = Axis::from_zero(who, Unit::Count, columns.iter().map(|column| column.count));
    figure.draw(|area| {
        let (width, _) = area.dim_in_pixel();
        let (left, right) = area.split_horizontally(width.cast_signed() * 11 / 20);
        let mut panel = Panel::draw(&left, x, y)?;
        for column in &columns {
            // A little apart from its neighbour.
            let until = column.from + (column.until - column.from) * 0.92;
            panel.rectangle((column.from, 0.0), (until, column.count), filled(BLUE, 0.85))?;
        }
        let poorest = format!("share of {who}, poorest first");
        let mut panel = Panel::draw(&right, Axis::share(&poorest), Axis::share("share of all"))?;
        let lorenz = values.lorenz();
        panel.band(lorenz.clone(), [(0.0, 0.0), (1.0, 1.0)].into_iter(), filled(ORANGE, 0.2))?;
        panel.line([(0.0, 0.0), (1.0, 1.0)], stroke(MUTED, 1.0))?;
        panel.line(lorenz, stroke(ORANGE, 2.25))
    })
}

struct Column {
    from: f64,
    until: f64,
    count: f64,
}

fn columns(unit: Unit, values: &Distribution) -> Vec<Column> {
    let low = values.min().unwrap_or(0.0).min(0.0);
    let high = values.max().unwrap_or(1.0);
    let mut number = MOST_COLUMNS.min(values.count().max(4));
    let mut width = ((high - low) / number as f64).min(f64::MAX);
    if unit == Unit::Count {
        // Of whole numbers each column holds equally many, and the last one includes its end.
        width = ((high - low + 1.0) / number as f64).ceil().min(f64::MAX);
        #[expect(clippy::cast_possible_truncation, reason = "no more than before")]
        #[expect(clippy::cast_sign_loss, reason = "the highest is not below the lowest")]
        let fewer = ((high - low + 1.0) / width).ceil() as usize;
        number = fewer.clamp(1, number);
    }
    if !(width.is_normal() && width > 0.0) {
        width = 1.0;
    }
    let from = |column: usize| low + width * column as f64;
    let mut columns: Vec<Column> = (0..number)
        .map(|column| Column { from: from(column), until: from(column + 1), count: 0.0 })
        .collect();
    for value in values.sorted() {
        #[expect(clippy::cast_possible_truncation, reason = "too large a one is the last")]
        #[expect(clippy::cast_sign_loss, reason = "no value is below the lowest")]
        let column = ((value - low) / width) as usize;
        columns[column.min(number - 1)].count += 1.0;
    }
    columns
}

fn summary(who: &str, values: &Distribution) -> String {
    let count = values.count();
    let nothing = values.sorted().iter().filter(|&&value| value == 0.0).count();
    let top = values.lorenz().iter().rev().find(|point| point.0 <= 0.9).map(|point| 1.0 - point.1);
    let top = top.filter(|_| count >= 10 && nothing < count);
    let top = top.map(|share| format!("; the top tenth have {:.0} %", 100.0 * share));
    format!("{count} {who}, {nothing} with nothing{}", top.unwrap_or_default())
}
