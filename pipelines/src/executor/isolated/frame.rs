//! A header as JSON and a body of bytes, each after its length.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Nothing longer is believed.
const LONGEST: u64 = 1 << 40;

/// Writes a frame.
pub(super) fn write(mut to: impl Write, header: &impl Serialize, body: &[u8]) -> io::Result<()> {
    let header = serde_json::to_vec(header).map_err(io::Error::other)?;
    to.write_all(&(header.len() as u64).to_le_bytes())?;
    to.write_all(&(body.len() as u64).to_le_bytes())?;
    to.write_all(&header)?;
    to.write_all(body)
}

/// Reads a frame; `None` at the end of the stream.
pub(super) fn read<T: DeserializeOwned>(mut from: impl Read) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut lengths = [[0; 8]; 2];
    for length in &mut lengths {
        match from.read_exact(length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        }
    }
    let mut parts = [Vec::new(), Vec::new()];
    for (part, length) in parts.iter_mut().zip(lengths.map(u64::from_le_bytes)) {
        if length > LONGEST {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        // Memory is taken as bytes come, not as a length claims.
        (&mut from).take(length).read_to_end(part)?;
        if (part.len() as u64) < length {
            return Ok(None);
        }
    }
    let [header, body] = parts;
    Ok(Some((serde_json::from_slice(&header).map_err(io::Error::other)?, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_one_another_and_a_cut_one_is_the_end() {
        let mut bytes = Vec::new();
        write(&mut bytes, &"one", b"body").unwrap();
        write(&mut bytes, &2, b"").unwrap();
        let mut from = bytes.as_slice();
        let first: (String, Vec<u8>) = read(&mut from).unwrap().unwrap();
        assert_eq!(first, ("one".to_owned(), b"body".to_vec()));
        assert_eq!(read::<u8>(&mut from).unwrap().unwrap(), (2, Vec::new()));
        assert!(read::<u8>(&mut from).unwrap().is_none());
        for end in 0..23 {
            assert!(read::<String>(&bytes[..end]).unwrap().is_none(), "{end}");
        }
        assert!(read::<u8>([0xff; 32].as_slice()).is_err());
    }
}
