//! From the best setting to the cheapest, one step at a time.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::bound::{Interval, Losses, least_records};

/// Records that are evaluated before one looks again.
const LOOK: usize = 64;

/// Records of a class that is looked at by itself; smaller ones are looked at together.
pub const LEAST_OF_CLASS: usize = 128;

/// What a setting must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// The mean loss must be below this, more than 0 and less than 1.
    pub max_loss: f64,
    /// The mean loss of each class must be below this, so that no class vanishes behind the mean.
    pub class_loss: f64,
    /// How sure that must be: 1 less the probability that a setting is chosen which does not keep to it.
    pub confidence: f64,
}

impl Rule {
    fn alpha(&self) -> f64 {
        1.0 - self.confidence
    }
}

/// What became of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It keeps to the rule.
    Accepted,
    /// It does not.
    Rejected,
    /// There are not records enough to tell.
    Inconclusive,
}

/// One setting that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The setting, counted from the best.
    pub setting: usize,
    /// What became of it.
    pub verdict: Verdict,
    /// Records that were evaluated.
    pub records: u64,
    /// Where its mean loss is.
    pub interval: Interval,
    /// The class that lost most, if records have classes.
    pub worst_class: Option<WorstClass>,
}

/// The class that lost most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstClass {
    /// The class; `None` for all small ones together.
    pub class: Option<u32>,
    /// Records of it that were evaluated.
    pub records: u64,
    /// Where its mean loss is.
    pub interval: Interval,
}

/// What was looked at, and what is chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Walk {
    /// The cheapest setting that was accepted before the first that was not; `None` when the best was not.
    pub chosen: Option<usize>,
    /// What was looked at, in order.
    pub steps: Vec<Step>,
}

/// Walks `settings` from the best (0) to the cheapest and stops at the first that is not accepted.
///
/// `evaluate` gives the losses of some records at a setting, in order. Records should come in an order that says
/// nothing of their losses, and must not be those by which the settings were put in order; `classes` has one entry
/// for each.
///
/// The probability that a setting is chosen although its mean loss is not below the rule's is `1 - confidence` at
/// most, for the walk as a whole: to be wrong it must accept the first such setting, which one test at that level
/// guards. A setting must pass the test of the mean and those of all classes, so these need not share the
/// probability either.
///
/// # Errors
/// What `evaluate` returns.
pub fn walk<E>(
    rule: &Rule,
    settings: usize,
    classes: &[Option<u32>],
    mut evaluate: impl FnMut(usize, Range<usize>) -> Result<Vec<f64>, E>,
) -> Result<Walk, E> {
    let strata = Strata::of(classes);
    let mut walk = Walk { chosen: None, steps: Vec::new() };
    for setting in 0..settings {
        let step = step(rule, setting, classes, &strata, |range| evaluate(setting, range))?;
        let accepted = step.verdict == Verdict::Accepted;
        walk.steps.push(step);
        if !accepted {
            break;
        }
        walk.chosen = Some(setting);
    }
    Ok(walk)
}

fn step<E>(
    rule: &Rule,
    setting: usize,
    classes: &[Option<u32>],
    strata: &Strata,
    mut evaluate: impl FnMut(Range<usize>) -> Result<Vec<f64>, E>,
) -> Result<Step, E> {
    let alpha = rule.alpha();
    let (mut all, mut of) = (Losses::default(), strata.empty());
    let mut verdict = Verdict::Inconclusive;
    // A bound that was crossed stays crossed: it holds at all times at once.
    let mut small = false;
    let possible = classes.len() as u64 >= least_records(rule.max_loss, alpha);
    let mut at = 0;
    while possible && verdict == Verdict::Inconclusive && at < classes.len() {
        let range = at..(at + LOOK).min(classes.len());
        for (loss, class) in evaluate(range.clone())?.into_iter().zip(classes.iter().skip(at)) {
            all.add(loss);
            if let Some(stratum) = strata.of_class(*class).and_then(|class| of.get_mut(&class)) {
                stratum.losses.add(loss);
            }
        }
        at = range.end;
        small |= all.below(rule.max_loss, alpha);
        for stratum in of.values_mut() {
            stratum.small |= stratum.losses.below(rule.class_loss, alpha);
        }
        let each = alpha / of.len().max(1) as f64;
        if all.above(rule.max_loss, alpha)
            || of.values().any(|stratum| stratum.losses.above(rule.class_loss, each))
        {
            verdict = Verdict::Rejected;
        } else if small && of.values().all(|stratum| stratum.small) {
            verdict = Verdict::Accepted;
        }
    }
    let mut interval = all.interval(alpha);
    if small {
        interval.high = interval.high.min(rule.max_loss);
    }
    let worst = of
        .into_iter()
        .filter(|(_, stratum)| stratum.losses.records() > 0)
        .max_by(|(_, one), (_, other)| one.losses.mean().total_cmp(&other.losses.mean()));
    let worst_class = worst.map(|(class, stratum)| WorstClass {
        class,
        records: stratum.losses.records(),
        interval: stratum.losses.interval(alpha),
    });
    Ok(Step { setting, verdict, records: all.records(), interval, worst_class })
}

/// Which classes are looked at by themselves.
struct Strata {
    /// The large ones; with `None` for all others, if these are enough together.
    looked_at: Vec<Option<u32>>,
}

#[derive(Default)]
struct Stratum {
    losses: Losses,
    small: bool,
}

impl Strata {
    fn of(classes: &[Option<u32>]) -> Self {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for class in classes.iter().flatten() {
            *counts.entry(*class).or_default() += 1;
        }
        let large = |count: &usize| *count >= LEAST_OF_CLASS;
        let others = counts.values().filter(|count| !large(count)).sum();
        let mut looked_at: Vec<Option<u32>> = counts
            .iter()
            .filter(|(_, count)| large(count))
            .map(|(class, _)| Some(*class))
            .collect();
        if large(&others) {
            looked_at.push(None);
        }
        // A single class is everything.
        if looked_at.len() == 1 && counts.len() == 1 {
            looked_at.clear();
        }
        Self { looked_at }
    }

    fn empty(&self) -> BTreeMap<Option<u32>, Stratum> {
        self.looked_at.iter().map(|class| (*class, Stratum::default())).collect()
    }

    /// The stratum of a record of this class.
    fn of_class(&self, class: Option<u32>) -> Option<Option<u32>> {
        let own = Some(class?);
        let other = self.looked_at.contains(&None).then_some(None);
        if self.looked_at.contains(&own) { Some(own) } else { other }
    }
}
