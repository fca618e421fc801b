//! Transformers whose feed-forward blocks are look-up tables: trained with Burn, kept as artifacts, run without it.
//!
//! [`lut`] holds the blocks, [`transformer`] the models around them and [`train`] the loop; their differentiable
//! operations are in [`kernel`]. What comes out is an [`artifact`], and the [`engine`] is all that running one needs.
//! Both sides share [`artifact::architecture`] and nothing else.

pub mod artifact;
pub mod engine;
pub mod kernel;
pub mod latent;
pub mod lut;
pub mod random;
pub mod train;
pub mod transformer;
