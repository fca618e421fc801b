//! A plot as SVG: lines over a logarithmic axis, with intervals.

use std::fmt::Write;

/// Width and height, and the room left for labels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 46.0;

/// Colours that people who see few of them tell apart (Okabe and Ito, 2008).
const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// A point and the interval of its height.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// A line with a name.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) marks: Vec<Mark>,
}

/// The plot. Marks that are not finite, or not above 0 on the axis, are left out; without any there is no plot.
pub(super) fn svg(lines: &[Line<'_>], x_title: &str, y_title: &str) -> Option<String> {
    let drawn = |mark: &Mark| {
        mark.x > 0.0 && [mark.x, mark.y, mark.low, mark.high].into_iter().all(f64::is_finite)
    };
    let all = || lines.iter().flat_map(|line| &line.marks).filter(|mark| drawn(mark));
    all().next()?;
    let x = Axis::new(all().map(|mark| mark.x.log10()), LEFT, WIDTH - RIGHT);
    let y = Axis::new(all().flat_map(|mark| [mark.low, mark.high]), HEIGHT - BOTTOM, TOP);
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} over {}\">\n",
        super::html::escaped(y_title),
        super::html::escaped(x_title)
    );
    for tick in y.ticks() {
        let (at, left, right) = (y.place(tick), LEFT, WIDTH - RIGHT);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"
        );
        let _ = writeln!(
            out,
            "<text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            short(tick)
        );
    }
    for tick in decades(x.low, x.high) {
        let (at, bottom) = (x.place(tick.log10()), HEIGHT - BOTTOM);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>"
        );
        let _ = writeln!(
            out,
            "<text class=\"x\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 16.0,
            short(tick)
        );
    }
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let marks: Vec<&Mark> = line.marks.iter().filter(|mark| drawn(mark)).collect();
        let places = marks.iter().map(|mark| (x.place(mark.x.log10()), y.place(mark.y)));
        let places: Vec<(f64, f64)> = places.collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(out, "<g stroke=\"{colour}\" fill=\"{colour}\">");
        let _ = writeln!(out, "<polyline points=\"{}\"/>", path.join(" "));
        for (mark, (px, py)) in marks.iter().zip(&places) {
            let (low, high) = (y.place(mark.low), y.place(mark.high));
            let _ = writeln!(
                out,
                "<line x1=\"{px:.1}\" x2=\"{px:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\"/>"
            );
            let _ = writeln!(out, "<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3\"/>");
        }
        let right = places.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((px, py)) = right {
            let name = super::html::escaped(line.name);
            let _ = writeln!(
                out,
                "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
                px + 8.0,
                py + 4.0
            );
        }
        out.push_str("</g>\n");
    }
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    let (x_title, y_title) = (super::html::escaped(x_title), super::html::escaped(y_title));
    let _ =
        writeln!(out, "<text class=\"x\" x=\"{middle}\" y=\"{}\">{x_title}</text>", HEIGHT - 8.0);
    let centre = f64::midpoint(TOP, HEIGHT - BOTTOM);
    let _ = writeln!(
        out,
        "<text class=\"x\" transform=\"translate(14 {centre}) rotate(-90)\">{y_title}</text>"
    );
    out.push_str("</svg>\n");
    Some(out)
}

/// Values on their way to places.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let ends = (f64::INFINITY, f64::NEG_INFINITY);
        let (low, high) = values.fold(ends, |(low, high), v| (low.min(v), high.max(v)));
        let room = if high > low { (high - low) * 0.04 } else { 0.5 };
        Self { low: low - room, high: high + room, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// About six round numbers.
    fn ticks(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / 6.0;
        let power = 10.0_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|s| s * power).into_iter().find(|s| *s >= rough);
        let step = step.unwrap_or(rough);
        let first = (self.low / step).ceil();
        let ticks = (0..20).map(|at| (first + f64::from(at)) * step);
        ticks.take_while(|tick| *tick <= self.high).collect()
    }
}

/// 1, 2 and 5 of each decade between two logarithms.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.floor() as i32, high.ceil() as i32);
    let all = (first..=last).flat_map(|decade| [1.0, 2.0, 5.0].map(|d| d * 10.0_f64.powi(decade)));
    all.filter(|tick| (low..=high).contains(&tick.log10())).collect()
}

/// A number as short as it can be read.
fn short(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    if rounded == 0.0 { "0".to_owned() } else { format!("{rounded}") }
}
