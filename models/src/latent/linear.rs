//! The maps of a codec before they are in fixed point: from scaled vectors of coefficients to steps, and back.

use super::artifact::Card;
use super::compand::{COARSE, FINE};
use super::grid::unit;
use super::{Kind, LatentError, Matrix, eigen, lifting};

/// Up to here the values of a channel should be, of those that the compander spaces evenly.
const RANGE: f64 = 96.0;

/// A linear analysis and the synthesis that undoes it as far as that goes.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// Of each channel, what a scaled vector is multiplied by to get steps.
    pub(crate) analysis: Vec<Vec<f64>>,
    /// Of each channel, what one step adds to a scaled vector.
    pub(crate) synthesis: Vec<Vec<f64>>,
    /// What the analysis subtracts from a vector before.
    pub(crate) mean: Vec<f64>,
    /// What the synthesis adds to a vector afterwards.
    pub(crate) origin: Vec<f64>,
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// What makes coefficients those of a nearly orthonormal packet of samples.
pub(crate) fn scales(kind: Kind, planes: usize, levels: usize) -> Vec<f64> {
    let side = 1 << levels;
    let tall = if kind == Kind::Picture { side } else { 1 };
    let scale = |phase: usize| lifting::scale(phase, levels);
    let down = |y: usize| if kind == Kind::Picture { scale(y) } else { 1.0 };
    let across = move |y: usize| (0..side).map(move |x| down(y) * scale(x) / unit(kind));
    (0..tall).flat_map(|y| (0..planes).flat_map(move |_| across(y))).collect()
}

impl Linear {
    /// The principal components of scaled vectors (Karhunen and Loève).
    pub(crate) fn principal(vectors: &[Vec<f64>], card: &Card) -> Self {
        let size = vectors.first().map_or(0, Vec::len);
        let count = vectors.len().max(1) as f64;
        let mut mean = vec![0.0; size];
        // Silence must stay silence, so sounds swing around zero.
        if card.kind == Kind::Picture {
            for vector in vectors {
                mean.iter_mut().zip(vector).for_each(|(mean, x)| *mean += x / count);
            }
        }
        let mut covariance = vec![vec![0.0; size]; size];
        let mut centred = vec![0.0; size];
        for vector in vectors {
            for ((centred, x), mean) in centred.iter_mut().zip(vector).zip(&mean) {
                *centred = x - mean;
            }
            for (row, x) in covariance.iter_mut().zip(&centred) {
                row.iter_mut().zip(&centred).for_each(|(sum, y)| *sum += x * y);
            }
        }
        covariance.iter_mut().flatten().for_each(|sum| *sum /= count);
        let mut components = eigen::symmetric(covariance);
        components.truncate(card.channels);
        let scaled = |component: &[f64], by: f64| component.iter().map(|v| v * by).collect();
        let mut linear = Self {
            analysis: components.iter().map(|(_, v)| scaled(v, 1.0 / card.step)).collect(),
            synthesis: components.iter().map(|(_, v)| scaled(v, card.step)).collect(),
            origin: mean.clone(),
            mean,
        };
        linear.keep_in_range(vectors);
        linear
    }

    /// Gives channels whose values would leave the even part of the [compander](super::compand) larger steps.
    pub(crate) fn keep_in_range(&mut self, vectors: &[Vec<f64>]) {
        for (analysis, synthesis) in self.analysis.iter_mut().zip(&mut self.synthesis) {
            let centre = dot(analysis, &self.mean);
            let far = vectors.iter().map(|vector| (dot(analysis, vector) - centre).abs());
            let by = (far.fold(0.0, f64::max) / RANGE).max(1.0);
            analysis.iter_mut().for_each(|weight| *weight /= by);
            synthesis.iter_mut().for_each(|weight| *weight *= by);
        }
    }

    /// The analysis of coefficients as they are, in fixed point.
    pub(crate) fn fixed_analysis(&self, scales: &[f64]) -> Result<Matrix, LatentError> {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for row in &self.analysis {
            weights.extend(row.iter().zip(scales).map(|(v, scale)| v * scale * FINE));
            bias.push(-dot(row, &self.mean) * FINE);
        }
        Matrix::nearest(&weights, &bias)
    }

    /// The synthesis of coefficients as they are, in fixed point.
    pub(crate) fn fixed_synthesis(&self, scales: &[f64]) -> Result<Matrix, LatentError> {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for (band, (origin, scale)) in self.origin.iter().zip(scales).enumerate() {
            let elements =
                self.synthesis.iter().map(|row| row.get(band).copied().unwrap_or_default());
            weights.extend(elements.map(|v| v / f64::from(COARSE) / scale));
            bias.push(origin / scale);
        }
        Matrix::nearest(&weights, &bias)
    }
}
