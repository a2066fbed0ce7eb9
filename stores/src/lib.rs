//! What keeps a function's state between calls, and the events that failed for good.
//!
//! * [`memory`] - state in the function itself
//! * [`mod@file`] - in a file, or one for each state
//! * [`mod@redis`] - in a Redis hash, or one for each state
//! * [`dead_letters`] - failed events, in a file or a Redis stream

pub mod dead_letters;
mod disk;
pub mod file;
mod limit;
pub mod memory;
pub mod redis;
