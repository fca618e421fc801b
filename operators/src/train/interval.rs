//! How sure a measure is.

/// The normal quantile of 95 %.
const QUANTILE: f64 = 1.959_963_984_540_054;

/// Where the share of successes lies in 95 of 100 cases (Wilson, JASA 1927): from and to.
pub(super) fn wilson(share: f64, count: usize) -> [f64; 2] {
    if count == 0 {
        return [0.0, 1.0];
    }
    let (n, z) = (count as f64, QUANTILE * QUANTILE);
    let middle = (share + z / (2.0 * n)) / (1.0 + z / n);
    let half = QUANTILE * (share * (1.0 - share) / n + z / (4.0 * n * n)).sqrt() / (1.0 + z / n);
    // The ends meet the share where it is 0 or 1, whatever rounding says.
    [(middle - half).clamp(0.0, share), (middle + half).clamp(share, 1.0)]
}

/// Where the mean of parts lies in 95 of 100 cases, if there are enough to tell; parts weigh the same.
pub(super) fn normal(mean: f64, parts: &[f64]) -> Option<[f64; 2]> {
    let count = parts.len();
    if count < 4 {
        return None;
    }
    let variance = parts.iter().map(|part| (part - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
    let half = QUANTILE * (variance / count as f64).sqrt();
    Some([mean - half, mean + half])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_books() {
        // Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263 gives 0.2553 to 0.3662.
        let [low, high] = wilson(81.0 / 263.0, 263);
        assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5, "{low} {high}");
        // And 0 of 20 gives 0 to 0.1611.
        let [low, high] = wilson(0.0, 20);
        assert!(low == 0.0 && (high - 0.1611).abs() < 5e-5, "{high}");
        assert_eq!(wilson(1.0, 5)[1], 1.0);
        assert_eq!(wilson(0.3, 0), [0.0, 1.0]);
    }

    #[test]
    fn few_parts_tell_nothing() {
        assert_eq!(normal(1.0, &[1.0; 3]), None);
        let [low, high] = normal(2.0, &[1.0, 3.0, 1.0, 3.0]).unwrap();
        assert!((high - low - 2.0 * 1.96 * (4.0_f64 / 3.0 / 4.0).sqrt()).abs() < 1e-3);
    }
}
