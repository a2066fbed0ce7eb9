//! What belongs together: the results, the state and the acknowledgement of one batch.

use std::any::Any;
use std::fmt;

use async_trait::async_trait;

use super::batch::{Receipt, Verdict};
use super::fault::Fault;
use super::letters::Letter;
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

/// Runs what the parts of a [`Domain`] enlist, all or nothing.
#[async_trait]
pub trait Transaction: Send + Sync {
    /// What kind of place it is, for people: `redis`.
    fn name(&self) -> &'static str;

    /// Puts together what belongs to one commit.
    ///
    /// # Errors
    /// A part that this domain does not know, or too many of them.
    fn prepare(&self, parts: Vec<Box<dyn Any + Send>>) -> Result<Box<dyn Prepared>, Fault>;

    /// Why one transaction cannot span these keys; None where it can.
    ///
    /// # Errors
    /// The place is away.
    async fn obstacle(&self, keys: &[String]) -> Result<Option<String>, Fault>;
}

/// A commit that is put together.
#[async_trait]
pub trait Prepared: Send + Sync {
    /// Runs it. After a fault with `retry` it is run again, which writes nothing twice.
    ///
    /// # Errors
    /// The place is away, or refuses for now; nothing is written.
    async fn run(&self) -> Result<Decision, Fault>;
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Everything is written, now or by an earlier try.
    Done,
    /// Events with these ids belong to somebody else by now. Nothing is written.
    Lost(Vec<String>),
    /// Events with these ids are nobody's any more, as what gave them out is gone. Nothing is written; those that their
    /// source still has come again.
    Gone {
        /// The ids.
        events: Vec<String>,
        /// What has happened, as a sentence for people.
        why: String,
    },
    /// Somebody else has saved or removed some of the states in between. Nothing is written.
    Stale,
    /// Somebody else has the lease. Nothing is written.
    Fenced,
    /// A key cannot take what is meant for it, now or later, or the place cannot take that much. Nothing is written.
    Unfit {
        /// The key; empty where it is not known which.
        key: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
}

/// One batch's effects, on their way.
#[derive(Debug, Default)]
pub struct Commit {
    /// For every sink. Empty results are not among them.
    pub outputs: Vec<Output>,
    /// For the store; nothing where the state is not durable.
    pub states: Vec<(StateKey, Versioned)>,
    /// For the dead letters.
    pub letters: Vec<Letter>,
    /// For the source, one per event.
    pub verdicts: Vec<Verdict>,
    /// Takes the verdicts, last.
    pub receipt: Receipt,
}
