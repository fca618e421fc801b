//! Thermometer codes: a value as the row of bits `value > threshold`, thresholds ascending.

/// How the thresholds of a feature follow from data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// Equal steps between the smallest and the largest value.
    Uniform,
    /// Quantiles of the normal distribution that has the data's mean and deviation.
    Gaussian,
    /// Quantiles of the data: every bit is set for a different, equal share of it ("distributive").
    Distributive,
}

/// Thresholds of every feature, `[features * levels]`, ascending per feature: level `i` (from 1) of
/// `levels` stands at the share `i / (levels + 1)`.
///
/// `data` is `[samples * features]`; without samples every threshold is 0. These are also the start
/// of learned thresholds: LUT blocks learn them through a [`Surrogate`](super::Surrogate).
///
/// ```
/// use anabranch_models::lut::{Spacing, thresholds};
///
/// let data = [0.0, 1.0, 2.0, 10.0];
/// assert_eq!(thresholds(Spacing::Uniform, &data, 1, 4), [2.0, 4.0, 6.0, 8.0]);
/// assert_eq!(thresholds(Spacing::Distributive, &data, 1, 3), [0.75, 1.5, 4.0]);
/// ```
pub fn thresholds(spacing: Spacing, data: &[f32], features: usize, levels: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(features * levels);
    for feature in 0..features {
        let mut values: Vec<f32> =
            data.iter().skip(feature).step_by(features.max(1)).copied().collect();
        values.sort_by(f32::total_cmp);
        let shares = (1..=levels).map(|i| i as f64 / (levels + 1) as f64);
        out.extend(shares.map(|share| at(spacing, &values, share)));
    }
    out
}

fn at(spacing: Spacing, sorted: &[f32], share: f64) -> f32 {
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else { return 0.0 };
    match spacing {
        Spacing::Uniform => (f64::from(*first) + share * f64::from(last - first)) as f32,
        Spacing::Gaussian => {
            let count = sorted.len() as f64;
            let mean = sorted.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
            let variance = sorted.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>();
            (mean + (variance / count).sqrt() * normal_quantile(share)) as f32
        }
        Spacing::Distributive => {
            let place = share * (sorted.len() - 1) as f64;
            let low = place.floor() as usize;
            let value = |i: usize| sorted.get(i).or(sorted.last()).copied().unwrap_or(0.0);
            let (a, b) = (f64::from(value(low)), f64::from(value(low + 1)));
            (a + (place - low as f64) * (b - a)) as f32
        }
    }
}

/// The value below which this share of the standard normal distribution lies, `0 < share < 1`:
/// Acklam's rational approximation, relative error below 1.2e-9.
pub(crate) fn normal_quantile(share: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 5] =
        [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1.0];
    let horner = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, c| sum * x + c);
    if share < 0.02425 {
        let q = (-2.0 * share.ln()).sqrt();
        horner(&C, q) / horner(&D, q)
    } else if share > 1.0 - 0.02425 {
        -normal_quantile(1.0 - share)
    } else {
        let q = share - 0.5;
        let r = q * q;
        horner(&A, r) * q / horner(&B, r)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn normal_quantiles_are_the_tabulated_ones() {
        for (share, expected) in
            [(0.5, 0.0), (0.975, 1.959_963_984_5), (0.01, -2.326_347_874), (0.8, 0.841_621_233_6)]
        {
            assert!((normal_quantile(share) - expected).abs() < 1e-8, "at {share}");
        }
    }

    #[test]
    fn gaussian_and_distributive_agree_on_normal_data() {
        let data: Vec<f32> = Random::new(5).normals(50_000, 3.0);
        let gaussian = thresholds(Spacing::Gaussian, &data, 1, 8);
        let distributive = thresholds(Spacing::Distributive, &data, 1, 8);
        for (a, b) in gaussian.iter().zip(&distributive) {
            assert!((a - b).abs() < 0.1, "{gaussian:?} {distributive:?}");
        }
        assert!(gaussian.is_sorted());
    }

    #[test]
    fn features_are_fitted_apart() {
        let data = [0.0, 100.0, 1.0, 200.0];
        assert_eq!(thresholds(Spacing::Uniform, &data, 2, 1), [0.5, 150.0]);
        assert_eq!(thresholds(Spacing::Gaussian, &[], 2, 2), [0.0; 4]);
    }
}
