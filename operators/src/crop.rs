//! `kind = "crop"`: a part of each decoded picture or sound.
//!
//! The part stands in the centre, at a fixed place, or at a random one that depends on the record's id and the
//! seed alone: the same record is cropped alike in every run. A record that is smaller than the part is
//! refused.
//!
//! ```toml
//! [operator.crop]
//! kind = "crop"
//! column = "image"
//! width = 224
//! height = 224
//! at = "random"
//! seed = 7
//! inputs = ["decode"]
//! ```

use std::sync::Arc;

use anabranch_pipelines::operator::{Growth, Operator};
use anabranch_pipelines::record::{Modality, RecordId};
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::codec::{Facts, Media};
use crate::transform::{self, Sound, Transform};

/// Options of `kind = "crop"`: a part of every decoded picture or sound.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CropOptions {
    /// The column: decoded pictures or sounds.
    pub column: String,
    /// Of pictures: pixels per row of the part.
    pub width: Option<u32>,
    /// Of pictures: its rows.
    pub height: Option<u32>,
    /// Of sounds: its length.
    pub seconds: Option<f64>,
    /// `"centre"`, `"fixed"` or `"random"`.
    #[serde(default = "centre")]
    pub at: String,
    /// With `at = "fixed"`: pixels to the left of the part.
    #[serde(default)]
    pub x: u32,
    /// With `at = "fixed"`: rows above it.
    #[serde(default)]
    pub y: u32,
    /// With `at = "fixed"`: seconds before it.
    #[serde(default)]
    pub start: f64,
    /// With `at = "random"`: another seed takes other parts.
    #[serde(default)]
    pub seed: u64,
}

fn centre() -> String {
    "centre".to_owned()
}

impl CropOptions {
    /// The operator.
    ///
    /// # Errors
    /// When the options are not those of a picture or of a sound, or out of range.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        let told = |what: String| Err(OptionsError(what));
        let part = match (self.width, self.height, self.seconds) {
            (Some(width @ 1..), Some(height @ 1..), None) => Part::Picture { width, height },
            (None, None, Some(seconds)) if seconds > 0.0 && seconds <= 86_400.0 => {
                Part::Sound { seconds }
            }
            _ => {
                let what = "a crop is `width` and `height` of a picture, or `seconds` of a sound, \
                            each above 0";
                return told(what.to_owned());
            }
        };
        let place = match self.at.as_str() {
            "centre" => Place::Centre,
            "fixed" => Place::Fixed,
            "random" => Place::Random,
            other => {
                return told(format!(
                    "`at = {other:?}`: it is \"centre\", \"fixed\" or \"random\""
                ));
            }
        };
        if place != Place::Fixed && (self.x, self.y, self.start) != (0, 0, 0.0) {
            return told("`x`, `y` and `start` need `at = \"fixed\"`".to_owned());
        }
        if !(0.0..=86_400.0).contains(&self.start) {
            return told(format!("`start = {}`: it is 0 to 86400", self.start));
        }
        Ok(transform::operator(Crop { options: self, part, place }))
    }
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Picture { width: u32, height: u32 },
    Sound { seconds: f64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Centre,
    Fixed,
    Random,
}

struct Crop {
    options: CropOptions,
    part: Part,
    place: Place,
}

impl Crop {
    /// Where a part of `size` begins in `whole`. Each axis of a record draws anew.
    fn begin(
        &self,
        whole: u64,
        size: u64,
        fixed: u64,
        draw: &mut Option<Draw>,
    ) -> Result<u64, String> {
        let room = whole.checked_sub(size);
        let place = room.and_then(|room| match self.place {
            Place::Centre => Some(room / 2),
            Place::Fixed => Some(fixed).filter(|fixed| *fixed <= room),
            Place::Random => draw.as_mut().map(|draw| draw.up_to(room)),
        });
        place.ok_or_else(|| match (self.place, room) {
            (Place::Random, Some(_)) => "it has no id to draw a random place from".to_owned(),
            (Place::Fixed, _) => {
                format!("it has {whole}, and the part goes from {fixed} to {}", fixed + size)
            }
            _ => format!("it has {whole}, less than {size}"),
        })
    }

    fn picture(
        &self,
        media: &Media<'_>,
        (width, height): (u32, u32),
        mut draw: Option<Draw>,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, String> {
        let Facts::Image { width: whole, height: rows, channels } = media.facts else {
            return Err("it is no picture".to_owned());
        };
        let across = |axis: &'static str| move |e| format!("the {axis} in pixels: {e}");
        let x = self.begin(whole.into(), width.into(), self.options.x.into(), &mut draw);
        let x = x.map_err(across("width"))? as usize;
        let y = self.begin(rows.into(), height.into(), self.options.y.into(), &mut draw);
        let y = y.map_err(across("height"))? as usize;
        let pixel = usize::from(channels);
        let row = (whole as usize * pixel).max(1);
        for row in media.samples.chunks_exact(row).skip(y).take(height as usize) {
            let part = row.get(x * pixel..(x + width as usize) * pixel);
            samples.extend_from_slice(part.unwrap_or_default());
        }
        Ok(Facts::Image { width, height, channels })
    }

    fn sound(
        &self,
        media: &Media<'_>,
        seconds: f64,
        mut draw: Option<Draw>,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, String> {
        let sound = Sound::of(media)?;
        let count = |seconds: f64| (seconds * f64::from(sound.rate)).round() as u64;
        let (frames, fixed) = (count(seconds), count(self.options.start));
        let from = self.begin(sound.frames, frames, fixed, &mut draw);
        let from = from.map_err(|e| format!("its frames at {} Hz: {e}", sound.rate))? as usize;
        let frame = sound.frame();
        let part = media.samples.get(from * frame..(from + frames as usize) * frame);
        samples.extend_from_slice(part.unwrap_or_default());
        Ok(Sound { frames, ..sound }.facts())
    }
}

impl Transform for Crop {
    fn kind(&self) -> &'static str {
        "crop"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn column(&self) -> &str {
        &self.options.column
    }

    fn modality(&self) -> Modality {
        match self.part {
            Part::Picture { .. } => Modality::Image,
            Part::Sound { .. } => Modality::Audio,
        }
    }

    fn growth(&self) -> Growth {
        Growth::NONE
    }

    fn needs_id(&self) -> bool {
        self.place == Place::Random
    }

    fn apply(
        &self,
        media: &Media<'_>,
        id: Option<RecordId>,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, String> {
        let draw = id.map(|id| Draw::new(self.options.seed, id));
        match self.part {
            Part::Picture { width, height } => self.picture(media, (width, height), draw, samples),
            Part::Sound { seconds } => self.sound(media, seconds, draw, samples),
        }
    }
}

/// Numbers that a seed and a record draw (SplitMix64).
struct Draw(u64);

impl Draw {
    fn new(seed: u64, id: RecordId) -> Self {
        let id = u128::from_be_bytes(id.0);
        Self(mix(mix(mix(seed) ^ id as u64) ^ (id >> 64) as u64))
    }

    /// A number from 0 to `most`.
    fn up_to(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((u128::from(mix(self.0)) * (u128::from(most) + 1)) >> 64) as u64
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Pcm;
    use std::collections::HashSet;

    fn crop(json: &str) -> Result<Crop, String> {
        let options: CropOptions = serde_json::from_str(json).map_err(|e| e.to_string())?;
        options.clone().build().map_err(|e| e.to_string())?;
        let part = match options.seconds {
            Some(seconds) => Part::Sound { seconds },
            None => {
                Part::Picture { width: options.width.unwrap(), height: options.height.unwrap() }
            }
        };
        let place = match options.at.as_str() {
            "fixed" => Place::Fixed,
            "random" => Place::Random,
            _ => Place::Centre,
        };
        Ok(Crop { options, part, place })
    }

    /// A picture whose pixels tell their place.
    fn picture() -> (Vec<u8>, Facts) {
        let pixels = (0..6u8).flat_map(|y| (0..9u8).map(move |x| 16 * y + x));
        (pixels.collect(), Facts::Image { width: 9, height: 6, channels: 1 })
    }

    fn cropped(crop: &Crop, id: u128) -> Result<Vec<u8>, String> {
        let (samples, facts) = picture();
        let mut part = Vec::new();
        let id = RecordId(id.to_be_bytes());
        let facts = crop.apply(&Media { samples: &samples, facts }, Some(id), &mut part)?;
        assert_eq!(facts.bytes(), part.len() as u64);
        Ok(part)
    }

    #[test]
    fn parts_in_the_centre_and_at_a_fixed_place() {
        let centre = crop(r#"{ "column": "a", "width": 3, "height": 2 }"#).unwrap();
        assert_eq!(cropped(&centre, 1).unwrap(), [0x23, 0x24, 0x25, 0x33, 0x34, 0x35]);
        let json = r#"{ "column": "a", "width": 2, "height": 1, "at": "fixed", "x": 7, "y": 5 }"#;
        assert_eq!(cropped(&crop(json).unwrap(), 1).unwrap(), [0x57, 0x58]);
        let whole = crop(r#"{ "column": "a", "width": 9, "height": 6 }"#).unwrap();
        assert_eq!(cropped(&whole, 1).unwrap(), picture().0);
    }

    #[test]
    fn random_parts_depend_on_record_and_seed_and_reach_every_place() {
        let random = |seed| {
            let part = r#""width": 3, "height": 2, "at": "random""#;
            crop(&format!(r#"{{ "column": "a", {part}, "seed": {seed} }}"#)).unwrap()
        };
        let places =
            |seed| (0..2000).map(move |id| cropped(&random(seed), id << 70 | id).unwrap()[0]);
        let first: Vec<u8> = places(1).collect();
        assert_eq!(first, places(1).collect::<Vec<_>>());
        assert_ne!(first, places(2).collect::<Vec<_>>());
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 7 * 5);
    }

    #[test]
    fn sounds_in_seconds() {
        let samples: Vec<u8> = (0..40).collect();
        let facts = Facts::Audio { format: Pcm::S16, rate: 10, channels: 2, frames: 10 };
        let part = |json: &str| {
            let mut part = Vec::new();
            let facts = crop(json)?.apply(&Media { samples: &samples, facts }, None, &mut part)?;
            assert_eq!(facts.bytes(), part.len() as u64);
            Ok::<_, String>(part)
        };
        assert_eq!(part(r#"{ "column": "a", "seconds": 0.2 }"#).unwrap(), samples[16..24]);
        let fixed = r#"{ "column": "a", "seconds": 0.1, "at": "fixed", "start": 0.9 }"#;
        assert_eq!(part(fixed).unwrap(), samples[36..]);
        let error = part(r#"{ "column": "a", "seconds": 1.1 }"#).unwrap_err();
        assert!(error.contains("it has 10, less than 11"), "{error}");
    }

    #[test]
    fn what_is_too_small_and_options_that_make_no_crop_are_refused() {
        let wide = crop(r#"{ "column": "a", "width": 10, "height": 2 }"#).unwrap();
        let error = cropped(&wide, 1).unwrap_err();
        assert_eq!(error, "the width in pixels: it has 9, less than 10");
        let outside = r#"{ "column": "a", "width": 2, "height": 2, "at": "fixed", "y": 5 }"#;
        let error = cropped(&crop(outside).unwrap(), 1).unwrap_err();
        assert_eq!(error, "the height in pixels: it has 6, and the part goes from 5 to 7");
        for json in [
            r#"{ "column": "a" }"#,
            r#"{ "column": "a", "width": 3 }"#,
            r#"{ "column": "a", "width": 0, "height": 2 }"#,
            r#"{ "column": "a", "width": 2, "height": 2, "seconds": 1 }"#,
            r#"{ "column": "a", "seconds": -1 }"#,
            r#"{ "column": "a", "seconds": 1, "at": "left" }"#,
            r#"{ "column": "a", "seconds": 1, "start": 1 }"#,
        ] {
            assert!(crop(json).is_err(), "{json}");
        }
    }
}
