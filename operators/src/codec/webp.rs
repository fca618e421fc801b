//! WebP through the vendored libwebp: lossy with a quality, lossless at 100.

use anabranch_pipelines::record::Modality;
use webp::{BitstreamFeatures, Decoder, Encoder, PixelLayout};

use super::{Codec, CodecError, Facts, Ladder, Limits, Media};

pub(super) struct WebP;

impl Codec for WebP {
    fn name(&self) -> &'static str {
        "webp"
    }

    fn modality(&self) -> Modality {
        Modality::Image
    }

    fn lossless(&self, quality: Option<u16>) -> bool {
        quality == Some(100)
    }

    fn ladder(&self) -> Option<Ladder> {
        Some(Ladder::QUALITY)
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP")
    }

    fn encode(
        &self,
        media: &Media<'_>,
        quality: Option<u16>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let Facts::Image { width, height, channels } = media.facts else {
            return Err(CodecError("WebP holds pictures only".to_owned()));
        };
        if width > 16_383 || height > 16_383 {
            return Err(CodecError(format!(
                "{width} x {height} pixels are more than WebP holds (16383)"
            )));
        }
        let rgb: Vec<u8>;
        let (pixels, layout) = match channels {
            1 => {
                rgb = media.samples.iter().flat_map(|grey| [*grey; 3]).collect();
                (rgb.as_slice(), PixelLayout::Rgb)
            }
            3 => (media.samples, PixelLayout::Rgb),
            4 => (media.samples, PixelLayout::Rgba),
            _ => return Err(CodecError(format!("WebP holds no picture of {channels} channels"))),
        };
        let encoder = Encoder::new(pixels, layout, width, height);
        let quality = quality.unwrap_or(75);
        let encoded = encoder
            .encode_simple(self.lossless(Some(quality)), quality.into())
            .map_err(|e| CodecError(format!("WebP cannot encode it: {e:?}")))?;
        bytes.extend_from_slice(&encoded);
        Ok(())
    }

    fn decode(
        &self,
        bytes: &[u8],
        limits: &Limits,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, CodecError> {
        let header = BitstreamFeatures::new(bytes)
            .ok_or_else(|| CodecError::corrupt("WebP", "no header"))?;
        let (width, height) = (header.width(), header.height());
        limits.check_image(width, height, 4)?;
        if header.has_animation() {
            return Err(CodecError("an animated WebP is no still picture".to_owned()));
        }
        let image = Decoder::new(bytes)
            .decode()
            .ok_or_else(|| CodecError::corrupt("WebP", "the data ends or is damaged"))?;
        samples.extend_from_slice(&image);
        Ok(Facts::Image { width, height, channels: if image.is_alpha() { 4 } else { 3 } })
    }
}
