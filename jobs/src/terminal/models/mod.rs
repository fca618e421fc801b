//! Trained models as text: `anabranch models`.

mod card;
mod compare;
mod kind;
mod list;
#[cfg(test)]
mod sample;

pub(crate) use card::model;
pub(crate) use compare::compared;
pub(crate) use list::models;

use anabranch_models::artifact::Accuracy;

/// A measure with its interval: `0.974 (0.970 to 0.978)`.
fn value(accuracy: &Accuracy) -> String {
    let Accuracy { value, interval: [low, high], .. } = accuracy;
    format!("{} ({} to {})", number(*value), number(*low), number(*high))
}

/// Four digits that say something, and no more.
fn number(value: f64) -> String {
    let digits = if value.abs() >= 100.0 {
        1
    } else if value.abs() >= 10.0 {
        2
    } else {
        3
    };
    format!("{value:.digits$}")
}

/// A share, 0 to 1, in percent.
fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
