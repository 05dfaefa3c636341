//! A picture's frame: title, legend and panels, and the marks that a panel can hold. Used by the
//! plots beside it; knows nothing of runs.

use super::{
    Picture,
    axis::Axis,
    style::{
        GRID, INK, MUTED, PAPER, SCALE, TEXT_PX, TICK_PX, TITLE_PX, bold, filled, font, label,
        stroke, units, width_px,
    },
};
use crate::output::Error;
use plotters::{
    chart::{ChartBuilder, ChartContext},
    coord::Shift,
    drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _},
    element::{Circle, PathElement, Polygon, Rectangle, Text},
    prelude::{Cartesian2d, SVGBackend},
    style::{
        RGBColor, ShapeStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};
use std::io;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn<T = ()> = Result<T, DrawingAreaErrorKind<io::Error>>;

const MARGIN_PX: i32 = 16;
const LEGEND_ROW_PX: i32 = 20;
const MOST_TITLE_CHARS: usize = 90;
const MOST_LEGEND_CHARS: usize = 40;

/// How a series looks in the legend.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mark {
    Line,
    Dot,
    Area,
}

/// What one picture is called and what its colours mean.
#[derive(Debug)]
pub(super) struct Figure<'a> {
    pub title: &'a str,
    /// The most important numbers, below the title.
    pub subtitle: String,
    pub legend: Vec<(String, Mark, RGBColor)>,
    pub width_px: u32,
    pub height_px: u32,
}

impl<'a> Figure<'a> {
    pub(super) fn new(title: &'a str, subtitle: impl Into<String>) -> Self {
        let subtitle = subtitle.into();
        Self { title, subtitle, legend: Vec::new(), width_px: 860, height_px: 460 }
    }

    /// Draws the head, and whatever `body` draws below it.
    pub(super) fn draw(&self, body: impl FnOnce(&Area<'_>) -> Drawn) -> Result<Picture, Error> {
        let mut svg = String::new();
        let drawn = || -> Drawn {
            let size = (self.width_px * SCALE, self.height_px * SCALE);
            let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            root.fill(&PAPER)?;
            let head = self.draw_head(&root)?;
            let (_, below) = root.split_vertically(head);
            body(&below.margin(0, units(MARGIN_PX / 2), units(MARGIN_PX / 2), units(MARGIN_PX)))?;
            root.present()
        };
        drawn().map_err(|error| Error::Draw {
            plot: self.title.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Picture::new(svg, label(self.title, MOST_TITLE_CHARS), self.width_px, self.height_px))
    }

    /// A picture that says that there is nothing to show.
    pub(super) fn without_data(&self) -> Result<Picture, Error> {
        self.draw(|area| {
            let (width, height) = area.dim_in_pixel();
            let (width, height) = (width.cast_signed(), height.cast_signed());
            let inset = units(MARGIN_PX);
            let frame = [(inset, 0), (width, height - inset)];
            area.draw(&Rectangle::new(frame, stroke(GRID, 1.0)))?;
            let center = Pos::new(HPos::Center, VPos::Center);
            let style = font(TITLE_PX, MUTED).pos(center);
            area.draw(&Text::new("no data", ((width + inset) / 2, (height - inset) / 2), style))
        })
    }

    /// Returns the height that it took.
    fn draw_head(&self, root: &Area<'_>) -> Drawn<i32> {
        let mut y = MARGIN_PX - 2;
        let title = label(self.title, MOST_TITLE_CHARS);
        let at = |x: i32, y: i32| (units(x), units(y));
        root.draw(&Text::new(title, at(MARGIN_PX, y), bold(TITLE_PX, INK)))?;
        y += 22;
        if !self.subtitle.is_empty() {
            let subtitle = label(&self.subtitle, 140);
            root.draw(&Text::new(subtitle, at(MARGIN_PX, y), font(TEXT_PX, MUTED)))?;
            y += 18;
        }
        if self.legend.is_empty() {
            return Ok(units(y + 6));
        }
        y += 4;
        let mut x = MARGIN_PX;
        for (name, mark, color) in &self.legend {
            let name = label(name, MOST_LEGEND_CHARS);
            #[expect(clippy::cast_possible_truncation, reason = "at most forty letters wide")]
            let width = width_px(&name, TEXT_PX) as i32 + 46;
            if x > MARGIN_PX && x + width > self.width_px.cast_signed() {
                x = MARGIN_PX;
                y += LEGEND_ROW_PX;
            }
            let middle = y + LEGEND_ROW_PX / 2;
            match mark {
                Mark::Line => root.draw(&PathElement::new(
                    vec![at(x, middle), at(x + 22, middle)],
                    stroke(*color, 2.5),
                ))?,
                Mark::Dot => {
                    root.draw(&Circle::new(at(x + 11, middle), units(4), filled(*color, 0.8)))?;
                }
                Mark::Area => root.draw(&Rectangle::new(
                    [at(x + 2, middle - 5), at(x + 20, middle + 5)],
                    filled(*color, 0.5),
                ))?,
            }
            let beside = Pos::new(HPos::Left, VPos::Center);
            root.draw(&Text::new(name, at(x + 28, middle), font(TEXT_PX, INK).pos(beside)))?;
            x += width;
        }
        Ok(units(y + LEGEND_ROW_PX + 8))
    }
}

/// Two axes and what stands between them.
pub(super) struct Panel<'a, 'b> {
    chart: ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>,
    x: Axis,
    y: Axis,
}

impl<'b> Panel<'_, 'b> {
    pub(super) fn draw(area: &Area<'b>, x: Axis, y: Axis) -> Drawn<Self> {
        let mut chart = ChartBuilder::on(area)
            .margin_top(units(6))
            .margin_right(units(14))
            .x_label_area_size(units(42))
            .y_label_area_size(units(64))
            .build_cartesian_2d(x.clone(), y.clone())?;
        chart
            .configure_mesh()
            .x_desc(label(&x.name, 80))
            .y_desc(label(&y.name, 40))
            .axis_desc_style(font(TEXT_PX, INK))
            .label_style(font(TICK_PX, MUTED))
            .bold_line_style(stroke(GRID, 1.0))
            .light_line_style(stroke(PAPER, 0.0))
            .max_light_lines(0)
            .axis_style(stroke(MUTED, 1.0))
            .set_all_tick_mark_size(units(4))
            .draw()?;
        Ok(Self { chart, x, y })
    }

    fn place(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        self.x.place(x).zip(self.y.place(y))
    }

    /// A line through the points, broken at those that are nowhere.
    pub(super) fn line(
        &mut self,
        points: impl IntoIterator<Item = (f64, f64)>,
        style: ShapeStyle,
    ) -> Drawn {
        let mut pieces = vec![Vec::new()];
        for point in points {
            match (self.place(point), pieces.last_mut()) {
                (Some(place), Some(piece)) => piece.push(place),
                _ => pieces.push(Vec::new()),
            }
        }
        pieces.retain(|piece| piece.len() > 1);
        let paths = pieces.into_iter().map(|piece| PathElement::new(piece, style));
        self.chart.draw_series(paths).map(|_| ())
    }

    /// The space between the line through `low` and that through `high`.
    pub(super) fn band(
        &mut self,
        low: impl IntoIterator<Item = (f64, f64)>,
        high: impl DoubleEndedIterator<Item = (f64, f64)>,
        style: ShapeStyle,
    ) -> Drawn {
        let outline = low.into_iter().chain(high.rev());
        let outline: Vec<_> = outline.filter_map(|point| self.place(point)).collect();
        if outline.len() < 3 {
            return Ok(());
        }
        self.chart.draw_series([Polygon::new(outline, style)]).map(|_| ())
    }

    pub(super) fn dots(
        &mut self,
        points: impl IntoIterator<Item = (f64, f64)>,
        radius_px: f64,
        style: ShapeStyle,
    ) -> Drawn {
        #[expect(clippy::cast_possible_truncation, reason = "some pixels")]
        let radius = (radius_px * f64::from(SCALE)) as i32;
        let places: Vec<_> = points.into_iter().filter_map(|point| self.place(point)).collect();
        let dots = places.into_iter().map(|place| Circle::new(place, radius, style));
        self.chart.draw_series(dots).map(|_| ())
    }

    pub(super) fn rectangle(
        &mut self,
        corner: (f64, f64),
        opposite: (f64, f64),
        style: ShapeStyle,
    ) -> Drawn {
        let corners = self.place(corner).zip(self.place(opposite));
        let rectangle = corners.map(|(one, other)| Rectangle::new([one, other], style));
        self.chart.draw_series(rectangle).map(|_| ())
    }

    /// From the bottom to the top at `x`.
    pub(super) fn vertical(&mut self, x: f64, style: ShapeStyle) -> Drawn {
        let (low, high) = (self.y.low, self.y.high);
        let line = self.x.place(x).map(|x| PathElement::new(vec![(x, low), (x, high)], style));
        self.chart.draw_series(line).map(|_| ())
    }

    /// From the bottom to the top between two values of x.
    pub(super) fn span(&mut self, from: f64, until: f64, style: ShapeStyle) -> Drawn {
        let (low, high) = (self.y.low, self.y.high);
        let places = self.x.place(from).zip(self.x.place(until));
        let span = places.map(|(from, until)| Rectangle::new([(from, low), (until, high)], style));
        self.chart.draw_series(span).map(|_| ())
    }

    /// How far right of the panel's left edge a value stands, in CSS pixels.
    pub(super) fn across_px(&self, x: f64) -> Option<i32> {
        let place = self.x.place(x)?;
        let area = self.chart.plotting_area();
        let (left, _) = area.get_pixel_range();
        Some((area.map_coordinate(&(place, self.y.low)).0 - left.start) / units(1))
    }

    /// A small text at the top, right of `x`.
    pub(super) fn note(&mut self, x: f64, text: &str) -> Drawn {
        let high = self.y.high;
        let style = font(TICK_PX, MUTED);
        let note = self.x.place(x).map(|x| {
            plotters::element::EmptyElement::at((x, high))
                + Text::new(text.to_owned(), (units(4), units(3)), style)
        });
        self.chart.draw_series(note).map(|_| ())
    }
}
