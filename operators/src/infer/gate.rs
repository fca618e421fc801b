//! What an artifact must have been measured to do before it answers.

use anabranch_models::artifact::Card;
use serde::{Deserialize, Serialize};

/// What a card must say. Each measure of this name must be in the range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The measure, e.g. `"accuracy"` or `"loss"`.
    pub measure: String,
    /// Of which task; without it, of every one.
    #[serde(default)]
    pub task: Option<String>,
    /// The least that passes.
    #[serde(default)]
    pub at_least: Option<f64>,
    /// The most that passes, for losses.
    #[serde(default)]
    pub at_most: Option<f64>,
}

impl Gate {
    /// Whether the gate says anything.
    pub(super) fn check(&self) -> Result<(), String> {
        let bounds = [self.at_least, self.at_most];
        if bounds.iter().all(Option::is_none) {
            return Err("`gate` names a measure and no bound; add `at_least` or `at_most`".into());
        }
        match bounds.iter().flatten().any(|bound| !bound.is_finite()) {
            true => Err("a bound of `gate` is not a finite number".into()),
            false => Ok(()),
        }
    }

    /// Why a model does not pass, if it does not.
    pub(super) fn refusal(&self, card: &Card) -> Option<String> {
        let Self { measure, task, at_least, at_most } = self;
        let of = |it: &&anabranch_models::artifact::Accuracy| {
            &it.measure == measure && task.as_ref().is_none_or(|task| task == &it.task)
        };
        let mut found = card.accuracy.iter().filter(of).peekable();
        if found.peek().is_none() {
            let task = task.as_ref().map_or_else(String::new, |task| format!(" of `{task}`"));
            return Some(format!("its card has no measure `{measure}`{task}"));
        }
        found.find_map(|it| {
            let (value, task) = (it.value, &it.task);
            let low = at_least.filter(|least| value < *least).map(|b| (b, "less"));
            let high = at_most.filter(|most| value > *most).map(|b| (b, "more"));
            let (bound, how) = low.or(high)?;
            Some(format!("its {measure} of `{task}` is {value}, {how} than {bound}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::card;
    use super::*;

    #[test]
    fn a_gate_reads_the_card_and_says_why_it_stays_closed() {
        let gate = |measure: &str, task: Option<&str>, at_least, at_most| Gate {
            measure: measure.to_owned(),
            task: task.map(str::to_owned),
            at_least,
            at_most,
        };
        let card = card(&[("digits", "accuracy", 0.9), ("letters", "accuracy", 0.7)]);
        let refusal = |gate: Gate| gate.refusal(&card);
        assert_eq!(refusal(gate("accuracy", None, Some(0.7), None)), None);
        assert_eq!(
            refusal(gate("accuracy", None, Some(0.8), None)).unwrap(),
            "its accuracy of `letters` is 0.7, less than 0.8"
        );
        assert_eq!(refusal(gate("accuracy", Some("digits"), Some(0.8), None)), None);
        assert_eq!(
            refusal(gate("accuracy", Some("digits"), None, Some(0.8))).unwrap(),
            "its accuracy of `digits` is 0.9, more than 0.8"
        );
        assert_eq!(
            refusal(gate("loss", Some("digits"), None, Some(0.8))).unwrap(),
            "its card has no measure `loss` of `digits`"
        );
        assert!(gate("loss", None, None, None).check().is_err());
        assert!(gate("loss", None, None, Some(f64::NAN)).check().is_err());
    }
}
