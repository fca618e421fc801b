//! A codec from examples, in seconds: the principal components of their wavelet packets (Karhunen and Loève); in
//! minutes, [trained](super::learn) from there on.
//!
//! Of all maps to so many channels, this one loses the least energy, and its channels are uncorrelated, so an entropy
//! coder may take each alone. What one step stands for is the same in all of them, which is where the most energy is
//! kept for the fewest bits (reverse water-filling); only a channel whose values would leave the even part of the
//! [compander](super::compand) gets larger ones.

use super::artifact::{Artifact, Card, Decoder, FORMAT};
use super::entropy::{Counts, Distributions, Shape};
use super::grid::Grid;
use super::learn::{self, Example};
use super::linear::{Linear, scales};
use super::{Extent, Front, Kind, LatentError, Matrix, Media, Scratch};

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
    /// What is learned by gradient beyond principal components.
    pub training: Training,
}

/// How a codec is trained after it was fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Training {
    /// Steps of the linear maps, and as many again of a decoder that is not linear; 0 keeps principal components.
    pub steps: u64,
    /// How records are decoded.
    pub decoder: Decoder,
    /// What random numbers start from.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self { steps: 0, decoder: Decoder::Linear, seed: 1 }
    }
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
            trained: self.options.training.steps,
            decoder: self.options.training.decoder,
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
        let scales = scales(kind, planes, levels);
        let mut linear = Linear::principal(&vectors, &card);
        if self.options.training.steps == 0 {
            if card.decoder != Decoder::Linear {
                let what = format!(
                    "a decoder that is {:?} learns by gradient steps, and there are none",
                    card.decoder
                );
                return Err(LatentError::Sample { what });
            }
            let analysis = linear.fixed_analysis(&scales)?;
            let distributions = self.count(&card, &analysis)?;
            let synthesis = linear.fixed_synthesis(&scales)?;
            return Artifact::new(card, analysis, synthesis, distributions, None);
        }
        self.learn(card, &mut linear, &vectors, &scales)
    }

    /// The codec, trained from principal components on.
    fn learn(
        &self,
        card: Card,
        linear: &mut Linear,
        vectors: &[Vec<f64>],
        scales: &[f64],
    ) -> Result<Artifact, LatentError> {
        let training = &self.options.training;
        let mut examples = self.examples(&card)?;
        let predictors = self.count(&card, &linear.fixed_analysis(scales)?)?;
        learn::maps(linear, &examples, (&card, scales, predictors.predictors()), training)?;
        linear.keep_in_range(vectors);
        let analysis = linear.fixed_analysis(scales)?;
        let front = Front::new(card.clone(), &analysis);
        let (mut scratch, mut counts) = (Scratch::default(), Counts::new(card.channels));
        for (record, example) in self.records.iter().zip(&mut examples) {
            let shape = front.quantise(&record.media(), None, &mut scratch)?;
            example.latents.clone_from(&scratch.latents);
            counts.add(scratch.latents.clone(), shape);
        }
        learn::refit(linear, &examples, scales, card.kind == Kind::Picture)?;
        let synthesis = linear.fixed_synthesis(scales)?;
        let residual = match card.decoder {
            Decoder::Linear => None,
            _ => Some(learn::decoder(linear, &examples, (&card, scales), training)?),
        };
        Artifact::new(card, analysis, synthesis, counts.finish()?, residual)
    }

    /// The records' coefficients, as training reads them.
    fn examples(&self, card: &Card) -> Result<Vec<Example>, LatentError> {
        let Card { kind, planes, levels, channels, .. } = *card;
        let (mut grid, mut vector) = (Grid::default(), Vec::new());
        let mut examples = Vec::new();
        for record in &self.records {
            let media = record.media();
            media.analyse((kind, planes, levels), &mut grid)?;
            let Shape { rows, across, .. } = Shape::of(media.extent(), levels, channels);
            let mut vectors = Vec::new();
            for position in 0..grid.len() {
                grid.vector(position, &mut vector);
                vectors.extend_from_slice(&vector);
            }
            examples.push(Example { rows, across, vectors, latents: Vec::new() });
        }
        Ok(examples)
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
