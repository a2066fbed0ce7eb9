//! Checks that every component must pass, and scripted parts to run the engine with. For tests only.

mod contract;
mod scripted;

pub use contract::{sink_contract, source_contract};
pub use scripted::{Recorder, Script, ScriptedFunction, ScriptedSource, discard_state};
