//! Bytes that wait until it is known what stands before them: in memory while they are few, else in a temporary file.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

/// Bytes that are held in memory, and that are given out at a time.
pub(super) const PIECE: usize = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Spool {
    /// Without a name, so that it goes with the process.
    file: Option<File>,
    memory: Vec<u8>,
    length: u64,
}

impl Spool {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The error is a sentence.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.memory.extend_from_slice(bytes);
        self.length += bytes.len() as u64;
        if self.memory.len() >= PIECE { self.spill().map_err(|e| failed(&e)) } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile()?,
        };
        file.write_all(&self.memory)?;
        self.memory.clear();
        self.file = Some(file);
        Ok(())
    }

    /// From here on [`Spool::piece`] gives what was pushed.
    pub(super) fn rewind(&mut self) -> Result<(), String> {
        if self.file.is_some() {
            // One place to read from, whose pieces are all of one size.
            self.spill().map_err(|e| failed(&e))?;
        }
        self.file.as_mut().map_or(Ok(()), Seek::rewind).map_err(|e| failed(&e))
    }

    /// The next bytes, none behind the last ones.
    pub(super) fn piece(&mut self) -> Result<Vec<u8>, String> {
        let Some(file) = &mut self.file else { return Ok(std::mem::take(&mut self.memory)) };
        let mut piece = Vec::with_capacity(PIECE);
        file.take(PIECE as u64).read_to_end(&mut piece).map_err(|e| failed(&e))?;
        Ok(piece)
    }
}

fn failed(error: &io::Error) -> String {
    format!(
        "rows wait in a temporary file until their shard is complete, and {} takes none: {error}; make room, set \
         TMPDIR to another folder, or make parts smaller",
        std::env::temp_dir().display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_comes_back_in_pieces() {
        for sizes in [vec![], vec![3, 0, 5], vec![PIECE - 1, 1], vec![PIECE, 7, 3 * PIECE, 1]] {
            let mut spool = Spool::default();
            let mut all = Vec::new();
            for (number, size) in sizes.iter().enumerate() {
                let bytes = vec![number as u8 + 1; *size];
                spool.push(&bytes).unwrap();
                all.extend(bytes);
                assert!(spool.memory.len() < PIECE);
            }
            assert_eq!(spool.length(), all.len() as u64);
            spool.rewind().unwrap();
            let mut found = Vec::new();
            loop {
                let piece = spool.piece().unwrap();
                assert!(piece.len() <= PIECE);
                if piece.is_empty() {
                    break;
                }
                found.extend(piece);
            }
            assert!(found == all, "{sizes:?}");
        }
    }
}
