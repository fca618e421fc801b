//! What the header of a WAV file says, without its samples.
//!
//! RIFF is a list of chunks, each with a name and a size; the two that matter may stand anywhere in it.

use super::sound::Sound;

/// Samples whose frames all have one size: integers, floats, and the wrapper that says which.
const PLAIN: [u16; 3] = [1, 3, 0xFFFE];

/// Reads the header of a whole file. `None` when it is no WAV file or says nothing of its samples.
pub(super) fn probe(file: &[u8]) -> Option<Sound> {
    let riff = file.starts_with(b"RIFF") || file.starts_with(b"RF64");
    if !riff || file.get(8..12)? != b"WAVE" {
        return None;
    }
    let mut format = None;
    let mut at = 12usize;
    // A recorder that was cut off leaves sizes of chunks that go on behind the end.
    while let Some(head) = file.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let [n0, n1, n2, n3, size @ ..] = *head;
        let size = u32::from_le_bytes(size) as usize;
        let body = at + 8;
        match &[n0, n1, n2, n3] {
            b"fmt " => format = Some(Format::parse(file.get(body..)?.get(..size)?)?),
            b"data" => {
                let there = size.min(file.len() - body);
                return format.map(|format: Format| format.of(there));
            }
            _ => {}
        }
        // Chunks begin at even places.
        at = body.checked_add(size)?.checked_add(size % 2)?;
    }
    format.map(|format| Sound { frames: None, ..format.of(0) })
}

#[derive(Clone, Copy)]
struct Format {
    tag: u16,
    channels: u16,
    sample_rate: u32,
    /// Bytes of a frame.
    frame: u16,
}

impl Format {
    fn parse(chunk: &[u8]) -> Option<Self> {
        let short = |at: usize| {
            chunk.get(at..).and_then(<[u8]>::first_chunk::<2>).map(|b| u16::from_le_bytes(*b))
        };
        let long = |at: usize| {
            chunk.get(at..).and_then(<[u8]>::first_chunk::<4>).map(|b| u32::from_le_bytes(*b))
        };
        let format =
            Self { tag: short(0)?, channels: short(2)?, sample_rate: long(4)?, frame: short(12)? };
        (format.channels > 0 && format.sample_rate > 0).then_some(format)
    }

    fn of(self, data: usize) -> Sound {
        let plain = PLAIN.contains(&self.tag) && self.frame > 0;
        let frames = plain.then(|| data as u64 / u64::from(self.frame));
        Sound { sample_rate: self.sample_rate, channels: self.channels, frames }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut chunk = [name.as_slice(), &(body.len() as u32).to_le_bytes(), body].concat();
        chunk.resize(chunk.len().next_multiple_of(2), 0);
        chunk
    }

    fn format(tag: u16, channels: u16, rate: u32, frame: u16) -> Vec<u8> {
        let body = [
            &tag.to_le_bytes()[..],
            &channels.to_le_bytes(),
            &rate.to_le_bytes(),
            &(rate * u32::from(frame)).to_le_bytes(),
            &frame.to_le_bytes(),
            &(frame * 8 / channels.max(1)).to_le_bytes(),
        ];
        chunk(b"fmt ", &body.concat())
    }

    fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
        let body = chunks.concat();
        let size = (body.len() as u32 + 4).to_le_bytes();
        [b"RIFF".as_slice(), &size, b"WAVE", &body].concat()
    }

    #[test]
    fn chunks_may_stand_anywhere() {
        let wave = Some(Sound { sample_rate: 44_100, channels: 2, frames: Some(5) });
        let (format, data) = (format(1, 2, 44_100, 4), chunk(b"data", &[0; 20]));
        assert_eq!(probe(&riff(&[format.clone(), data.clone()])), wave);
        // An odd chunk is followed by one byte that counts for none.
        let note = chunk(b"LIST", b"odd");
        assert_eq!(probe(&riff(&[note.clone(), format, note.clone(), data, note])), wave);
    }

    #[test]
    fn what_is_cut_off_counts_what_is_there() {
        let mut endless = chunk(b"data", &[0; 10]);
        endless[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let wave = probe(&riff(&[format(3, 1, 16_000, 4), endless])).unwrap();
        assert_eq!(wave.frames, Some(2));
        let no_data = probe(&riff(&[format(1, 1, 8000, 2)])).unwrap();
        assert_eq!((no_data.sample_rate, no_data.frames), (8000, None));
    }

    #[test]
    fn compressed_samples_have_frames_that_nobody_knows() {
        let wave = probe(&riff(&[format(0x11, 1, 8000, 256), chunk(b"data", &[0; 512])])).unwrap();
        assert_eq!((wave.channels, wave.frames), (1, None));
    }

    #[test]
    fn other_files_say_nothing() {
        let no_channels = riff(&[format(1, 0, 8000, 2), chunk(b"data", &[0; 4])]);
        let data_first = riff(&[chunk(b"data", &[0; 4])]);
        for file in [b"".as_slice(), b"RIFF", b"fLaC\0\0\0\x22........", &no_channels, &data_first]
        {
            assert_eq!(probe(file), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(tail in proptest::collection::vec(any::<u8>(), 0..80), cut in 0usize..80) {
            let mut file = riff(&[format(1, 2, 44_100, 4)]);
            file.extend(tail);
            file.truncate(file.len().saturating_sub(cut));
            if let Some(Sound { frames: Some(frames), .. }) = probe(&file) {
                prop_assert!(frames * 4 <= file.len() as u64);
            }
        }
    }
}
