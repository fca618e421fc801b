//! Kinds of operators.

use super::Operators;

/// All kinds of operators.
pub const OPERATORS: Operators = &[];
