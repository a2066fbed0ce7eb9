//! Worker processes' plumbing with real processes.
//!
//! * `child` - what this binary does where a test has started it as a child
//! * `start` - descriptors, environment, what is left in the parent
//! * `talk` - socket, shared area, output, records and stacks of one child
//! * `guard` - the parent is killed
//! * `trees` - the worker is killed, and whatever it has started
//!
//! One test per process, as `cargo nextest run` does it: tests count descriptors and children.

#![cfg(all(feature = "worker", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

mod child;
mod guard;
mod start;
mod talk;
mod trees;
