//! Transformers whose feed-forward blocks are look-up tables.

pub mod artifact;
pub mod kernel;
pub mod lut;
pub mod random;
pub mod train;
pub mod transformer;
