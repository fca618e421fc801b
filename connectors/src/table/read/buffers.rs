//! Memory for what is read, used again: fresh pages cost more than filling them.

use std::sync::{Arc, Mutex, PoisonError};

/// Memory that waits for its next use.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

/// Memory in use, which goes back when it is dropped.
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    home: Arc<Buffers>,
}

impl Buffers {
    /// Empty memory for so many bytes: the smallest that waits and has room, else new one in place of the largest
    /// that waits. So there is never more of it than was once in use.
    pub(super) fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = waiting.iter().enumerate().filter(|(_, bytes)| bytes.capacity() >= length);
        let fits = room.min_by_key(|(_, bytes)| bytes.capacity()).map(|(at, _)| at);
        let largest = || waiting.iter().enumerate().max_by_key(|(_, bytes)| bytes.capacity());
        let found = fits.or_else(|| largest().map(|(at, _)| at)).map(|at| waiting.swap_remove(at));
        drop(waiting);
        let bytes = match found.filter(|_| fits.is_some()) {
            Some(bytes) => bytes,
            // A little more: the next shard is about as large, but not exactly.
            None => Vec::with_capacity(length.saturating_add(length / 8)),
        };
        Buffer { bytes, home: Arc::clone(self) }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_used_again_and_never_piles_up() {
        let buffers = Arc::new(Buffers::default());
        let first = buffers.take(1000);
        let at = first.bytes.as_ptr();
        drop(first);
        assert_eq!(buffers.take(1100).bytes.as_ptr(), at);
        for length in [10, 5000, 300, 80_000, 2] {
            let held: Vec<Buffer> = (0..3).map(|_| buffers.take(length)).collect();
            assert!(
                held.iter()
                    .all(|buffer| buffer.bytes.is_empty() && buffer.bytes.capacity() >= length)
            );
        }
        assert!(buffers.0.lock().unwrap().len() <= 3);
    }
}
