//! The best linear synthesis for latents as they are stored, by least squares.

use super::super::LatentError;
use super::super::compand::value;
use super::super::linear::Linear;
use super::crops::Example;

/// Multiplications that summing up products may take.
const EFFORT: usize = 1 << 29;
/// How many observations of one step the synthesis that is there counts as: what hardly occurs keeps it.
const PRIOR: f64 = 4.0;

/// Solves for the synthesis, and for what it adds where the mean is not zero.
///
/// # Errors
/// When numbers are not finite.
pub(crate) fn refit(
    linear: &mut Linear,
    examples: &[Example],
    scales: &[f64],
    constant: bool,
) -> Result<(), LatentError> {
    let (bands, channels) = (scales.len(), linear.synthesis.len());
    let size = channels + usize::from(constant);
    let all: usize = examples.iter().map(|example| example.rows * example.across).sum();
    let every = all.div_ceil((EFFORT / (size * (size + bands))).max(4 * size)).max(1);
    let mut products = vec![vec![0.0; size]; size];
    let mut targets = vec![vec![0.0; bands]; size];
    let before = linear.synthesis.iter().chain(constant.then_some(&linear.origin));
    for (at, ((product, target), before)) in
        products.iter_mut().zip(&mut targets).zip(before).enumerate()
    {
        product.iter_mut().skip(at).take(1).for_each(|diagonal| *diagonal = PRIOR);
        target.iter_mut().zip(before).for_each(|(to, x)| *to = PRIOR * x);
    }
    let mut next = 0;
    for example in examples {
        let plane = example.rows * example.across;
        while next < plane {
            let vector = example.vectors.get(next * bands..(next + 1) * bands).unwrap_or_default();
            let latents = example.latents.iter().skip(next).step_by(plane);
            let latents = latents.map(|latent| f64::from(value(*latent)));
            let inputs: Vec<f64> = latents.chain(constant.then_some(1.0)).collect();
            for ((product, target), input) in products.iter_mut().zip(&mut targets).zip(&inputs) {
                if *input != 0.0 {
                    product.iter_mut().zip(&inputs).for_each(|(sum, x)| *sum += input * x);
                    let scaled = vector.iter().zip(scales);
                    target.iter_mut().zip(scaled).for_each(|(sum, (x, scale))| {
                        *sum += input * f64::from(*x) * scale;
                    });
                }
            }
            next += every;
        }
        next -= plane;
    }
    let mut solved = solve(products, targets).ok_or_else(|| LatentError::Sample {
        what: "the synthesis has no solution: values are too large or not finite".to_owned(),
    })?;
    if constant {
        linear.origin = solved.pop().unwrap_or_default();
    }
    linear.synthesis = solved;
    Ok(())
}

/// `X` with `a X = b` for a symmetric positive definite `a`, by its Cholesky factor.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<Vec<f64>>) -> Option<Vec<Vec<f64>>> {
    let size = a.len();
    for row in 0..size {
        let (done, rest) = a.split_at_mut(row);
        let current = rest.first_mut()?;
        for (column, other) in done.iter().enumerate() {
            let sum: f64 = current.iter().zip(other).take(column).map(|(x, y)| x * y).sum();
            let value = (current.get(column)? - sum) / other.get(column)?;
            *current.get_mut(column)? = value;
        }
        let square: f64 = current.iter().take(row).map(|x| x * x).sum();
        let pivot = current.get(row)? - square;
        if !(pivot.is_finite() && pivot > 0.0) {
            return None;
        }
        *current.get_mut(row)? = pivot.sqrt();
        let (done, rest) = b.split_at_mut(row);
        let to = rest.first_mut()?;
        for (factor, other) in current.iter().zip(done.iter()) {
            to.iter_mut().zip(other).for_each(|(x, y)| *x -= factor * y);
        }
        to.iter_mut().for_each(|x| *x /= pivot.sqrt());
    }
    for row in (0..size).rev() {
        let (to, done) = b.split_at_mut(row + 1);
        let to = to.last_mut()?;
        for (below, other) in a.iter().skip(row + 1).zip(done.iter()) {
            let factor = below.get(row)?;
            to.iter_mut().zip(other).for_each(|(x, y)| *x -= factor * y);
        }
        let pivot = a.get(row)?.get(row)?;
        to.iter_mut().for_each(|x| *x /= pivot);
    }
    b.iter().flatten().all(|x| x.is_finite()).then_some(b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_solved_solves(size in 1_usize..9, seed in 0_u64..1000) {
            let mut random = crate::random::Random::new(seed);
            let mut numbers = |count: usize| -> Vec<f64> {
                (0..count).map(|_| f64::from(random.normal())).collect()
            };
            let root: Vec<Vec<f64>> = (0..size).map(|_| numbers(size)).collect();
            let a: Vec<Vec<f64>> = (0..size)
                .map(|i| {
                    let cell = |j: usize| {
                        let sum: f64 = root[i].iter().zip(&root[j]).map(|(x, y)| x * y).sum();
                        sum + if i == j { 0.1 } else { 0.0 }
                    };
                    (0..size).map(cell).collect()
                })
                .collect();
            let x: Vec<Vec<f64>> = (0..size).map(|_| numbers(3)).collect();
            let b: Vec<Vec<f64>> = a
                .iter()
                .map(|row| {
                    (0..3).map(|k| row.iter().zip(&x).map(|(a, x)| a * x[k]).sum()).collect()
                })
                .collect();
            let found = solve(a, b).unwrap();
            for (x, found) in x.iter().flatten().zip(found.iter().flatten()) {
                prop_assert!((x - found).abs() < 1e-6 * (1.0 + x.abs()), "{} {}", x, found);
            }
        }
    }

    #[test]
    fn what_has_no_solution_is_told() {
        assert!(solve(vec![vec![-1.0]], vec![vec![1.0]]).is_none());
        assert!(solve(vec![vec![f64::NAN]], vec![vec![1.0]]).is_none());
    }
}
