//! Code that can be called.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;

use super::batch::{Event, Payload};
use super::fault::Fault;
use super::loader::Module;
use super::state::Env;

/// What the function's context tells of its surroundings; information only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Host of the backend that the input comes from.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// What is watched.
    pub input_key: Option<String>,
    /// Where results go.
    pub output_key: Option<String>,
}

impl Facts {
    /// Fills what is still unknown from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            host: self.host.or(other.host),
            port: self.port.or(other.port),
            input_key: self.input_key.or(other.input_key),
            output_key: self.output_key.or(other.output_key),
        }
    }
}

/// What an executor is told of the function that it prepares.
#[derive(Debug, Clone)]
pub struct Brief {
    /// The function's label in the configuration.
    pub function: Arc<str>,
    /// The entry function's name.
    pub handler: String,
    /// For the context.
    pub facts: Facts,
}

/// What goes with the events of one call.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// The state to start from, where a store asked for it; `None` means: whatever the function holds.
    pub env: Option<Env>,
    /// The version that `env` was loaded with.
    pub base_version: Option<u64>,
    /// When the first event has to be finished.
    pub deadline: Option<Instant>,
}

/// What a function made of one event.
#[derive(Debug)]
pub enum Returned {
    /// Nothing to store: `None`, `{}`, `0`, `[]`, `""` from Python.
    Empty,
    /// A result, as JSON text.
    Output(Payload),
    /// The call failed. [`Fault::report`] has the traceback.
    Failed(Fault),
}

/// What a function made of one event, and the state after it where the store asks for one.
#[derive(Debug)]
pub struct Outcome {
    /// The result.
    pub returned: Returned,
    /// The state after this event; `None` where it stays in the function.
    pub env: Option<Env>,
}

impl From<Returned> for Outcome {
    fn from(returned: Returned) -> Self {
        Self { returned, env: None }
    }
}

/// Makes functions of modules.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Loads the module once and finds its entry function. There is a module exactly where the kind needs one.
    ///
    /// # Errors
    /// [`Blame::Function`](super::Blame::Function) with file, line and what was wanted.
    async fn prepare(&self, module: Option<Module>, brief: Brief) -> Result<Box<dyn Function>, Fault>;
}

/// Code that can be called. The unit is the batch: one crossing of a language or process border for all events.
#[async_trait]
pub trait Function: Send {
    /// Calls the entry function with each event in order; exactly one outcome per event, in the same order. A call
    /// that fails is an outcome, and the next event is still called.
    ///
    /// Never called again before it has answered. The future is dropped only when the process ends.
    ///
    /// # Errors
    /// The function itself is gone: no outcome is known.
    async fn invoke(&mut self, events: &[Event], call: Call) -> Result<Vec<Outcome>, Fault>;

    /// Runs what the function has registered for its end. Called once, while draining.
    ///
    /// # Errors
    /// What failed is logged.
    async fn close(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}
