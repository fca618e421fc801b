//! Credit: the bytes of a job that may be in flight between source and sink.
//!
//! A source acquires a [`Charge`] once per batch, for the largest size on the batch's way, *before* the
//! batch enters the graph. From then on a charge only ever shrinks, and what it frees goes to the next
//! batch. A source reads one or two batches ahead, which wait outside the credit. Nothing inside the graph waits for credit, so nothing there can deadlock on it.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use anabranch_pipelines::credit::Credit;
//!
//! let credit = Credit::new(1 << 20);
//! let charge = credit.acquire(256 << 10).await;
//! assert_eq!(credit.used(), 256 << 10);
//! charge.shrink_to(64 << 10);
//! assert_eq!(credit.used(), 64 << 10);
//! drop(charge);
//! assert_eq!(credit.used(), 0);
//! # });
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Credit is counted in units of this many bytes, so that any job's fits a 32-bit permit count.
const UNIT: usize = 1024;

/// The credit of one process.
#[derive(Debug, Clone)]
pub struct Credit {
    free: Arc<Semaphore>,
    units: usize,
}

impl Credit {
    /// A credit of `bytes`, rounded down to whole kibibytes.
    pub fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).min(u32::MAX as usize).max(1);
        Self { free: Arc::new(Semaphore::new(units)), units }
    }

    /// The whole credit in bytes.
    pub fn total(&self) -> usize {
        self.units * UNIT
    }

    /// Bytes in flight now.
    pub fn used(&self) -> usize {
        (self.units - self.free.available_permits().min(self.units)) * UNIT
    }

    /// Waits, first come first served, until `bytes` are free. More than the whole is cut to the whole.
    pub async fn acquire(&self, bytes: usize) -> Charge {
        let units = bytes.div_ceil(UNIT).clamp(1, self.units);
        let permit = Arc::clone(&self.free).acquire_many_owned(units as u32).await.ok();
        Charge { permit: Arc::new(Mutex::new(permit)) }
    }
}

/// Bytes of the credit held by a batch. Clones share it; the last one gone gives it back.
#[derive(Debug, Clone)]
pub struct Charge {
    permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Charge {
    /// Gives back what exceeds `bytes`, unless another branch of the graph shares the charge.
    pub fn shrink_to(&self, bytes: usize) {
        if Arc::strong_count(&self.permit) > 1 {
            return;
        }
        let mut permit = self.permit.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(permit) = permit.as_mut() {
            let keep = bytes.div_ceil(UNIT).max(1);
            drop(permit.split(permit.num_permits().saturating_sub(keep)));
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let permit = self.permit.lock().unwrap_or_else(PoisonError::into_inner);
        permit.as_ref().map_or(0, |permit| permit.num_permits() * UNIT)
    }
}
