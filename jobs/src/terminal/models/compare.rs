//! Two models side by side.

use std::fmt::Write;

use anabranch_models::artifact::{Accuracy, Card};

use super::{kind, number, value};
use crate::cli::{Compared, ModelSeen};
use crate::terminal::number::{bytes, count};

/// A line of the table: what, of each, and how they differ.
type Line = [String; 4];

/// What differs and what does not.
pub(crate) fn compared(Compared { a, b }: &Compared) -> String {
    let mut out = format!("A  {}\nB  {}\n\n", a.place, b.place);
    let (Some(of_a), Some(of_b)) = (&a.card, &b.card) else { return out };
    let mut lines = facts((a, of_a), (b, of_b));
    lines.insert(0, [String::new(), "A".to_owned(), "B".to_owned(), "B against A".to_owned()]);
    lines.extend(measures(of_a, of_b));
    let mut widths = [0; 4];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for line in lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    out
}

fn facts((seen_a, a): (&ModelSeen, &Card), (seen_b, b): (&ModelSeen, &Card)) -> Vec<Line> {
    let text = |name: &str, of: &dyn Fn(&Card) -> String| {
        let (a, b) = (of(a), of(b));
        let differs = if a == b { "" } else { "differs" };
        [name.to_owned(), a, b, differs.to_owned()]
    };
    let counted = |name: &str, a: u64, b: u64, shown: fn(u64) -> String| {
        [name.to_owned(), shown(a), shown(b), change(a as f64, b as f64)]
    };
    let both = |name: &str, of: &dyn Fn(&Card) -> u64, shown: fn(u64) -> String| {
        counted(name, of(a), of(b), shown)
    };
    let multiplications = |card: &Card| card.operations.multiplications_per_token().round() as u64;
    let additions = |card: &Card| card.operations.additions_per_token().round() as u64;
    vec![
        text("name", &|card| card.name.clone()),
        text("model", &|card| kind::kind(&card.architecture)),
        text("feed-forward", &|card| kind::feed_forward(&card.architecture.feed_forward)),
        text("data", &|card| match card.training.data_commit.as_str() {
            "" => "-".to_owned(),
            data => data.to_owned(),
        }),
        both("steps", &|card| card.training.steps, count),
        both("parameters", &|card| card.parameters, count),
        counted("bytes", seen_a.bytes, seen_b.bytes, bytes),
        both("bytes, feed-forward", &|card| card.feed_forward_bytes.exported, bytes),
        both("multiplications per token", &multiplications, count),
        both("additions per token", &additions, count),
    ]
}

/// The measures of either, in the order of the first.
fn measures(a: &Card, b: &Card) -> Vec<Line> {
    let same = |x: &Accuracy, y: &Accuracy| (&x.task, &x.measure) == (&y.task, &y.measure);
    let only_b = b.accuracy.iter().filter(|it| !a.accuracy.iter().any(|other| same(it, other)));
    let line = |measured: &Accuracy| {
        let find = |card: &Card| card.accuracy.iter().find(|it| same(it, measured)).cloned();
        let (of_a, of_b) = (find(a), find(b));
        let shown = |it: &Option<Accuracy>| it.as_ref().map_or_else(|| "-".to_owned(), value);
        let differs = of_a.as_ref().zip(of_b.as_ref()).map(|(a, b)| {
            let overlap = a.interval[0] <= b.interval[1] && b.interval[0] <= a.interval[1];
            let difference = b.value - a.value;
            let sign = if difference < 0.0 { "" } else { "+" };
            let intervals = if overlap { "overlap" } else { "do not overlap" };
            format!("{sign}{}, intervals {intervals}", number(difference))
        });
        let name = format!("{} of {}", measured.measure, measured.task);
        [name, shown(&of_a), shown(&of_b), differs.unwrap_or_default()]
    };
    a.accuracy.iter().chain(only_b).map(line).collect()
}

/// `+12.5 %`; nothing where nothing changed or nothing was there.
fn change(a: f64, b: f64) -> String {
    if a == b || a == 0.0 {
        return String::new();
    }
    format!("{:+.1} %", 100.0 * (b - a) / a)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn what_differs_is_told() {
        let a = sample::digits("/models/digits-1", 0.974);
        let mut b = sample::without_feed_forward("/models/digits-2", 0.91);
        if let Some(card) = &mut b.card {
            card.accuracy.push(Accuracy {
                task: "letters".to_owned(),
                measure: "loss".to_owned(),
                value: 1.5,
                interval: [1.4, 1.6],
                examples: 100,
            });
        }
        insta::assert_snapshot!(compared(&Compared { a, b }));
        let same = || sample::shakespeare("/models/text");
        insta::assert_snapshot!(compared(&Compared { a: same(), b: same() }));
    }
}
