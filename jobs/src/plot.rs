//! Curves of a run as a picture: what `anabranch run --plot FILE` writes, an SVG that needs nothing beside it.
//!
//! One chart for each operator that has curves, all curves of it on the same axes.

use std::fmt::Write;

use anabranch_pipelines::progress::{NodeProgress, Progress};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
/// Room around the axes: left, right, above and below.
const ROOM: [f64; 4] = [64.0, 24.0, 40.0, 48.0];
/// Told apart by those who see colours differently, too (Okabe and Ito).
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"];

/// The charts of a run as one SVG; `None` when no operator has curves.
pub fn svg(progress: &Progress) -> Option<String> {
    let charts: Vec<String> = progress.nodes.iter().filter_map(chart).collect();
    if charts.is_empty() {
        return None;
    }
    let height = HEIGHT * charts.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} \
         {height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n"
    );
    for (at, chart) in charts.iter().enumerate() {
        let _ = writeln!(out, "<g transform=\"translate(0 {})\">\n{chart}</g>", HEIGHT * at as f64);
    }
    out.push_str("</svg>\n");
    Some(out)
}

/// From values to places.
struct Axis {
    from: f64,
    step: f64,
    ticks: usize,
    start: f64,
    length: f64,
}

impl Axis {
    /// An axis over these values whose ticks are at 1, 2 or 5 times a power of ten, from place `start` on.
    fn over(values: impl Iterator<Item = f64>, start: f64, length: f64) -> Option<Self> {
        let finite = values.filter(|value| value.is_finite());
        let (low, high) = finite
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return None;
        }
        let span = if high > low { high - low } else { low.abs().max(1.0) };
        let power = 10_f64.powf((span / 6.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
        let step = step.into_iter().find(|step| span / step <= 6.0).unwrap_or(span);
        let from = (low / step).floor() * step;
        let ticks = (((high - from) / step).ceil() as usize).max(1);
        Some(Self { from, step, ticks, start, length })
    }

    fn place(&self, value: f64) -> f64 {
        self.start + (value - self.from) / (self.step * self.ticks as f64) * self.length
    }

    fn ticks(&self) -> impl Iterator<Item = (f64, String)> + '_ {
        let digits = (-self.step.log10().floor()).max(0.0) as usize;
        (0..=self.ticks).map(move |tick| {
            let value = self.from + tick as f64 * self.step;
            (self.place(value), format!("{value:.digits$}"))
        })
    }
}

fn chart(node: &NodeProgress) -> Option<String> {
    let [left, right, above, below] = ROOM;
    let (bottom, end) = (HEIGHT - below, WIDTH - right);
    let points = || node.curves.iter().flat_map(|curve| &curve.points);
    let across = Axis::over(points().map(|[x, _]| *x), left, end - left)?;
    let up = Axis::over(points().map(|[_, y]| *y), bottom, above - bottom)?;
    let mut out = String::new();
    let name = escaped(&node.name);
    let _ = writeln!(out, "<text x=\"{left}\" y=\"20\" font-weight=\"bold\">{name}</text>");
    for (x, value) in across.ticks() {
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
            bottom + 18.0
        );
    }
    for (y, value) in up.ticks() {
        let _ = writeln!(
            out,
            "<path d=\"M{left} {y:.1}H{end}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{value}</text>",
            left - 8.0,
            y + 4.0
        );
    }
    let _ = writeln!(
        out,
        "<path d=\"M{left} {above}V{bottom}H{end}\" fill=\"none\" stroke=\"black\"/>"
    );
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">step</text>",
        (left + end) / 2.0,
        HEIGHT - 12.0
    );
    for (at, curve) in node.curves.iter().enumerate() {
        let colour = COLOURS.get(at % COLOURS.len()).copied().unwrap_or("black");
        let there = curve.points.iter().filter(|[x, y]| x.is_finite() && y.is_finite());
        let line: Vec<String> =
            there.map(|[x, y]| format!("{:.1},{:.1}", across.place(*x), up.place(*y))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            line.join(" ")
        );
        let (x, y) = (end - 120.0, above + 16.0 * at as f64);
        let _ = writeln!(
            out,
            "<path d=\"M{x} {y}h20\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"{}\" y=\"{}\">{}</text>",
            x + 26.0,
            y + 4.0,
            escaped(&curve.name)
        );
    }
    Some(out)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_pipelines::progress::Curve;

    fn drawn(points: Vec<[f64; 2]>) -> Option<String> {
        let curves = vec![Curve { name: "loss".to_owned(), points }];
        let node = NodeProgress { name: "a<b".to_owned(), curves, ..NodeProgress::default() };
        svg(&Progress { nodes: vec![node], ..Progress::default() })
    }

    /// Places of a curve's points in a picture.
    fn places(svg: &str) -> Vec<(f64, f64)> {
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let pair = |point: &str| {
            let (x, y) = point.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        };
        points.split(' ').map(pair).collect()
    }

    #[test]
    fn points_lie_between_the_axes_and_in_order() {
        let svg = drawn(vec![[100.0, 4.1], [200.0, 2.5], [2000.0, 1.83]]).unwrap();
        let places = places(&svg);
        assert!(places.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 < two[1].1), "{svg}");
        let within = |(x, y): &(f64, f64)| {
            (ROOM[0]..=WIDTH - ROOM[1]).contains(x) && (ROOM[2]..=HEIGHT - ROOM[3]).contains(y)
        };
        assert!(places.iter().all(within), "{places:?}");
        // 0 to 2000 by 500, and 1.5 to 4.5 by halves.
        for tick in
            ["<text x=\"64.0\" y=\"330.0\" text-anchor=\"middle\">0<", ">500<", ">1.5<", ">4.5<"]
        {
            assert!(svg.contains(tick), "{tick} in {svg}");
        }
        assert!(svg.contains("a&lt;b") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn odd_curves_are_drawn_as_far_as_they_go() {
        assert_eq!(svg(&Progress::default()), None);
        assert_eq!(drawn(vec![[1.0, f64::NAN]]), None);
        for points in
            [vec![[5.0, 2.0]], vec![[1.0, 0.0], [2.0, 0.0]], vec![[1.0, 1e-9], [2.0, f64::NAN]]]
        {
            let svg = drawn(points).unwrap();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
