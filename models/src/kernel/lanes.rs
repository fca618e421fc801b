//! Vector code without intrinsics: loops that the compiler turns into vector instructions, compiled
//! once per instruction set and chosen when the program runs.
//!
//! Sums go through sixteen partial sums in a fixed order and nothing is contracted into fused
//! multiply-adds, so that AVX-512, AVX2 and plain code return the same bits.

/// How many partial sums a reduction keeps: one AVX-512 register of `f32`.
pub(crate) const LANES: usize = 16;

/// Defines a function that is compiled for AVX-512, for AVX2 and for the baseline.
macro_rules! lanes {
    ($(#[$meta:meta])* $vis:vis fn $name:ident ( $($arg:ident : $type:ty),* $(,)? ) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "slices and their sizes")]
        $vis fn $name($($arg: $type),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "slices and their sizes")]
            fn body($($arg: $type),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "slices and their sizes")]
                fn wide($($arg: $type),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "slices and their sizes")]
                fn narrow($($arg: $type),*) $(-> $ret)? {
                    body($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512vl")
                    && std::arch::is_x86_feature_detected!("fma")
                {
                    // SAFETY: every feature that `wide` needs was found on this machine.
                    return unsafe { wide($($arg),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2")
                    && std::arch::is_x86_feature_detected!("fma")
                {
                    // SAFETY: every feature that `narrow` needs was found on this machine.
                    return unsafe { narrow($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use lanes;

/// The sum of sixteen partial sums, pairwise.
#[inline(always)]
pub(crate) fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = lanes.split_at_mut(half);
        for (a, b) in low.iter_mut().zip(high.iter()) {
            *a += *b;
        }
        half /= 2;
    }
    let [first, ..] = lanes;
    first
}

/// The scalar product of two slices of one length.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (a, b) in a.zip(b) {
        for ((lane, x), y) in lanes.iter_mut().zip(a).zip(b) {
            *lane += x * y;
        }
    }
    fold(lanes) + tail
}

/// The sum of a slice.
#[inline(always)]
pub(crate) fn sum(a: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let a = a.chunks_exact(LANES);
    let tail: f32 = a.remainder().iter().sum();
    for a in a {
        for (lane, x) in lanes.iter_mut().zip(a) {
            *lane += x;
        }
    }
    fold(lanes) + tail
}

/// `to += from`, element by element.
#[inline(always)]
pub(crate) fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

/// e^x with a relative error below 2e-7 (Cephes `expf`): the standard library's is a call that no
/// compiler vectorises.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it leaves the rounded integer in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    let power = shifted.to_bits().wrapping_sub(SHIFT.to_bits()).wrapping_add(127) << 23;
    y * f32::from_bits(power)
}

/// The hyperbolic tangent, absolute error below 3e-7.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_and_tangent_are_close_to_the_standard_library() {
        for step in -8_700..=8_800 {
            let x = step as f32 / 100.0;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) - expected).abs() <= 2e-7 * expected, "exp({x})");
            assert!((f64::from(tanh(x)) - f64::from(x).tanh()).abs() < 3e-7, "tanh({x})");
        }
    }

    #[test]
    fn reductions_cover_the_tail() {
        let a: Vec<f32> = (0..37).map(|i| i as f32).collect();
        assert_eq!(sum(&a), 666.0);
        assert_eq!(dot(&a, &a), (0..37).map(|i| (i * i) as f32).sum::<f32>());
    }

    #[test]
    fn every_instruction_set_returns_the_same_bits() {
        lanes! {
            fn chosen(a: &[f32], b: &[f32]) -> f32 {
                dot(a, b) + a.iter().map(|x| exp(*x) * tanh(*x)).sum::<f32>()
            }
        }
        let a: Vec<f32> = (0..133).map(|i| (i as f32 * 0.7).sin()).collect();
        let b: Vec<f32> = (0..133).map(|i| (i as f32 * 1.3).cos()).collect();
        let plain = dot(&a, &b) + a.iter().map(|x| exp(*x) * tanh(*x)).sum::<f32>();
        assert_eq!(chosen(&a, &b).to_bits(), plain.to_bits());
    }
}
