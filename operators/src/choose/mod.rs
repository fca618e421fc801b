//! Chooses the cheapest setting whose loss on a task is small enough, with stated confidence.
//!
//! A loss is paired: what a task makes of a record as it was, less what it makes of the record as it comes back
//! from a codec, a number from -1 (it gained) to 1 (it lost). With answers that are right or wrong most records have
//! loss 0, and only the discordant ones carry news; that is why pairs need a tenth of the records that two separate
//! accuracies need.
//!
//! * [`Losses`] bounds the mean loss, at any time: one may look after every record and stop when one likes.
//! * [`walk`](fn@walk) goes from the best setting to the cheapest and stops at the first that is not shown to be good.
//! * [`Drift`] goes on watching a sample, and tells when the mean loss is no longer small.
//!
//! All of it is arithmetic on losses: no record, codec or model is known here.
//!
//! ```
//! use anabranch_operators::choose::{Rule, Verdict, walk};
//!
//! // Three settings on 2,000 records: one loses nothing, one every 500th answer, one every 10th.
//! let loses = [usize::MAX, 500, 10];
//! let rule = Rule { max_loss: 0.01, class_loss: 0.05, confidence: 0.95 };
//! let walk = walk::<()>(&rule, loses.len(), &vec![None; 2_000], |setting, records| {
//!     Ok(records.map(|record| f64::from(u8::from((record + 1) % loses[setting] == 0))).collect())
//! })?;
//! assert_eq!(walk.chosen, Some(1));
//! let [nothing, little, much] = &walk.steps[..] else { panic!() };
//! assert!(nothing.records < little.records && little.interval.high <= 0.01);
//! assert_eq!(much.verdict, Verdict::Rejected);
//! # Ok::<(), ()>(())
//! ```

mod bound;
mod drift;
mod stake;
#[cfg(test)]
mod tests;
mod walk;

pub use bound::{Interval, Losses, least_records};
pub use drift::Drift;
pub use walk::{LEAST_OF_CLASS, Rule, Step, Verdict, Walk, WorstClass, walk};
