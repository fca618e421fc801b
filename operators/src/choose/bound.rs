//! Bounds of a mean loss that hold at any time.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::stake::{self, COUNT};

/// Halvings of the range in which a bound is searched.
const HALVINGS: usize = 40;

/// Losses of records, of which only how often each occurred is kept.
///
/// ```
/// use anabranch_operators::choose::Losses;
///
/// let mut losses = Losses::default();
/// losses.extend([0.0; 990]);
/// losses.extend([1.0; 6]);
/// losses.extend([-1.0; 4]);
/// let interval = losses.interval(0.05);
/// assert!((interval.mean - 0.002).abs() < 1e-12);
/// assert!(interval.low < 0.0 && (0.005..0.02).contains(&interval.high));
/// assert!(losses.below(0.02, 0.05) && !losses.below(0.005, 0.05));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Losses {
    counts: BTreeMap<Loss, u64>,
    records: u64,
}

/// Where a mean is, and the mean of what was seen.
///
/// Each of the two bounds is on its side with the stated confidence, whenever one looks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower bound.
    pub low: f64,
    /// The mean of the losses seen; 0 when there are none.
    pub mean: f64,
    /// The upper bound.
    pub high: f64,
}

/// A loss that has a place in an order.
#[derive(Debug, Clone, Copy)]
struct Loss(f64);

impl Ord for Loss {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Loss {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Loss {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Loss {}

impl Losses {
    /// Adds the loss of a record. What lies beyond -1 or 1 counts as that; what is no number is a whole loss.
    pub fn add(&mut self, loss: f64) {
        // Adding zero makes -0 to 0.
        let loss = if loss.is_nan() { 1.0 } else { loss.clamp(-1.0, 1.0) + 0.0 };
        *self.counts.entry(Loss(loss)).or_default() += 1;
        self.records += 1;
    }

    /// How many losses were added.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Their mean; 0 when there are none.
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.counts.iter().map(|(loss, count)| loss.0 * *count as f64).sum();
        sum / self.records.max(1) as f64
    }

    /// Whether the mean is shown to be below `claim`: wrongly so with probability `alpha` at most, over all times at
    /// which one may look.
    pub fn below(&self, claim: f64, alpha: f64) -> bool {
        self.log_capital(claim, 1.0) >= -alpha.ln()
    }

    /// Whether the mean is shown to be above `claim`, like [`below`](Self::below).
    pub fn above(&self, claim: f64, alpha: f64) -> bool {
        self.log_capital(-claim, -1.0) >= -alpha.ln()
    }

    /// The bounds of the mean, each wrong with probability `alpha` at most over all times.
    pub fn interval(&self, alpha: f64) -> Interval {
        let (high, low) = (self.bound(alpha, 1.0), -self.bound(alpha, -1.0));
        Interval { low, mean: self.mean(), high }
    }

    /// The largest mean that the losses times `sign` may still have: capital grows with the claim.
    fn bound(&self, alpha: f64, sign: f64) -> f64 {
        let (mut possible, mut refuted) = (-1.0, 1.0);
        for _ in 0..HALVINGS {
            let claim = f64::midpoint(possible, refuted);
            match self.log_capital(claim, sign) >= -alpha.ln() {
                true => refuted = claim,
                false => possible = claim,
            }
        }
        refuted
    }

    /// The logarithm of what one unit of capital became, bet against the claim that the mean of the losses times
    /// `sign` is at least `claim`.
    fn log_capital(&self, claim: f64, sign: f64) -> f64 {
        let mut logs = [0.0; COUNT];
        for (loss, count) in &self.counts {
            let factors = stake::factors(claim, sign * loss.0);
            for (log, factor) in logs.iter_mut().zip(factors) {
                *log += factor.ln() * *count as f64;
            }
        }
        stake::log_mean(&logs)
    }
}

impl Extend<f64> for Losses {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, losses: I) {
        losses.into_iter().for_each(|loss| self.add(loss));
    }
}

/// The fewest records with which a mean can be shown to be below `max_loss`: all of them with loss 0.
///
/// ```
/// assert_eq!(anabranch_operators::choose::least_records(0.01, 0.05), 541);
/// assert_eq!(anabranch_operators::choose::least_records(0.05, 0.05), 106);
/// ```
pub fn least_records(max_loss: f64, alpha: f64) -> u64 {
    let enough = |records: u64| {
        let losses = Losses { counts: BTreeMap::from([(Loss(0.0), records)]), records };
        losses.below(max_loss, alpha)
    };
    let mut most = 1;
    while !enough(most) && most < 1 << 40 {
        most *= 2;
    }
    let mut few = most / 2;
    while most - few > 1 {
        let middle = u64::midpoint(few, most);
        if enough(middle) { most = middle } else { few = middle }
    }
    most
}
