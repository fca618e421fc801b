//! Which invocations are running, so that a stalled run, or a process that died, can say where.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;

use crate::record::name_of_row;

/// What a process runs at this moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running {
    table: Arc<Mutex<Table>>,
    recorder: Arc<OnceLock<Recorder>>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    running: HashMap<u64, (Instant, String)>,
}

impl Running {
    /// Also writes down what runs where the supervisor can read it when this process is gone.
    pub(crate) fn record_to(&self, file: File) {
        let _ = self.recorder.set(Recorder { file, slots: Mutex::default() });
    }

    /// Notes an invocation on a batch until the guard is dropped.
    pub(crate) fn begin(&self, stage: &str, batch: Option<&RecordBatch>) -> Guard {
        let record = batch.and_then(|batch| name_of_row(batch, 0));
        let place = match (record, batch.map_or(0, RecordBatch::num_rows)) {
            (Some(record), 2..) => format!("operator `{stage}` at record {record} or soon after"),
            (Some(record), _) => format!("operator `{stage}` at record {record}"),
            (None, _) => format!("operator `{stage}`"),
        };
        let slot = self.recorder.get().and_then(|recorder| recorder.write(&place));
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.next += 1;
        let number = table.next;
        table.running.insert(number, (Instant::now(), place));
        Guard { number, slot, running: self.clone() }
    }

    /// The invocation that has run longest: for how long, and where it is.
    pub(crate) fn longest(&self) -> Option<(Duration, String)> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let (begun, place) = table.running.values().min_by_key(|(begun, _)| *begun)?;
        Some((begun.elapsed(), place.clone()))
    }
}

/// Ends the note of an invocation when it is dropped.
pub(crate) struct Guard {
    number: u64,
    slot: Option<usize>,
    running: Running,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut table = self.running.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.running.remove(&self.number);
        drop(table);
        if let Some((slot, recorder)) = self.slot.zip(self.running.recorder.get()) {
            recorder.clear(slot);
        }
    }
}

/// A file in memory with a slot for each running invocation, which outlives the process.
#[derive(Debug)]
struct Recorder {
    file: File,
    /// Which slots are taken.
    slots: Mutex<Vec<bool>>,
}

/// Bytes of a slot; a longer text is cut.
const SLOT: usize = 256;
/// Slots at most; more threads than this are not told apart.
const SLOTS: usize = 256;

impl Recorder {
    fn write(&self, text: &str) -> Option<usize> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = match slots.iter().position(|taken| !taken) {
            Some(free) => free,
            None if slots.len() < SLOTS => {
                slots.push(false);
                slots.len() - 1
            }
            None => return None,
        };
        if let Some(taken) = slots.get_mut(slot) {
            *taken = true;
        }
        drop(slots);
        let mut padded = [0; SLOT];
        padded.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        self.file.write_all_at(&padded, (slot * SLOT) as u64).ok().map(|()| slot)
    }

    fn clear(&self, slot: usize) {
        let _ = self.file.write_all_at(&[0], (slot * SLOT) as u64);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = slots.get_mut(slot) {
            *taken = false;
        }
    }
}

/// What a process that is gone was running, from the file that it wrote to.
pub(crate) fn recorded(file: &File) -> Vec<String> {
    let mut bytes = vec![0; SLOTS * SLOT];
    let read = file.read_at(&mut bytes, 0).unwrap_or(0);
    bytes.truncate(read);
    let text = |slot: &[u8]| {
        let text: Vec<u8> = slot.iter().copied().take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&text).into_owned()
    };
    bytes.chunks(SLOT).map(text).filter(|text| !text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_can_be_read_from_outside_until_it_ends() {
        let file = tempfile::tempfile().unwrap();
        let running = Running::default();
        running.record_to(file.try_clone().unwrap());
        let first = running.begin("decode", None);
        let second = running.begin(&"x".repeat(1000), None);
        assert_eq!(recorded(&file).len(), 2);
        assert_eq!(recorded(&file)[0], "operator `decode`");
        drop(first);
        assert_eq!(recorded(&file).len(), 1);
        let third = running.begin("encode", None);
        assert_eq!(recorded(&file)[0], "operator `encode`");
        drop((second, third));
        assert!(recorded(&file).is_empty());
        assert!(running.longest().is_none());
    }
}
