//! Rows of a table by index: token embeddings.

use super::{Kernel, Output, View, add};

/// `table [entries, width]` gives `[rows.., width]`, one table row per index.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    /// The indices, each below the number of entries.
    pub(crate) indices: Vec<u32>,
    /// The shape of the indices.
    pub(crate) shape: Vec<usize>,
}

impl Kernel<1> for Gather {
    type Saved = ();

    fn forward(&self, [table]: [View<'_>; 1], _tracked: bool) -> Output<()> {
        let width = table.width();
        let mut out = Vec::with_capacity(self.indices.len() * width);
        for index in &self.indices {
            let from = *index as usize * width;
            out.extend_from_slice(table.values.get(from..from + width).unwrap_or_default());
        }
        let mut shape = self.shape.clone();
        shape.push(width);
        Output::new(out, &shape, ())
    }

    fn backward(
        &self,
        [table]: [View<'_>; 1],
        (): &(),
        gradient: View<'_>,
        _wanted: [bool; 1],
    ) -> [Option<Vec<f32>>; 1] {
        let width = table.width();
        let mut out = vec![0.0; table.values.len()];
        for (index, gradient) in self.indices.iter().zip(gradient.values.chunks_exact(width)) {
            let from = *index as usize * width;
            if let Some(row) = out.get_mut(from..from + width) {
                add(row, gradient);
            }
        }
        [Some(out)]
    }
}
