//! JPEG: decoded by zune-jpeg, encoded by jpeg-encoder.

use anabranch_pipelines::record::Modality;
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::{Codec, CodecError, Limits, Media};

pub(super) struct Jpeg;

impl Codec for Jpeg {
    fn name(&self) -> &'static str {
        "jpeg"
    }

    fn modality(&self) -> Modality {
        Modality::Image
    }

    fn lossless(&self, _: Option<u8>) -> bool {
        false
    }

    fn default_quality(&self) -> Option<u8> {
        Some(75)
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(&[0xff, 0xd8, 0xff])
    }

    fn encode(&self, media: &Media, quality: Option<u8>) -> Result<Vec<u8>, CodecError> {
        let Media::Image { pixels, width, height, channels } = media else {
            return Err(CodecError("JPEG holds pictures only".to_owned()));
        };
        let colour = match channels {
            1 => ColorType::Luma,
            3 => ColorType::Rgb,
            4 => ColorType::Rgba,
            _ => return Err(CodecError(format!("JPEG holds no picture of {channels} channels"))),
        };
        let side = |side: &u32| {
            let error =
                || CodecError(format!("{width} x {height} pixels are more than JPEG holds"));
            u16::try_from(*side).map_err(|_| error())
        };
        let mut bytes = Vec::with_capacity(pixels.len() / 8 + 1024);
        let mut encoder = Encoder::new(&mut bytes, quality.unwrap_or(75));
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        encoder
            .encode(pixels, side(width)?, side(height)?, colour)
            .map_err(|e| CodecError(format!("JPEG cannot encode it: {e}")))?;
        Ok(bytes)
    }

    fn decode(&self, bytes: &[u8], limits: &Limits) -> Result<Media, CodecError> {
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
        let channels: u8 = if grey { 1 } else { 3 };
        limits.check_image(u64::from(info.width), u64::from(info.height), u64::from(channels))?;
        let colour = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
        decoder.set_options(options.jpeg_set_out_colorspace(colour));
        let pixels = decoder.decode().map_err(corrupt)?;
        Ok(Media::Image { pixels, width: info.width.into(), height: info.height.into(), channels })
    }
}
