//! A codec from examples, in seconds: the principal components of their wavelet packets (Karhunen and Loève).
//!
//! Of all maps to so many channels, this one loses the least energy, and its channels are uncorrelated, so an entropy
//! coder may take each alone. What one step stands for is the same in all of them, which is where the most energy is
//! kept for the fewest bits (reverse water-filling); only a channel whose values would leave the even part of the
//! [compander](super::compand) gets larger ones.

use super::artifact::{Artifact, Card, FORMAT};
use super::compand::{COARSE, FINE};
use super::entropy::{Counts, Distributions};
use super::grid::{Grid, unit};
use super::{Extent, Front, Kind, LatentError, Matrix, Media, Scratch, eigen, lifting};

/// What a codec is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Options {
    /// Channels of latents; a quarter of the coefficients when 0.
    pub channels: usize,
    /// What a latent of 1 stands for, in units of a sample: the smaller, the more faithful and the larger records are.
    /// 16 for pictures and a third of the mean loudness of sounds, unless said otherwise.
    pub step: Option<f64>,
    /// A block has `2^levels` samples of a sound, or as many rows and columns of a picture. 3 for pictures, 2 for those
    /// of fewer than 64 pixels a side; 7 for sounds.
    pub levels: Option<usize>,
}

/// Records that a codec is fitted to.
#[derive(Debug)]
pub struct Fit {
    options: Options,
    records: Vec<Owned>,
}

#[derive(Debug)]
enum Owned {
    Picture { width: u32, height: u32, channels: u16, samples: Vec<u8> },
    Sound { rate: u32, channels: u16, samples: Vec<i16> },
}

impl Owned {
    fn media(&self) -> Media<'_> {
        match self {
            Self::Picture { width, height, channels, samples } => {
                Media::Picture { width: *width, height: *height, channels: *channels, samples }
            }
            Self::Sound { rate, channels, samples } => {
                Media::Sound { rate: *rate, channels: *channels, samples }
            }
        }
    }
}

/// Multiplications that summing up covariances may take.
const EFFORT: usize = 1 << 30;
/// Up to here the values of a channel should be, of those that the compander spaces evenly.
const RANGE: f64 = 96.0;

impl Fit {
    /// No records yet.
    pub fn new(options: Options) -> Self {
        Self { options, records: Vec::new() }
    }

    /// Takes a record. All must be of one kind; one channel fits any other number.
    ///
    /// # Errors
    /// Media without samples, of another kind than the first, or of a number of channels that no codec has.
    pub fn add(&mut self, media: &Media<'_>) -> Result<(), LatentError> {
        let (kind, channels) = (media.extent().kind(), media.channels());
        let wrong = |what: &str| Err(LatentError::Media { what: what.to_owned() });
        if self.records.first().is_some_and(|first| first.media().extent().kind() != kind) {
            return wrong("it is of another kind than the records before");
        }
        let most = if kind == Kind::Picture { [1, 3] } else { [1, 2] };
        if !most.contains(&channels) {
            return wrong("latents are of pictures of 1 or 3 channels and sounds of 1 or 2");
        }
        if media.extent().samples() == 0 {
            return wrong("it has no samples");
        }
        self.records.push(match *media {
            Media::Picture { width, height, channels, samples } => {
                Owned::Picture { width, height, channels, samples: samples.to_vec() }
            }
            Media::Sound { rate, channels, samples } => {
                Owned::Sound { rate, channels, samples: samples.to_vec() }
            }
        });
        Ok(())
    }

    /// The codec.
    ///
    /// # Errors
    /// No records, options that no codec can have, or a step that makes numbers too large.
    pub fn finish(self) -> Result<Artifact, LatentError> {
        let Some(first) = self.records.first().map(|record| record.media().extent()) else {
            let what = "there is no record to learn a latent codec from".to_owned();
            return Err(LatentError::Sample { what });
        };
        let kind = first.kind();
        let planes = self.records.iter().map(|record| record.media().channels()).max();
        let planes = usize::from(planes.unwrap_or(1));
        let levels = self.options.levels.unwrap_or_else(|| self.levels());
        let mut card = Card {
            format: FORMAT,
            kind,
            planes,
            levels,
            channels: 0,
            step: 1.0,
            records: self.records.len() as u64,
            trained: 0,
        };
        let bands = card.bands().filter(|bands| *bands <= super::artifact::MOST_BANDS);
        let bands = bands.ok_or_else(|| LatentError::Sample {
            what: format!("blocks of {levels} levels have more coefficients than are supported"),
        })?;
        card.channels = match self.options.channels {
            0 => (bands / 4).clamp(1, 255),
            channels => channels,
        };
        if !(1..=bands.min(255)).contains(&card.channels) {
            let (found, most) = (card.channels, bands.min(255));
            let what = format!("{found} channels of latents: blocks here have 1 to {most}");
            return Err(LatentError::Sample { what });
        }
        let vectors = self.vectors((kind, planes, levels), bands)?;
        card.step = self.options.step.unwrap_or_else(|| self.step());
        if !card.step.is_finite() || card.step <= 0.0 {
            let what = format!("a step of {}: it is above 0", card.step);
            return Err(LatentError::Sample { what });
        }
        let (analysis, synthesis) = principal(&vectors, &card)?;
        let distributions = self.count(&card, &analysis)?;
        Artifact::new(card, analysis, synthesis, distributions)
    }

    /// Levels for media of this size: what is small needs small blocks.
    fn levels(&self) -> usize {
        let mut sides: Vec<u64> = self
            .records
            .iter()
            .map(|record| match record.media().extent() {
                Extent::Picture { width, height } => u64::from(width.min(height)),
                Extent::Sound { frames, .. } => frames,
            })
            .collect();
        sides.sort_unstable();
        let side = sides.get(sides.len() / 2).copied().unwrap_or(1);
        match self.records.first() {
            Some(Owned::Sound { .. }) => 7,
            _ if side < 64 => 2,
            _ => 3,
        }
    }

    /// The step unless said otherwise.
    fn step(&self) -> f64 {
        let (mut power, mut count) = (0.0, 0.0);
        for record in &self.records {
            if let Owned::Sound { samples, .. } = record {
                power += samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>();
                count += samples.len() as f64;
            }
        }
        if count == 0.0 { 16.0 } else { ((power / count).sqrt() / 3.0).max(1.0) }
    }

    /// Vectors of coefficients, evenly spaced over all records.
    fn vectors(
        &self,
        (kind, planes, levels): (Kind, usize, usize),
        bands: usize,
    ) -> Result<Vec<Vec<f64>>, LatentError> {
        let scales = scales(kind, planes, levels);
        let blocks = |record: &Owned| {
            let (rows, across) = super::grid::positions(record.media().extent(), levels);
            rows * across
        };
        let all: usize = self.records.iter().map(blocks).sum();
        let every = all.div_ceil((EFFORT / (bands * bands)).max(2 * bands)).max(1);
        let (mut grid, mut vector, mut vectors) = (Grid::default(), Vec::new(), Vec::new());
        let mut next = 0;
        for record in &self.records {
            record.media().analyse((kind, planes, levels), &mut grid)?;
            while next < grid.len() {
                grid.vector(next, &mut vector);
                let scaled = vector.iter().zip(&scales).map(|(x, scale)| f64::from(*x) * scale);
                vectors.push(scaled.collect());
                next += every;
            }
            next -= grid.len();
        }
        Ok(vectors)
    }

    /// How often each difference of latents occurs.
    fn count(&self, card: &Card, analysis: &Matrix) -> Result<Distributions, LatentError> {
        let front = Front::new(card.clone(), analysis);
        let (mut scratch, mut counts) = (Scratch::default(), Counts::new(card.channels));
        for record in &self.records {
            let shape = front.quantise(&record.media(), None, &mut scratch)?;
            counts.add(scratch.latents.clone(), shape);
        }
        counts.finish()
    }
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

/// The maps to and from the principal components of scaled vectors.
fn principal(vectors: &[Vec<f64>], card: &Card) -> Result<(Matrix, Matrix), LatentError> {
    let scales = scales(card.kind, card.planes, card.levels);
    let (size, count) = (scales.len(), vectors.len().max(1) as f64);
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
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let steps = components.iter().map(|(_, component)| {
        let centre = dot(component, &mean);
        let far = vectors.iter().map(|vector| (dot(component, vector) - centre).abs());
        card.step.max(far.fold(0.0, f64::max) / RANGE)
    });
    let steps: Vec<f64> = steps.collect();
    maps(&components.into_iter().map(|(_, v)| v).collect::<Vec<_>>(), &mean, &steps, &scales)
}

/// The analysis that projects scaled vectors on `components` in steps, and the synthesis that adds them up.
fn maps(
    components: &[Vec<f64>],
    mean: &[f64],
    steps: &[f64],
    scales: &[f64],
) -> Result<(Matrix, Matrix), LatentError> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (mut weights, mut bias) = (Vec::new(), Vec::new());
    for (component, step) in components.iter().zip(steps) {
        weights.extend(component.iter().zip(scales).map(|(v, scale)| v * scale / step * FINE));
        bias.push(-dot(component, mean) / step * FINE);
    }
    let analysis = Matrix::nearest(&weights, &bias)?;
    let (mut weights, mut bias) = (Vec::new(), Vec::new());
    for (band, (mean, scale)) in mean.iter().zip(scales).enumerate() {
        let elements = components.iter().map(|v| v.get(band).copied().unwrap_or_default());
        weights.extend(elements.zip(steps).map(|(v, step)| v * step / f64::from(COARSE) / scale));
        bias.push(mean / scale);
    }
    Ok((analysis, Matrix::nearest(&weights, &bias)?))
}
