//! Ogg: the packets of the one stream in a file, for Vorbis and Opus.
//!
//! A stream says that it ends; one that does not was cut off.

use std::io::Cursor;

use ::ogg::{OggReadError, PacketReader};

use super::CodecError;

/// What pages begin with.
const PAGE: &[u8] = b"OggS";
/// Bytes of a page's header before the sizes of what it holds.
const HEADER: usize = 27;
/// The position of a page on which no packet ends.
const NOWHERE: u64 = u64::MAX;

/// A packet, and where the stream stands behind its page.
pub(super) struct Packet {
    pub(super) data: Vec<u8>,
    /// Known of the last packet on a page: the position in time, in units of the codec.
    pub(super) position: Option<u64>,
}

/// Whether a file begins with a stream whose first packet begins like this.
pub(super) fn begins(bytes: &[u8], magic: &[u8]) -> bool {
    let sizes = bytes.get(HEADER - 1).copied().map_or(0, usize::from);
    let first = bytes.get(HEADER + sizes..).unwrap_or_default();
    bytes.starts_with(PAGE) && first.starts_with(magic)
}

/// All packets of a file that holds one whole stream.
pub(super) fn packets(codec: &'static str, bytes: &[u8]) -> Result<Vec<Packet>, CodecError> {
    let corrupt = |e: &dyn std::fmt::Display| CodecError::corrupt(codec, e);
    let told = |error| match error {
        OggReadError::ReadError(_) => corrupt(&"it is cut off in one of its pages"),
        OggReadError::HashMismatch(..) => corrupt(&"the checksum of a page is wrong"),
        OggReadError::NoCapturePatternFound => corrupt(&"no page at its beginning"),
        other => corrupt(&other),
    };
    let mut reader = PacketReader::new(Cursor::new(bytes));
    let (mut packets, mut serial, mut ended) = (Vec::new(), None, false);
    while let Some(packet) = reader.read_packet().map_err(told)? {
        if *serial.get_or_insert(packet.stream_serial()) != packet.stream_serial() {
            let several = "it holds several streams, and only one can be a record";
            return Err(CodecError(several.to_owned()));
        }
        ended = packet.last_in_stream();
        let last = packet.last_in_page();
        let position = Some(packet.absgp_page()).filter(|at| last && *at != NOWHERE);
        packets.push(Packet { data: packet.data, position });
    }
    match ended {
        true => Ok(packets),
        false => Err(corrupt(&"it is cut off: its last page is missing")),
    }
}

/// The position at the end of the stream.
pub(super) fn end(codec: &'static str, packets: &[Packet]) -> Result<u64, CodecError> {
    let last = packets.last().and_then(|packet| packet.position);
    last.ok_or_else(|| CodecError::corrupt(codec, "its last page does not say where it ends"))
}
