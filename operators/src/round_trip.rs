//! Media as they come back from a codec.

use std::time::Duration;

use crate::codec::{Facts, Limits, Media, Setting};
use crate::decode;

/// What a codec stored of a record, and what comes back.
#[derive(Debug, Default)]
pub(crate) struct RoundTrip {
    /// Bytes as stored, container included.
    pub(crate) bytes: Vec<u8>,
    /// Samples that come back, of the original's channels.
    pub(crate) samples: Vec<u8>,
    /// Processor time of this thread.
    pub(crate) encode: Duration,
    pub(crate) decode: Duration,
}

impl RoundTrip {
    /// Encodes and decodes, into the room of what was there before. Gives what the samples are.
    ///
    /// # Errors
    /// When the codec cannot hold the media, as a sentence.
    pub(crate) fn go(&mut self, setting: Setting, media: &Media<'_>) -> Result<Facts, String> {
        self.bytes.clear();
        self.samples.clear();
        let start = thread_time();
        setting.encode(media, &mut self.bytes).map_err(|e| e.to_string())?;
        let encoded = thread_time();
        let limits = Limits { pixels: u64::MAX, seconds: f64::INFINITY, ..Limits::default() };
        let facts = setting.codec.decode(&self.bytes, &limits, &mut self.samples);
        let facts = facts.map_err(|e| e.to_string())?;
        self.decode = thread_time().saturating_sub(encoded);
        self.encode = encoded.saturating_sub(start);
        // A codec without grey gives back grey as colours.
        let mode = match media.facts {
            Facts::Image { channels: 1, .. } => "gray",
            Facts::Image { channels: 3, .. } => "rgb",
            _ => "keep",
        };
        Ok(decode::recolour(facts, 0, mode, &mut self.samples))
    }

    /// The media that came back.
    pub(crate) fn media(&self, facts: Facts) -> Media<'_> {
        Media { samples: &self.samples, facts }
    }
}

/// Processor time that this thread took so far.
pub(crate) fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
