//! Sounds with something else in them, by a model that says which parts of their spectra are the voice.
//!
//! The model sees a log-mel spectrum of the mixture and decides, by a bit of its head for each frequency of each frame,
//! how likely the voice is louder there than all the rest. The mixture's own short-time spectrum times these likelihoods
//! is the voice as it is estimated; the right answer is the voice by itself, a sound that lies where it lies in the
//! mixture.
//!
//! The score of a sound is the share of the estimate's power that is voice: with SI-SDR in decibels
//! ([`metric::si_sdr`], which forgives a codec that it is late and louder) it is
//! `1 / (1 + 10^(-SI-SDR / 10))`, from 0 to 1, one half at 0 dB. Decibels have no bounds and could not be paired by
//! [`choose`](crate::choose), which wants losses from -1 to 1; the order of estimates is the same.

use anabranch_models::artifact::Artifact;
use anabranch_models::artifact::architecture::{Architecture, AudioTokens, Head, Inputs};
use anabranch_models::engine::Encoder;
use anabranch_pipelines::record::Modality;

use super::ask::ask;
use super::{Blind, Labels, Lesson, Outcome, Right, Spectra, Task};
use crate::codec::{Facts, Media, Pcm};
use crate::metric;
use crate::spectrum::{Bands, Mel, ShortTime};

pub(super) struct Separate {
    model: Encoder,
    hears: Hears,
}

/// How a mixture becomes what a model of some size takes, and what it answers a sound.
pub(super) struct Hears {
    mel: Mel,
    spectra: ShortTime,
    rate: u32,
}

impl Separate {
    pub(super) fn new(artifact: &Artifact, spectra: Spectra) -> Result<Self, String> {
        let hears = Hears::new(artifact.architecture(), spectra)?;
        let model = Encoder::load(artifact).map_err(|e| e.to_string())?;
        Ok(Self { model, hears })
    }

    /// What is told of each mixture, judged as if it were told of the mixture so many places behind it.
    fn judged(
        &self,
        media: &[Media<'_>],
        right: &[Option<Right<'_>>],
        by: usize,
    ) -> Vec<Result<Outcome, String>> {
        let judge = |place: usize, logits: &[f32]| {
            let of = (place + by) % media.len().max(1);
            let mixture = media.get(of).ok_or("it is not there")?;
            self.score(mixture, logits, right.get(of).copied().flatten())
        };
        ask(&self.model, Modality::Audio, media, |media| self.hears.values(media), judge)
    }

    fn score(
        &self,
        mixture: &Media<'_>,
        logits: &[f32],
        right: Option<Right<'_>>,
    ) -> Result<Outcome, String> {
        let right = right.ok_or("it has no voice by itself, and only that is right")?.media()?;
        let Hears { mel, spectra, .. } = &self.hears;
        let mut bins = spectra.bins(&mel.mono(mixture)?)?;
        let likely = |logit: &f32| 1.0 / (1.0 + (-logit).exp());
        bins.iter_mut().zip(logits).for_each(|(bin, logit)| *bin *= likely(logit));
        let estimate = spectra.sound(bins)?;
        // Through the same windows, which fade in and out.
        let voice = spectra.sound(spectra.bins(&mel.mono(&right)?)?)?;
        let [estimate, voice] = [estimate, voice].map(|sound| {
            let mut samples = Vec::new();
            Pcm::F32.extend(sound, &mut samples);
            samples
        });
        let media = |samples: &[u8]| {
            let frames = samples.len() as u64 / 4;
            Facts::Audio { format: Pcm::F32, rate: self.hears.rate, channels: 1, frames }
        };
        let [voice, estimate] =
            [&voice, &estimate].map(|samples| Media { samples, facts: media(samples) });
        let decibels = metric::si_sdr(&voice, &estimate).map_err(|e| e.to_string())?;
        Ok(Outcome { score: 1.0 / (1.0 + 10_f64.powf(-decibels / 10.0)), answer: None })
    }
}

impl Hears {
    pub(super) fn new(architecture: &Architecture, spectra: Spectra) -> Result<Self, String> {
        let Inputs::Modalities { image: None, audio: Some(audio), text: None } =
            &architecture.inputs
        else {
            return Err("it does not take sounds alone".to_owned());
        };
        let AudioTokens { frames, bands, frames_per_token } = *audio;
        let Spectra { rate, window, hop } = spectra;
        let mel = Bands { rate, frames, bands, window, hop }.filters()?;
        let spectra = ShortTime::new(window, hop, frames);
        let wanted = frames_per_token * spectra.frequencies();
        match architecture.head {
            Head::Masks(bits) if bits == wanted => Ok(Self { mel, spectra, rate }),
            Head::Masks(bits) => Err(format!(
                "it decides {bits} bits for each token, and this task wants {wanted}: one for each of {} frequencies \
                 of each of {frames_per_token} frames",
                spectra.frequencies()
            )),
            _ => Err("it does not decide on masks; its head must be `masks`".to_owned()),
        }
    }

    fn values(&self, mixture: &Media<'_>) -> Result<Vec<f32>, String> {
        let mut values = Vec::new();
        self.mel.append(mixture, &mut values).map(|()| values)
    }

    /// A mixture and the voice in it, as such a model learns them: a bit is 1 where the voice has more power than all
    /// the rest.
    pub(super) fn lesson(&self, mixture: &Media<'_>, voice: &Media<'_>) -> Result<Lesson, String> {
        let bins = |media: &Media<'_>| self.spectra.bins(&self.mel.mono(media)?);
        let louder = bins(voice)?
            .into_iter()
            .zip(bins(mixture)?)
            .map(|(voice, mixture)| u32::from(voice.norm_sqr() > (mixture - voice).norm_sqr()));
        Ok(Lesson { values: self.values(mixture)?, bits: louder.collect() })
    }
}

impl Task for Separate {
    fn name(&self) -> &'static str {
        super::SEPARATE
    }

    fn modality(&self) -> Modality {
        Modality::Audio
    }

    fn labels(&self) -> Labels {
        Labels::Media
    }

    fn outcomes(
        &self,
        media: &[Media<'_>],
        right: &[Option<Right<'_>>],
    ) -> Vec<Result<Outcome, String>> {
        self.judged(media, right, 0)
    }

    fn blind_outcomes(&self, media: &[Media<'_>], right: &[Option<Right<'_>>]) -> Vec<Blind> {
        // The mixture as it is.
        let architecture = self.model.architecture();
        let everything = vec![f32::INFINITY; architecture.answers() * architecture.outputs()];
        let pairs = media.iter().zip(right);
        let outcomes = pairs.map(|(mixture, right)| self.score(mixture, &everything, *right));
        vec![
            Blind::others(self.judged(media, right, 1)),
            Blind { answers: "everything taken for the voice", outcomes: outcomes.collect() },
        ]
    }
}
