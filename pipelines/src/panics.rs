//! Panics that are caught, kept off the screen and told as what they are: a dead letter, or the end of a run.
//!
//! The standard hook prints every panic when it happens, also one that is caught a moment later and becomes
//! a dead letter. A program calls [`keep_quiet`] once, and sees only those that nobody caught.
//!
//! ```
//! anabranch_pipelines::panics::keep_quiet();
//! ```

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Once;

thread_local! {
    /// How many catchers stand around what this thread executes now.
    static CATCHERS: Cell<u32> = const { Cell::new(0) };
}

/// Installs a hook that says nothing of panics that this crate catches. Repeating it changes nothing.
pub fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if is_caught() {
                tracing::debug!("caught: {panic}");
            } else {
                before(panic);
            }
        }));
    });
}

/// Whether a panic of the calling thread would be caught by this crate.
pub(crate) fn is_caught() -> bool {
    CATCHERS.try_with(Cell::get).is_ok_and(|catchers| catchers > 0)
}

/// Runs `work`.
///
/// # Errors
/// What a panic in it said.
pub fn catch<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    let count = |change: fn(u32) -> u32| {
        let _ = CATCHERS.try_with(|catchers| catchers.set(change(catchers.get())));
    };
    count(|catchers| catchers + 1);
    let result = catch_unwind(AssertUnwindSafe(work));
    count(|catchers| catchers.saturating_sub(1));
    result.map_err(|panic| message(panic.as_ref()))
}

/// Runs a task to its end; what a panic in it said is the error.
pub(crate) async fn catch_in<R>(task: impl Future<Output = R>) -> Result<R, String> {
    let mut task = pin!(task);
    std::future::poll_fn(move |context| match catch(|| task.as_mut().poll(context)) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(panic)),
    })
    .await
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_panic_is_an_error_and_leaves_no_trace() {
        assert_eq!(catch(|| panic!("at {}", 7)), Err::<(), _>("at 7".to_owned()));
        assert_eq!(catch(|| 7), Ok(7));
        assert!(!is_caught());
        assert!(catch(is_caught).unwrap());
    }

    #[test]
    fn a_task_is_caught_at_any_poll() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let late = async {
            tokio::task::yield_now().await;
            panic!("late");
        };
        assert_eq!(runtime.block_on(catch_in::<()>(late)), Err("late".to_owned()));
        assert_eq!(runtime.block_on(catch_in(async { 7 })), Ok(7));
    }
}
