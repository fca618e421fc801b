//! MP3: rate and channels, and the length where the tag of its encoder and its frames agree on it.

use super::Sound;

/// Frames that every decoder of MP3 gives before the first of the sound.
const DECODER_DELAY: u64 = 529;
/// Kilobits per second of MPEG 1, and of MPEG 2 and 2.5.
const BITRATES: [[u32; 14]; 2] = [
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// A sound in MP3.
pub(super) fn probe(file: &[u8]) -> Option<Sound> {
    let file = behind_id3(file)?;
    let header = Header::parse(file)?;
    let sound =
        |frames| Some(Sound { sample_rate: header.rate, channels: header.channels, frames });
    let Some((tag, rest)) = file.split_at_checked(header.size) else { return sound(None) };
    sound(header.length(tag, rest))
}

/// What the four bytes before a frame say.
#[derive(Debug, Clone, Copy)]
struct Header {
    rate: u32,
    channels: u16,
    /// Whether a checksum follows.
    checked: bool,
    /// MPEG 1.
    first: bool,
    /// Bytes of the frame.
    size: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let [sync, version, rates, modes] = *bytes.first_chunk::<4>()?;
        if sync != 0xff || version & 0xe6 != 0xe2 {
            return None;
        }
        let divisor =
            [4, 0, 2, 1].get(usize::from(version >> 3 & 3)).filter(|divisor| **divisor > 0)?;
        let rate = [44_100, 48_000, 32_000].get(usize::from(rates >> 2 & 3))? / divisor;
        let first = *divisor == 1;
        let [of_first, of_others] = &BITRATES;
        let step = usize::from(rates >> 4).checked_sub(1)?;
        let bitrate = if first { of_first } else { of_others }.get(step)?;
        let eighths = if first { 144 } else { 72 };
        let size = (eighths * bitrate * 1000 / rate + u32::from(rates >> 1 & 1)) as usize;
        let channels = if modes >> 6 == 3 { 1 } else { 2 };
        Some(Self { rate, channels, checked: version & 1 == 0, first, size })
    }

    /// What the tag says of the sound's length, if the frames behind it are as many as it says. The tag's word alone
    /// is none: a file may have been cut, or joined to another.
    fn length(&self, tag: &[u8], mut rest: &[u8]) -> Option<u64> {
        let side = match (self.first, self.channels) {
            (true, 1) | (false, 2) => 17,
            (true, _) => 32,
            (false, _) => 9,
        };
        let tag = tag.get(4 + side + if self.checked { 2 } else { 0 }..)?;
        if !tag.starts_with(b"Xing") && !tag.starts_with(b"Info") {
            return None;
        }
        let number = |at: usize| tag.get(at..)?.first_chunk::<4>().map(|n| u32::from_be_bytes(*n));
        let flags = number(4)?;
        let declared = (flags & 1 != 0).then(|| number(8)).flatten()?;
        let mut found = 0_u32;
        while let Some(next) = Self::parse(rest) {
            let (_, more) = rest.split_at_checked(next.size)?;
            if (next.rate, next.channels) != (self.rate, self.channels) {
                return None;
            }
            (found, rest) = (found + 1, more);
        }
        if found != declared {
            return None;
        }
        let all = u64::from(found) * if self.first { 1152 } else { 576 };
        let fields = [(1, 4), (2, 4), (4, 100), (8, 4)];
        let more: usize =
            fields.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, size)| size).sum();
        let encoder = tag.get(8 + more..)?;
        let known = [b"LAME", b"Lavf", b"Lavc"].iter().any(|name| encoder.starts_with(*name));
        let padding =
            number(8 + more + 20).filter(|_| known).map(|both| u64::from(both & 0xff_ffff));
        Some(match padding {
            Some(both) => {
                let (before, behind) = (both >> 12, both & 0xfff);
                let kept = all.saturating_sub(before + behind);
                kept.min(all.saturating_sub(before + DECODER_DELAY))
            }
            // Whoever decodes it keeps the silence around the sound.
            None => all,
        })
    }
}

fn behind_id3(mut file: &[u8]) -> Option<&[u8]> {
    loop {
        file = file.get(file.iter().take_while(|byte| **byte == 0).count()..)?;
        let Some([b'I', b'D', b'3', _, _, flags, size @ ..]) = file.first_chunk::<10>() else {
            return Some(file);
        };
        let size = size.iter().fold(0, |size, byte| size << 7 | usize::from(byte & 0x7f));
        file = file.get(10 + size + if flags & 0x10 == 0 { 0 } else { 10 }..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::sound::tests::made;

    #[test]
    fn a_file_without_a_tag_has_frames_that_nobody_counted() {
        let file = made("mono.mp3");
        let tag = file.windows(4).position(|four| four == b"Info").unwrap() - 13;
        let sound = Sound { sample_rate: 16_000, channels: 1, frames: None };
        assert_eq!(probe(&file[tag + 216..]), Some(sound));
    }

    #[test]
    fn a_tag_that_counts_other_frames_than_there_are_is_not_believed() {
        let file = made("stereo.mp3");
        assert_eq!(probe(&file).unwrap().frames, Some(8000));
        // Cut inside a frame, and exactly between two.
        let first = behind_id3(&file).unwrap();
        let mut at = file.len() - first.len();
        let mut ends = Vec::new();
        while let Some(header) = Header::parse(&file[at..]) {
            at += header.size;
            ends.push(at);
        }
        let last = ends[ends.len() - 2];
        for cut in [last, last + 20, ends[3]] {
            let sound = probe(&file[..cut]).unwrap();
            assert_eq!((sound.channels, sound.frames), (2, None), "cut at {cut}");
        }
    }
}
