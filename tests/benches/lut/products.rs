//! The two products of an MLP by the crate `gemm`, with AVX-512, and nothing else: our f32 baseline must not be
//! slower than a well-known one.

use crate::{least, noise, rounds};

const TOKENS: usize = 512;

/// Nanoseconds for a token, the weights of four layers in turn.
pub(crate) fn of_gemm(width: usize) -> f64 {
    let hidden = 4 * width;
    let layers = (0..4).map(|_| (noise(width * hidden), noise(width * hidden))).collect::<Vec<_>>();
    let x = noise(TOKENS * width);
    let (mut between, mut to) = (vec![0.0; TOKENS * hidden], vec![0.0; TOKENS * width]);
    let mut seconds = f64::INFINITY;
    for _ in 0..rounds() {
        seconds = seconds.min(least(|| {
            for (up, down) in &layers {
                product(&x, width, up, &mut between);
                product(&between, hidden, down, &mut to);
            }
        }));
    }
    1e9 * seconds / (TOKENS * layers.len()) as f64
}

/// `to[token][out] = sum of x[token][in] * weights[out][in]`.
fn product(x: &[f32], inputs: usize, weights: &[f32], to: &mut [f32]) {
    let (tokens, outputs) = (x.len() / inputs, weights.len() / inputs);
    assert_eq!(to.len(), tokens * outputs);
    // SAFETY: the slices hold matrices of these sizes, row-major; the weights are read transposed.
    unsafe {
        gemm::gemm(
            tokens,
            outputs,
            inputs,
            to.as_mut_ptr(),
            1,
            outputs as isize,
            false,
            x.as_ptr(),
            1,
            inputs as isize,
            weights.as_ptr(),
            inputs as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
