//! The core of gaugefn: the contract of components, the registry that finds them, the settings that choose among
//! them, and the engine that runs them. It contains no component.
//!
//! ```text
//!  config ── choose ──> registry ── build ──> Source, Loader, Executor, StateStore, Sinks
//!                                                      │
//!                    engine:  pull ──> call ──> commit ┘   one loop per function, one place that stops it
//! ```
//!
//! * [`contract`] - what components promise and are promised
//! * [`registry`] - kinds of components and how they are found by name
//! * [`config`] - files and environment, layered; all mistakes at once
//! * [`engine`] - the loop: pull, call, commit, back off, drain
//! * [`change`] - when two JSON values are the same
//! * `listener` - clients of HTTP, within limits (feature `listener`)
//! * [`options`] - durations, sizes and templates, as options spell them
//! * [`main_thread`] - work for the process's first thread
//! * [`pointer`](mod@pointer) - values inside of JSON
//! * [`records`] - lines that user code printed, as log records
//! * [`scratch`] - private folders that go with the process
//! * [`stdout`] - standard output, in whole lines
//! * `testkit` - contract checks for the tests of components (feature `testkit`)

#![warn(missing_docs)]

pub mod change;
pub mod config;
pub mod contract;
pub mod engine;
pub mod isolation;
#[cfg(feature = "listener")]
pub mod listener;
pub mod main_thread;
pub mod options;
pub mod pointer;
pub mod records;
pub mod registry;
pub mod scratch;
pub mod stdout;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

pub use contract::Fault;
pub use registry::{Around, Entry, Kind, Registry, Shared, Site};
