//! Which invocations are running, so that a stalled run can say where.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::record::RecordId;

#[derive(Debug, Clone, Default)]
pub(crate) struct Running {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    running: HashMap<u64, (Instant, String, Option<RecordId>)>,
}

impl Running {
    /// Notes an invocation until the guard is dropped.
    pub(crate) fn begin(&self, stage: &str, record: Option<RecordId>) -> Guard {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.next += 1;
        let number = table.next;
        table.running.insert(number, (Instant::now(), stage.to_owned(), record));
        Guard { number, running: self.clone() }
    }

    /// The invocation that has run longest, as a phrase.
    pub(crate) fn longest(&self) -> Option<(Duration, String)> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let (begun, stage, record) = table.running.values().min_by_key(|(begun, ..)| *begun)?;
        let record = record.map(|id| format!(" at record {id}")).unwrap_or_default();
        let age = begun.elapsed();
        Some((age, format!("operator `{stage}` has been{record} for {:.0} s", age.as_secs_f64())))
    }
}

pub(crate) struct Guard {
    number: u64,
    running: Running,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut table = self.running.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.running.remove(&self.number);
    }
}
