//! Units of axes, and numbers as ticks show them. Used by `axis`; draws nothing.

/// What the values of an axis are measured in. The axis picks a multiple that gives short numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Milliseconds,
    Bytes,
    Microcredits,
    /// A whole number of things.
    Count,
    /// From 0 to 1, shown in percent.
    Share,
    /// A number whose unit, if any, is in the axis' name.
    Plain,
}

impl Unit {
    /// How many of the unit make one of what is shown, and what that is called.
    pub(super) fn shown(self, largest: f64) -> (f64, &'static str) {
        let pick = |steps: &[(f64, f64, &'static str)]| {
            let step = steps.iter().rev().find(|(from, ..)| largest >= *from);
            step.map_or((1.0, ""), |&(_, divisor, name)| (divisor, name))
        };
        match self {
            Self::Seconds => pick(&[
                (0.0, 1e-3, "ms"),
                (1.0, 1.0, "s"),
                (300.0, 60.0, "min"),
                (3.0 * 3600.0, 3600.0, "h"),
                (72.0 * 3600.0, 86_400.0, "days"),
            ]),
            Self::Milliseconds => pick(&[(0.0, 1.0, "ms"), (10_000.0, 1e3, "s")]),
            Self::Bytes => pick(&[
                (0.0, 1.0, "bytes"),
                (2e3, 1e3, "kB"),
                (2e6, 1e6, "MB"),
                (2e9, 1e9, "GB"),
                (2e12, 1e12, "TB"),
            ]),
            Self::Microcredits => pick(&[(0.0, 1.0, "microcredits"), (1e5, 1e6, "credits")]),
            Self::Share => (0.01, "%"),
            Self::Count | Self::Plain => (1.0, ""),
        }
    }
}

/// A number as its writer would have put it.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-4..1e6).contains(&size) {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}

/// A number with the decimals that tell it from its neighbours `step` away, and with a suffix if it
/// is long.
pub(super) fn number(value: f64, step: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let size = value.abs();
    if !(1e-6..1e15).contains(&size) {
        return format!("{value:.1e}");
    }
    let (divisor, suffix) = match size {
        1e12.. => (1e12, "T"),
        1e9.. => (1e9, "G"),
        1e6.. => (1e6, "M"),
        1e4.. => (1e3, "k"),
        _ => (1.0, ""),
    };
    let step = step / divisor;
    let decimals = (0..9)
        .find(|&decimals| {
            let scaled = step * 10f64.powi(decimals);
            (scaled - scaled.round()).abs() < 1e-6 * scaled.max(1e-3) && scaled > 0.5
        })
        .unwrap_or(3);
    #[expect(clippy::cast_sign_loss, reason = "from 0 to 8")]
    let decimals = decimals as usize;
    format!("{:.decimals$}{suffix}", value / divisor)
}
