//! Mean cross entropy of logits against one bit each.

use rayon::prelude::*;

use super::{Kernel, Output, View, exp, lanes};

/// `logits` gives the mean of `ln(1 + exp(x)) - x t` over its elements, shape `[1]`.
#[derive(Clone, Debug)]
pub(crate) struct BinaryEntropy {
    /// 0 or 1 for each logit.
    pub(crate) targets: Vec<f32>,
}

/// Logits of one task.
const LOGITS: usize = 1 << 14;

lanes! {
    /// `sigmoid(x)` into `out`.
    fn shares(logits: &[f32], out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(logits) {
            // Of the smaller side, so that nothing overflows.
            let small = exp(-x.abs());
            let small = small / (1.0 + small);
            *out = if *x < 0.0 { small } else { 1.0 - small };
        }
    }
}

/// `max(x, 0) - x t + ln(1 + exp(-|x|))`.
fn loss(logit: f32, target: f32) -> f64 {
    f64::from(logit.max(0.0) - logit * target + (-logit.abs()).exp().ln_1p())
}

impl Kernel<1> for BinaryEntropy {
    type Saved = ();

    fn forward(&self, [logits]: [View<'_>; 1], _tracked: bool) -> Output<()> {
        let parts: Vec<f64> = logits
            .values
            .par_chunks(LOGITS)
            .zip(self.targets.par_chunks(LOGITS))
            .map(|(logits, targets)| logits.iter().zip(targets).map(|(x, t)| loss(*x, *t)).sum())
            .collect();
        let total: f64 = parts.iter().sum();
        Output::new(vec![(total / logits.values.len() as f64) as f32], &[1], ())
    }

    fn backward(
        &self,
        [logits]: [View<'_>; 1],
        (): &(),
        gradient: View<'_>,
        _wanted: [bool; 1],
    ) -> [Option<Vec<f32>>; 1] {
        let scale = gradient.values.first().copied().unwrap_or(0.0) / logits.values.len() as f32;
        let mut out = vec![0.0; logits.values.len()];
        out.par_chunks_mut(LOGITS)
            .zip(logits.values.par_chunks(LOGITS))
            .zip(self.targets.par_chunks(LOGITS))
            .for_each(|((out, logits), targets)| {
                shares(logits, out);
                out.iter_mut().zip(targets).for_each(|(p, t)| *p = (*p - t) * scale);
            });
        [Some(out)]
    }
}
