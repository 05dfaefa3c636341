//! Plots of runs and sweeps, each a function from plain numbers to a picture. Called by `run` and
//! `sweep`; opens no file and reads no table.
//!
//! The same numbers give the same bytes, and no numbers give a picture that says so.

mod axis;
mod figure;
mod inequality;
mod jobs;
mod latency;
mod mesh;
mod raster;
pub(crate) mod style;
mod sweep;
mod traffic;
mod unit;

pub use inequality::inequality;
pub use jobs::{FaultSpan, JobPoint, job_latency};
pub use latency::{Curve, latency_cdf};
pub use mesh::{DegreePoint, mesh_degree};
pub use sweep::{SweepAxis, SweepLine, sweep};
pub use traffic::{NodeTraffic, traffic};
pub use unit::Unit;

pub(crate) use {latency::milliseconds, traffic::bytes};

use super::Error;
use std::{fs, path::Path};

/// A drawing. PNG is a rasterised SVG, so both show the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    svg: String,
    width_px: u32,
    height_px: u32,
}

impl Picture {
    /// Sets the size in CSS pixels, and a name for those who can't see it.
    fn new(drawn: String, name: String, width_px: u32, height_px: u32) -> Self {
        let mut escaped = String::new();
        for one in name.chars() {
            match one {
                '&' => escaped.push_str("&amp;"),
                '<' => escaped.push_str("&lt;"),
                '"' => escaped.push_str("&quot;"),
                one => escaped.push(one),
            }
        }
        let (units_wide, units_high) = (width_px * style::SCALE, height_px * style::SCALE);
        let head = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width_px}\" height=\"{height_px}\" \
             viewBox=\"0 0 {units_wide} {units_high}\" role=\"img\" aria-label=\"{escaped}\">"
        );
        let body = drawn.split_once('>').map_or("", |(_, body)| body);
        Self { svg: head + body, width_px, height_px }
    }

    /// The drawing for a browser or an HTML page.
    #[must_use]
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// The drawing at two pixels for each of CSS.
    ///
    /// # Errors
    /// If the SVG can't be rasterised: ours.
    pub fn png(&self) -> Result<Vec<u8>, Error> {
        raster::png(&self.svg, self.width_px, self.height_px)
    }

    /// Writes `NAME.svg` and `NAME.png`.
    ///
    /// # Errors
    /// As [`Self::png`], or what the file system said.
    pub fn save(&self, dir: &Path, name: &str) -> Result<(), Error> {
        for (extension, bytes) in [("svg", self.svg.as_bytes()), ("png", &self.png()?)] {
            let path = dir.join(format!("{name}.{extension}"));
            fs::write(&path, bytes).map_err(Error::io(path))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "plot_tests.rs"]
mod tests;
