//! What operators show of themselves: figures while they run, and how these came to be in the end.

use std::fmt::Write;

use anabranch_pipelines::progress::{Curve, Figure, NodeProgress, Report};

use super::number::{count, figure};

/// Blocks of a sparkline, from low to high.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Blocks of a sparkline at most.
const WIDTH: usize = 48;

/// The figures of a node, each with its name: `step 1,200/2,000`, `loss 1.83`.
pub(super) fn figures(node: &NodeProgress) -> Vec<String> {
    let whole = |value: f64| count(value.max(0.0).round() as u64);
    let one = |of: &Figure| match of.of {
        Some(all) => format!("{} {}/{}", of.name, whole(of.value), whole(all)),
        None => format!("{} {}", of.name, figure(of.value)),
    };
    node.figures.iter().map(one).collect()
}

/// The curves of a run's operators, with where they begin and end.
pub(super) fn curves(out: &mut String, report: &Report) {
    for node in report.progress.nodes.iter().filter(|node| !node.curves.is_empty()) {
        let _ = writeln!(out, "\n  {}  {}", node.name, figures(node).join(", "));
        let width = node.curves.iter().map(|curve| curve.name.len()).max().unwrap_or(0);
        for curve in &node.curves {
            let ends = curve.points.first().zip(curve.points.last());
            let Some(([_, first], [_, last])) = ends else { continue };
            let (first, last) = (figure(*first), figure(*last));
            let _ = writeln!(out, "    {:<width$}  {first} to {last}  {}", curve.name, line(curve));
        }
    }
}

/// A curve in blocks, the lowest of its values on the ground.
fn line(curve: &Curve) -> String {
    let values: Vec<f64> = curve.points.iter().map(|[_, value]| *value).collect();
    let width = values.len().min(WIDTH);
    // Each block is the mean of the values that it stands for.
    let block = |at: usize| {
        let (from, to) = (at * values.len() / width, (at + 1) * values.len() / width);
        let some = values.get(from..to).unwrap_or_default();
        some.iter().sum::<f64>() / some.len().max(1) as f64
    };
    let blocks: Vec<f64> = (0..width).map(block).collect();
    let low = blocks.iter().copied().fold(f64::INFINITY, f64::min);
    let high = blocks.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let level = |value: f64| {
        let share = if high > low { (value - low) / (high - low) } else { 0.0 };
        let at = (share * LEVELS.len() as f64) as usize;
        LEVELS.get(at.min(LEVELS.len() - 1)).copied().unwrap_or(' ')
    };
    blocks.into_iter().map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::sample;

    #[test]
    fn figures_have_their_names() {
        let progress = sample::learned().progress;
        let node = progress.nodes.iter().find(|node| !node.figures.is_empty()).unwrap();
        assert_eq!(figures(node), ["step 1,200/2,000", "loss 1.834", "validation 1.791"]);
    }

    #[test]
    fn a_curve_falls_from_the_top_to_the_ground() {
        let mut out = String::new();
        curves(&mut out, &sample::learned());
        insta::assert_snapshot!(out);
        let flat = Curve { name: "flat".to_owned(), points: vec![[1.0, 2.0]; 3] };
        assert_eq!(line(&flat), "▁▁▁");
        let long = (0..1000).map(|at| [f64::from(at), f64::from(at)]).collect();
        let long = line(&Curve { name: "long".to_owned(), points: long });
        assert_eq!(long.chars().count(), WIDTH);
        assert!(long.starts_with('▁') && long.ends_with('█'));
    }
}
