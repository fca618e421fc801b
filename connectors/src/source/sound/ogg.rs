//! Vorbis and Opus in Ogg: rate, channels, and how long the sound is.
//!
//! A page says where the stream stands behind its last packet. The length is the last position less the one at
//! which the stream begins, which is not 0 when it was cut from a longer one: that follows from the first position
//! and what the packets before it last. These durations are known without decoding. Wherever something does not
//! add up (a stream that is cut off, a second one, a gap), the length is not known.

use super::Sound;

/// Bytes of a page's header before the sizes of what it holds.
const HEADER: usize = 27;
/// The position of a page on which no packet ends.
const NOWHERE: u64 = u64::MAX;
/// Flag of a stream's last page.
const LAST: u8 = 4;
/// Frames of Opus per second.
const CLOCK: u32 = 48_000;

/// A sound in Ogg.
pub(super) fn probe(file: &[u8]) -> Option<Sound> {
    let head = Pages(file).next().and_then(|page| page.packets.first().copied())?;
    if let Some([_, _, _, _, channels, rate @ ..]) =
        head.strip_prefix(b"\x01vorbis").and_then(<[u8]>::first_chunk::<9>)
    {
        let sample_rate = u32::from_le_bytes(*rate);
        return Some(Sound {
            sample_rate,
            channels: u16::from(*channels),
            frames: span(file, 3, Vorbis::of).map(|span| span.end - span.begin),
        });
    }
    let [_version, channels, s0, s1, rate @ ..] =
        head.strip_prefix(b"OpusHead")?.first_chunk::<8>()?;
    let (skip, rate) = (u64::from(u16::from_le_bytes([*s0, *s1])), u32::from_le_bytes(*rate));
    // It decodes to the rate it was made from, if that is one of Opus's, and else to 48 kHz.
    let rate = if [8000, 12_000, 16_000, 24_000].contains(&rate) { rate } else { CLOCK };
    let span = span(file, 2, |_| Some(Opus));
    let frames = span.and_then(|span| (span.end - span.begin).checked_sub(skip));
    Some(Sound {
        sample_rate: rate,
        channels: u16::from(*channels),
        frames: frames.map(|frames| frames / u64::from(CLOCK / rate)),
    })
}

/// How long packets last.
trait Durations {
    /// Of the next packet, in the stream's frames.
    fn next(&mut self, packet: &[u8]) -> Option<u64>;
}

/// Positions between which the sound stands.
struct Span {
    begin: u64,
    end: u64,
}

/// Where the sound begins and ends, if all pages agree on that. The stream begins with so many headers.
fn span<D: Durations>(
    file: &[u8],
    headers: usize,
    durations: impl Fn(&[Vec<u8>]) -> Option<D>,
) -> Option<Span> {
    let (mut heads, mut durations_of, mut open): (Vec<Vec<u8>>, Option<D>, Vec<u8>) =
        (Vec::new(), None, Vec::new());
    let (mut begin, mut position, mut since, mut ended) = (None, None, 0_u64, false);
    let mut serial = None;
    let mut pages = Pages(file);
    for page in pages.by_ref() {
        if ended || *serial.get_or_insert(page.serial) != page.serial {
            return None;
        }
        ended = page.flags & LAST != 0;
        let whole = page.packets.len() - usize::from(page.continues);
        let mut sound = false;
        for (at, part) in page.packets.iter().enumerate() {
            // Of the sound, only how packets begin matters.
            let few = if heads.len() < headers { part.len() } else { 2 };
            open.extend_from_slice(part.get(..few).unwrap_or(part));
            if at >= whole {
                break;
            }
            let packet = std::mem::take(&mut open);
            if heads.len() < headers {
                heads.push(packet);
                continue;
            }
            if durations_of.is_none() {
                durations_of = Some(durations(&heads)?);
            }
            since += durations_of.as_mut()?.next(&packet)?;
            sound = true;
        }
        if !sound || page.position == NOWHERE {
            continue;
        }
        match position {
            // Where the stream ends, its last packet may be cut short; on its only page, nobody can tell from where.
            None if ended => begin = Some(0),
            None => begin = Some(page.position.saturating_sub(since)),
            Some(before) if ended && page.position <= before + since => {}
            Some(before) if page.position == before + since => {}
            Some(_) => return None,
        }
        (position, since) = (Some(page.position), 0);
    }
    let (begin, end) = begin.zip(position)?;
    (ended && pages.0.is_empty() && begin <= end).then_some(Span { begin, end })
}

struct Page<'a> {
    flags: u8,
    position: u64,
    serial: u32,
    /// What is here of each packet.
    packets: Vec<&'a [u8]>,
    /// Whether the last of them goes on on the next page.
    continues: bool,
}

/// The pages of a file, as far as they are whole; what is left is what no page begins.
struct Pages<'a>(&'a [u8]);

impl<'a> Iterator for Pages<'a> {
    type Item = Page<'a>;

    fn next(&mut self) -> Option<Page<'a>> {
        let head = self.0.strip_prefix(b"OggS").and_then(|_| self.0.first_chunk::<HEADER>())?;
        let [_, _, _, _, 0, flags, rest @ ..] = head else { return None };
        let position = u64::from_le_bytes(*rest.first_chunk()?);
        let serial = u32::from_le_bytes(*rest.get(8..)?.first_chunk()?);
        let sizes = self.0.get(HEADER..)?.get(..usize::from(*rest.last()?))?;
        let mut body = self.0.get(HEADER + sizes.len()..)?;
        let (mut packets, mut size) = (Vec::new(), 0);
        for lace in sizes {
            size += usize::from(*lace);
            if *lace < 255 {
                let (packet, more) = body.split_at_checked(size)?;
                packets.push(packet);
                (body, size) = (more, 0);
            }
        }
        let continues = sizes.last() == Some(&255);
        if continues {
            let (packet, more) = body.split_at_checked(size)?;
            packets.push(packet);
            body = more;
        }
        self.0 = body;
        Some(Page { flags: *flags, position, serial, packets, continues })
    }
}

/// Opus packets (RFC 6716, section 3.1) say how long they are in their first two bytes.
struct Opus;

impl Durations for Opus {
    fn next(&mut self, packet: &[u8]) -> Option<u64> {
        let toc = *packet.first()?;
        let step = usize::from(toc >> 3 & 3);
        let frame = match toc >> 3 {
            0..12 => *[480, 960, 1920, 2880].get(step)?,
            12..16 => *[480, 960].get(step & 1)?,
            _ => *[120, 240, 480, 960].get(step)?,
        };
        let frames = match toc & 3 {
            0 => 1,
            1 | 2 => 2,
            _ => u64::from(packet.get(1)? & 0x3f),
        };
        Some(frame * frames)
    }
}

/// Vorbis packets (Vorbis I specification, section 4.3) name a mode, which has one of two sizes of blocks; what
/// comes out of one is half of each of two neighbouring blocks' halves.
struct Vorbis {
    /// Sizes of the short and the long block.
    sizes: [u64; 2],
    /// Whether each mode's block is the long one.
    modes: Vec<bool>,
    before: Option<u64>,
}

impl Vorbis {
    fn of(headers: &[Vec<u8>]) -> Option<Self> {
        let [head, _, setup] = headers else { return None };
        let sizes = head.get(28)?;
        let sizes = [1 << (sizes & 15), 1 << (sizes >> 4)];
        Some(Self { sizes, modes: modes(setup)?, before: None })
    }
}

impl Durations for Vorbis {
    fn next(&mut self, packet: &[u8]) -> Option<u64> {
        let first = *packet.first()?;
        // The first bit tells sound from headers, the next ones are the mode's number.
        let bits = self.modes.len().next_power_of_two().trailing_zeros();
        let mode = usize::from(first >> 1) & ((1 << bits) - 1);
        let long = *self.modes.get(mode).filter(|_| first & 1 == 0)?;
        let size = *self.sizes.get(usize::from(long))?;
        let before = self.before.replace(size);
        Some(before.map_or(0, |before| (before + size) / 4))
    }
}

/// The blocks of modes, which stand at the end of the header of setup. What is before them takes a decoder to read,
/// so they are read from behind: of each a flag, 32 bits of zeros and a number below 64, and before all of them how
/// many they are. Durations of packets would not fit positions if they were others.
fn modes(setup: &[u8]) -> Option<Vec<bool>> {
    let bit = |at: usize| setup.get(at / 8).map(|byte| byte >> (at % 8) & 1);
    let number = |at: usize, bits: usize| {
        (0..bits).try_fold(0_u32, |all, i| Some(all | u32::from(bit(at + i)?) << i))
    };
    let setup_end = setup.iter().rposition(|byte| *byte != 0)?;
    let last = setup.get(setup_end)?;
    // The last bit that is set is the frame's end.
    let end = setup_end * 8 + 7 - last.leading_zeros() as usize;
    let mut found = None;
    for count in 1..=64 {
        let Some(start) = end.checked_sub(41 * count).filter(|start| *start >= 6) else { break };
        if number(start + 1, 32)? != 0 || number(start + 33, 8)? > 63 {
            break;
        }
        if number(start - 6, 6)? as usize + 1 == count {
            found = Some((start, count));
        }
    }
    let (start, count) = found?;
    (0..count).map(|mode| bit(start + 41 * mode).map(|long| long == 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::sound::tests::made;

    /// A file with every position behind so many pages moved. (Nothing here reads checksums.)
    fn moved(file: &[u8], headers: usize, by: u64) -> Vec<u8> {
        let (mut all, mut number) = (file.to_vec(), 0);
        let mut pages = Pages(file);
        loop {
            let at = file.len() - pages.0.len();
            let Some(page) = pages.next() else { return all };
            if number >= headers {
                all[at + 6..at + 14].copy_from_slice(&(page.position + by).to_le_bytes());
            }
            number += 1;
        }
    }

    /// All packets of a file.
    fn packets(file: &[u8]) -> Vec<Vec<u8>> {
        let (mut packets, mut open) = (Vec::new(), Vec::new());
        for page in Pages(file) {
            let whole = page.packets.len() - usize::from(page.continues);
            for (at, part) in page.packets.iter().enumerate() {
                open.extend_from_slice(part);
                if at < whole {
                    packets.push(std::mem::take(&mut open));
                }
            }
        }
        packets
    }

    /// The same stream with every packet of sound on a page of its own, in which positions are what it lasts.
    fn apart(file: &[u8], headers: usize, durations: &mut dyn Durations) -> Vec<u8> {
        let (mut all, mut position) = (Vec::new(), 0);
        let packets = packets(file);
        for (at, packet) in packets.iter().enumerate() {
            if at >= headers {
                position += durations.next(packet).unwrap();
            }
            let flags = if at + 1 == packets.len() { LAST } else { 0 };
            all.extend_from_slice(b"OggS\0");
            all.push(flags);
            all.extend(position.to_le_bytes());
            all.extend([0; 12]);
            all.push((packet.len() / 255 + 1) as u8);
            all.extend(std::iter::repeat_n(255, packet.len() / 255));
            all.push((packet.len() % 255) as u8);
            all.extend(packet);
        }
        all
    }

    fn vorbis(file: &[u8]) -> Vorbis {
        Vorbis::of(&packets(file)[..3]).unwrap()
    }

    fn frames(file: &[u8]) -> Option<u64> {
        probe(file).unwrap().frames
    }

    #[test]
    fn a_stream_that_was_cut_from_a_longer_one_is_as_long_as_what_is_in_it() {
        for name in ["mono.ogg", "stereo.ogg", "stereo.opus"] {
            let file = made(name);
            let (file, headers) = match name.ends_with("opus") {
                true => (apart(&file, 2, &mut Opus), 2),
                false => (apart(&file, 3, &mut vorbis(&file)), 3),
            };
            let length = frames(&file).unwrap();
            assert!(length >= 8000 && Pages(&file).count() > 6, "{name}: {length}");
            assert_eq!(frames(&moved(&file, headers, 480_000)), Some(length), "{name}");
        }
    }

    #[test]
    fn a_length_that_nobody_can_be_sure_of_is_none() {
        for name in ["mono.ogg", "stereo.opus"] {
            let whole = made(name);
            assert!(frames(&whole).is_some());
            // Without its last page, with a second stream, and with other bytes behind it.
            let last = whole.windows(4).rposition(|four| four == b"OggS").unwrap();
            for file in
                [whole[..last].to_vec(), [&whole[..], &whole].concat(), [&whole[..], b"x"].concat()]
            {
                assert_eq!(frames(&file), None, "{name}");
            }
            // A page is missing in the middle, or says another position.
            let file = match name {
                "mono.ogg" => apart(&whole, 3, &mut vorbis(&whole)),
                _ => apart(&whole, 2, &mut Opus),
            };
            let starts: Vec<usize> = file
                .windows(4)
                .enumerate()
                .filter(|(_, w)| w == b"OggS")
                .map(|(at, _)| at)
                .collect();
            let (from, to) = (starts[6], starts[7]);
            assert_eq!(frames(&[&file[..from], &file[to..]].concat()), None, "{name}");
            let mut file = file.clone();
            file[from + 6] ^= 1;
            assert_eq!(frames(&file), None, "{name}");
        }
    }
}
