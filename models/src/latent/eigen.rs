//! Eigenvectors of a symmetric matrix, by Jacobi's rotations.
//!
//! Slower than others for large matrices and hard to get wrong; nothing but additions, products, quotients and square
//! roots in one order, so the same bits come out on every machine.

/// Sweeps after which any matrix has converged, and some.
const SWEEPS: usize = 40;

/// The eigenvalues of a symmetric `size x size` matrix, largest first, with their eigenvectors, each of length 1 and
/// with a largest element that is positive.
pub(crate) fn symmetric(mut matrix: Vec<Vec<f64>>) -> Vec<(f64, Vec<f64>)> {
    let size = matrix.len();
    let mut vectors: Vec<Vec<f64>> =
        (0..size).map(|row| (0..size).map(|column| f64::from(row == column)).collect()).collect();
    let scale: f64 = matrix.iter().flatten().map(|x| x * x).sum::<f64>();
    for _ in 0..SWEEPS {
        let off: f64 = matrix
            .iter()
            .enumerate()
            .flat_map(|(row, values)| values.iter().skip(row + 1))
            .map(|x| x * x)
            .sum();
        if off <= scale * 1e-24 {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                rotate(&mut matrix, &mut vectors, p, q);
            }
        }
    }
    let values = matrix.iter().enumerate().map(|(at, row)| row.get(at).copied().unwrap_or(0.0));
    let mut pairs: Vec<(f64, Vec<f64>)> = values.zip(vectors).collect();
    pairs.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    for (_, vector) in &mut pairs {
        let largest = vector
            .iter()
            .copied()
            .fold(0.0_f64, |most, x| if x.abs() > most.abs() { x } else { most });
        if largest < 0.0 {
            vector.iter_mut().for_each(|x| *x = -*x);
        }
    }
    pairs
}

/// Makes element `(p, q)` zero (Golub and Van Loan, Matrix Computations, section 8.5). Both triangles are kept, so that
/// rows can be worked on as wholes; `vectors` holds eigenvectors as rows.
fn rotate(matrix: &mut [Vec<f64>], vectors: &mut [Vec<f64>], p: usize, q: usize) {
    let at = |row: usize, column: usize| matrix.get(row).and_then(|row| row.get(column)).copied();
    let (Some(pp), Some(pq), Some(qq)) = (at(p, p), at(p, q), at(q, q)) else { return };
    if pq == 0.0 {
        return;
    }
    let theta = (qq - pp) / (2.0 * pq);
    let tangent = 1.0 / (theta.abs() + (theta * theta + 1.0).sqrt());
    let tangent = if theta < 0.0 { -tangent } else { tangent };
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    let rows = |rows: &mut [Vec<f64>]| {
        let Ok([p, q]) = rows.get_disjoint_mut([p, q]) else { return };
        for (p, q) in p.iter_mut().zip(q) {
            (*p, *q) = (cosine * *p - sine * *q, sine * *p + cosine * *q);
        }
    };
    rows(matrix);
    rows(vectors);
    for row in matrix {
        if let Ok([p, q]) = row.get_disjoint_mut([p, q]) {
            (*p, *q) = (cosine * *p - sine * *q, sine * *p + cosine * *q);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_orthonormal_and_rebuild_the_matrix() {
        let mut random = crate::random::Random::new(8);
        let size = 24;
        let factor: Vec<Vec<f64>> =
            (0..size).map(|_| (0..size).map(|_| f64::from(random.normal())).collect()).collect();
        let product =
            |a: usize, b: usize| (0..size).map(|k| factor[k][a] * factor[k][b]).sum::<f64>();
        let matrix: Vec<Vec<f64>> =
            (0..size).map(|a| (0..size).map(|b| product(a, b)).collect()).collect();
        let pairs = symmetric(matrix.clone());
        assert!(pairs.windows(2).all(|pair| pair[0].0 >= pair[1].0));
        for a in 0..size {
            for b in 0..size {
                let rebuilt: f64 = pairs.iter().map(|(value, v)| value * v[a] * v[b]).sum();
                assert!((rebuilt - matrix[a][b]).abs() < 1e-8);
                let dot: f64 = pairs[a].1.iter().zip(&pairs[b].1).map(|(x, y)| x * y).sum();
                assert!((dot - f64::from(a == b)).abs() < 1e-10);
            }
        }
    }

    #[test]
    fn a_matrix_of_zeros_has_some_basis() {
        let pairs = symmetric(vec![vec![0.0; 3]; 3]);
        assert!(
            pairs.iter().all(|(value, vector)| *value == 0.0 && vector.iter().sum::<f64>() == 1.0)
        );
    }
}
