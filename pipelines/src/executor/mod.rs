//! Where invocations run: threads and bytes for the whole process, granted per invocation.
//!
//! An invocation takes its threads and bytes together, so none holds one while it waits for the other.
//! They start first come first served, except that a small one may pass a large one that does not fit
//! yet, a bounded number of times.
//!
//! ```
//! use anabranch_pipelines::executor::Executor;
//! use anabranch_pipelines::operator::Allocation;
//!
//! let executor = Executor::new(2, 64 << 20);
//! let (send, receive) = std::sync::mpsc::channel();
//! executor.submit(Allocation { threads: 1, bytes: 1 << 20 }, move |_| { let _ = send.send(6 * 7); });
//! assert_eq!(receive.recv().unwrap(), 42);
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::operator::Allocation;

mod invocation;
pub mod isolated;
mod pools;

pub(crate) use invocation::{Failure, Invocation, Member, Refusal};

use pools::Pools;

/// How often invocations may pass one that does not fit yet.
const BACKFILL: u32 = 64;
/// How long the end of an abandoned executor waits for invocations that still run.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a job learns about its start.
#[derive(Debug, Clone, Copy)]
pub struct Granted {
    /// Threads and bytes, cut to what the process has.
    pub allocation: Allocation,
    /// How long the job waited for them.
    pub waited: Duration,
}

type Job = Box<dyn FnOnce(Granted) + Send>;

struct Pending {
    allocation: Allocation,
    queued: Instant,
    passed: u32,
    /// Whether it runs inside a pool, if only of one thread.
    pooled: bool,
    job: Job,
}

struct Queue {
    pending: VecDeque<Pending>,
    threads: usize,
    bytes: usize,
    closed: bool,
    abandoned: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    pools: Pools,
    threads: usize,
    bytes: usize,
}

/// The executor of one process. Dropping it lets queued jobs finish first, unless it was abandoned.
pub struct Executor {
    shared: Arc<Shared>,
    workers: Vec<std::thread::JoinHandle<()>>,
}

impl Executor {
    /// An executor with so many threads, whose invocations take at most `bytes` together.
    pub fn new(threads: usize, bytes: usize) -> Self {
        let threads = threads.max(1);
        let queue =
            Queue { pending: VecDeque::new(), threads, bytes, closed: false, abandoned: false };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            pools: Pools::default(),
            threads,
            bytes,
        });
        let workers = (0..threads)
            .filter_map(|index| {
                let shared = Arc::clone(&shared);
                let name = format!("executor-{index}");
                std::thread::Builder::new().name(name).spawn(move || shared.work()).ok()
            })
            .collect();
        Self { shared, workers }
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Queues a job. A job of several threads runs inside a rayon pool of that size.
    ///
    /// An allocation beyond what the process has is cut to it, lest the job wait for ever.
    pub fn submit(&self, allocation: Allocation, job: impl FnOnce(Granted) + Send + 'static) {
        self.queue(allocation, allocation.threads > 1, Box::new(job));
    }

    /// Queues a job that divides its work with rayon: also one of a single thread runs inside a pool of its own,
    /// lest it take the threads of others.
    pub fn submit_parallel(
        &self,
        allocation: Allocation,
        job: impl FnOnce(Granted) + Send + 'static,
    ) {
        self.queue(allocation, true, Box::new(job));
    }

    fn queue(&self, allocation: Allocation, pooled: bool, job: Job) {
        let allocation = Allocation {
            threads: allocation.threads.clamp(1, self.shared.threads),
            bytes: allocation.bytes.min(self.shared.bytes),
        };
        let pending = Pending { allocation, queued: Instant::now(), passed: 0, pooled, job };
        self.shared.lock().pending.push_back(pending);
        self.shared.changed.notify_one();
    }

    /// Forgets what is queued. An invocation that never returns does not hold up the end any more.
    pub fn abandon(&self) {
        let mut queue = self.shared.lock();
        queue.abandoned = true;
        // Dropped outside the lock: a job may own the last handle of something that locks.
        let forgotten = std::mem::take(&mut queue.pending);
        drop(queue);
        drop(forgotten);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(next) = self.next() {
            let Pending { allocation, queued, pooled, job, .. } = next;
            let granted = Granted { allocation, waited: queued.elapsed() };
            // A job catches its own panics and reports them; what gets here must not take the thread
            // or the allocation with it.
            let ran = crate::panics::catch(|| {
                if pooled {
                    self.pools.with(allocation.threads, || job(granted));
                } else {
                    job(granted);
                }
            });
            if let Err(panic) = ran {
                tracing::error!("a job panicked outside its shell: {panic}");
            }
            let mut queue = self.lock();
            queue.threads += allocation.threads;
            queue.bytes += allocation.bytes;
            drop(queue);
            self.changed.notify_all();
        }
    }

    /// Waits for the next job that fits, and takes its allocation.
    fn next(&self) -> Option<Pending> {
        let mut queue = self.lock();
        loop {
            if let Some(at) = queue.fitting()
                && let Some(pending) = queue.pending.remove(at)
            {
                queue.pending.iter_mut().take(at).for_each(|waiting| waiting.passed += 1);
                queue.threads -= pending.allocation.threads;
                queue.bytes -= pending.allocation.bytes;
                return Some(pending);
            }
            if queue.closed && queue.pending.is_empty() {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue {
    /// The first job that fits, unless one before it has been passed too often.
    fn fitting(&self) -> Option<usize> {
        for (at, pending) in self.pending.iter().enumerate() {
            let Allocation { threads, bytes } = pending.allocation;
            if threads <= self.threads && bytes <= self.bytes {
                return Some(at);
            }
            if pending.passed >= BACKFILL {
                return None;
            }
        }
        None
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        let abandoned = queue.abandoned;
        drop(queue);
        self.shared.changed.notify_all();
        // The last handle may be dropped by a job on one of the executor's own threads.
        let me = std::thread::current().id();
        let closed = Instant::now();
        for worker in self.workers.drain(..).filter(|worker| worker.thread().id() != me) {
            while abandoned && !worker.is_finished() && closed.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(2));
            }
            if !abandoned || worker.is_finished() {
                let _ = worker.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn bytes_are_never_overdrawn_and_all_jobs_run() {
        let executor = Executor::new(4, 100);
        let (held, peak, done) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
        );
        for job in 0..200 {
            let bytes = [10, 60, 100, 1000][job % 4];
            let (held, peak, done) = (Arc::clone(&held), Arc::clone(&peak), Arc::clone(&done));
            executor.submit(Allocation { threads: 1 + job % 3, bytes }, move |granted| {
                let now = held.fetch_add(granted.allocation.bytes, Ordering::SeqCst)
                    + granted.allocation.bytes;
                peak.fetch_max(now, Ordering::SeqCst);
                std::thread::yield_now();
                held.fetch_sub(granted.allocation.bytes, Ordering::SeqCst);
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        drop(executor);
        assert_eq!(done.load(Ordering::SeqCst), 200);
        assert!(peak.load(Ordering::SeqCst) <= 100);
    }

    #[test]
    fn a_parallel_job_of_one_thread_divides_its_work_among_one() {
        let executor = Executor::new(2, 100);
        let (send, receive) = std::sync::mpsc::channel();
        let one = Allocation { threads: 1, bytes: 0 };
        executor.submit_parallel(one, move |_| send.send(rayon::current_num_threads()).unwrap());
        assert_eq!(receive.recv().unwrap(), 1);
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let executor = Executor::new(1, 100);
        executor.submit(Allocation { threads: 1, bytes: 100 }, |_| panic!("for the test"));
        let (send, receive) = std::sync::mpsc::channel();
        executor.submit(Allocation { threads: 1, bytes: 100 }, move |_| send.send(1).unwrap());
        assert_eq!(receive.recv().unwrap(), 1);
    }
}
