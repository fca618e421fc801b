//! Which parameters learn alike.

/// A group of the optimiser; a parameter's name says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Matrices and embeddings: decayed, clipped.
    Weight,
    /// Gains, biases and single vectors: not decayed, clipped.
    Plain,
    /// Thresholds of wires: not decayed, clipped, with a rate of their own.
    Threshold,
    /// Look-up tables of rows and the scores of learned wires: a rate and a decay of their own, and
    /// outside the clipped norm, which their many entries would dominate.
    Table,
    /// Tables of bits: as tables, and kept in `[-1, 1]` (an entry that wandered off would never
    /// change sign again).
    BitTable,
}

impl Group {
    /// The group of the parameter at this path.
    ///
    /// ```
    /// use anabranch_models::train::Group;
    ///
    /// assert_eq!(Group::of("blocks.0.rows.table"), Group::Table);
    /// assert_eq!(Group::of("blocks.0.bits.luts.layers.1.table"), Group::BitTable);
    /// assert_eq!(Group::of("norm.gain"), Group::Plain);
    /// assert_eq!(Group::of("head.weight"), Group::Weight);
    /// ```
    pub fn of(path: &str) -> Self {
        match path.rsplit('.').next().unwrap_or(path) {
            "table" if path.split('.').any(|part| part == "luts") => Self::BitTable,
            "table" | "scores" => Self::Table,
            "thresholds" => Self::Threshold,
            "gain" | "bias" | "class" | "kind" => Self::Plain,
            _ => Self::Weight,
        }
    }

    /// Whether the group's gradients count in the global norm and are scaled by it.
    pub(super) fn clipped(self) -> bool {
        !matches!(self, Self::Table | Self::BitTable)
    }
}
