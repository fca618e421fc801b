//! Tensor-product transforms over the addresses of one table, in place.

use crate::kernel::lanes;

/// Applies `[[a, b], [b, d]]` along every bit of the address: `n` stages over `2^n` entries of
/// `width` values.
#[inline(always)]
fn butterfly(table: &mut [f32], width: usize, [a, b, d]: [f32; 3]) {
    let mut half = width;
    while half < table.len() {
        for pair in table.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                (*low, *high) = (a * *low + b * *high, b * *low + d * *high);
            }
        }
        half *= 2;
    }
}

lanes! {
    /// The smoothed table of extended finite differences.
    pub(crate) fn smooth(table: &mut [f32], width: usize) {
        butterfly(table, width, [0.75, 0.25, 0.75]);
    }
}

lanes! {
    /// The Walsh-Hadamard transform, not normalised: applied twice it multiplies by `2^n`.
    pub(crate) fn walsh(table: &mut [f32], width: usize) {
        butterfly(table, width, [1.0, 1.0, -1.0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walsh_is_its_own_inverse_up_to_the_size() {
        let table: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let mut twice = table.clone();
        walsh(&mut twice, 3);
        assert_eq!(twice[0..3], [84.0, 92.0, 100.0], "order zero is the sum of all rows");
        walsh(&mut twice, 3);
        for (a, b) in table.iter().zip(&twice) {
            assert_eq!(a * 8.0, *b);
        }
    }

    #[test]
    fn smoothing_keeps_the_mean() {
        let mut table = vec![0.0; 16];
        table[5] = 1.0;
        smooth(&mut table, 1);
        assert!((table.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(table[5], 0.75_f32.powi(4));
        assert_eq!(table[4], 0.75_f32.powi(3) * 0.25);
    }
}
