//! A job file for data that nobody has described yet: look at what is there, guess, and say why.
//!
//! ```
//! use anabranch::init::{Found, guess, job};
//!
//! let found = Found { root: "scans".into(), names: vec!["a.png".into(), "b.png".into()], ..Found::default() };
//! let text = job("scans", &guess(&found).unwrap());
//! assert!(text.contains("path = \"scans/**/*.png\"") && text.contains("codec = \"webp\""));
//! ```

mod guess;
mod labels;
mod look;
mod write;

pub use guess::{Codec, Guess, guess};
pub use labels::Labels;
pub use look::{Found, look};
pub use write::job;
