//! The learned latent codec: what [`anabranch_models::latent`] is, as a codec of this crate.
//!
//! It is not among [`ALL`](super::ALL), since there is one for each file that it was learned into.
//!
//! ```
//! use anabranch_models::latent::{Fit, Media as Samples, Options};
//! use anabranch_operators::codec::{Codec, Facts, Latent, Limits, Media};
//!
//! let samples: Vec<u8> = (0..32 * 32).map(|at| (at % 32 * 7) as u8).collect();
//! let mut fit = Fit::new(Options::default());
//! fit.add(&Samples::Picture { width: 32, height: 32, channels: 1, samples: &samples })?;
//! let codec = Latent::from_bytes(&fit.finish()?.to_bytes()?)?;
//!
//! let (mut bytes, mut back) = (Vec::new(), Vec::new());
//! let facts = Facts::Image { width: 32, height: 32, channels: 1 };
//! codec.encode(&Media { samples: &samples, facts }, None, &mut bytes)?;
//! assert_eq!(codec.decode(&bytes, &Limits::default(), &mut back)?, facts);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use anabranch_models::latent::artifact::hash;
use anabranch_models::latent::{self, Extent, Header, Kind, LatentError, Latents, Name, Scratch};
use anabranch_pipelines::record::Modality;

use super::{Codec, CodecError, Facts, Ladder, Limits, Media, Pcm};

/// The codec's name.
pub(crate) const LATENT: &str = "latent";

/// A latent codec with its file.
#[derive(Debug)]
pub struct Latent {
    codec: latent::Codec,
    /// Room that earlier invocations used.
    room: Mutex<Vec<Scratch>>,
}

/// Codecs that settings name, by the hashes of their files.
static LASTING: Mutex<BTreeMap<String, &Latent>> = Mutex::new(BTreeMap::new());

impl Latent {
    /// The codec of a file as one that lasts like all others, so that a [`Setting`](super::Setting) can name it: it is
    /// there once, however often the file is read, and as long as the program.
    ///
    /// # Errors
    /// When the file is none, or of another version.
    pub(crate) fn lasting(file: &[u8]) -> Result<&'static Self, LatentError> {
        let mut lasting = LASTING.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = hash(file);
        if let Some(known) = lasting.get(&hash) {
            return Ok(known);
        }
        let codec: &'static Self = Box::leak(Box::new(Self::from_bytes(file)?));
        lasting.insert(hash, codec);
        Ok(codec)
    }

    /// The codec of a file.
    ///
    /// # Errors
    /// When the file is none, or of another version.
    pub fn from_bytes(file: &[u8]) -> Result<Self, LatentError> {
        Ok(Self { codec: latent::Codec::from_bytes(file)?, room: Mutex::default() })
    }

    /// What its records call it.
    pub fn name_in_records(&self) -> Name {
        self.codec.name()
    }

    /// Channels of its latents.
    pub fn channels(&self) -> usize {
        self.codec.card().channels
    }

    /// Levels of its packet: a position stands for `2^levels` samples.
    pub fn levels(&self) -> usize {
        self.codec.card().levels
    }

    /// The latents of a record: the first `channels`, or all.
    ///
    /// # Errors
    /// When the bytes are damaged, of another codec, or declare more than the limits allow.
    pub fn latents(
        &self,
        bytes: &[u8],
        channels: Option<usize>,
        limits: &Limits,
    ) -> Result<(Facts, Latents), CodecError> {
        let facts = facts(bytes, limits)?;
        Header::verify(bytes).map_err(|e| CodecError(e.to_string()))?;
        let (_, latents) = self
            .with_room(|room| self.codec.latents(bytes, channels, room))
            .map_err(|e| CodecError(e.to_string()))?;
        Ok((facts, latents))
    }

    /// As [`Codec::decode`], from the first `channels` of the latents, or all.
    ///
    /// # Errors
    /// As [`Codec::decode`], and when the record is of other media than the codec's.
    pub fn decode_part(
        &self,
        bytes: &[u8],
        channels: Option<usize>,
        limits: &Limits,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, CodecError> {
        let facts = facts(bytes, limits)?;
        // Fewer channels are wanted, but all of the record is here.
        Header::verify(bytes).map_err(|e| CodecError(e.to_string()))?;
        let decoded = self.with_room(|room| self.codec.decode_part(bytes, channels, room, samples));
        decoded.map(|_| facts).map_err(|e| CodecError(e.to_string()))
    }

    fn with_room<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let pool = || self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room = pool().pop().unwrap_or_default();
        let done = work(&mut room);
        pool().push(room);
        done
    }
}

/// What a record of latents says of its media, if it is within the limits.
pub(crate) fn facts(bytes: &[u8], limits: &Limits) -> Result<Facts, CodecError> {
    let (header, _) = Header::parse(bytes).map_err(|e| CodecError(e.to_string()))?;
    Ok(match header.extent {
        Extent::Picture { width, height } => {
            let channels = u8::try_from(header.channels).unwrap_or(u8::MAX);
            limits.check_image(width, height, channels)?;
            Facts::Image { width, height, channels }
        }
        Extent::Sound { rate, frames } => {
            let format = Pcm::S16;
            let frame = u64::from(header.channels) * format.bytes() as u64;
            limits.check_audio(frames, rate, frame)?;
            Facts::Audio { format, rate, channels: header.channels, frames }
        }
    })
}

/// Calls `work` with these media as latent codecs take them. Samples of other formats become those of 16 bits: louder
/// ones are clipped, and what is no number is silence.
pub(crate) fn with_samples<T>(media: &Media<'_>, work: impl FnOnce(&latent::Media<'_>) -> T) -> T {
    match media.facts {
        Facts::Image { width, height, channels } => work(&latent::Media::Picture {
            width,
            height,
            channels: channels.into(),
            samples: media.samples,
        }),
        Facts::Audio { format, rate, channels, .. } => {
            let sixteen = match format {
                Pcm::S16 => None,
                other => {
                    let mut bytes = Vec::with_capacity(media.samples.len());
                    Pcm::S16.extend(other.floats(media.samples), &mut bytes);
                    Some(bytes)
                }
            };
            let (bytes, _) = sixteen.as_deref().unwrap_or(media.samples).as_chunks::<2>();
            let samples: Vec<i16> = bytes.iter().map(|two| i16::from_le_bytes(*two)).collect();
            work(&latent::Media::Sound { rate, channels, samples: &samples })
        }
    }
}

impl Codec for Latent {
    fn name(&self) -> &'static str {
        LATENT
    }

    fn modality(&self) -> Modality {
        match self.codec.card().kind {
            Kind::Picture => Modality::Image,
            Kind::Sound => Modality::Audio,
        }
    }

    fn lossless(&self, _: Option<u16>) -> bool {
        false
    }

    fn ladder(&self) -> Option<Ladder> {
        let channels = u16::try_from(self.channels()).unwrap_or(u16::MAX);
        Some(Ladder { option: "channels", steps: 1..=channels })
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        latent::recognises(bytes)
    }

    fn encode(
        &self,
        media: &Media<'_>,
        step: Option<u16>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let channels = step.map(usize::from);
        let encoded = with_samples(media, |samples| {
            self.with_room(|room| self.codec.encode(samples, channels, room, bytes))
        });
        encoded.map_err(|e| CodecError(e.to_string()))
    }

    fn decode(
        &self,
        bytes: &[u8],
        limits: &Limits,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, CodecError> {
        self.decode_part(bytes, None, limits, samples)
    }
}

#[cfg(test)]
mod tests {
    use anabranch_models::latent::{Artifact, Card, Decoder, Fit, Options, Training};

    use super::*;
    use crate::conformance::codec::{self, Example};

    fn learned(examples: &[Example], options: Options) -> Latent {
        let mut fit = Fit::new(options);
        for example in examples {
            let media = Media { samples: &example.samples, facts: example.facts };
            with_samples(&media, |samples| fit.add(samples)).unwrap();
        }
        Latent::from_bytes(&fit.finish().unwrap().to_bytes().unwrap()).unwrap()
    }

    #[test]
    fn pictures_keep_to_what_every_codec_must() {
        let examples = [(64, 48), (80, 80), (33, 70)].map(|(w, h)| Example::picture(w, h, 3));
        let options =
            Options { channels: 40, step: Some(6.0), levels: Some(2), ..Options::default() };
        let latent = learned(&examples, options);
        let mut examples = codec::examples(&latent);
        examples.push(Example::picture(40, 30, 1));
        codec::check(&latent, &examples).unwrap();
    }

    #[test]
    fn sounds_keep_to_what_every_codec_must() {
        let examples = [1, 2].map(|channels| Example::sound(Pcm::S16, channels, 4000));
        let options =
            Options { channels: 60, step: Some(300.0), levels: Some(5), ..Options::default() };
        let latent = learned(&examples, options);
        codec::check(&latent, &codec::examples(&latent)).unwrap();
    }

    #[test]
    fn floats_that_are_no_numbers_are_silence_and_loud_ones_are_clipped() {
        let examples = [Example::sound(Pcm::S16, 1, 4000)];
        let options =
            Options { channels: 32, step: Some(100.0), levels: Some(5), ..Options::default() };
        let latent = learned(&examples, options);
        let floats = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.5, -7.0].repeat(50);
        let samples: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
        let facts = Facts::Audio { format: Pcm::F32, rate: 8000, channels: 1, frames: 250 };
        let (mut bytes, mut back) = (Vec::new(), Vec::new());
        latent.encode(&Media { samples: &samples, facts }, None, &mut bytes).unwrap();
        let facts = latent.decode(&bytes, &Limits::default(), &mut back).unwrap();
        assert_eq!(facts, Facts::Audio { format: Pcm::S16, rate: 8000, channels: 1, frames: 250 });
        assert_eq!(back.len(), 500);
    }

    /// One piece of each of twelve photos, where the data are: they are no part of this repository.
    fn photos(side: u32) -> Option<Vec<Example>> {
        let data = std::env::var_os("ANABRANCH_DATA").map_or_else(
            || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
            std::path::PathBuf::from,
        );
        let piece = |at: usize| {
            let file = std::fs::read(data.join(format!("photos/kodim{at:02}.png"))).ok()?;
            let (mut all, mut samples) = (Vec::new(), Vec::new());
            let png = super::super::named("png").unwrap();
            let facts = png.decode(&file, &Limits::default(), &mut all).unwrap();
            let Facts::Image { width, .. } = facts else { panic!("it is a picture") };
            for line in all.chunks(3 * width as usize).skip(164).take(side as usize) {
                samples.extend_from_slice(&line[3 * 292..3 * (292 + side as usize)]);
            }
            Some(Example {
                samples,
                facts: Facts::Image { width: side, height: side, channels: 3 },
            })
        };
        (1..=12).map(piece).collect()
    }

    /// Bytes of records, and the mean squared error of what comes back.
    fn rate_and_error(codec: &Latent, examples: &[Example]) -> (f64, f64) {
        let (mut rate, mut error, mut count) = (0.0, 0.0, 0.0);
        for Example { samples, facts } in examples {
            let (mut bytes, mut back) = (Vec::new(), Vec::new());
            codec.encode(&Media { samples, facts: *facts }, None, &mut bytes).unwrap();
            codec.decode(&bytes, &Limits::default(), &mut back).unwrap();
            rate += bytes.len() as f64;
            count += back.len() as f64;
            let square = |(a, b): (&u8, &u8)| (f64::from(*a) - f64::from(*b)).powi(2);
            error += samples.iter().zip(&back).map(square).sum::<f64>();
        }
        (rate, error / count)
    }

    /// Codecs trained on photos: as it is, and without the decoder that corrects what the linear one gives.
    fn trained(seen: &[Example], options: Options) -> (Latent, Latent) {
        let mut fit = Fit::new(options);
        for example in seen {
            let media = Media { samples: &example.samples, facts: example.facts };
            with_samples(&media, |samples| fit.add(samples)).unwrap();
        }
        let artifact = fit.finish().unwrap();
        let whole = Latent::from_bytes(&artifact.to_bytes().unwrap()).unwrap();
        let card = Card { decoder: Decoder::Linear, ..artifact.card().clone() };
        let [analysis, synthesis] = [artifact.analysis(), artifact.synthesis()].map(Clone::clone);
        let distributions = artifact.distributions().clone();
        let linear = Artifact::new(card, analysis, synthesis, distributions, None).unwrap();
        (whole, Latent::from_bytes(&linear.to_bytes().unwrap()).unwrap())
    }

    fn of_step(step: f64, training: Training) -> Options {
        Options { channels: 24, step: Some(step), levels: Some(2), training }
    }

    #[test]
    fn gradient_steps_improve_what_bytes_buy_on_photos_that_were_not_seen() {
        let Some(photos) = photos(160) else { return };
        let (seen, unseen) = photos.split_at(photos.len() / 2);
        let fitted =
            |step| rate_and_error(&learned(seen, of_step(step, Training::default())), unseen);
        let (fine, coarse) = (fitted(34.0), fitted(48.0));
        let training = Training { steps: 60, decoder: Decoder::Linear, seed: 1 };
        let (linear, _) = trained(seen, of_step(40.0, training));
        // The bytes that principal components need for the error of the trained maps.
        let (bytes, error) = rate_and_error(&linear, unseen);
        let share = (error / fine.1).ln() / (coarse.1 / fine.1).ln();
        assert!((0.0..1.0).contains(&share), "{share}");
        let expected = ((1.0 - share) * fine.0.ln() + share * coarse.0.ln()).exp();
        assert!(bytes < 0.999 * expected, "{bytes} of {expected}");
    }

    #[test]
    fn a_residual_decoder_brings_what_it_learned_from_closer_for_the_same_bytes() {
        let Some(photos) = photos(160) else { return };
        let seen = &photos[..2];
        let training = Training { steps: 60, decoder: Decoder::Residual, seed: 1 };
        let (residual, linear) = trained(seen, of_step(18.0, training));
        let (linear, residual) = (rate_and_error(&linear, seen), rate_and_error(&residual, seen));
        assert!(linear.0 == residual.0 && residual.1 < linear.1, "{residual:?} of {linear:?}");
    }
}
