//! What keeps a function's state between calls.
//!
//! * [`memory`] - the function itself

pub mod memory;
