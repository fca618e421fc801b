//! What the decoders of MP3, Vorbis and AAC have in common: packets in, 16-bit samples out.
//!
//! These formats compute in floats. Samples are rounded to 16 bits, as players do; what an encoder pushed
//! beyond full scale is clipped.

use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::codecs::audio::AudioDecoder;
use symphonia::core::packet::PacketRef;
use symphonia::core::units::{Duration, Timestamp};

use super::{CodecError, Facts, Limits, Pcm};

/// A decoder at work on one record.
pub(super) struct Packets<'a> {
    codec: &'static str,
    decoder: &'a mut dyn AudioDecoder,
    limits: &'a Limits,
    samples: &'a mut Vec<u8>,
    start: usize,
    floats: Vec<f32>,
    /// Rate and channels, from the first packet that gives samples.
    format: Option<(u32, u16)>,
}

impl<'a> Packets<'a> {
    pub(super) fn new(
        codec: &'static str,
        decoder: &'a mut dyn AudioDecoder,
        limits: &'a Limits,
        samples: &'a mut Vec<u8>,
    ) -> Self {
        let start = samples.len();
        Self { codec, decoder, limits, samples, start, floats: Vec::new(), format: None }
    }

    /// Decodes the next packet and says how many frames there are by now.
    pub(super) fn decode(&mut self, packet: &[u8]) -> Result<u64, CodecError> {
        let packet = PacketRef::new(0, Timestamp::ZERO, Duration::ZERO, packet);
        let decoded = self.decoder.decode_ref(&packet);
        let decoded = decoded.map_err(|e| CodecError::corrupt(self.codec, e))?;
        let format = spec(&decoded);
        if decoded.frames() > 0 && *self.format.get_or_insert(format) != format {
            let changes = "its rate or channels change on the way";
            return Err(CodecError::corrupt(self.codec, changes));
        }
        decoded.copy_to_vec_interleaved(&mut self.floats);
        Pcm::S16.extend(self.floats.iter().copied(), self.samples);
        let (rate, channels) = self.format.unwrap_or(format);
        let frame = u64::from(channels) * Pcm::S16.bytes() as u64;
        let frames = (self.samples.len() - self.start) as u64 / frame.max(1);
        self.limits.check_audio(frames, rate, frame)?;
        Ok(frames)
    }

    /// Leaves out what the encoder put before the sound and, when its length is known, behind it.
    pub(super) fn finish(self, skip: u64, length: Option<u64>) -> Result<Facts, CodecError> {
        let (rate, channels) =
            self.format.ok_or_else(|| CodecError::corrupt(self.codec, "it holds no sound"))?;
        let frame = usize::from(channels) * Pcm::S16.bytes();
        let there = (self.samples.len() - self.start) / frame.max(1);
        let skip = usize::try_from(skip).unwrap_or(there).min(there);
        let left = there - skip;
        let frames = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(left);
        if frames > left {
            let what = format!("it declares {frames} frames and holds {left}");
            return Err(CodecError::corrupt(self.codec, what));
        }
        self.samples.drain(self.start..self.start + skip * frame);
        self.samples.truncate(self.start + frames * frame);
        Ok(Facts::Audio { format: Pcm::S16, rate, channels, frames: frames as u64 })
    }
}

fn spec(buffer: &GenericAudioBufferRef<'_>) -> (u32, u16) {
    let channels = u16::try_from(buffer.num_planes()).unwrap_or(u16::MAX);
    (buffer.spec().rate(), channels)
}
