//! What is kept between calls.

use std::any::Any;
use std::time::Duration;

use async_trait::async_trait;

use super::commit::Domain;
use super::fault::Fault;
use super::lease::Lease;
use crate::change::Fingerprint;

/// A function's state as bytes: one entry for each top-level key of `context.env`, in their order. Both halves are
/// texts of the state codec, whose format the stores keep as it is and only executors understand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env(pub Vec<(bytes::Bytes, bytes::Bytes)>);

/// Which state: the whole function's (`None`), or that of one value found at the configured JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct StateKey(pub Option<String>);

/// A state with what guards it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versioned {
    /// Counts the commits; a save must build on the version that it loaded.
    pub version: u64,
    /// Tells this state from one of the same key that expired or was removed, and began with the first version as well.
    /// Given once, to the first version, and kept. 0 where it is not known: a store that nobody else writes to needs none.
    pub life: u64,
    /// The state.
    pub env: Env,
    /// The input that the last commit was made of.
    pub fingerprint: Option<Fingerprint>,
    /// How long the store still keeps it, as loaded; `None` for good. A save begins the whole time anew.
    pub left: Option<Duration>,
}

/// What a store has for one key: `None` where it was never saved, or has expired.
///
/// # Errors
/// What is there is no state that can be used; that of other keys can. With `retry` somebody may put it right.
pub type Found = Result<Option<Versioned>, Fault>;

/// What became of a save.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Saved {
    /// All are saved.
    Done,
    /// Somebody else saved these in between. Nothing is saved, and what was built on the old versions must be
    /// discarded: no further try can help.
    Stale(Vec<StateKey>),
}

/// Keeps `context.env`.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// Whether the state outlives the process. If not, the function simply holds it, `load` answers nothing and
    /// `save` is never called.
    fn durable(&self) -> bool;

    /// The states of these keys, in their order.
    ///
    /// # Errors
    /// The backend is away.
    async fn load(&self, keys: &[StateKey]) -> Result<Vec<Found>, Fault>;

    /// How long a state is kept after its last save, or its last use where only the function holds it; `None` for good.
    fn ttl(&self) -> Option<Duration> {
        None
    }

    /// Whether these states can be saved at all. Asked before anything of their batch is written.
    ///
    /// # Errors
    /// One is too large perhaps; the sentence names what makes it so.
    fn check(&self, _states: &[(StateKey, Versioned)]) -> Result<(), Fault> {
        Ok(())
    }

    /// Saves all of them or none. Each must carry its loaded version plus one; without a loaded one, 1. After a fault
    /// with `retry` it is called again with the same states, which may have been saved the first time: that is no
    /// reason to call them stale.
    ///
    /// # Errors
    /// With `retry`: the backend is away. Without: these states can never be saved, one is too large perhaps.
    async fn save(&self, states: &[(StateKey, Versioned)]) -> Result<Saved, Fault>;

    /// What the transaction of the store's [`Domain`] needs in order to save these states together with results and
    /// acknowledgement. Whoever runs that transaction knows the type; the engine does not.
    ///
    /// # Errors
    /// These states can never be saved.
    fn enlist(&self, _states: &[(StateKey, Versioned)]) -> Result<Option<Box<dyn Any + Send>>, Fault> {
        Ok(None)
    }

    /// The transaction has saved what was enlisted.
    fn enlisted(&self, _states: &[(StateKey, Versioned)]) {}

    /// The place whose transaction could include a save.
    fn domain(&self) -> Option<Domain> {
        None
    }

    /// Keys that a save touches, in a place that spreads keys over servers: one for each kind of them.
    fn keys(&self) -> Vec<String> {
        Vec::new()
    }

    /// What makes one process of several the only one that uses the un-keyed state; asked only where there is no key.
    fn lease(&self) -> Option<Box<dyn Lease>> {
        None
    }
}
