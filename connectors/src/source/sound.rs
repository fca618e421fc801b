//! What the headers of a sound's file say, without decoding it.
//!
//! The number of frames is told where the file leaves no doubt of it: of MP3 where the tag of its encoder and the
//! frames agree, of Ogg where its pages do, of raw AAC never.

use super::wav;

mod mp3;
mod ogg;

/// A sound's rate, channels and frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sound {
    pub(super) sample_rate: u32,
    pub(super) channels: u16,
    /// How many moments in time have samples; not known of every file.
    pub(super) frames: Option<u64>,
}

/// Reads the headers of a whole file. `None` when it is none that this module knows.
pub(super) fn probe(file: &[u8]) -> Option<Sound> {
    let of = [wav::probe, flac, ogg::probe, m4a, mp3::probe, aac];
    of.into_iter()
        .find_map(|probe| probe(file))
        .filter(|sound| sound.sample_rate > 0 && sound.channels > 0)
}

fn flac(file: &[u8]) -> Option<Sound> {
    let info = file.strip_prefix(b"fLaC")?.get(4 + 10..).and_then(<[u8]>::first_chunk::<8>)?;
    // 20 bits of rate, 3 of channels, 5 of sample size, 36 of frames.
    let bits = u64::from_be_bytes(*info);
    let frames = Some(bits & 0xf_ffff_ffff).filter(|frames| *frames > 0);
    Some(Sound { sample_rate: (bits >> 44) as u32, channels: (bits >> 41 & 7) as u16 + 1, frames })
}

/// AAC in MP4: the first track of sound.
fn m4a(file: &[u8]) -> Option<Sound> {
    if file.get(4..8)? != b"ftyp" {
        return None;
    }
    let movie = inside(file, b"moov")?;
    let mut tracks = Boxes(movie).filter(|(kind, _)| kind == b"trak").map(|(_, track)| track);
    let track = tracks.find(|track| {
        let handler = inside(track, b"mdia").and_then(|media| inside(media, b"hdlr"));
        handler.and_then(|handler| handler.get(8..12)) == Some(b"soun")
    })?;
    let media = inside(track, b"mdia")?;
    let entry =
        ["minf", "stbl", "stsd"].iter().try_fold(media, |at, name| inside(at, name.as_bytes()))?;
    // Behind the table's own fields, the entry's and those that all kinds have.
    let (channels, rate) = (number(entry, 32)? >> 16, number(entry, 40)? >> 16);
    let header = inside(media, b"mdhd").filter(|header| header.first() == Some(&0));
    let length = header.and_then(|header| Some((number(header, 12)?, number(header, 16)?)));
    let skip = inside(track, b"edts").and_then(|edits| inside(edits, b"elst"));
    let skip = match skip.filter(|edits| edits.first() == Some(&0) && number(edits, 4) == Some(1)) {
        Some(edits) => number(edits, 12)?,
        None => 0,
    };
    let frames = length.filter(|(scale, length)| *scale == rate && *length > 0);
    let frames = frames.map(|(_, length)| u64::from(length.saturating_sub(skip)));
    Some(Sound { sample_rate: rate, channels: u16::try_from(channels).ok()?, frames })
}

/// The boxes of an MP4 file, as far as they are whole.
struct Boxes<'a>(&'a [u8]);

impl<'a> Iterator for Boxes<'a> {
    type Item = ([u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let size = number(self.0, 0)? as usize;
        let kind = *self.0.get(4..)?.first_chunk()?;
        let (head, size) = match size {
            0 => (8, self.0.len()),
            1 => (16, usize::try_from(u64::from_be_bytes(*self.0.get(8..)?.first_chunk()?)).ok()?),
            size => (8, size),
        };
        let (this, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some((kind, this.get(head..)?))
    }
}

fn inside<'a>(boxes: &'a [u8], kind: &[u8]) -> Option<&'a [u8]> {
    Boxes(boxes).find(|(this, _)| this == kind).map(|(_, content)| content)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

/// AAC in ADTS.
fn aac(file: &[u8]) -> Option<Sound> {
    let [sync, version, b2, b3] = *file.first_chunk::<4>()?;
    if sync != 0xff || version & 0xf6 != 0xf0 {
        return None;
    }
    let rates = [
        96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025,
        8000, 7350,
    ];
    let sample_rate = *rates.get(usize::from(b2 >> 2 & 15))?;
    Some(Sound { sample_rate, channels: u16::from((b2 & 1) << 2 | b3 >> 6), frames: None })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Files that other programs made; each is half a second at 16 kHz.
    pub(super) fn made(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../operators/src/codec/tests");
        std::fs::read(format!("{folder}/{name}")).unwrap()
    }

    #[test]
    fn files_of_all_formats_tell_what_decoding_them_gives() {
        let half = Some(8000);
        let files = [
            ("mono.mp3", 1, half),
            ("stereo.mp3", 2, half),
            ("mono.ogg", 1, half),
            ("stereo.ogg", 2, half),
            ("stereo.opus", 2, half),
            ("mono.aac", 1, None),
            ("stereo.m4a", 2, half),
            ("front.m4a", 1, half),
        ];
        for (name, channels, frames) in files {
            let sound = Sound { sample_rate: 16_000, channels, frames };
            assert_eq!(probe(&made(name)), Some(sound), "{name}");
        }
    }

    #[test]
    fn flac_tells_its_length_unless_it_was_streamed() {
        let file = |frames: u64| {
            let mut file = b"fLaC\0\0\0\x22".to_vec();
            file.extend([0; 10]);
            file.extend((44_100 << 44 | 1 << 41 | 15 << 36 | frames).to_be_bytes());
            file
        };
        let sound = |frames| Some(Sound { sample_rate: 44_100, channels: 2, frames });
        assert_eq!(probe(&file(12_345)), sound(Some(12_345)));
        assert_eq!(probe(&file(0)), sound(None));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(at in 0usize..8, cut in 0usize..6000, flip in 0usize..6000, bits in any::<u8>()) {
            let names = ["mono.mp3", "stereo.mp3", "mono.ogg", "stereo.ogg", "stereo.opus", "mono.aac", "stereo.m4a", "front.m4a"];
            let mut file = made(names[at]);
            if let Some(byte) = file.get_mut(flip) {
                *byte ^= bits;
            }
            file.truncate(cut);
            // It returns, and what it says makes sense.
            if let Some(sound) = probe(&file) {
                prop_assert!(sound.sample_rate > 0 && sound.channels > 0);
            }
        }
    }
}
