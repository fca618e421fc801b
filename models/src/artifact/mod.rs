//! Trained models as files.

pub mod architecture;
