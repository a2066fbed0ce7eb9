//! Executors: what calls a function's code. Each is found by its name through the registry.
//!
//! ```text
//!   Module ──> Executor ── prepare ──> Function ── invoke(events) ──> outcomes
//! ```
//!
//! * `passthrough` - no code at all: the event is its own result
//! * `python` - a Python function in this process (feature `python`)

mod passthrough;
#[cfg(feature = "python")]
mod python;
