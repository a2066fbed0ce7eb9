//! Executors: what calls a function's code. Each is found by its name through the registry.
//!
//! ```text
//!   Module ──> Executor ── prepare ──> Function ── invoke(events) ──> outcomes
//! ```
//!
//! * `passthrough` - no code at all: the event is its own result
//! * `native` - a function of a shared library (feature `native`)
//! * `python` - a Python function in this process (feature `python`)
//!
//! [`worker`] puts any of them into a process of its own (feature `worker`). `kept` is what they do where a store keeps
//! their states, `measure` what they do with a function's measurements, `forked` what they do in a child that user code has
//! forked.

#[cfg(any(feature = "native", feature = "python"))]
mod forked;
#[cfg(any(feature = "native", feature = "python"))]
mod kept;
#[cfg(any(feature = "native", feature = "python", feature = "worker"))]
mod measure;
#[cfg(feature = "native")]
mod native;
mod passthrough;
#[cfg(feature = "python")]
mod python;
#[cfg(all(feature = "worker", target_os = "linux"))]
pub mod worker;
