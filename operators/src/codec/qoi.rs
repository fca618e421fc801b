//! QOI: lossless and fast, for screenshots, masks and drawings; grey is stored as RGB.

use anabranch_pipelines::record::Modality;
use qoi::{Decoder, Encoder};

use super::{Codec, CodecError, Facts, Ladder, Limits, Media};

pub(super) struct Qoi;

impl Codec for Qoi {
    fn name(&self) -> &'static str {
        "qoi"
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
        bytes.starts_with(b"qoif")
    }

    fn encode(
        &self,
        media: &Media<'_>,
        _: Option<u16>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let Facts::Image { width, height, channels } = media.facts else {
            return Err(CodecError("QOI holds pictures only".to_owned()));
        };
        let rgb: Vec<u8>;
        let pixels = match channels {
            1 => {
                rgb = media.samples.iter().flat_map(|grey| [*grey; 3]).collect();
                rgb.as_slice()
            }
            3 | 4 => media.samples,
            _ => return Err(CodecError(format!("QOI holds no picture of {channels} channels"))),
        };
        let error = |e: qoi::Error| CodecError(format!("QOI cannot encode it: {e}"));
        let encoder = Encoder::new(pixels, width, height).map_err(error)?;
        let start = bytes.len();
        bytes.resize(start + encoder.required_buf_len(), 0);
        let written = encoder.encode_to_buf(bytes.get_mut(start..).unwrap_or_default());
        bytes.truncate(start + written.map_err(error)?);
        Ok(())
    }

    fn decode(
        &self,
        bytes: &[u8],
        limits: &Limits,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, CodecError> {
        let corrupt = |e: qoi::Error| CodecError::corrupt("QOI", e);
        let mut decoder = Decoder::new(bytes).map_err(corrupt)?;
        let header = *decoder.header();
        let (width, height, channels) = (header.width, header.height, header.channels.as_u8());
        let size = limits.check_image(width, height, channels)?;
        let start = samples.len();
        samples.resize(start + size, 0);
        decoder.decode_to_buf(samples.get_mut(start..).unwrap_or_default()).map_err(corrupt)?;
        Ok(Facts::Image { width, height, channels })
    }
}
