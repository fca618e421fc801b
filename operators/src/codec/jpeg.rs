//! JPEG: decoded by zune-jpeg, encoded by jpeg-encoder with 4:2:0 chroma.
//!
//! CMYK comes back as RGB. An orientation in EXIF is not applied: pixels are as they are stored.

use anabranch_pipelines::record::Modality;
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::{Codec, CodecError, Facts, Ladder, Limits, Media};

pub(super) struct Jpeg;

impl Codec for Jpeg {
    fn name(&self) -> &'static str {
        "jpeg"
    }

    fn modality(&self) -> Modality {
        Modality::Image
    }

    fn lossless(&self, _: Option<u16>) -> bool {
        false
    }

    fn ladder(&self) -> Option<Ladder> {
        Some(Ladder::QUALITY)
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(&[0xff, 0xd8, 0xff])
    }

    fn encode(
        &self,
        media: &Media<'_>,
        quality: Option<u16>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let Facts::Image { width, height, channels } = media.facts else {
            return Err(CodecError("JPEG holds pictures only".to_owned()));
        };
        let colour = match channels {
            1 => ColorType::Luma,
            3 => ColorType::Rgb,
            4 => ColorType::Rgba,
            _ => return Err(CodecError(format!("JPEG holds no picture of {channels} channels"))),
        };
        let side = |side: u32| {
            let error =
                || CodecError(format!("{width} x {height} pixels are more than JPEG holds"));
            u16::try_from(side).map_err(|_| error())
        };
        let mut encoder = Encoder::new(bytes, u8::try_from(quality.unwrap_or(75)).unwrap_or(100));
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        encoder
            .encode(media.samples, side(width)?, side(height)?, colour)
            .map_err(|e| CodecError(format!("JPEG cannot encode it: {e}")))
    }

    fn decode(
        &self,
        bytes: &[u8],
        limits: &Limits,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, CodecError> {
        let corrupt =
            |e: zune_jpeg::errors::DecodeErrors| CodecError::corrupt("JPEG", format!("{e:?}"));
        let options = DecoderOptions::default()
            .set_max_width(usize::from(u16::MAX))
            .set_max_height(usize::from(u16::MAX))
            .set_strict_mode(true);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().map_err(corrupt)?;
        let info = decoder.info().ok_or_else(|| CodecError::corrupt("JPEG", "no header"))?;
        let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
        let (colour, channels) = if grey { (ColorSpace::Luma, 1) } else { (ColorSpace::RGB, 3) };
        let (width, height) = (u32::from(info.width), u32::from(info.height));
        let size = limits.check_image(width, height, channels)?;
        decoder.set_options(options.jpeg_set_out_colorspace(colour));
        let start = samples.len();
        samples.resize(start + size, 0);
        decoder.decode_into(samples.get_mut(start..).unwrap_or_default()).map_err(corrupt)?;
        if !ends(bytes) {
            return Err(CodecError::corrupt("JPEG", "it is cut off before its end marker"));
        }
        Ok(Facts::Image { width, height, channels })
    }
}

/// Whether the last scan is followed by an end marker; the decoder forgives when the last pixels are missing.
/// What stands behind the end (a second picture, padding) is nobody's concern.
fn ends(bytes: &[u8]) -> bool {
    let end = bytes.windows(2).rposition(|marker| marker == [0xff, 0xd9]);
    let behind = end.and_then(|end| bytes.get(end..)).unwrap_or_default();
    end.is_some() && !behind.windows(2).any(|marker| marker == [0xff, 0xda])
}
