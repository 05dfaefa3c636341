//! Colours, sizes and text of all plots. Used by the files beside it; draws nothing.
//!
//! The neutral colours are few and fixed so that the report's style sheet can exchange them in the
//! dark.

use plotters::style::{
    Color as _, FontFamily, FontStyle, IntoFont as _, RGBAColor, RGBColor, ShapeStyle, TextStyle,
};

/// Drawing units in one CSS pixel. The library draws on whole units, so curves need many of them.
pub(super) const SCALE: u32 = 8;

pub(crate) const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);
pub(crate) const INK: RGBColor = RGBColor(0x24, 0x29, 0x2F);
pub(crate) const MUTED: RGBColor = RGBColor(0x5B, 0x63, 0x6D);
pub(crate) const GRID: RGBColor = RGBColor(0xDD, 0xE1, 0xE6);

/// Okabe and Ito's colours, told apart with every common colour blindness. Yellow is left out,
/// which is hard to see on white.
pub(super) const SERIES: [RGBColor; 6] = [BLUE, ORANGE, GREEN, RED, PURPLE, SKY];
pub(super) const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xB2);
pub(super) const ORANGE: RGBColor = RGBColor(0xE6, 0x9F, 0x00);
pub(super) const GREEN: RGBColor = RGBColor(0x00, 0x9E, 0x73);
pub(super) const RED: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
pub(super) const PURPLE: RGBColor = RGBColor(0xCC, 0x79, 0xA7);
pub(super) const SKY: RGBColor = RGBColor(0x56, 0xB4, 0xE9);

/// In a browser the first of these that is there; in a PNG the font that is built in.
const FAMILY: &str = "Ubuntu, Helvetica Neue, Helvetica, Arial, sans-serif";
/// What the library divides font sizes by.
const FONT_SIZE_FACTOR: f64 = 1.24;

pub(super) const TITLE_PX: f64 = 17.0;
pub(super) const TEXT_PX: f64 = 12.5;
pub(super) const TICK_PX: f64 = 11.5;

/// CSS pixels in drawing units.
pub(super) const fn units(px: i32) -> i32 {
    px * SCALE.cast_signed()
}

pub(super) fn font(size_px: f64, color: RGBColor) -> TextStyle<'static> {
    let size = size_px * f64::from(SCALE) * FONT_SIZE_FACTOR;
    (FontFamily::Name(FAMILY), size).into_font().color(&color)
}

pub(super) fn bold(size_px: f64, color: RGBColor) -> TextStyle<'static> {
    let size = size_px * f64::from(SCALE) * FONT_SIZE_FACTOR;
    (FontFamily::Name(FAMILY), size).into_font().style(FontStyle::Bold).color(&color)
}

pub(super) fn stroke(color: RGBColor, width_px: f64) -> ShapeStyle {
    see_through(color, 1.0, width_px)
}

pub(super) fn see_through(color: RGBColor, alpha: f64, width_px: f64) -> ShapeStyle {
    #[expect(clippy::cast_possible_truncation, reason = "a line of some pixels")]
    #[expect(clippy::cast_sign_loss, reason = "widths are positive")]
    let width = (width_px * f64::from(SCALE)).round() as u32;
    ShapeStyle { color: color.mix(alpha), filled: false, stroke_width: width }
}

pub(super) fn filled(color: RGBColor, alpha: f64) -> ShapeStyle {
    let color: RGBAColor = color.mix(alpha);
    color.filled()
}

/// About how wide a text is, for laying out a legend: fonts differ from reader to reader.
pub(super) fn width_px(text: &str, size_px: f64) -> f64 {
    text.chars().count() as f64 * size_px * 0.56
}

/// A text as a picture can take it: on one line, of a bounded length, and without the control
/// characters that no XML may hold. Names in a run come from scenarios and from other nodes.
pub(super) fn label(text: &str, most_chars: usize) -> String {
    let clean = |one: char| match one {
        '\t' | '\n' | '\r' => ' ',
        // Right-to-left marks and the like would rearrange what stands around them.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        one if one.is_control() => '\u{fffd}',
        one => one,
    };
    let mut short: String = text.chars().take(most_chars).map(clean).collect();
    if text.chars().nth(most_chars).is_some() {
        short.pop();
        short.push('…');
    }
    short
}
