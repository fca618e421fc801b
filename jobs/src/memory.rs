//! How the allocator treats what was freed.

use std::ffi::c_long;

/// `mi_option_purge_delay` of mimalloc: milliseconds until memory that was freed goes back to the system.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// The next batch wants what the last one had, and fresh pages cost more than most operators' own bookkeeping.
const KEPT_FOR: c_long = 10_000;

/// Has mimalloc keep freed memory for ten seconds, ten times as long as it would. A program of one's own whose
/// allocator is mimalloc, as `anabranch`'s is, calls this first; with another allocator it does nothing.
pub fn keep_what_is_freed() {
    // SAFETY: it stores a number in a table of options that allocations read; any thread may call it.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, KEPT_FOR) };
}
