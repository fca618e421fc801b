//! Small sources, sinks and stores for the tests of this crate.

mod faulty;

pub(crate) use faulty::{Fault, Faulty};
