//! Charts as SVG: lines, bars and percentile curves, readable on light and on dark ground.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::axis::{Axis, Scale};
use super::figure::tick;
use super::{Series, Shape};

/// Room of a chart, in pixels at its natural size.
const WIDTH: f64 = 720.0;
const PLOT_HEIGHT: f64 = 260.0;
const MARGIN: f64 = 16.0;
/// Left of the plot of a line chart: the labels of the y axis.
const GUTTER: f64 = 72.0;
/// Title, and a row of the legend.
const TITLE_HEIGHT: f64 = 36.0;
const ROW_HEIGHT: f64 = 20.0;
/// Below the plot: labels of the x axis and what it counts.
const FOOT_HEIGHT: f64 = 48.0;
/// Estimated width of a character at 12 px; SVG cannot measure text.
const CHAR_WIDTH: f64 = 7.0;
/// Colours of the style sheet; further series take them again, with dashes.
const COLOURS: usize = 8;
/// Up to this many points, each gets a dot.
const DOTS_MAX: usize = 32;
/// A bar of a bar chart, and the room between groups of them.
const BAR_HEIGHT: f64 = 18.0;
const BAR_GAP: f64 = 10.0;

/// The style of the charts, and of the page around them: light first, dark where that is asked for.
pub(super) const STYLE: &str = "\
:root,svg{--ground:#ffffff;--ink:#1c2430;--muted:#5b6675;--line:#dde2e9;\
--s0:#2563eb;--s1:#c2570c;--s2:#15803d;--s3:#7c3aed;\
--s4:#be123c;--s5:#0e7490;--s6:#57534e;--s7:#6b7000}\
@media(prefers-color-scheme:dark){:root,svg{--ground:#14181f;--ink:#e8ecf2;--muted:#9aa6b5;\
--line:#2c3440;--s0:#6ea8ff;--s1:#fb9a4b;--s2:#4fd583;--s3:#c297ff;\
--s4:#fb7a93;--s5:#35cfe6;--s6:#d3cdc6;--s7:#d4d944}}\
svg text{font:12px system-ui,sans-serif;fill:var(--muted)}\
svg .title{font-size:15px;font-weight:600;fill:var(--ink)}\
svg .name{fill:var(--ink)}\
svg .grid{stroke:var(--line);stroke-width:1}\
svg .path{fill:none;stroke-width:2;stroke-linejoin:round}\
svg .ground{fill:var(--ground)}";

/// A chart: what its axes count, how they are scaled, and its series.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Headline.
    pub title: String,
    /// Scale of x; not used for bars.
    pub x_scale: Scale,
    /// Scale of y; bars are always linear from zero, or their lengths would say nothing.
    pub y_scale: Scale,
    /// What is drawn; all of the first one's shape and units.
    pub series: Vec<Series>,
}

impl Chart {
    /// A chart whose scales are chosen by its values: logarithmic where they are above zero and
    /// their range is wider than a factor of 50.
    pub fn new(title: impl Into<String>, series: Vec<Series>) -> Self {
        let is_curve = series
            .first()
            .is_some_and(|first| first.shape == Shape::Percentiles);
        let points = || series.iter().flat_map(|series| &series.points);
        let x_scale = if is_curve {
            Scale::Percentile
        } else {
            scale(points().map(|(x, _)| *x))
        };
        let y_scale = scale(points().map(|(_, y)| *y));
        Self {
            title: title.into(),
            x_scale,
            y_scale,
            series,
        }
    }

    /// The charts of a report: the series of each title together, in order of appearance.
    pub fn of(series: &[Series]) -> Vec<Self> {
        let mut groups: Vec<(&str, Vec<Series>)> = vec![];
        for one in series {
            match groups.iter_mut().find(|(title, _)| *title == one.chart) {
                Some((_, group)) => group.push(one.clone()),
                None => groups.push((&one.chart, vec![one.clone()])),
            }
        }
        groups
            .into_iter()
            .map(|(title, group)| Self::new(title, group))
            .collect()
    }

    /// The chart as an `svg` element, for a page that holds the style.
    pub(super) fn element(&self) -> String {
        let is_bars = self
            .series
            .first()
            .is_some_and(|first| first.shape == Shape::Bars);
        let mut canvas = Canvas::default();
        canvas.text(MARGIN, 24.0, "class=\"title\"", &self.title);
        let top = self.legend(&mut canvas);
        let height = if is_bars {
            self.bars(&mut canvas, top)
        } else {
            self.lines(&mut canvas, top)
        };
        let title = escaped(&self.title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
             width=\"{WIDTH}\" height=\"{height:.0}\" role=\"img\" aria-label=\"{title}\">{}</svg>",
            canvas.0
        )
    }

    /// The chart as a file of its own.
    pub fn file(&self) -> String {
        let element = self.element();
        let ground = format!(
            "><style>{STYLE}</style>\
             <rect class=\"ground\" width=\"100%\" height=\"100%\" rx=\"6\"/>"
        );
        element.replacen('>', &ground, 1) + "\n"
    }

    /// Draws the names of the series, where there are several; returns where the plot may begin.
    fn legend(&self, canvas: &mut Canvas) -> f64 {
        let (mut x, mut y) = (MARGIN, TITLE_HEIGHT + 10.0);
        if self.series.len() < 2 {
            return TITLE_HEIGHT;
        }
        for (number, series) in self.series.iter().enumerate() {
            let width = 22.0 + text_width(&series.name) + 14.0;
            if x + width > WIDTH && x > MARGIN {
                (x, y) = (MARGIN, y + ROW_HEIGHT);
            }
            let colour = number % COLOURS;
            let _ = write!(
                canvas.0,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"14\" height=\"4\" rx=\"2\" \
                 style=\"fill:var(--s{colour})\"/>",
                y - 6.0
            );
            canvas.text(x + 20.0, y, "class=\"name\"", &series.name);
            x += width;
        }
        y + ROW_HEIGHT / 2.0
    }

    /// Draws axes and lines below `top`; returns the height of the whole.
    fn lines(&self, canvas: &mut Canvas, top: f64) -> f64 {
        let points = || {
            self.series
                .iter()
                .flat_map(|series| series.points.iter().copied())
        };
        let x_axis = self.x_axis(&points().collect::<Vec<_>>());
        let y_axis = Axis::over(self.y_scale, points().map(|(_, y)| y));
        let (x_unit, y_unit) = self.units();
        let area = Area {
            left: GUTTER,
            top: top + 26.0,
            width: WIDTH - GUTTER - 24.0,
        };
        for value in y_axis.lines() {
            let Some(y) = y_axis.share(value).map(|share| area.y(share)) else {
                continue;
            };
            canvas.grid((area.left, y), (area.left + area.width, y));
            canvas.text(
                area.left - 8.0,
                y + 4.0,
                "text-anchor=\"end\"",
                &tick(value, y_unit),
            );
        }
        for value in x_axis.lines() {
            let Some(x) = x_axis.share(value).map(|share| area.x(share)) else {
                continue;
            };
            canvas.grid((x, area.top), (x, area.top + PLOT_HEIGHT));
            let label = tick(value, x_unit);
            canvas.text(
                x,
                area.top + PLOT_HEIGHT + 18.0,
                "text-anchor=\"middle\"",
                &label,
            );
        }
        canvas.text(MARGIN, area.top - 10.0, "", counted(y_unit));
        let foot = area.top + PLOT_HEIGHT + 38.0;
        let end = area.left + area.width;
        canvas.text(end, foot, "text-anchor=\"end\"", counted(x_unit));
        for (number, series) in self.series.iter().enumerate() {
            let place =
                |(x, y): &(f64, f64)| Some((area.x(x_axis.share(*x)?), area.y(y_axis.share(*y)?)));
            let places: Vec<(f64, f64)> = series.points.iter().filter_map(place).collect();
            canvas.path(&places, number);
            if places.len() <= DOTS_MAX {
                let hints = series.points.iter().map(|(x, y)| {
                    format!(
                        "{}: {}, {}",
                        series.name,
                        tick(*x, x_unit),
                        tick(*y, y_unit)
                    )
                });
                canvas.dots(&places, number, hints);
            }
        }
        area.top + PLOT_HEIGHT + FOOT_HEIGHT
    }

    /// A percentile of 100 has no place: the axis ends where the curve's last other point is.
    fn x_axis(&self, points: &[(f64, f64)]) -> Axis {
        Axis::over(self.x_scale, points.iter().map(|(x, _)| *x))
    }

    fn units(&self) -> (&str, &str) {
        self.series
            .first()
            .map_or(("", ""), |first| (&first.x_unit, &first.y_unit))
    }

    /// Draws horizontal bars below `top`, a group for each label; returns the height of the whole.
    fn bars(&self, canvas: &mut Canvas, top: f64) -> f64 {
        let (_, unit) = self.units();
        let values = self
            .series
            .iter()
            .flat_map(|series| series.points.iter().map(|(_, y)| *y));
        let axis = Axis::over(Scale::Linear, values);
        let groups = self
            .series
            .iter()
            .map(|series| series.points.len())
            .max()
            .unwrap_or_default();
        let label = |group: usize| {
            let labels = self
                .series
                .iter()
                .filter_map(|series| series.labels.get(group));
            labels.map(String::as_str).next().unwrap_or_default()
        };
        let widest = (0..groups)
            .map(|group| text_width(label(group)))
            .fold(0.0, f64::max);
        let left = MARGIN + widest.min(WIDTH / 3.0) + 10.0;
        let room = WIDTH - left - 90.0;
        canvas.text(left, top + 12.0, "", counted(unit));
        let mut y = top + 22.0;
        for group in 0..groups {
            let bars = self.series.iter().enumerate();
            let bars = bars.filter_map(|(n, series)| Some((n, series.points.get(group)?.1)));
            let bars: Vec<(usize, f64)> = bars.collect();
            #[expect(clippy::cast_precision_loss, reason = "a handful of bars")]
            let height = bars.len() as f64 * BAR_HEIGHT;
            let middle = y + height / 2.0 + 4.0;
            canvas.text(
                left - 10.0,
                middle,
                "text-anchor=\"end\" class=\"name\"",
                label(group),
            );
            for (number, value) in bars {
                let width = axis.share(value).unwrap_or_default() * room;
                canvas.bar((left, y), width.max(1.0), number);
                canvas.text(left + width + 6.0, y + 13.0, "", &tick(value, unit));
                y += BAR_HEIGHT;
            }
            y += BAR_GAP;
        }
        y + MARGIN
    }
}

/// Writes one chart to a file of its own, for `bench/runs/` and the documents.
pub fn write_chart(path: &Path, chart: &Chart) -> io::Result<()> {
    std::fs::write(path, chart.file())
}

/// Where a line chart's plot lies.
struct Area {
    left: f64,
    top: f64,
    width: f64,
}

impl Area {
    fn x(&self, share: f64) -> f64 {
        self.left + share * self.width
    }

    fn y(&self, share: f64) -> f64 {
        self.top + (1.0 - share) * PLOT_HEIGHT
    }
}

/// The elements drawn so far.
#[derive(Default)]
struct Canvas(String);

impl Canvas {
    fn text(&mut self, x: f64, y: f64, attributes: &str, text: &str) {
        let text = escaped(text);
        let _ = write!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{text}</text>"
        );
    }

    fn grid(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let _ = write!(
            self.0,
            "<path class=\"grid\" d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\"/>"
        );
    }

    fn path(&mut self, places: &[(f64, f64)], number: usize) {
        let colour = number % COLOURS;
        let dashes = if number < COLOURS {
            ""
        } else {
            " stroke-dasharray=\"6 4\""
        };
        let _ = write!(
            self.0,
            "<path class=\"path\" style=\"stroke:var(--s{colour})\"{dashes} d=\""
        );
        for (place, (x, y)) in places.iter().enumerate() {
            let verb = if place == 0 { 'M' } else { 'L' };
            let _ = write!(self.0, "{verb}{x:.1} {y:.1}");
        }
        self.0.push_str("\"/>");
    }

    fn dots(&mut self, at: &[(f64, f64)], number: usize, hints: impl Iterator<Item = String>) {
        let colour = number % COLOURS;
        for ((x, y), hint) in at.iter().zip(hints) {
            let hint = escaped(&hint);
            let _ = write!(
                self.0,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" style=\"fill:var(--s{colour})\">\
                 <title>{hint}</title></circle>"
            );
        }
    }

    fn bar(&mut self, (x, y): (f64, f64), width: f64, number: usize) {
        let (colour, height) = (number % COLOURS, BAR_HEIGHT - 4.0);
        let _ = write!(
            self.0,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height}\" rx=\"2\" \
             style=\"fill:var(--s{colour})\"/>",
            y + 2.0
        );
    }
}

fn scale(values: impl Iterator<Item = f64> + Clone) -> Scale {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    if low > 0.0 && high / low > 50.0 {
        Scale::Log
    } else {
        Scale::Linear
    }
}

/// What an axis counts, in words.
fn counted(unit: &str) -> &str {
    match unit {
        // Its ticks carry their units.
        "us" => "time",
        other => other,
    }
}

#[expect(clippy::cast_precision_loss, reason = "labels are short")]
fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * CHAR_WIDTH
}

/// Text as it may stand in HTML and SVG, in attributes too.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(shape: Shape, points: &[(f64, f64)]) -> Series {
        Series {
            chart: "Cost".into(),
            name: "gush <1>".into(),
            x_unit: "subscribers".into(),
            y_unit: "us".into(),
            shape,
            labels: vec!["one".into(), "two".into()],
            points: points.to_vec(),
        }
    }

    #[test]
    fn scales_follow_the_values() {
        let wide = Chart::new("t", vec![series(Shape::Line, &[(1e3, 1.0), (1e6, 2.0)])]);
        assert_eq!((wide.x_scale, wide.y_scale), (Scale::Log, Scale::Linear));
        let zero = Chart::new("t", vec![series(Shape::Line, &[(0.0, 1.0), (1e6, 200.0)])]);
        assert_eq!((zero.x_scale, zero.y_scale), (Scale::Linear, Scale::Log));
        let curve = Chart::new("t", vec![series(Shape::Percentiles, &[(0.0, 1.0)])]);
        assert_eq!(curve.x_scale, Scale::Percentile);
    }

    #[test]
    fn series_of_one_title_share_a_chart() {
        let mut other = series(Shape::Line, &[(1.0, 1.0)]);
        other.chart = "Other".into();
        let one = series(Shape::Line, &[(1.0, 1.0)]);
        let charts = Chart::of(&[one.clone(), other, one]);
        let sizes: Vec<usize> = charts.iter().map(|chart| chart.series.len()).collect();
        assert_eq!(sizes, [2, 1]);
    }

    #[test]
    fn names_cannot_leave_their_element() {
        let two = vec![
            series(Shape::Line, &[(1.0, 1.0)]),
            series(Shape::Line, &[(2.0, 1.0)]),
        ];
        let text = Chart::new("a \"b\" <c>", two).file();
        assert!(text.contains("gush &lt;1&gt;") && !text.contains("<1>"));
        assert!(text.contains("aria-label=\"a &quot;b&quot; &lt;c&gt;\""));
        assert!(text.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn every_point_lies_inside_the_picture() {
        let points = [(1e3, 0.5), (1e4, 40.0), (1e6, 1e7)];
        let text = Chart::new("t", vec![series(Shape::Line, &points)]).file();
        let dots: Vec<&str> = text
            .match_indices("cx=\"")
            .map(|(at, _)| &text[at + 4..])
            .collect();
        assert_eq!(dots.len(), 3);
        for dot in dots {
            let x: f64 = dot.split('"').next().unwrap().parse().unwrap();
            assert!((GUTTER..=WIDTH).contains(&x), "{x}");
        }
    }

    #[test]
    fn bars_have_labels_and_begin_at_zero() {
        let text = Chart::new("t", vec![series(Shape::Bars, &[(0.0, 10.0), (1.0, 5.0)])]).file();
        assert!(text.contains(">one</text>") && text.contains(">two</text>"));
        assert_eq!(text.matches("rx=\"2\"").count(), 2);
    }
}
