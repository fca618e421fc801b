//! Least squares with coefficients that are not below 0.

/// Rounds at most, and how little the last one changes.
const ROUNDS: usize = 10_000;
const STILL: f64 = 1e-12;

/// The coefficients, none below 0, with which sums of the columns are nearest to the targets in the least squares.
///
/// One coefficient after the other is set to its best while the others stay, until all stay (cyclic coordinate descent;
/// the problem is convex, so that it ends at the least). Columns that are all 0 get 0.
pub(super) fn non_negative(columns: usize, rows: &[(&[f64], f64)]) -> Vec<f64> {
    let mut squares = vec![vec![0.0; columns]; columns];
    let mut products = vec![0.0; columns];
    for (row, target) in rows {
        for ((squares, product), value) in squares.iter_mut().zip(&mut products).zip(*row) {
            squares.iter_mut().zip(*row).for_each(|(square, other)| *square += value * other);
            *product += value * target;
        }
    }
    let mut found = vec![0.0; columns];
    for _ in 0..ROUNDS {
        let (mut moved, mut largest) = (0.0_f64, 0.0_f64);
        for (column, (squares, product)) in squares.iter().zip(&products).enumerate() {
            let Some(own) = squares.get(column).filter(|own| **own > 0.0) else { continue };
            let sum: f64 = squares.iter().zip(&found).map(|(square, of)| square * of).sum();
            let Some(of) = found.get_mut(column) else { continue };
            let best = (*of + (product - sum) / own).max(0.0);
            moved = moved.max((best - *of).abs());
            largest = largest.max(best);
            *of = best;
        }
        if moved <= STILL * largest {
            break;
        }
    }
    found
}

/// The share of the targets' squares around their mean that the sums explain; below 0 where the mean alone is nearer.
pub(super) fn explained(found: &[f64], rows: &[(&[f64], f64)]) -> f64 {
    let mean = rows.iter().map(|(_, target)| target).sum::<f64>() / rows.len().max(1) as f64;
    let (mut left, mut all) = (0.0, 0.0);
    for (row, target) in rows {
        let sum: f64 = row.iter().zip(found).map(|(value, of)| value * of).sum();
        left += (target - sum).powi(2);
        all += (target - mean).powi(2);
    }
    if all > 0.0 { 1.0 - left / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_mixed_is_found_again_and_what_would_be_negative_is_0() {
        let rows = [[1.0, 0.0, 2.0], [0.5, 1.0, 0.0], [2.0, 1.0, 1.0], [0.0, 3.0, 1.0]];
        let of = |weights: [f64; 3]| -> Vec<(&[f64], f64)> {
            let sum = |row: &[f64; 3]| row.iter().zip(weights).map(|(v, w)| v * w).sum();
            rows.iter().map(|row| (row.as_slice(), sum(row))).collect()
        };
        let found = non_negative(3, &of([0.5, 0.0, 2.0]));
        let errors = found.iter().zip([0.5, 0.0, 2.0]).map(|(found, of)| (found - of).abs());
        assert!(errors.fold(0.0, f64::max) < 1e-9, "{found:?}");
        assert!((explained(&found, &of([0.5, 0.0, 2.0])) - 1.0).abs() < 1e-9);
        let found = non_negative(3, &of([1.0, -1.0, 1.0]));
        assert!(found[1] == 0.0 && found[0] > 0.0, "{found:?}");
        assert_eq!(non_negative(3, &of([0.0; 3])), [0.0; 3]);
        assert_eq!(non_negative(2, &[(&[0.0, 1.0], 3.0)]), [0.0, 3.0]);
    }

    proptest! {
        /// The conditions of Karush, Kuhn and Tucker: no step that is allowed leads down.
        #[test]
        fn no_step_leads_down(
            rows in prop::collection::vec((prop::array::uniform3(0.0f64..4.0), -1.0f64..9.0), 4..40),
        ) {
            let rows: Vec<(&[f64], f64)> = rows.iter().map(|(row, y)| (row.as_slice(), *y)).collect();
            let found = non_negative(3, &rows);
            for column in 0..3 {
                let slope: f64 = rows.iter().map(|(row, target)| {
                    let sum: f64 = row.iter().zip(&found).map(|(v, w)| v * w).sum();
                    row[column] * (sum - target)
                }).sum();
                prop_assert!(found[column] >= 0.0 && slope > -1e-5);
                prop_assert!(found[column] == 0.0 || slope < 1e-5, "{slope} {found:?}");
            }
        }
    }
}
