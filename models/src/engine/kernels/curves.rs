//! Exponentials: GELU and what softmax needs.
//!
//! A power of two is that of its nearest integer times a polynomial of degree 5 of what is left, fitted for the least
//! relative error, 1 part in 10^7. A division is a guess from the bits and three Newton steps: cheaper than the
//! instruction.

use std::f32::consts::{LN_2, LOG2_E};

use super::for_each_level;
use super::lanes::Lanes;

/// 1.5 * 2^23: a number plus this has its nearest integer, halves to even, in its lowest bits.
pub(super) const ROUND: f32 = 12_582_912.0;

/// 2 to the power of each lane, which must be from -126 to 127, as two factors.
#[inline(always)]
fn power<L: Lanes>(power: L) -> (L, L) {
    let shifted = power.add(L::splat(ROUND));
    let rest = power.sub(shifted.sub(L::splat(ROUND)));
    let mut sum = L::splat(1.330_025_5e-3);
    for coefficient in [9.669_709e-3, 5.550_56e-2, 0.240_222_81, LN_2, 1.0] {
        sum = sum.mul_add(rest, L::splat(coefficient));
    }
    (sum, shifted.add_bits_shift(127))
}

/// e to the power of each lane, which is at most 88; below -87 it is nearly 0.
#[inline(always)]
pub(super) fn exp<L: Lanes>(x: L) -> L {
    let (sum, scale) = power(x.mul(L::splat(LOG2_E)).max(L::splat(-126.0)));
    sum.mul(scale)
}

/// One by each lane, which is at least 2^-126 and at most 2^125.
#[inline(always)]
pub(super) fn reciprocal<L: Lanes>(x: L) -> L {
    let mut guess = x.bits_from(0x7ef3_11c7);
    let minus = x.mul(L::splat(-1.0));
    for _ in 0..3 {
        // guess * (2 - x * guess), with the small difference from one first.
        let error = minus.mul_add(guess, L::splat(1.0));
        guess = guess.mul_add(error, guess);
    }
    guess
}

/// GELU in its tanh form: `x / (1 + exp(-2 u))`, `u = sqrt(2 / pi) (x + 0.044715 x^3)`, as a power of two.
#[inline(always)]
pub(super) fn gelu_lanes<L: Lanes>(x: L) -> L {
    let cubic = x.mul(x).mul_add(L::splat(-0.102_943_24), L::splat(-2.302_208_2));
    // Beyond 2^115 there is no reciprocal, and nothing left of x.
    let (sum, scale) = power(x.mul(cubic).min(L::splat(115.0)).max(L::splat(-126.0)));
    x.mul(reciprocal(sum.mul_add(scale, L::splat(1.0))))
}

for_each_level! {
    /// `gelu(x + bias)` of each value of each row, in place. Rows and the bias are whole lanes long.
    fn gelu(x: &mut [f32], bias: &[f32]) = gelu_rows
}

#[inline(always)]
fn gelu_rows<L: Lanes>(x: &mut [f32], bias: &[f32]) {
    for row in x.chunks_exact_mut(bias.len().max(1)) {
        let biases = bias.as_chunks().0;
        for (x, bias) in row.as_chunks_mut().0.iter_mut().zip(biases) {
            gelu_lanes(L::load(x).add(L::load(bias))).store(x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::each_level;
    use super::*;

    #[test]
    fn gelu_is_close_to_its_definition() {
        each_level(|level| {
            let mut x = (0..4096).map(|i| (i - 2048) as f32 / 160.0).collect::<Vec<_>>();
            let expected = x.iter().map(|x| {
                let x = f64::from(*x);
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                0.5 * x * (1.0 + u.tanh())
            });
            let expected = expected.collect::<Vec<_>>();
            gelu(level, &mut x, &[0.0; 16]);
            for (found, expected) in x.iter().zip(expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(error <= 1e-6 * expected.abs().max(1.0), "{level}: {found} {expected}");
            }
        });
    }

    #[test]
    fn extremes_stay_numbers() {
        each_level(|level| {
            let mut x = [0.0; 16];
            x[0] = 1e30;
            x[1] = -1e30;
            x[2] = -0.0;
            gelu(level, &mut x, &[0.0; 16]);
            assert!(x.iter().all(|x| x.is_finite()), "{level}: {x:?}");
            assert_eq!(x[0], 1e30);
            assert!(x[1].abs() < 1e-6 * 1e30);
        });
    }
}
