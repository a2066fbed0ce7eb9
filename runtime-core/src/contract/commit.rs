//! What belongs together: the results, the state and the acknowledgement of one batch.

use std::fmt;

use super::batch::{Receipt, Verdict};
use super::sink::Output;
use super::state::{StateKey, Versioned};

/// A place that can run the writes of several components as one transaction: one Redis server and database.
///
/// Source, sinks and store may each name theirs. Only where all of them name the same one can a batch be committed
/// atomically; otherwise the order is sinks, state, receipt (at least once). The start-up line says which it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Domain(String);

impl Domain {
    /// `name` must be equal for components exactly where one transaction can span them.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One batch's effects, on their way.
#[derive(Debug)]
pub struct Commit {
    /// For every sink. Empty results are not among them.
    pub outputs: Vec<Output>,
    /// For the store; nothing where the state is not durable.
    pub states: Vec<(StateKey, Versioned)>,
    /// For the source, one per event.
    pub verdicts: Vec<Verdict>,
    /// Takes the verdicts, last.
    pub receipt: Receipt,
}
