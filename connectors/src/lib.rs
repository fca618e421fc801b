//! Sources and sinks: where records come from and where they go.
//!
//! Every source implements [`anabranch_pipelines::source::Source`], every sink
//! [`anabranch_pipelines::sink::Sink`]. This crate knows files and table formats; it knows no codec, no
//! model and no job file.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod sink;
pub mod source;
mod splitmix;
pub mod table;
