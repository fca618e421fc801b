//! Facts of images and sounds that their first bytes tell, without decoding them.
//!
//! What is not known is null: references, damaged files, formats that this module does not know. Whoever
//! decodes the bytes says for sure.

use std::sync::Arc;

use anabranch_pipelines::record::{Modality, media};
use arrow::array::{Array, ArrayRef, Int32Array, Int64Array, StructArray};

use super::sound;

/// The fact columns behind `NAME_encoding`, in the order of [`media::fact_fields`].
pub(super) fn columns(modality: Modality, column: &StructArray) -> Vec<ArrayRef> {
    let bytes = (0..column.len()).map(|row| media::bytes(column, row));
    match modality {
        Modality::Image => {
            let images: Vec<Image> =
                bytes.map(|b| b.map(Image::probe).unwrap_or_default()).collect();
            vec![
                numbers(images.iter().map(|image| image.width)),
                numbers(images.iter().map(|image| image.height)),
                numbers(images.iter().map(|image| image.channels)),
            ]
        }
        Modality::Audio => {
            let sounds: Vec<_> = bytes.map(|bytes| bytes.and_then(sound::probe)).collect();
            let rates = sounds.iter().map(|sound| i32::try_from(sound.as_ref()?.sample_rate).ok());
            let channels = sounds.iter().map(|sound| Some(i32::from(sound.as_ref()?.channels)));
            let frames = sounds.iter().map(|sound| i64::try_from(sound.as_ref()?.frames?).ok());
            vec![numbers(rates), numbers(channels), Arc::new(frames.collect::<Int64Array>())]
        }
        Modality::Text | Modality::Tensor | Modality::Latent => Vec::new(),
    }
}

/// What the first bytes of a file say that it is, in the words of `NAME_encoding`.
pub(super) fn sniff(bytes: &[u8]) -> Option<(Modality, &'static str)> {
    let begins = |magic: &[u8]| bytes.starts_with(magic);
    Some(match bytes.get(8..12) {
        Some(b"WEBP") if begins(b"RIFF") => (Modality::Image, "webp"),
        Some(b"WAVE") if begins(b"RIFF") => (Modality::Audio, "wav"),
        _ if begins(b"\xff\xd8\xff") => (Modality::Image, "jpeg"),
        _ if begins(b"\x89PNG\r\n\x1a\n") => (Modality::Image, "png"),
        _ if begins(b"fLaC") => (Modality::Audio, "flac"),
        _ => return None,
    })
}

fn numbers(values: impl Iterator<Item = Option<i32>>) -> ArrayRef {
    Arc::new(values.collect::<Int32Array>())
}

#[derive(Default)]
struct Image {
    width: Option<i32>,
    height: Option<i32>,
    channels: Option<i32>,
}

impl Image {
    fn probe(bytes: &[u8]) -> Self {
        let Ok(size) = imagesize::blob_size(bytes) else { return Self::default() };
        Self {
            width: i32::try_from(size.width).ok(),
            height: i32::try_from(size.height).ok(),
            channels: png_channels(bytes),
        }
    }
}

/// Channels of a PNG without a palette. (One with a palette may decode to three or four.)
fn png_channels(bytes: &[u8]) -> Option<i32> {
    if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") || bytes.get(12..16)? != b"IHDR" {
        return None;
    }
    match bytes.get(25)? {
        2 => Some(3),
        4 => Some(2),
        6 => Some(4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::{Int32Type, Int64Type};

    use crate::source::FilesOptions;
    use crate::source::testing::{conforming, data};

    fn files(path: String, references: bool) -> crate::conformance::source::Seen {
        let options = serde_json::json!({ "path": path, "references": references });
        let options: FilesOptions = serde_json::from_value(options).unwrap();
        conforming(&options.build().unwrap())
    }

    #[test]
    fn heads_of_images_tell_their_size() {
        // 3 x 2 pixels with colour; the rest of the file is not looked at.
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x03\0\0\0\x02\x08\x02\0\0\0\0\0\0\0";
        let column = media::column(
            vec![Some(png.as_slice()), Some(b"no image"), Some(b""), None],
            vec![Some("a"), Some("b"), Some("c"), Some("reference#0+10")],
        );
        for (facts, expected) in columns(Modality::Image, &column).iter().zip([3, 2, 3]) {
            let facts: Vec<_> = facts.as_primitive::<Int32Type>().iter().collect();
            assert_eq!(facts, [Some(expected), None, None, None]);
        }
    }

    #[test]
    fn real_photos_and_sounds_have_their_facts() {
        let (Some(photos), Some(clips)) = (data("photos"), data("audio_clips")) else { return };
        let photos = format!("{photos}/kodim0*.png");
        let seen = files(photos.clone(), false);
        let fact = |name: &str| {
            let column = seen.records.column_by_name(name).unwrap();
            column.as_primitive::<Int32Type>().iter().flatten().collect::<Vec<_>>()
        };
        let areas = fact("image_width").into_iter().zip(fact("image_height")).map(|(w, h)| w * h);
        assert_eq!(areas.collect::<Vec<_>>(), vec![768 * 512; seen.rows]);
        assert_eq!(fact("image_channels"), vec![3; seen.rows]);
        let referred = files(photos, true);
        assert_eq!(referred.records.column_by_name("image_width").unwrap().null_count(), seen.rows);

        let seen = files(format!("{clips}/*.wav"), false);
        let rates = seen.records.column_by_name("audio_sample_rate").unwrap();
        assert_eq!(rates.as_primitive::<Int32Type>().values().to_vec(), [16_000, 44_100, 44_100]);
        let channels = seen.records.column_by_name("audio_channels").unwrap();
        assert_eq!(channels.as_primitive::<Int32Type>().values().to_vec(), [1, 2, 2]);
        let frames = seen.records.column_by_name("audio_frames").unwrap();
        assert!(frames.as_primitive::<Int64Type>().iter().all(|frames| frames > Some(8000)));
    }
}
