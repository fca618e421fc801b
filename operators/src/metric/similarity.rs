//! Structural similarity: what a small window sees of brightness, contrast and structure.
//!
//! Windows are Gaussian, 11 x 11, of deviation 1.5, and only those that lie within the picture count; constants are
//! `(0.01 x 255)^2` and `(0.03 x 255)^2`; channels (transparency too) are compared each by itself and averaged. That is
//! scikit-image's `structural_similarity(.., gaussian_weights=True, use_sample_covariance=False)`.
//! A picture narrower than the window is seen through a window of the largest odd size that it holds, with the same
//! deviation: one of 1 x 1 by its brightness alone.

use super::MetricError;
use super::picture::size;
use crate::codec::Media;

const WINDOW: usize = 11;
const DEVIATION: f64 = 1.5;
const BRIGHTNESS: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const CONTRAST: f64 = (0.03 * 255.0) * (0.03 * 255.0);
/// What each scale weighs, the finest first.
const SCALES: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

/// Structural similarity of two pictures, the mean over all windows and channels.
///
/// # Errors
/// When one is no picture, or they differ in size or have no pixels.
pub fn ssim(original: &Media<'_>, decoded: &Media<'_>) -> Result<f64, MetricError> {
    let (width, _, channels) = size("SSIM", original, decoded)?;
    let mut sum = 0.0;
    for channel in 0..channels {
        let [one, other] = [original, decoded].map(|m| Plane::of(m, channel, channels, width));
        sum += one.compare(&other).0;
    }
    Ok(sum / channels as f64)
}

/// Structural similarity over five scales, each of half the size: contrast and structure of all, brightness of the
/// coarsest. A negative mean counts as 0. A picture with fewer than 176 pixels on a side has as many scales as its
/// shorter side holds windows for, with their weights in proportion.
///
/// # Errors
/// When one is no picture, or they differ in size or have no pixels.
pub fn ms_ssim(original: &Media<'_>, decoded: &Media<'_>) -> Result<f64, MetricError> {
    let (width, height, channels) = size("MS-SSIM", original, decoded)?;
    let fits = |scale: &usize| *scale == 0 || width.min(height) >> scale >= WINDOW;
    let scales = (0..SCALES.len()).take_while(fits).count();
    let weights = SCALES.get(..scales).unwrap_or_default();
    let total: f64 = weights.iter().sum();
    let mut sum = 0.0;
    for channel in 0..channels {
        let [mut one, mut other] =
            [original, decoded].map(|media| Plane::of(media, channel, channels, width));
        let mut product = 1.0;
        for (scale, weight) in weights.iter().enumerate() {
            let (whole, contrast) = one.compare(&other);
            let seen = if scale + 1 == scales { whole } else { contrast };
            product *= seen.max(0.0).powf(weight / total);
            (one, other) = (one.halved(), other.halved());
        }
        sum += product;
    }
    Ok(sum / channels as f64)
}

/// One channel of a picture.
struct Plane {
    width: usize,
    values: Vec<f64>,
}

impl Plane {
    fn of(media: &Media<'_>, channel: usize, channels: usize, width: usize) -> Self {
        let samples = media.samples.iter().skip(channel).step_by(channels);
        Self { width, values: samples.map(|sample| f64::from(*sample)).collect() }
    }

    /// The mean similarity, and that of contrast and structure alone.
    fn compare(&self, other: &Self) -> (f64, f64) {
        let height = self.values.len() / self.width.max(1);
        let windows = [self.width, height].map(window);
        let blurred = |one: &Self, other: &Self| {
            let products = one.values.iter().zip(&other.values).map(|(a, b)| a * b).collect();
            Self { width: one.width, values: products }.blurred(&windows)
        };
        let (means, others) = (self.blurred(&windows), other.blurred(&windows));
        let squares = blurred(self, self).into_iter().zip(blurred(other, other));
        let squares = squares.zip(blurred(self, other));
        let (mut whole, mut contrast) = (0.0, 0.0);
        for ((a, b), ((aa, bb), ab)) in means.iter().zip(&others).zip(squares) {
            let (a2, b2) = (a * a, b * b);
            let seen = (2.0 * (ab - a * b) + CONTRAST) / ((aa - a2) + (bb - b2) + CONTRAST);
            whole += seen * (2.0 * a * b + BRIGHTNESS) / (a2 + b2 + BRIGHTNESS);
            contrast += seen;
        }
        let count = means.len().max(1) as f64;
        (whole / count, contrast / count)
    }

    /// What each window that lies within the plane sees: the windows of rows, then of columns.
    fn blurred(&self, [across, down]: &[Vec<f64>; 2]) -> Vec<f64> {
        let width = self.width + 1 - across.len();
        let see = |values: &[f64]| values.iter().zip(across).map(|(v, w)| v * w).sum::<f64>();
        let rows = self.values.chunks_exact(self.width.max(1));
        let rows: Vec<f64> = rows.flat_map(|row| row.windows(across.len()).map(see)).collect();
        let height = rows.len() / width.max(1) + 1 - down.len();
        let mut seen = vec![0.0; width * height];
        for (at, weight) in down.iter().enumerate() {
            let from = rows.iter().skip(at * width);
            seen.iter_mut().zip(from).for_each(|(seen, value)| *seen += weight * value);
        }
        seen
    }

    /// The means of squares of four pixels; an odd last row or column is left out.
    fn halved(&self) -> Self {
        let rows: Vec<&[f64]> = self.values.chunks_exact(self.width.max(1)).collect();
        let pairs = rows.as_chunks::<2>().0;
        let values = pairs.iter().flat_map(|[upper, lower]| {
            let columns = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
            columns.map(|([a, b], [c, d])| (a + b + c + d) / 4.0)
        });
        Self { width: self.width / 2, values: values.collect() }
    }
}

/// The weights of a window along a side of this many pixels.
fn window(side: usize) -> Vec<f64> {
    let size = WINDOW.min(side.saturating_sub(1) / 2 * 2 + 1);
    let middle = (size / 2) as f64;
    let weights =
        (0..size).map(|at| (-(at as f64 - middle).powi(2) / (2.0 * DEVIATION * DEVIATION)).exp());
    let weights: Vec<f64> = weights.collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}
