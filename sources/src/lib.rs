//! Where events come from.
//!
//! * [`redis_key`] - the newest value of a Redis key
//! * [`redis_stream`] - the entries of a Redis stream, shared with other processes
//! * `shared` - what those two have in common
//! * [`host`] - this machine's metrics
//! * [`file`](mod@file) - the lines of a file, or of standard input

pub mod file;
pub mod host;
pub mod redis_key;
pub mod redis_stream;
mod shared;
