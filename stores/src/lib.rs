//! What keeps a function's state between calls.
//!
//! * [`memory`] - the function itself
//! * [`mod@file`] - a file, or one for each state
//! * [`mod@redis`] - a Redis hash, or one for each state

pub mod file;
mod limit;
pub mod memory;
pub mod redis;
