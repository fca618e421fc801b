//! PNG: 8 bits per sample; palettes are expanded, 16 bits are cut to 8.

use std::io::Cursor;

use anabranch_pipelines::record::Modality;
use png::{BitDepth, ColorType, Decoder, Encoder, Transformations};

use super::{Codec, CodecError, Limits, Media};

pub(super) struct Png;

impl Codec for Png {
    fn name(&self) -> &'static str {
        "png"
    }

    fn modality(&self) -> Modality {
        Modality::Image
    }

    fn lossless(&self, _: Option<u8>) -> bool {
        true
    }

    fn default_quality(&self) -> Option<u8> {
        None
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(b"\x89PNG\r\n\x1a\n")
    }

    fn encode(&self, media: &Media, _: Option<u8>) -> Result<Vec<u8>, CodecError> {
        let Media::Image { pixels, width, height, channels } = media else {
            return Err(CodecError("PNG holds pictures only".to_owned()));
        };
        let colour = match channels {
            1 => ColorType::Grayscale,
            3 => ColorType::Rgb,
            4 => ColorType::Rgba,
            _ => return Err(CodecError(format!("PNG holds no picture of {channels} channels"))),
        };
        let error = |e: png::EncodingError| CodecError(format!("PNG cannot encode it: {e}"));
        let mut bytes = Vec::with_capacity(pixels.len() / 2 + 1024);
        let mut encoder = Encoder::new(&mut bytes, *width, *height);
        encoder.set_color(colour);
        encoder.set_depth(BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(error)?;
        writer.write_image_data(pixels).map_err(error)?;
        writer.finish().map_err(error)?;
        Ok(bytes)
    }

    fn decode(&self, bytes: &[u8], limits: &Limits) -> Result<Media, CodecError> {
        let corrupt = |e: png::DecodingError| CodecError::corrupt("PNG", e);
        let mut decoder = Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(Transformations::normalize_to_color8());
        let header = decoder.read_header_info().map_err(corrupt)?;
        let (width, height) = (header.width, header.height);
        limits.check_image(width.into(), height.into(), 4)?;
        let mut reader = decoder.read_info().map_err(corrupt)?;
        let size = reader
            .output_buffer_size()
            .ok_or_else(|| CodecError::corrupt("PNG", "its size overflows"))?;
        let mut pixels = vec![0; size];
        let frame = reader.next_frame(&mut pixels).map_err(corrupt)?;
        pixels.truncate(frame.buffer_size());
        let (pixels, channels) = match frame.color_type {
            ColorType::Grayscale => (pixels, 1),
            ColorType::GrayscaleAlpha => (spread(&pixels), 4),
            ColorType::Rgba => (pixels, 4),
            ColorType::Rgb | ColorType::Indexed => (pixels, 3),
        };
        Ok(Media::Image { pixels, width, height, channels })
    }
}

/// Grey and alpha as RGBA.
fn spread(pixels: &[u8]) -> Vec<u8> {
    pixels
        .as_chunks::<2>()
        .0
        .iter()
        .flat_map(|[grey, alpha]| [*grey, *grey, *grey, *alpha])
        .collect()
}
