//! Charts as SVG: lines over a logarithmic axis, and groups of bars.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 56.0;
/// Told apart also without colour vision (Okabe and Ito).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555",
];

/// What is written at the title and the axes.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// Above the chart.
    pub title: &'a str,
    /// Below it.
    pub x: &'a str,
    /// Left of it, with the unit.
    pub y: &'a str,
}

/// A name and its points or heights.
pub type Series<T> = (String, Vec<T>);

/// Bars in groups, one of each series in each group; the height is logarithmic.
pub fn bars(words: Words<'_>, groups: &[&str], series: &[Series<f64>]) -> String {
    let scale = Scale::logarithmic(series.iter().flat_map(|(_, values)| values.iter().copied()));
    let mut svg = begin(words, &scale);
    let room = (WIDTH - LEFT - RIGHT) / groups.len() as f64;
    let wide = room * 0.8 / series.len() as f64;
    for (group, name) in groups.iter().enumerate() {
        let left = LEFT + room * (group as f64 + 0.1);
        for (number, (_, values)) in series.iter().enumerate() {
            let top = scale.y(values[group]);
            let (x, tall) = (left + wide * number as f64, HEIGHT - BOTTOM - top);
            let colour = COLOURS[number % COLOURS.len()];
            let _ = writeln!(
                svg,
                "<rect x='{x:.1}' y='{top:.1}' width='{:.1}' height='{tall:.1}' fill='{colour}'/>\
                 <text x='{:.1}' y='{:.1}' text-anchor='middle' font-size='10'>{}</text>",
                wide - 2.0,
                x + wide / 2.0,
                top - 3.0,
                short(values[group])
            );
        }
        let middle = LEFT + room * (group as f64 + 0.5);
        let _ = writeln!(
            svg,
            "<text x='{middle:.1}' y='{:.1}' text-anchor='middle' font-size='10'>{name}</text>",
            HEIGHT - BOTTOM + 14.0 + 13.0 * (group % 2) as f64
        );
    }
    end(svg, series.iter().map(|(name, _)| name.as_str()))
}

/// Lines over named places on the x axis, evenly spaced (the knobs are not evenly spaced numbers).
pub fn lines(words: Words<'_>, places: &[String], series: &[Series<f64>]) -> String {
    let scale = Scale::logarithmic(series.iter().flat_map(|(_, values)| values.iter().copied()));
    let mut svg = begin(words, &scale);
    let step = (WIDTH - LEFT - RIGHT) / places.len() as f64;
    for (place, name) in places.iter().enumerate() {
        let x = LEFT + step * (place as f64 + 0.5);
        let _ = writeln!(
            svg,
            "<text x='{x:.1}' y='{:.1}' text-anchor='middle'>{name}</text>",
            HEIGHT - BOTTOM + 18.0
        );
    }
    for (number, (_, values)) in series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points: Vec<(f64, f64)> = values
            .iter()
            .enumerate()
            .filter(|(_, value)| value.is_finite() && **value > 0.0)
            .map(|(place, value)| (LEFT + step * (place as f64 + 0.5), scale.y(*value)))
            .collect();
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2'/>",
            path.join(" ")
        );
        for (x, y) in points {
            let _ = writeln!(
                svg,
                "<circle cx='{x:.1}' cy='{y:.1}' r='3' fill='{colour}'/>"
            );
        }
    }
    end(svg, series.iter().map(|(name, _)| name.as_str()))
}

/// A logarithmic axis from one power of ten to another.
struct Scale {
    low: i32,
    high: i32,
}

impl Scale {
    fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::MAX, f64::MIN);
        for value in values.filter(|value| value.is_finite() && *value > 0.0) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        let (low, high) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        Self {
            low,
            high: high.max(low + 1),
        }
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value.max(f64::MIN_POSITIVE).log10() - f64::from(self.low))
            / f64::from(self.high - self.low);
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }
}

fn begin(words: Words<'_>, scale: &Scale) -> String {
    let (middle, foot) = (LEFT + (WIDTH - LEFT - RIGHT) / 2.0, HEIGHT - 14.0);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' \
         font-family='sans-serif' font-size='12'>\n\
         <rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>\n\
         <text x='{LEFT}' y='22' font-size='15' font-weight='bold'>{}</text>\n\
         <text x='{middle}' y='{foot}' text-anchor='middle'>{}</text>\n\
         <text transform='translate(16 {}) rotate(-90)' text-anchor='middle'>{}</text>\n",
        words.title,
        words.x,
        HEIGHT / 2.0,
        words.y
    );
    for power in scale.low..=scale.high {
        let value = 10_f64.powi(power);
        let y = scale.y(value);
        let _ = writeln!(
            svg,
            "<line x1='{LEFT}' x2='{}' y1='{y:.1}' y2='{y:.1}' stroke='#ddd'/>\
             <text x='{}' y='{:.1}' text-anchor='end'>{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            short(value)
        );
    }
    svg
}

fn end<'a>(mut svg: String, names: impl Iterator<Item = &'a str>) -> String {
    for (number, name) in names.enumerate() {
        let (x, y) = (WIDTH - RIGHT + 14.0, TOP + 18.0 * number as f64);
        let colour = COLOURS[number % COLOURS.len()];
        let _ = writeln!(
            svg,
            "<rect x='{x}' y='{y}' width='11' height='11' fill='{colour}'/>\
             <text x='{}' y='{}'>{name}</text>",
            x + 17.0,
            y + 10.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.0}M", value / 1e6),
        value if value >= 1e4 => format!("{:.0}k", value / 1e3),
        value if value >= 10.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}").replace(".0", ""),
        value => format!("{value:.2}").trim_end_matches('0').to_owned(),
    }
}
