//! How like its original a decoded picture or sound is, in numbers.
//!
//! They rank settings and go into reports. What a setting costs a model is measured on the model's task, never read
//! off these.
//!
//! | | unit | of identical media | source |
//! | --- | --- | --- | --- |
//! | [`psnr`] | decibels | infinite | peak 255, over all samples of all channels |
//! | [`ssim`] | -1 to 1 | 1 | Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 13, 2004 |
//! | [`ms_ssim`] | 0 to 1 | 1 | Wang, Simoncelli, Bovik, Asilomar 2003 |
//! | [`ssimulacra2()`] | up to 100 | 100 | Sneyers, Cloudinary, by the crate of that name |
//! | [`si_sdr`] | decibels | infinite | Le Roux, Wisdom, Erdogan, Hershey, ICASSP 2019 |
//! | [`log_spectral_distance`] | decibels | 0 | Gray and Markel, IEEE TASSP 24, 1976 |
//! | [`FeatureDistance`] | 0 to 4 | 0 | ours, by networks that one trains |
//!
//! ```
//! use anabranch_operators::codec::{Facts, Media};
//! use anabranch_operators::metric;
//!
//! let facts = Facts::Image { width: 16, height: 16, channels: 1 };
//! let [grey, darker] = [[100; 256], [90; 256]];
//! let original = Media { samples: &grey, facts };
//! let decoded = Media { samples: &darker, facts };
//! assert!((metric::psnr(&original, &decoded)? - 28.13).abs() < 0.01);
//! assert_eq!(metric::ssim(&original, &original)?, 1.0);
//! # Ok::<(), metric::MetricError>(())
//! ```

use thiserror::Error;

use crate::codec::{Facts, Media};

mod feature;
mod fit;
mod picture;
mod pieces;
mod similarity;
mod sound;
#[cfg(test)]
mod tests;

pub use feature::{Change, FeatureDistance, FeatureError, Seen, Weights};
pub use picture::{psnr, ssimulacra2};
pub use similarity::{ms_ssim, ssim};
pub use sound::{log_spectral_distance, si_sdr};

/// Why two media have no such number.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetricError {
    /// They are of different sizes or kinds.
    #[error(
        "the original is {original:?} and what came back is {decoded:?}; bring both to one form"
    )]
    Unlike {
        /// The original.
        original: Facts,
        /// What came back.
        decoded: Facts,
    },
    /// A metric of the other modality.
    #[error("{metric} compares {what}")]
    Modality {
        /// The metric.
        metric: &'static str,
        /// What it compares.
        what: &'static str,
    },
    /// Fewer samples than the metric is defined for.
    #[error("{metric} is defined for {least} and more")]
    TooSmall {
        /// The metric.
        metric: &'static str,
        /// The least.
        least: &'static str,
    },
    /// A sound with a sample that is infinite or no number.
    #[error("sample {at} of a sound is no finite number")]
    NotFinite {
        /// Which, over both sounds, one after the other.
        at: usize,
    },
    /// A ratio to nothing.
    #[error("the original is silent, so that there is no ratio to its power")]
    Silent,
}

/// Whether two media have the same facts, and samples as the facts say.
fn alike(original: &Media<'_>, decoded: &Media<'_>) -> Result<(), MetricError> {
    let whole = |media: &Media<'_>| media.samples.len() as u64 == media.facts.bytes();
    match original.facts == decoded.facts && whole(original) && whole(decoded) {
        true => Ok(()),
        false => Err(MetricError::Unlike { original: original.facts, decoded: decoded.facts }),
    }
}
