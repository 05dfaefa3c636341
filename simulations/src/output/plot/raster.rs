//! SVG to PNG, with a font that is built in: servers have none. Called by `Picture`; decides
//! nothing.

use crate::output::Error;
use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree, fontdb::Database},
};
use std::sync::{Arc, LazyLock};

const PIXELS_PER_CSS_PIXEL: u32 = 2;
/// The font is light and has no bold: an outline as wide as this makes either of it.
const STYLE_SHEET: &str = "text { stroke: #24292f; stroke-width: 2.2; } \
                           text[font-weight=bold] { stroke-width: 7; }";

static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    fonts.set_sans_serif_family("Ubuntu");
    Arc::new(fonts)
});

pub(super) fn png(svg: &str, width_px: u32, height_px: u32) -> Result<Vec<u8>, Error> {
    let failed = |reason: String| Error::Draw { plot: "PNG".to_owned(), reason };
    let options = Options {
        fontdb: FONTS.clone(),
        style_sheet: Some(STYLE_SHEET.to_owned()),
        ..Options::default()
    };
    let tree = Tree::from_str(svg, &options).map_err(|error| failed(error.to_string()))?;
    let mut pixels = Pixmap::new(width_px * PIXELS_PER_CSS_PIXEL, height_px * PIXELS_PER_CSS_PIXEL)
        .ok_or_else(|| failed("a picture without pixels".to_owned()))?;
    let scale = PIXELS_PER_CSS_PIXEL as f32;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| failed(error.to_string()))
}
