//! All that is known of a model.

use std::fmt::Write;

use anabranch_models::artifact::{Accuracy, Card};

use super::{kind, percent, value};
use crate::cli::ModelSeen;
use crate::terminal::number::{bytes, count, plural};

/// Its card in a readable layout.
pub(crate) fn model(seen: &ModelSeen) -> String {
    let mut out = format!("{}\n", seen.place);
    if let Some(problem) = &seen.problem {
        let _ = writeln!(out, "  unusable: {problem}");
    }
    let Some(card) = &seen.card else { return out };
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "  {name:<16}{value}");
    };
    line("name", &card.name);
    line(
        "model",
        &format!("{}, {}", kind::kind(&card.architecture), kind::task(&card.architecture)),
    );
    line("heads", &card.architecture.heads.to_string());
    let tables = match card.table_bits {
        8 => String::new(),
        bits => format!(", values of {bits} bits"),
    };
    line("feed-forward", &(kind::feed_forward(&card.architecture.feed_forward) + &tables));
    line("parameters", &count(card.parameters));
    out.push_str("\ntraining\n");
    training(&mut out, card);
    out.push_str("\nmeasured\n");
    measured(&mut out, card);
    out.push_str("\noperations per token\n");
    operations(&mut out, seen, card);
    out.push_str("\nbytes of the feed-forward\n");
    weights(&mut out, card);
    out.push_str("\nfiles\n");
    for (name, file) in &card.files {
        let _ = writeln!(out, "  {name}  {}  {}", bytes(file.bytes), file.sha256);
    }
    if let (None, Some(sha256)) = (&seen.problem, &seen.sha256) {
        let _ = writeln!(out, "  card.json  {sha256}");
        out.push_str("  all hashes are right\n");
    }
    out
}

fn training(out: &mut String, card: &Card) {
    let training = &card.training;
    let _ = writeln!(out, "  {}, seed {}", plural(training.steps, "step"), training.seed);
    if !training.tasks.is_empty() {
        let _ = writeln!(out, "  for {}", training.tasks.join(", "));
    }
    match training.data_commit.as_str() {
        "" => out.push_str("  on data that the card does not name\n"),
        data => {
            let _ = writeln!(out, "  on {data}");
        }
    }
}

fn measured(out: &mut String, card: &Card) {
    if card.accuracy.is_empty() {
        out.push_str("  nothing\n");
    }
    for measured in &card.accuracy {
        let Accuracy { task, measure, examples, .. } = measured;
        let examples = plural(*examples, "example");
        let _ =
            writeln!(out, "  {measure} of {task}: {} at 95 %, over {examples}", value(measured));
    }
}

fn operations(out: &mut String, seen: &ModelSeen, card: &Card) {
    let mlp = &card.operations_with_mlp;
    let per_token = |number: f64| count(number.round() as u64);
    let rows = [
        (
            "multiplications",
            card.operations.multiplications_per_token(),
            mlp.multiplications_per_token(),
        ),
        ("additions", card.operations.additions_per_token(), mlp.additions_per_token()),
    ];
    for (name, here, with_mlp) in rows {
        let _ = writeln!(
            out,
            "  {name:<16}{:>12}   with an MLP {:>12}",
            per_token(here),
            per_token(with_mlp)
        );
    }
    if let Some(derived) = &seen.derived {
        let _ = writeln!(
            out,
            "  {} of the multiplications are replaced",
            percent(derived.replaced_share)
        );
    }
}

fn weights(out: &mut String, card: &Card) {
    let found = &card.feed_forward_bytes;
    let times = |other: u64| match other {
        0 => String::new(),
        other => format!("{:.2} times the", found.exported as f64 / other as f64),
    };
    let _ = writeln!(out, "  {}", bytes(found.exported));
    for (name, other) in [("f32 MLP", found.mlp_f32), ("int8 MLP", found.mlp_int8)] {
        let _ = writeln!(out, "  {} {name} of {}", times(other), bytes(other));
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_classifier_and_a_model_of_texts() {
        insta::assert_snapshot!(model(&sample::digits("/models/digits", 0.974)));
        insta::assert_snapshot!(model(&sample::shakespeare("s3://bucket/models/text")));
    }
}
