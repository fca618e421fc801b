//! The settings that are tried.

use anabranch_pipelines::record::Modality;

use crate::OptionsError;
use crate::codec::{Codec, Setting, encoders, named};

/// Steps of ladders of `quality`, and of `bitrate` in kilobits per second.
const QUALITIES: [u16; 11] = [95, 90, 80, 70, 60, 50, 40, 30, 20, 10, 5];
const BITRATES: [u16; 12] = [128, 96, 64, 48, 32, 24, 20, 16, 12, 10, 8, 6];

/// All settings of the codecs of these names, or of all codecs of a modality that other programs know too: of each one its lossless setting, if it
/// has one, and the steps of its ladder, the best first.
///
/// # Errors
/// When there is no such codec, or it is for something else.
pub(crate) fn settings(
    modality: Modality,
    names: Option<&[String]>,
) -> Result<Vec<Setting>, OptionsError> {
    let codecs: Vec<&'static dyn Codec> = match names {
        None => {
            let known = encoders().filter(|codec| codec.known_elsewhere());
            known.filter(|codec| codec.modality() == modality).collect()
        }
        Some(names) => names.iter().map(|name| codec(modality, name)).collect::<Result<_, _>>()?,
    };
    Ok(codecs.into_iter().flat_map(of_codec).collect())
}

fn codec(modality: Modality, name: &str) -> Result<&'static dyn Codec, OptionsError> {
    // An unknown name is told like everywhere else.
    Setting::new(name, None, None, &[])?;
    let codec = named(name).filter(|codec| codec.modality() == modality);
    codec
        .ok_or_else(|| OptionsError(format!("`codecs` names {name:?}, which is for no {modality}")))
}

fn of_codec(codec: &'static dyn Codec) -> Vec<Setting> {
    let Some(ladder) = codec.ladder() else { return vec![Setting::of(codec, None)] };
    let steps: &[u16] = if ladder.option == "bitrate" { &BITRATES } else { &QUALITIES };
    let last = Some(*ladder.steps.end());
    let lossless = codec.lossless(last).then_some(Setting::of(codec, last));
    let steps = steps.iter().filter(|step| ladder.steps.contains(step));
    lossless.into_iter().chain(steps.map(|step| Setting::of(codec, Some(*step)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_that_loses_has_eight_steps_and_every_modality_something_lossless() {
        for modality in [Modality::Image, Modality::Audio] {
            let all = settings(modality, None).unwrap();
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
            |name: &str| settings(Modality::Image, Some(&[name.to_owned()])).err().unwrap().0;
        assert!(told("opus").contains("for no image"), "{}", told("opus"));
        assert!(told("jpg").contains("did you mean"), "{}", told("jpg"));
    }
}
