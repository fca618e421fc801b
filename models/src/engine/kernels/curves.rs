//! Exponentials: GELU and what softmax needs.
//!
//! `exp` is 2^n times a polynomial of degree 5 of what is left (Cephes), good to 2 parts in 10^7. A division is a
//! guess from the bits and three Newton steps: cheaper than the instruction.

use super::for_each_level;
use super::lanes::Lanes;

/// 1.5 * 2^23: a number plus this has its nearest integer, halves to even, in its lowest bits.
pub(super) const ROUND: f32 = 12_582_912.0;

/// e to the power of each lane, which is brought to -87 to 88 first.
#[inline(always)]
pub(super) fn exp<L: Lanes>(x: L) -> L {
    let x = x.min(L::splat(88.0)).max(L::splat(-87.0));
    let shifted = x.mul_add(L::splat(std::f32::consts::LOG2_E), L::splat(ROUND));
    let whole = shifted.sub(L::splat(ROUND));
    // ln 2 in two parts, so that the rest is exact.
    let rest = whole.mul_add(L::splat(-0.693_359_4), x);
    let rest = whole.mul_add(L::splat(2.121_944_4e-4), rest);
    let mut sum = L::splat(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = sum.mul_add(rest, L::splat(coefficient));
    }
    let sum = sum.mul_add(rest.mul(rest), rest).add(L::splat(1.0));
    sum.mul(shifted.add_bits_shift(127))
}

/// One by each lane, which is at least 2^-126 and at most 2^125.
#[inline(always)]
pub(super) fn reciprocal<L: Lanes>(x: L) -> L {
    let mut guess = x.bits_from(0x7ef3_11c7);
    for _ in 0..3 {
        // guess * (2 - x * guess), with the small difference from one first.
        let error = x.mul(L::splat(-1.0)).mul_add(guess, L::splat(1.0));
        guess = guess.mul_add(error, guess);
    }
    guess
}

/// GELU in its tanh form: `x / (1 + exp(-2 u))`, `u = sqrt(2 / pi) (x + 0.044715 x^3)`.
#[inline(always)]
pub(super) fn gelu_lanes<L: Lanes>(x: L) -> L {
    let cubic = x.mul(x).mul_add(L::splat(-0.071_354_814), L::splat(-1.595_769_2));
    // Beyond e^80 there is no reciprocal, and nothing left of x.
    let exponent = x.mul(cubic).min(L::splat(80.0));
    x.mul(reciprocal(exp(exponent).add(L::splat(1.0))))
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
