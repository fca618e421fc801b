//! Spoken digits over music: FSDD's recordings and two clips, made into mixtures here.
//!
//! A mixture is half a second at 8 kHz: a recording somewhere in it, and a piece of a clip that is up to 5 dB softer or
//! louder than the voice over the same time. Speakers and parts of clips that test are never trained on.

use std::error::Error;

use anabranch_models::random::Random;
use anabranch_operators::ResampleOptions;
use anabranch_operators::codec::{self, Facts, Limits, Media, Pcm};
use anabranch_pipelines::operator::{Allocation, Context};
use anabranch_pipelines::record::media;

use crate::speech::recordings;
use crate::{data, records};

pub(crate) const RATE: u32 = 8000;
/// Samples of a window, from one to the next, and frames of a mixture.
pub(crate) const WINDOW: usize = 256;
pub(crate) const HOP: usize = 128;
pub(crate) const FRAMES: usize = 32;
const LENGTH: usize = (FRAMES - 1) * HOP + WINDOW;
pub(crate) const FACTS: Facts =
    Facts::Audio { format: Pcm::S16, rate: RATE, channels: 1, frames: LENGTH as u64 };
const CLIPS: [&str; 2] = ["trumpet_44k_stereo.wav", "vibe_ace_10-16s_44k_stereo.wav"];
/// Who tests.
const TESTED: [&str; 2] = ["theo", "yweweler"];
/// How much of a clip trains; the rest tests.
const TRAINED: f64 = 0.7;
/// Decibels by which music is softer or louder than a voice, at most.
const LOUDER: f32 = 5.0;
/// The largest sample of a mixture.
const PEAK: f32 = 0.7;

/// A mixture, and the voice in it by itself.
pub(crate) struct Mixture {
    samples: Vec<u8>,
    voice: Vec<u8>,
}

impl Mixture {
    pub(crate) fn media(&self) -> Media<'_> {
        Media { samples: &self.samples, facts: FACTS }
    }

    pub(crate) fn right(&self) -> Media<'_> {
        Media { samples: &self.voice, facts: FACTS }
    }
}

/// Voices and music that mixtures are made of.
pub(crate) struct Sounds {
    pub(crate) voices: Vec<Vec<f32>>,
    music: Vec<Vec<f32>>,
}

/// What trains and what tests.
pub(crate) fn all() -> Result<[Sounds; 2], Box<dyn Error>> {
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for recording in recordings::all()? {
        let Facts::Audio { format, .. } = recording.facts else { continue };
        let tests = TESTED.contains(&recording.speaker.as_str());
        if tests { &mut test } else { &mut train }.push(format.floats(&recording.samples));
    }
    let (mut early, mut late) = (Vec::new(), Vec::new());
    for clip in CLIPS {
        let clip = music(clip)?;
        let (first, rest) = clip.split_at((clip.len() as f64 * TRAINED) as usize);
        early.push(first.to_vec());
        late.push(rest.to_vec());
    }
    Ok([Sounds { voices: train, music: early }, Sounds { voices: test, music: late }])
}

/// A clip at the rate of voices, its channels averaged.
fn music(file: &str) -> Result<Vec<f32>, Box<dyn Error>> {
    let bytes = std::fs::read(data().join("audio_clips").join(file))?;
    let wav = codec::named("wav").ok_or("no codec wav")?;
    let mut samples = Vec::new();
    let facts = wav.decode(&bytes, &Limits::default(), &mut samples)?;
    let batch = records::batch(&[("audio", vec![Media { samples: &samples, facts }])])?;
    let resample = ResampleOptions { column: "audio".to_owned(), rate: RATE, lowest: RATE };
    let outcome = resample.build()?.invoke(batch, &Allocation::PLAIN, &Context::plain())?;
    if let Some(refused) = outcome.refused.first() {
        return Err(refused.error.clone().into());
    }
    let column = media::of(&outcome.records, "audio").ok_or("no clip came back")?;
    let Facts::Audio { format, channels, .. } = facts else { return Err("no sound".into()) };
    let floats = format.floats(media::bytes(column, 0).unwrap_or_default());
    let channels = usize::from(channels);
    Ok(floats.chunks_exact(channels).map(|f| f.iter().sum::<f32>() / channels as f32).collect())
}

impl Sounds {
    /// The mixture of a voice with music that chance draws.
    pub(crate) fn mixture(
        &self,
        voice: usize,
        random: &mut Random,
    ) -> Result<Mixture, Box<dyn Error>> {
        let recording = self.voices.get(voice).ok_or("no such voice")?;
        let music = self.music.get(random.below(self.music.len())).ok_or("no music")?;
        let places = music.len().checked_sub(LENGTH).ok_or("the music is too short")?;
        let from = random.below(places + 1);
        let music = music.iter().skip(from).take(LENGTH);
        let start = random.below(LENGTH.saturating_sub(recording.len()) + 1);
        let mut voice = vec![0.0; LENGTH];
        voice.iter_mut().skip(start).zip(recording).for_each(|(to, sample)| *to = *sample);
        let power = |sound: &mut dyn Iterator<Item = &f32>| sound.map(|s| s * s).sum::<f32>();
        let decibels = LOUDER * (2.0 * random.uniform() - 1.0);
        let louder = 10_f32.powf(decibels / 10.0) * power(&mut voice.iter())
            / power(&mut music.clone()).max(f32::MIN_POSITIVE);
        let mut mixed: Vec<f32> =
            voice.iter().zip(music).map(|(voice, music)| voice + louder.sqrt() * music).collect();
        let peak = mixed.iter().fold(f32::MIN_POSITIVE, |most, sample| most.max(sample.abs()));
        let scale = PEAK / peak;
        mixed.iter_mut().chain(&mut voice).for_each(|sample| *sample *= scale);
        let (mut samples, mut alone) = (Vec::new(), Vec::new());
        Pcm::S16.extend(mixed, &mut samples);
        Pcm::S16.extend(voice, &mut alone);
        Ok(Mixture { samples, voice: alone })
    }
}
