//! Checks that every component must pass, and scripted parts to run the engine with. For tests only.
//!
//! * [`source_contract`], [`sink_contract`] - the promises of sources and sinks, checked
//! * [`ScriptedSource`], [`ScriptedFunction`], [`Recorder`] - parts that do what a script says
//! * [`Journal`] - what was done to them, in one order

mod contract;
mod journal;
mod scripted;
mod sink;

pub use contract::{sink_contract, source_contract};
pub use journal::Journal;
pub use scripted::{Script, ScriptedFunction, ScriptedSource};
pub use sink::{Recorder, discard_state};
