//! Training: the loop without any operator around it.
//!
//! A [`Trainer`] owns a model, its optimiser and a random state. A step is a function of these and
//! of its batch: the same seed and batches give the same bits, whatever the number of threads, and
//! [`Trainer::snapshot`] carries all of it, so that a resumed training equals one that never
//! stopped.
//!
//! ```
//! use anabranch_models::artifact::architecture::{Architecture, FeedForward, Head, Inputs};
//! use anabranch_models::train::{Batch, Options, Trainer};
//! use anabranch_models::transformer::{Input, Start, Transformer};
//! use burn::tensor::Device;
//!
//! let architecture = Architecture {
//!     width: 16,
//!     heads: 2,
//!     layers: 1,
//!     inputs: Inputs::Tokens { vocabulary: 4, context: 4 },
//!     head: Head::NextToken,
//!     feed_forward: FeedForward::Mlp { hidden: 32 },
//! };
//! let model = Transformer::new(&architecture, &Start::default(), 1, &Device::flex().autodiff())?;
//! let mut trainer = Trainer::new(model, Options { rate: 1e-2, steps: 40, warm_up: 5, ..Options::default() });
//! // Counting modulo 4: the next token follows from the last.
//! let batch = Batch {
//!     input: Input::Tokens { ids: vec![0, 1, 2, 3, 2, 3, 0, 1], length: 4 },
//!     targets: vec![1, 2, 3, 0, 3, 0, 1, 2],
//! };
//! let first = trainer.step(&batch)?;
//! for _ in 1..40 {
//!     trainer.step(&batch)?;
//! }
//! assert!(trainer.step(&batch)?.loss < first.loss / 4.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adam;
mod batch;
mod distil;
mod evaluate;
pub mod export;
mod groups;
mod options;
mod parameters;
mod snapshot;
#[cfg(test)]
mod tests;
mod trainer;

pub use batch::{Batch, Windows};
pub use evaluate::{Evaluation, evaluate, evaluate_exported};
pub use groups::Group;
pub use options::Options;
#[cfg(test)]
pub(crate) use parameters::gradients as gradients_of;
pub use parameters::{Parameter, parameters};
pub use snapshot::SnapshotError;
pub use trainer::{Metrics, TrainError, Trainer};
