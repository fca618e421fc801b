//! Rayon pools, leased per number of threads.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Idle pools by size. A pool is made when an invocation of its size finds none idle.
#[derive(Default)]
pub(super) struct Pools {
    idle: Mutex<HashMap<usize, Vec<ThreadPool>>>,
}

impl Pools {
    /// Runs `job` inside a pool of `threads` threads; on the calling thread if none can be made.
    pub(super) fn with(&self, threads: usize, job: impl FnOnce() + Send) {
        let idle = self.lock().get_mut(&threads).and_then(Vec::pop);
        let pool = idle.or_else(|| {
            let name = move |index| format!("executor-pool-{threads}-{index}");
            ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build().ok()
        });
        match pool {
            Some(pool) => {
                pool.install(job);
                self.lock().entry(threads).or_default().push(pool);
            }
            None => job(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Vec<ThreadPool>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
