//! The models of a folder, a line or two for each.

use std::fmt::Write;

use anabranch_models::artifact::Accuracy;

use super::{kind, value};
use crate::cli::ModelSeen;
use crate::terminal::number::{bytes, plural};

/// All of them, in order of their places.
pub(crate) fn models(models: &[ModelSeen]) -> String {
    let mut out = String::new();
    for seen in models {
        let _ = writeln!(out, "{}", seen.place);
        if let Some(card) = &seen.card {
            let (kind, steps) =
                (kind::kind(&card.architecture), plural(card.training.steps, "step"));
            let _ = writeln!(out, "  {}: {kind}, {steps}, {}", card.name, bytes(seen.bytes));
            for measured in &card.accuracy {
                let Accuracy { task, measure, .. } = measured;
                let _ = writeln!(out, "  {measure} of {task}: {}", value(measured));
            }
        }
        if let Some(problem) = &seen.problem {
            let _ = writeln!(out, "  unusable: {problem}");
        }
    }
    let damaged = models.iter().filter(|seen| seen.problem.is_some()).count();
    let _ = write!(out, "\n{}", plural(models.len() as u64, "model"));
    if damaged > 0 {
        let _ = write!(out, ", {damaged} of them unusable");
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn whole_and_damaged_models_are_listed() {
        let damaged = ModelSeen {
            problem: Some("weights.safetensors has 3 bytes, not the 40,000".to_owned()),
            ..sample::digits("/models/digits-2", 0.91)
        };
        let foreign = ModelSeen {
            place: "/models/other".to_owned(),
            sha256: None,
            bytes: 17,
            problem: Some("card.json is no card of an artifact: it is empty".to_owned()),
            derived: None,
            card: None,
        };
        let all = [sample::digits("/models/digits-1", 0.974), damaged, foreign];
        insta::assert_snapshot!(models(&all));
    }
}
