//! A codec and how much it is to keep, as the options of `encode` and `transcode` name them.

use std::fmt;

use anabranch_pipelines::graph::nearest;

use super::{Codec, CodecError, Media, encoders, named};
use crate::OptionsError;

/// A codec that encodes, and a step of its ladder.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) codec: &'static dyn Codec,
    step: Option<u16>,
}

impl Setting {
    /// `others` are names that may stand where this codec's does, for a message.
    ///
    /// # Errors
    /// When there is no such codec, or an option is not one of this codec's.
    pub(crate) fn new(
        codec: &str,
        quality: Option<u16>,
        bitrate: Option<u16>,
        others: &[&'static str],
    ) -> Result<Self, OptionsError> {
        let found = named(codec).filter(|codec| codec.encodes());
        let Some(found) = found else {
            let names = encoders().map(Codec::name).chain(others.iter().copied());
            let hint = match named(codec) {
                Some(_) => Some(" that encodes, only one that decodes".to_owned()),
                None => {
                    nearest(codec, names.clone()).map(|name| format!(" (did you mean \"{name}\"?)"))
                }
            };
            return Err(OptionsError(format!(
                "there is no codec {codec:?}{}; there are {}",
                hint.unwrap_or_default(),
                names.collect::<Vec<_>>().join(", ")
            )));
        };
        let ladder = found.ladder();
        let mut step = None;
        for (option, value) in [("quality", quality), ("bitrate", bitrate)] {
            let Some(value) = value else { continue };
            match ladder.as_ref().filter(|ladder| ladder.option == option) {
                Some(ladder) if ladder.steps.contains(&value) => step = Some(value),
                Some(ladder) => {
                    let (least, most) = (ladder.steps.start(), ladder.steps.end());
                    return Err(OptionsError(format!("`{option}` is {least} to {most}")));
                }
                None => return Err(no_such(codec, option, ladder.map(|ladder| ladder.option))),
            }
        }
        Ok(Self { codec: found, step })
    }

    /// A codec that encodes, at a step that is one of its ladder.
    pub(crate) const fn of(codec: &'static dyn Codec, step: Option<u16>) -> Self {
        Self { codec, step }
    }

    /// The step of its ladder, if it was told one.
    pub(crate) const fn step(&self) -> Option<u16> {
        self.step
    }

    /// Whether decoding gives back exactly what was encoded.
    pub(crate) fn lossless(&self) -> bool {
        self.codec.lossless(self.step)
    }

    /// Encodes the media of one record and appends it to `bytes`.
    pub(crate) fn encode(&self, media: &Media<'_>, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        self.codec.encode(media, self.step, bytes)
    }
}

/// As people say it: `webp, quality 60`.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.codec.name();
        match (self.step, self.codec.ladder()) {
            (Some(step), Some(ladder)) => write!(f, "{name}, {} {step}", ladder.option),
            _ => f.write_str(name),
        }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The message for an option that this codec does not have.
pub(crate) fn no_such(codec: &str, option: &str, instead: Option<&str>) -> OptionsError {
    OptionsError(match instead {
        Some(instead) => format!("`{codec}` has no `{option}`; it has `{instead}`"),
        None => format!("`{codec}` has no `{option}`: it is lossless"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_another_codec_are_told_with_the_way_out() {
        let told = |codec, quality, bitrate| {
            Setting::new(codec, quality, bitrate, &["raw"]).err().map(|error| error.0)
        };
        assert_eq!(told("jpeg", Some(90), None), None);
        assert_eq!(told("opus", None, Some(24)), None);
        let cases = [
            (told("opus", Some(90), None), "`opus` has no `quality`; it has `bitrate`"),
            (told("jpeg", None, Some(64)), "`jpeg` has no `bitrate`; it has `quality`"),
            (told("flac", Some(5), None), "`flac` has no `quality`: it is lossless"),
            (told("webp", Some(101), None), "`quality` is 1 to 100"),
            (told("opus", None, Some(5)), "`bitrate` is 6 to 510"),
            (told("mp3", None, None), "there is no codec \"mp3\" that encodes"),
            (told("jpg", None, None), "(did you mean \"jpeg\"?)"),
        ];
        for (told, expected) in cases {
            assert!(told.as_ref().is_some_and(|told| told.contains(expected)), "{told:?}");
        }
    }
}
