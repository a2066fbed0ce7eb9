//! The executor `native` with real libraries, at the seam where the engine calls it.
//!
//! * `bed` - a function of a library, called like the engine calls it
//! * `carry` - a state goes on in a newer version
//! * `one_by_one` - batches that somebody follows event by event
//! * `calls` - many calls
//!
//! What a user sees of libraries is in `tests/it/native.rs` of the package `gaugefn`.

#![cfg(feature = "native")]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "tests look at the environment that they were started in")]

mod bed;
mod calls;
mod carry;
mod one_by_one;
mod support;

// a crate that nobody names is not linked, and its components are not registered
use executors as _;
