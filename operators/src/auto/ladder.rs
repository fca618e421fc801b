//! The settings that are tried.

use anabranch_pipelines::record::Modality;

use crate::OptionsError;
use crate::codec::{Codec, LATENT, Latent, Setting, encoders, named};
use crate::text::ZSTD;
use crate::text::blocks::BZIP2;

/// Steps of ladders of `quality`, and of `bitrate` in kilobits per second.
const QUALITIES: [u16; 11] = [95, 90, 80, 70, 60, 50, 40, 30, 20, 10, 5];
const BITRATES: [u16; 12] = [128, 96, 64, 48, 32, 24, 20, 16, 12, 10, 8, 6];

/// Latents of no more channels are tried with any number of them.
const FEW_CHANNELS: u16 = 16;

/// All settings of the codecs of these names, or of all codecs of a modality that other programs know too, and those of
/// a latent codec: of each one its lossless setting, if it has one, and the steps of its ladder, the best first.
///
/// # Errors
/// When there is no such codec, or it is for something else.
pub(crate) fn settings(
    modality: Modality,
    names: Option<&[String]>,
    latent: Option<&'static Latent>,
) -> Result<Vec<Setting>, OptionsError> {
    let mut codecs: Vec<&'static dyn Codec> = match names {
        None => {
            let known = encoders().filter(|codec| codec.known_elsewhere());
            known.filter(|codec| codec.modality() == modality).collect()
        }
        Some(names) => {
            // It is added behind the others.
            let others = names.iter().filter(|name| latent.is_none() || *name != LATENT);
            others.map(|name| codec(modality, name)).collect::<Result<_, _>>()?
        }
    };
    if let Some(latent) = latent {
        if latent.modality() != modality {
            let message = format!(
                "the latent codec is one of {}, and what is stored is {modality}",
                latent.modality()
            );
            return Err(OptionsError(message));
        }
        codecs.push(latent);
    }
    Ok(codecs.into_iter().flat_map(of_codec).collect())
}

fn codec(modality: Modality, name: &str) -> Result<&'static dyn Codec, OptionsError> {
    if name == LATENT {
        let message = "`codecs` names \"latent\", which is learned: give its file too, \
                       `latent = { artifact = \"..\" }`";
        return Err(OptionsError(message.to_owned()));
    }
    if [ZSTD, BZIP2].contains(&name) {
        let message =
            format!("`codecs` names {name:?}, which is for texts, and not for {modality}");
        return Err(OptionsError(message));
    }
    // An unknown name is told like everywhere else.
    Setting::new(name, None, None, &[])?;
    let codec = named(name).filter(|codec| codec.modality() == modality);
    codec
        .ok_or_else(|| OptionsError(format!("`codecs` names {name:?}, which is for no {modality}")))
}

fn of_codec(codec: &'static dyn Codec) -> Vec<Setting> {
    let Some(ladder) = codec.ladder() else { return vec![Setting::of(codec, None)] };
    let last = *ladder.steps.end();
    let steps = match ladder.option {
        "bitrate" => BITRATES.to_vec(),
        "channels" => channels(last),
        _ => QUALITIES.to_vec(),
    };
    let lossless = codec.lossless(Some(last)).then_some(Setting::of(codec, Some(last)));
    let steps = steps.into_iter().filter(|step| ladder.steps.contains(step));
    lossless.into_iter().chain(steps.map(|step| Setting::of(codec, Some(step)))).collect()
}

/// Steps of a ladder of channels: all of them, and then each one the step before by the square root of two.
fn channels(all: u16) -> Vec<u16> {
    if all <= FEW_CHANNELS {
        return (1..=all).rev().collect();
    }
    let of = |half: i32| (f64::from(all) * 2.0_f64.powf(-0.5 * f64::from(half))).round() as u16;
    let mut steps: Vec<u16> = (0..11).map(of).filter(|step| *step > 0).collect();
    steps.dedup();
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_that_loses_has_eight_steps_and_every_modality_something_lossless() {
        for modality in [Modality::Image, Modality::Audio] {
            let all = settings(modality, None, None).unwrap();
            assert!(all.iter().any(Setting::lossless), "{modality}");
            let known = encoders().filter(|codec| codec.known_elsewhere());
            for codec in known.filter(|codec| codec.ladder().is_some()) {
                let of = all.iter().filter(|s| s.codec.name() == codec.name() && !s.lossless());
                assert!(codec.modality() != modality || of.count() >= 8, "{}", codec.name());
            }
        }
    }

    #[test]
    fn names_that_are_no_codecs_of_the_modality_are_told() {
        let told =
            |name: &str| settings(Modality::Image, Some(&[name.to_owned()]), None).err().unwrap().0;
        assert!(told("latent").contains("artifact"), "{}", told("latent"));
        assert!(told("opus").contains("for no image"), "{}", told("opus"));
        assert!(told("jpg").contains("did you mean"), "{}", told("jpg"));
    }

    #[test]
    fn ladders_of_channels_have_eight_steps_down_to_few() {
        for all in [8, 12, 16, 17, 24, 48, 192, 255] {
            let steps = channels(all);
            assert!(steps.len() >= 8 && steps[0] == all, "{steps:?}");
            assert!(steps.is_sorted_by(|one, next| one > next), "{steps:?}");
            assert!(*steps.last().unwrap() <= all.div_ceil(32).max(1), "{steps:?}");
        }
    }
}
