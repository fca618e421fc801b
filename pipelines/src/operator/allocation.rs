//! What an invocation is known to need, and what it is granted.

use serde::{Deserialize, Serialize};

/// What is known of an invocation before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Features {
    /// Rows of the batch.
    pub records: usize,
    /// Bytes of the batch.
    pub bytes: usize,
    /// The operator's own estimate of the work, in a unit of its choice (pixels, samples, bytes).
    pub work: f64,
}

/// Threads and bytes granted to one invocation, both taken at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Threads, at least 1. The executor calls `invoke` inside a rayon pool of this size.
    pub threads: usize,
    /// Bytes that the invocation may take beyond its input.
    pub bytes: usize,
}

impl Allocation {
    /// One thread and no bound on bytes, for running an operator on a plain thread.
    pub const PLAIN: Self = Self { threads: 1, bytes: usize::MAX };
}

/// What a job declares for an operator: `resources = { threads = 2, memory = "256MiB" }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Threads per invocation.
    pub threads: usize,
    /// Bytes per invocation beyond its input; `None` takes the declared growth.
    pub memory: Option<usize>,
    /// Whether to run in a worker process of its own, for what may crash.
    pub isolate: bool,
}

impl Default for Resources {
    fn default() -> Self {
        Self { threads: 1, memory: None, isolate: false }
    }
}

/// What an invocation used, as far as the executor could tell.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Seconds from start to end.
    pub seconds: f64,
    /// Bytes of the output.
    pub bytes: usize,
}

/// Decides the allocation of each invocation when it is about to run.
///
/// [`Declared`] grants what the job file says. A learner implements the same trait.
pub trait Sizing: Send + Sync {
    /// The allocation for an invocation with these features.
    fn size(&self, features: &Features) -> Allocation;

    /// Tells what an invocation used.
    fn observe(&self, _features: &Features, _allocation: &Allocation, _usage: &Usage) {}
}

/// Grants what was declared, whatever the input.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    /// The job's declaration.
    pub resources: Resources,
    /// The operator's declared growth, which stands in where the job names no memory.
    pub growth: super::Growth,
}

impl Sizing for Declared {
    fn size(&self, features: &Features) -> Allocation {
        let grown = self.growth.bound(features.bytes, features.records);
        Allocation {
            threads: self.resources.threads.max(1),
            bytes: self.resources.memory.unwrap_or(grown),
        }
    }
}
