//! The dataflow: one timely operator per source, stage and sink, and a committer.
//!
//! Timely routes and counts here, and nothing else: reading and writing are tokio tasks, computing is on
//! the executor. An operator keeps the capability of whatever it handed out until the result is back.
//!
//! An operator with state is several: `route` sends each row to the worker that owns its virtual shard,
//! `absorb` feeds whole epochs to the shards there, and `gather` puts their output in order again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::scheduling::SyncActivator;

use super::shared::Shared;
use crate::record::Batch;

mod absorb;
mod build;
mod committer;
mod cuts;
mod gather;
mod letters;
mod parcel;
mod reader;
mod route;
mod shards;
mod sink;
mod stage;

pub(crate) use build::build;
pub(crate) use committer::{CommitTask, Target};
pub(crate) use parcel::Tick;

type Batches<'scope> = StreamVec<'scope, u64, Batch>;
type Output<T> = OutputBuilder<u64, CapacityContainerBuilder<Vec<T>>>;

/// Wakes a timely operator from any thread, queueing at most one activation.
#[derive(Clone)]
pub(crate) struct Waker {
    activator: Arc<std::sync::Mutex<Option<SyncActivator>>>,
    pending: Arc<AtomicBool>,
}

impl Waker {
    pub(crate) fn new() -> Self {
        Self { activator: Arc::default(), pending: Arc::default() }
    }

    fn attach(&self, activator: SyncActivator) {
        let mut slot = self.activator.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *slot = Some(activator);
        drop(slot);
        // What was sent before the operator existed must be seen too.
        self.pending.store(false, Ordering::Release);
        self.wake();
    }

    /// Schedules the operator, unless it is about to run anyway.
    pub(crate) fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            let slot = self.activator.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(activator) = slot.as_ref() {
                // Fails only when the worker is gone, and then nothing waits.
                let _ = activator.activate();
            }
        }
    }

    /// The operator calls this before it drains what the waker announced.
    fn rest(&self) {
        self.pending.store(false, Ordering::Release);
    }
}
