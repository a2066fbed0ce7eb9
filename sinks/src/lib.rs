//! Where results go.
//!
//! * [`redis_key`] - a Redis key that holds the newest result
//! * [`stdout`] - lines on standard output
//! * [`file`](mod@file) - lines of a file

pub mod file;
pub mod redis_key;
pub mod stdout;
