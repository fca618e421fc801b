//! PNG: 8 bits per sample; palettes are expanded, 16 bits are cut to 8.

use std::io::Cursor;

use anabranch_pipelines::record::Modality;
use png::{BitDepth, ColorType, Decoder, Encoder, Transformations};

use super::{Codec, CodecError, Facts, Ladder, Limits, Media};

pub(super) struct Png;

impl Codec for Png {
    fn name(&self) -> &'static str {
        "png"
    }

    fn modality(&self) -> Modality {
        Modality::Image
    }

    fn lossless(&self, _: Option<u16>) -> bool {
        true
    }

    fn ladder(&self) -> Option<Ladder> {
        None
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(b"\x89PNG\r\n\x1a\n")
    }

    fn encode(
        &self,
        media: &Media<'_>,
        _: Option<u16>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let Facts::Image { width, height, channels } = media.facts else {
            return Err(CodecError("PNG holds pictures only".to_owned()));
        };
        let colour = match channels {
            1 => ColorType::Grayscale,
            3 => ColorType::Rgb,
            4 => ColorType::Rgba,
            _ => return Err(CodecError(format!("PNG holds no picture of {channels} channels"))),
        };
        let error = |e: png::EncodingError| CodecError(format!("PNG cannot encode it: {e}"));
        let mut encoder = Encoder::new(bytes, width, height);
        encoder.set_color(colour);
        encoder.set_depth(BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(error)?;
        writer.write_image_data(media.samples).map_err(error)?;
        writer.finish().map_err(error)
    }

    fn decode(
        &self,
        bytes: &[u8],
        limits: &Limits,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, CodecError> {
        let corrupt = |e: png::DecodingError| {
            // The library's own words end in the fields of its chunk type.
            let text = e.to_string();
            let text = text.split(" while decoding ChunkType").next().unwrap_or_default();
            CodecError::corrupt("PNG", text)
        };
        let mut decoder = Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(Transformations::normalize_to_color8());
        let header = decoder.read_header_info().map_err(corrupt)?;
        let (width, height) = (header.width, header.height);
        limits.check_image(width, height, 4)?;
        let mut reader = decoder.read_info().map_err(corrupt)?;
        let size = reader
            .output_buffer_size()
            .ok_or_else(|| CodecError::corrupt("PNG", "its size overflows"))?;
        let start = samples.len();
        samples.resize(start + size, 0);
        let pixels = samples.get_mut(start..).unwrap_or_default();
        let frame = reader.next_frame(pixels).map_err(corrupt)?;
        // The rest holds a checksum: without it, a file cut short at the end would pass.
        reader.finish().map_err(corrupt)?;
        samples.truncate(start + frame.buffer_size());
        let channels = match frame.color_type {
            ColorType::Grayscale => 1,
            ColorType::GrayscaleAlpha => {
                let pixels = samples.split_off(start);
                let spread = |[grey, alpha]: &[u8; 2]| [*grey, *grey, *grey, *alpha];
                samples.extend(pixels.as_chunks::<2>().0.iter().flat_map(spread));
                4
            }
            ColorType::Rgba => 4,
            ColorType::Rgb | ColorType::Indexed => 3,
        };
        Ok(Facts::Image { width, height, channels })
    }
}
