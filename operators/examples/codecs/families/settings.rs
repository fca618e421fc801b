//! Settings of the families, for pictures and for sounds.

use std::error::Error;

use anabranch_models::latent::{Artifact, Decoder, Fit, Media as Samples, Options, Training};
use anabranch_operators::codec::{self, Codec, Facts, Latent, Media};

use super::subjects::{Scale, Subject};

pub(super) const CLASSICAL: &str = "classical";
pub(super) const NEURAL: &str = "neural";
pub(super) const GENERATIVE: &str = "generative";
pub(super) const FAMILIES: [&str; 3] = [CLASSICAL, NEURAL, GENERATIVE];

const PICTURES: [(&str, &[u16]); 2] =
    [("jpeg", &[90, 75, 60, 40, 20, 5]), ("webp", &[90, 75, 50, 25, 10, 0])];
const SOUNDS: [(&str, &[u16]); 1] = [("opus_packets", &[32, 24, 16, 12, 10, 8, 6])];
/// What a latent of 1 stands for, in units of a sample.
const STEPS_OF_PICTURES: [u16; 4] = [10, 18, 32, 56];
const STEPS_OF_SOUNDS: [u16; 4] = [40, 80, 160, 320];
/// Of pictures, and of sounds: all that there are.
const CHANNELS: [usize; 2] = [48, 128];

/// How latents are decoded, the family that makes it, and its name.
const DECODERS: [(&str, &str, Decoder); 3] = [
    ("linear", NEURAL, Decoder::Linear),
    ("residual", NEURAL, Decoder::Residual),
    ("adversarial", GENERATIVE, Decoder::Adversarial),
];

/// A codec at one setting.
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) family: &'static str,
    pub(super) step: Option<u16>,
    codec: Either,
}

enum Either {
    Known(&'static dyn Codec),
    Learned(Box<Latent>),
}

impl Setting {
    pub(super) fn codec(&self) -> &dyn Codec {
        match &self.codec {
            Either::Known(codec) => *codec,
            Either::Learned(codec) => codec.as_ref(),
        }
    }
}

/// All settings for the records of a subject, latent codecs learned from what it saw.
pub(super) fn all(subject: &Subject, scale: &Scale) -> Result<Vec<Setting>, Box<dyn Error>> {
    let first = subject.seen.first().ok_or("nothing to learn a codec from")?;
    let (codecs, steps): (&[(&str, &[u16])], _) = match first.facts {
        Facts::Image { .. } => (&PICTURES, STEPS_OF_PICTURES),
        Facts::Audio { .. } => (&SOUNDS, STEPS_OF_SOUNDS),
    };
    let mut settings = Vec::new();
    for (name, qualities) in codecs {
        let codec = codec::named(name).ok_or_else(|| format!("no codec {name}"))?;
        settings.extend(qualities.iter().map(|quality| Setting {
            name: format!("{name} {quality}"),
            family: CLASSICAL,
            step: Some(*quality),
            codec: Either::Known(codec),
        }));
    }
    for (name, family, decoder) in DECODERS {
        for step in steps {
            // Gradients weigh bytes of sounds so much that their step hardly matters any more.
            let sound = matches!(first.facts, Facts::Audio { .. });
            let training = match decoder {
                Decoder::Linear if sound => Training::default(),
                _ => Training { steps: scale.gradient_steps, decoder, seed: 1 },
            };
            let artifact = learned(subject, step, training)?;
            settings.push(Setting {
                name: format!("{name} {step}"),
                family,
                step: None,
                codec: Either::Learned(Box::new(Latent::from_bytes(&artifact.to_bytes()?)?)),
            });
        }
    }
    Ok(settings)
}

fn learned(subject: &Subject, step: u16, training: Training) -> Result<Artifact, Box<dyn Error>> {
    let step = Some(f64::from(step));
    let sound =
        matches!(subject.seen.first().map(|record| record.facts), Some(Facts::Audio { .. }));
    let channels = CHANNELS[usize::from(sound)];
    let mut fit = Fit::new(Options { channels, step, levels: None, training });
    for record in &subject.seen {
        let Media { samples, facts } = record.media();
        match facts {
            Facts::Image { width, height, channels } => {
                let channels = u16::from(channels);
                fit.add(&Samples::Picture { width, height, channels, samples })?;
            }
            Facts::Audio { rate, channels, .. } => {
                let (samples, _) = samples.as_chunks::<2>();
                let samples: Vec<i16> =
                    samples.iter().map(|two| i16::from_le_bytes(*two)).collect();
                fit.add(&Samples::Sound { rate, channels, samples: &samples })?;
            }
        }
    }
    Ok(fit.finish()?)
}
