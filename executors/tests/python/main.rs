//! The executor `python` with a real interpreter.
//!
//! * `bed` - a function in a temporary folder, called like the engine calls it
//! * `values` - what goes in and comes out
//! * `loading` - files, names, packages, and how a function that cannot be loaded is refused
//! * `output` - prints and logging as records
//! * `surroundings` - the context, signals, streams, the end
//!
//! One interpreter and one function per process: `cargo nextest run` gives each test a process of its own.

#![cfg(feature = "python")]
#![allow(clippy::unwrap_used)]

mod bed;
mod loading;
mod output;
mod surroundings;
mod values;

// a crate that nobody names is not linked, and its components are not registered
use executors as _;
