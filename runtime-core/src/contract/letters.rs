//! Where events go that failed for good.

use std::any::Any;
use std::time::SystemTime;

use async_trait::async_trait;

use super::batch::Payload;
use super::commit::Domain;
use super::fault::Fault;

/// An event that failed for good, with all that is needed to find out why and to try it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The event's id in its source.
    pub event: String,
    /// The event as its source had it.
    pub payload: Payload,
    /// What the source had, in a form of its own, where the payload alone does not give it back.
    pub original: Option<String>,
    /// The error of the last attempt, with its causes, in one line.
    pub error: String,
    /// The traceback, where there was one.
    pub report: Option<String>,
    /// The content hash of the code that failed, where there is code.
    pub revision: Option<String>,
    /// How often the function was called with it.
    pub attempts: u32,
    /// Where it came from: the source's name and what it reads, such as `redis_stream events`.
    pub origin: String,
    /// When it was given up.
    pub failed_at: SystemTime,
}

/// A letter as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filed {
    /// Its name among the dead letters of the function.
    pub id: String,
    /// The letter.
    pub letter: Letter,
}

/// Keeps the dead letters of one function, in the order in which they came.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Adds them. After a fault with `retry` it is called again with the same letters; one may be there twice then.
    ///
    /// # Errors
    /// With `retry`: the place is away. Without: it can never take them.
    async fn put(&self, letters: &[Letter]) -> Result<(), Fault>;

    /// Whether letters could be added, so that wrong settings show at the start, not with the first failure. Called again
    /// each second while the place is in trouble and nothing is to be written. Must be safe to drop at any time.
    ///
    /// # Errors
    /// As for [`put`](DeadLetters::put).
    async fn check(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// What the transaction of the place's [`Domain`] needs in order to add them together with everything else of their
    /// batch.
    fn enlist(&self, _letters: &[Letter]) -> Option<Box<dyn Any + Send>> {
        None
    }

    /// The place whose transaction could include them.
    fn domain(&self) -> Option<Domain> {
        None
    }

    /// Keys that are touched, in a place that spreads keys over servers.
    fn keys(&self) -> Vec<String> {
        Vec::new()
    }

    /// Where they are, for people.
    fn describe(&self) -> String;

    /// Up to `max` letters, oldest first, that come after the one with this id.
    ///
    /// # Errors
    /// The place is away, or what it holds are no letters.
    async fn list(&self, after: Option<&str>, max: usize) -> Result<Vec<Filed>, Fault>;

    /// The letter of this id.
    ///
    /// # Errors
    /// As for [`list`](DeadLetters::list).
    async fn get(&self, id: &str) -> Result<Option<Filed>, Fault>;

    /// Removes letters; how many there were of them.
    ///
    /// # Errors
    /// The place is away.
    async fn remove(&self, ids: &[String]) -> Result<u64, Fault>;

    /// Removes letters and feeds them to their source, in one step for each: one that is gone already is not fed. Each
    /// comes with what [`Source::feed`](super::Source::feed) made of it. How many were fed. Only called where source and
    /// letters are in one [`Domain`].
    ///
    /// # Errors
    /// The place is away: it may be called again with the same letters.
    async fn feed_back(&self, _letters: Vec<(String, Box<dyn Any + Send>)>) -> Result<u64, Fault> {
        Err(Fault::internal(format!("{} feeds nothing back", self.describe())))
    }
}
