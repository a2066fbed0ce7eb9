//! Where results go.
//!
//! * [`redis_key`] - a Redis key that holds the newest result
//! * [`redis_stream`] - a Redis stream that gets every result
//! * `shared` - what those that talk to Redis have in common
//! * [`stdout`] - lines on standard output
//! * [`file`](mod@file) - lines of a file

pub mod file;
pub mod redis_key;
pub mod redis_stream;
mod shared;
pub mod stdout;
