//! How many bytes of windows are in memory, whoever holds them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes that are held and may be held.
#[derive(Debug)]
pub(super) struct Room {
    most: u64,
    held: Mutex<u64>,
    freed: Condvar,
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    room: Arc<Room>,
    pub(super) bytes: u64,
}

impl Room {
    pub(super) fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default(), freed: Condvar::new() })
    }

    /// So many bytes, if there is room for them now.
    pub(super) fn take(self: &Arc<Self>, bytes: u64) -> Option<Share> {
        let mut held = self.held();
        let after = held.checked_add(bytes).filter(|after| *after <= self.most)?;
        *held = after;
        Some(Share { room: Arc::clone(self), bytes })
    }

    /// So many bytes, once there is room for them, or nobody holds any but for `own`: whoever waits for them holds
    /// those himself, and would wait for ever.
    pub(super) fn wait(self: &Arc<Self>, bytes: u64, own: u64) -> Share {
        let mut held = self.held();
        while *held > own && held.saturating_add(bytes) > self.most {
            held = self.freed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        *held += bytes;
        Share { room: Arc::clone(self), bytes }
    }

    fn held(&self) -> MutexGuard<'_, u64> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Is of another size than was thought.
    pub(super) fn becomes(&mut self, bytes: u64) {
        let mut held = self.room.held();
        *held = held.saturating_sub(self.bytes).saturating_add(bytes);
        self.bytes = bytes;
        drop(held);
        self.room.freed.notify_all();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.becomes(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{TryRecvError, channel};

    #[test]
    fn whoever_finds_no_room_waits_until_others_leave() {
        let room = Room::new(10);
        let (first, mut second) = (room.take(6).unwrap(), room.take(4).unwrap());
        assert!(room.take(1).is_none());
        second.becomes(2);
        assert!(room.take(3).is_none());
        let (got, gets) = channel();
        let waiting = {
            let room = Arc::clone(&room);
            // Beside its own two bytes there is room for seven only when the others have left.
            std::thread::spawn(move || got.send(room.wait(7, 2)).unwrap())
        };
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(matches!(gets.try_recv(), Err(TryRecvError::Empty)));
        drop(first);
        assert_eq!(gets.recv().unwrap().bytes, 7);
        waiting.join().unwrap();
        assert_eq!(*room.held(), 2);
    }

    #[test]
    fn what_is_larger_than_the_room_comes_alone() {
        let room = Room::new(10);
        let large = room.wait(100, 0);
        assert!(room.take(1).is_none());
        let more = room.wait(50, 100);
        drop(large);
        drop(more);
        assert!(room.take(10).is_some());
    }
}
