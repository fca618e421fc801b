//! Kinds of sources.

use super::Sources;

/// All kinds of sources.
pub const SOURCES: Sources = &[];
