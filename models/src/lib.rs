//! Transformers whose feed-forward blocks are look-up tables.

pub mod artifact;
