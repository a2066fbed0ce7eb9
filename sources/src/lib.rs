//! Where events come from.
//!
//! * [`redis_key`] - the newest value of a Redis key
//! * [`redis_stream`] - the entries of a Redis stream, shared with other processes
//! * `redis_transaction` - results, states and acknowledgement in one step
//! * `redis_lease` - one process of several reads a key
//! * `shared` - what those that talk to Redis have in common
//! * [`host`] - this machine's metrics
//! * [`file`](mod@file) - the lines of a file, or of standard input
//! * [`lines`] - JSON lines, read within bounds

pub mod file;
pub mod host;
pub mod lines;
pub mod redis_key;
mod redis_lease;
pub mod redis_stream;
mod redis_transaction;
mod shared;
