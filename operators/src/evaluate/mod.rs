//! `kind = "evaluate"`: what every setting of every codec does to each record.
//!
//! A row comes out for each record, with its media left out and a list of **points** in their place: one for each
//! setting, of at least eight steps of every ladder. A point says how many bytes are stored (container included), how
//! like the original the record comes back ([`metric`](crate::metric)), how well the task's model does on it, and what
//! encoding and decoding took of a processor. A setting that cannot hold the record has a point of nulls.
//!
//! The loss of the task is **Q_infer**, never anything else: a model that was trained on originals and is asked about
//! what comes back ([`q_train`](fn@q_train) and [`q_latent`] are other questions). It is paired: the score of the original stands in the row (`score`), that of each setting in its
//! point.
//!
//! With `models`, two or more networks that were trained on such records, a point also says how far apart original and
//! what comes back are for these ([`FeatureDistance`](crate::metric::FeatureDistance)). How their layers are weighed is
//! decided once for the run, from the first records, and stands in its log and report.
//!
//! A column of texts is evaluated too: of texts nothing is lost, so that levels differ in bytes and in time alone. With
//! `dictionary`, zstd is tried with one as well, which is trained on the first records and decided once for the run.
//!
//! Rows depend on the records alone, with the exception of `encode_seconds` and `decode_seconds`, which are another
//! number every time: with them (`times = true`) the operator is `live`, without them `pure`, or `journaled`
//! where something is decided first.
//!
//! `anabranch evaluate JOB` runs such a job and draws what its table says, with [`Summary`].
//!
//! ```
//! use anabranch_operators::evaluate::{EvaluateOptions, Summary};
//! use anabranch_operators::codec::{Facts, Media};
//! use anabranch_pipelines::operator::{Allocation, Context};
//! use anabranch_pipelines::record::{Modality, media};
//! use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
//! use arrow::datatypes::Schema;
//! use std::sync::Arc;
//!
//! let options: EvaluateOptions = serde_json::from_str(r#"{ "column": "image", "codecs": ["png", "jpeg"] }"#)?;
//! let pixels = [90; 16 * 16 * 3];
//! let mut fields = vec![media::field("image", Modality::Image, media::State::Decoded)];
//! fields.extend(media::fact_fields("image", Modality::Image));
//! let columns: Vec<ArrayRef> = vec![
//!     Arc::new(media::column(vec![Some(&pixels)], vec![None])),
//!     Arc::new(StringArray::from(vec!["raw"])),
//!     Arc::new(Int32Array::from(vec![16])),
//!     Arc::new(Int32Array::from(vec![16])),
//!     Arc::new(Int32Array::from(vec![3])),
//! ];
//! let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
//! let outcome = options.build()?.invoke(batch, &Allocation::PLAIN, &Context::plain())?;
//!
//! let mut summary = Summary::default();
//! summary.add(&outcome.records)?;
//! let png = &summary.settings()[0];
//! assert_eq!(png.name(), "png");
//! assert_eq!(png.metrics["psnr"].mean(), f64::INFINITY);
//! assert!(summary.html("One grey picture").contains("<svg"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compare;
mod html;
mod networks;
mod operator;
mod options;
mod plan;
mod plot;
mod point;
mod q_train;
mod rows;
mod summary;
#[cfg(test)]
mod tests;
mod texts;

pub use crate::brightness::latent_samples;
pub use compare::{Correlation, bd_rate, correlation};
pub use networks::{NetworkOptions, Weighting};
pub use options::EvaluateOptions;
pub use q_train::{
    Labelled, Proxy, ProxyError, SeedLoss, accuracy, q_latent, q_train, trained, trained_accuracy,
};
pub use summary::{Mean, Summary, Tried};

/// The column of points.
pub const POINTS: &str = "points";
/// The column of scores of originals.
pub const SCORE: &str = "score";
/// The column of bytes of samples, or of texts.
pub const RAW_BYTES: &str = "raw_bytes";
