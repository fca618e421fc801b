//! WebP through the vendored libwebp: lossy with a quality, lossless at 100.

use anabranch_pipelines::record::Modality;
use webp::{BitstreamFeatures, Decoder, Encoder, PixelLayout};

use super::{Codec, CodecError, Limits, Media};

pub(super) struct WebP;

impl Codec for WebP {
    fn name(&self) -> &'static str {
        "webp"
    }

    fn modality(&self) -> Modality {
        Modality::Image
    }

    fn lossless(&self, quality: Option<u8>) -> bool {
        quality == Some(100)
    }

    fn default_quality(&self) -> Option<u8> {
        Some(75)
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP")
    }

    fn encode(&self, media: &Media, quality: Option<u8>) -> Result<Vec<u8>, CodecError> {
        let Media::Image { pixels, width, height, channels } = media else {
            return Err(CodecError("WebP holds pictures only".to_owned()));
        };
        if *width > 16_383 || *height > 16_383 {
            return Err(CodecError(format!(
                "{width} x {height} pixels are more than WebP holds (16383)"
            )));
        }
        let rgb: Vec<u8>;
        let (pixels, layout) = match channels {
            1 => {
                rgb = pixels.iter().flat_map(|grey| [*grey; 3]).collect();
                (&rgb, PixelLayout::Rgb)
            }
            3 => (pixels, PixelLayout::Rgb),
            4 => (pixels, PixelLayout::Rgba),
            _ => return Err(CodecError(format!("WebP holds no picture of {channels} channels"))),
        };
        let encoder = Encoder::new(pixels, layout, *width, *height);
        let quality = quality.unwrap_or(75);
        encoder
            .encode_simple(self.lossless(Some(quality)), quality.into())
            .map(|bytes| bytes.to_vec())
            .map_err(|e| CodecError(format!("WebP cannot encode it: {e:?}")))
    }

    fn decode(&self, bytes: &[u8], limits: &Limits) -> Result<Media, CodecError> {
        let header = BitstreamFeatures::new(bytes)
            .ok_or_else(|| CodecError::corrupt("WebP", "no header"))?;
        let (width, height) = (header.width(), header.height());
        limits.check_image(width.into(), height.into(), 4)?;
        if header.has_animation() {
            return Err(CodecError("an animated WebP is no still picture".to_owned()));
        }
        let image = Decoder::new(bytes)
            .decode()
            .ok_or_else(|| CodecError::corrupt("WebP", "the data ends or is damaged"))?;
        let channels = if image.is_alpha() { 4 } else { 3 };
        Ok(Media::Image { pixels: image.to_vec(), width, height, channels })
    }
}
