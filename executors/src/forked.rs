//! A child that user code has forked is a copy of this process: it has its conversation, its shared memory, its outputs.
//! Where it comes back to the runtime, by returning or raising, it must end there, or it would go on as if it were its
//! parent.
//!
//! What tells is the number of the process: a library may fork without anybody being called.
#![allow(unsafe_code)]

use std::process;
use std::ptr::null_mut;
use std::sync::OnceLock;

/// The number of the process that loaded the code.
static HOME: OnceLock<u32> = OnceLock::new();

/// To be called before any user code runs.
pub(crate) fn begin() {
    HOME.get_or_init(process::id);
}

/// Whether this is a child of the process that loaded the code.
pub(crate) fn is_child() -> bool {
    HOME.get().is_some_and(|home| *home != process::id())
}

/// Ends this child, and nothing that is its parent's: no exit handler runs, no destructor, no folder is removed. What C
/// code has printed goes out.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: null stands for all streams, whose locks are free in a child
    unsafe { libc::fflush(null_mut()) };
    // SAFETY: ends the process
    unsafe { libc::_exit(code) }
}

/// Ends this process where it is a child.
#[cfg(feature = "native")]
pub(crate) fn leave_if_child() {
    if is_child() {
        leave(0);
    }
}
