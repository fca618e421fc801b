//! A codec for machines: pictures and sounds become a few channels of 8-bit latents, which models can train on
//! without decoding, and from which the media come back with loss.
//!
//! | step | |
//! | --- | --- |
//! | [`lifting`] | a wavelet packet in integers: blocks of `2^levels` samples a side become bands |
//! | [`matrix`] | the bands of a position times a matrix, in fixed point: the most energetic channels |
//! | [`compand`] | to 8 bits |
//! | [`entropy`] | to bytes, with distributions from the codec's file |
//! | [`format`](mod@format) | what stands before them |
//!
//! Everything from samples to bytes is integers with one stated rounding, so a record has the same bytes on every
//! machine. The way back is a matrix and the inverse packet, integers too; a learned [decoder](residual) may add to it
//! in floats. Matrices and distributions are learned from
//! the user's data ([`Fit`]) and kept as an [`artifact`], one file that readers find by the hash that each
//! record names.
//!
//! ```
//! use anabranch_models::latent::{Codec, Fit, Media, Options, Scratch};
//!
//! // Sixteen grey pictures of soft stripes.
//! let picture = |at: usize| -> Vec<u8> {
//!     (0..64 * 64).map(|i| 128 + ((i % 64 * (at + 1)) as f64 * 0.02).sin() as u8 * 90).collect()
//! };
//! let pictures: Vec<Vec<u8>> = (0..16).map(picture).collect();
//! let media = |samples| Media::Picture { width: 64, height: 64, channels: 1, samples };
//!
//! let mut fit = Fit::new(Options { channels: 8, ..Options::default() });
//! for picture in &pictures {
//!     fit.add(&media(picture))?;
//! }
//! let file = fit.finish()?.to_bytes()?;
//!
//! let (codec, mut scratch) = (Codec::from_bytes(&file)?, Scratch::default());
//! let mut record = Vec::new();
//! codec.encode(&media(&pictures[0]), None, &mut scratch, &mut record)?;
//! assert!(record.len() < 64 * 64 / 8);
//!
//! let mut samples = Vec::new();
//! codec.decode(&record, &mut scratch, &mut samples)?;
//! assert_eq!(samples.len(), 64 * 64);
//! # Ok::<(), anabranch_models::latent::LatentError>(())
//! ```
//!
//! # Decoding elsewhere
//!
//! Of a record, [`format`](mod@format) and [`entropy`] say how to get at the latents `q[c, y, x]`. With the tensors of the
//! codec's [file](artifact), the coefficients of position `(y, x)` are
//!
//! `k[b] = clamp16((sum over c of synthesis.weight[b, c] * 16 * value(q[c, y, x]) + synthesis.bias[b] +
//! 2^(synthesis.shift[b] - 1)) >> synthesis.shift[b])`
//!
//! with [`compand::value`]. [`grid`] says where each stands in the packet, which [`lifting`] undoes; a sample of a
//! picture is `clamp((s + 4) >> 3 + 128, 0, 255)`, one of a sound is made from coefficients times 8. A test in Python
//! does all this with numpy alone.
//!
//! Where the file has tensors `decoder.*`, [`residual`] says what is added to the coefficients before the packet is
//! undone. Whoever leaves that out gets what the linear decoder gives.

mod eigen;
mod error;
mod fit;
mod learn;
mod linear;

pub mod artifact;
pub mod compand;
pub mod entropy;
pub mod format;
pub mod grid;
pub mod lifting;
pub mod matrix;
pub mod residual;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::artifact::{Artifact, Card, Decoder};
use self::compand::Compander;
use self::entropy::Shape;
pub use self::error::LatentError;
pub use self::fit::{Fit, Options, Training};
pub use self::format::{Header, Name, recognises};
use self::grid::Grid;
pub use self::matrix::Matrix;
use self::matrix::Packed;
pub use self::residual::Residual;
use crate::engine::Level;

/// What a codec codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Pictures of 8-bit samples.
    Picture,
    /// Sounds of 16-bit samples.
    Sound,
}

/// How large media are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// A picture.
    Picture {
        /// Pixels of a row.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// A sound.
    Sound {
        /// Frames per second.
        rate: u32,
        /// Frames.
        frames: u64,
    },
}

impl Extent {
    /// What it is the extent of.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Picture { .. } => Kind::Picture,
            Self::Sound { .. } => Kind::Sound,
        }
    }

    /// Samples of a channel.
    pub const fn samples(self) -> u64 {
        match self {
            Self::Picture { width, height } => width as u64 * height as u64,
            Self::Sound { frames, .. } => frames,
        }
    }
}

/// The media of one record, samples interleaved.
#[derive(Debug, Clone, Copy)]
pub enum Media<'a> {
    /// A picture.
    Picture {
        /// Pixels of a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Samples of a pixel.
        channels: u16,
        /// `[height, width, channels]`.
        samples: &'a [u8],
    },
    /// A sound.
    Sound {
        /// Frames per second.
        rate: u32,
        /// Samples of a frame.
        channels: u16,
        /// `[frames, channels]`.
        samples: &'a [i16],
    },
}

impl Media<'_> {
    /// How large it is.
    fn extent(&self) -> Extent {
        match *self {
            Self::Picture { width, height, .. } => Extent::Picture { width, height },
            Self::Sound { rate, channels, samples } => {
                Extent::Sound { rate, frames: samples.len() as u64 / u64::from(channels.max(1)) }
            }
        }
    }

    fn channels(&self) -> u16 {
        match *self {
            Self::Picture { channels, .. } | Self::Sound { channels, .. } => channels,
        }
    }

    /// Fills a grid with its coefficients, for a codec of these planes and levels.
    fn analyse(
        &self,
        (kind, planes, levels): (Kind, usize, usize),
        grid: &mut Grid,
    ) -> Result<(), LatentError> {
        let (extent, channels) = (self.extent(), usize::from(self.channels()));
        let wrong = |what: String| Err(LatentError::Media { what });
        if extent.kind() != kind {
            return wrong(format!("the latent codec is one of a {kind:?}, and this is none"));
        }
        if channels != planes && channels != 1 {
            return wrong(format!(
                "it has {channels} channels, and the latent codec was made for {planes}; one for these \
                 is learned from records like them"
            ));
        }
        let (samples, expected) = match self {
            Self::Picture { samples, .. } => (samples.len(), extent.samples() * channels as u64),
            Self::Sound { samples, .. } => (samples.len(), extent.samples() * channels as u64),
        };
        if extent.samples() == 0 || samples as u64 != expected {
            return wrong(format!("its {samples} samples are none of {extent:?}"));
        }
        match *self {
            Self::Picture { width, height, samples, .. } => {
                grid.analyse_picture(samples, (width, height, channels), planes, levels);
            }
            Self::Sound { samples, .. } => grid.analyse_sound(samples, channels, planes, levels),
        }
        Ok(())
    }
}

/// The latents of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latents {
    /// Channels.
    pub channels: usize,
    /// Rows of positions.
    pub rows: usize,
    /// Positions of a row.
    pub across: usize,
    /// `[channels, rows, across]`; each stands for [`compand::value`] steps.
    pub values: Vec<i8>,
}

/// Room that is used again from record to record.
#[derive(Debug, Default)]
pub struct Scratch {
    grid: Grid,
    products: grid::Scratch,
    entropy: entropy::Scratch,
    latents: Vec<i8>,
    residual: residual::Scratch,
}

/// A codec that runs. Many threads may use one, each with a [`Scratch`] of its own.
#[derive(Debug)]
pub struct Codec {
    name: Name,
    front: Front,
    synthesis: Packed,
    /// For records of fewer channels.
    weights: Matrix,
    residual: Option<Residual>,
    coder: entropy::Coder,
    expanded: [i16; 256],
}

/// From samples to latents.
#[derive(Debug)]
struct Front {
    card: Card,
    analysis: Packed,
    compander: Compander,
    level: Level,
}

impl Codec {
    /// The codec of a file.
    ///
    /// # Errors
    /// As [`Artifact::from_bytes`].
    pub fn from_bytes(file: &[u8]) -> Result<Self, LatentError> {
        let artifact = Artifact::from_bytes(file)?;
        Ok(Self {
            name: artifact::name(file),
            front: Front::new(artifact.card().clone(), artifact.analysis()),
            synthesis: artifact.synthesis().pack(usize::MAX, usize::MAX),
            weights: artifact.synthesis().clone(),
            residual: artifact.residual().cloned(),
            coder: entropy::Coder::new(artifact.distributions()),
            expanded: compand::expanded(),
        })
    }

    /// What its records call it.
    pub fn name(&self) -> Name {
        self.name
    }

    /// What is said of it.
    pub fn card(&self) -> &Card {
        &self.front.card
    }

    /// The same codec, run with other instructions: it gives the same bytes.
    #[must_use]
    pub fn at(mut self, level: Level) -> Self {
        self.front.level = level;
        self
    }

    /// The latents of media: the first `channels` of them, or all.
    ///
    /// # Errors
    /// Media of another kind, of other channels than the codec was made for (one channel fits all), or without
    /// samples.
    pub fn analyse(
        &self,
        media: &Media<'_>,
        channels: Option<usize>,
        scratch: &mut Scratch,
    ) -> Result<Latents, LatentError> {
        let shape = self.front.quantise(media, channels, scratch)?;
        let Shape { channels, rows, across } = shape;
        Ok(Latents { channels, rows, across, values: scratch.latents.clone() })
    }

    /// Appends the record of media: the first `channels` of its latents, or all.
    ///
    /// # Errors
    /// As [`Codec::analyse`].
    pub fn encode(
        &self,
        media: &Media<'_>,
        channels: Option<usize>,
        scratch: &mut Scratch,
        to: &mut Vec<u8>,
    ) -> Result<(), LatentError> {
        let shape = self.front.quantise(media, channels, scratch)?;
        let header = Header {
            codec: self.name,
            extent: media.extent(),
            channels: media.channels(),
            stored: u8::try_from(shape.channels).unwrap_or(u8::MAX),
        };
        let Scratch { entropy, latents, .. } = scratch;
        header.write(to, |to| self.coder.encode(latents, shape, entropy, to));
        Ok(())
    }

    /// The latents of a record: the first `channels` of them, or all that it has. For fewer than it has, it may be cut
    /// off behind them; only whole ones are verified.
    ///
    /// Room is made for what the header declares: whoever reads foreign records checks [`Header::parse`] first.
    ///
    /// # Errors
    /// A record of something else, of another codec or version, cut off or damaged.
    pub fn latents(
        &self,
        record: &[u8],
        channels: Option<usize>,
        scratch: &mut Scratch,
    ) -> Result<(Header, Latents), LatentError> {
        let mut values = std::mem::take(&mut scratch.latents);
        let read = self.read(record, channels, &mut scratch.entropy, &mut values);
        let latents = read.map(|(header, Shape { channels, rows, across })| {
            (header, Latents { channels, rows, across, values: values.clone() })
        });
        scratch.latents = values;
        latents
    }

    fn read(
        &self,
        record: &[u8],
        channels: Option<usize>,
        scratch: &mut entropy::Scratch,
        latents: &mut Vec<i8>,
    ) -> Result<(Header, Shape), LatentError> {
        let (header, mut stream) = Header::parse(record)?;
        if header.codec != self.name {
            let [wanted, found] = [header.codec, self.name].map(digits);
            return Err(LatentError::Other { wanted, found });
        }
        let stored = usize::from(header.stored);
        let Card { kind, planes, channels: all, .. } = self.front.card;
        let fits = header.channels == 1 || usize::from(header.channels) == planes;
        if header.extent.kind() != kind || stored > all || !fits {
            return Err(LatentError::Header { what: "what its codec does not code".to_owned() });
        }
        let channels = channels.unwrap_or(stored).clamp(1, stored);
        if channels == stored {
            (_, stream) = Header::verify(record)?;
        }
        let shape = Shape::of(header.extent, self.front.card.levels, channels);
        self.coder.decode(stream, shape, stored, scratch, latents)?;
        Ok((header, shape))
    }

    /// Appends the samples of a record: bytes of pictures, little-endian 16-bit numbers of sounds, interleaved.
    ///
    /// # Errors
    /// As [`Codec::latents`].
    pub fn decode(
        &self,
        record: &[u8],
        scratch: &mut Scratch,
        to: &mut Vec<u8>,
    ) -> Result<Header, LatentError> {
        self.decode_part(record, None, scratch, to)
    }

    /// As [`Codec::decode`], from the first channels of the latents alone. Fewer than all are decoded linearly,
    /// whatever decoder was learned: it was learned for all of them.
    ///
    /// # Errors
    /// As [`Codec::latents`].
    pub fn decode_part(
        &self,
        record: &[u8],
        channels: Option<usize>,
        scratch: &mut Scratch,
        to: &mut Vec<u8>,
    ) -> Result<Header, LatentError> {
        let Scratch { grid, products, entropy, latents, residual } = scratch;
        let (header, shape) = self.read(record, channels, entropy, latents)?;
        let fewer;
        let whole = shape.channels == self.front.card.channels;
        let map = if whole {
            &self.synthesis
        } else {
            fewer = self.weights.pack(usize::MAX, shape.channels);
            &fewer
        };
        let Card { kind, planes, levels, .. } = self.front.card;
        let positions = shape.len() / shape.channels.max(1);
        let expand = |latent: &i8| {
            let expanded = self.expanded.get(usize::from(latent.cast_unsigned()));
            expanded.copied().unwrap_or_default()
        };
        let fill = |position: usize, count: usize, n: usize, pairs: &mut [[i16; 2]]| {
            let planes = latents.chunks(2 * positions.max(1));
            for (pairs, planes) in pairs.chunks_exact_mut(n).zip(planes) {
                let (first, second) = planes.split_at(positions.min(planes.len()));
                let pairs = pairs.get_mut(..count).unwrap_or_default();
                let first = first.iter().skip(position);
                match second {
                    [] => pairs.iter_mut().zip(first).for_each(|(pair, a)| *pair = [expand(a), 0]),
                    second => {
                        let both = first.zip(second.iter().skip(position));
                        for (pair, (a, b)) in pairs.iter_mut().zip(both) {
                            *pair = [expand(a), expand(b)];
                        }
                    }
                }
            }
        };
        grid.fill((header.extent, planes, levels), map, self.front.level, products, fill);
        if let Some(decoder) = self.residual.as_ref().filter(|_| whole) {
            let sizes = (shape.rows, shape.across);
            decoder.correct(kind, latents, sizes, residual);
            grid.correct(Residual::lines(kind, sizes, residual));
        }
        grid.synthesise(header.extent, usize::from(header.channels), to);
        Ok(header)
    }
}

impl Front {
    fn new(card: Card, analysis: &Matrix) -> Self {
        let analysis = analysis.pack(usize::MAX, usize::MAX);
        Self { card, analysis, compander: Compander::new(), level: Level::detect() }
    }

    /// Leaves the latents of media in the scratch.
    fn quantise(
        &self,
        media: &Media<'_>,
        channels: Option<usize>,
        scratch: &mut Scratch,
    ) -> Result<Shape, LatentError> {
        let Card { kind, planes, levels, channels: all, .. } = self.card;
        let Scratch { grid, products, latents, .. } = scratch;
        media.analyse((kind, planes, levels), grid)?;
        let shape = Shape::of(media.extent(), levels, channels.unwrap_or(all).clamp(1, all));
        let positions = grid.len();
        latents.resize(shape.len(), 0);
        let map = (&self.analysis, shape.channels);
        grid.map(map, self.level, products, |position, count, n, out| {
            let planes = latents.chunks_exact_mut(positions.max(1));
            for (out, plane) in out.chunks_exact(n).zip(planes) {
                let to = plane.get_mut(position..position + count).unwrap_or_default();
                for (to, number) in to.iter_mut().zip(out) {
                    *to = self.compander.latent(*number);
                }
            }
        });
        Ok(shape)
    }
}

impl Shape {
    /// Latents of media of this extent. Those of a sound stand in one column, since rows look at what is above.
    fn of(extent: Extent, levels: usize, channels: usize) -> Self {
        let (rows, across) = grid::positions(extent, levels);
        match extent.kind() {
            Kind::Picture => Self { channels, rows, across },
            Kind::Sound => Self { channels, rows: across, across: rows },
        }
    }
}

/// A codec's name in hexadecimal digits.
#[must_use]
pub fn digits(name: Name) -> String {
    name.iter().map(|byte| format!("{byte:02x}")).collect()
}
