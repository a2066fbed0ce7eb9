//! What travels from a source to the commit.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;

use super::fault::Fault;
use crate::change::Fingerprint;

/// The bytes of an event or of a result: JSON, parsed only where it is looked into.
pub type Payload = bytes::Bytes;

/// One thing that happened, to be given to the function once.
#[derive(Debug, Clone)]
pub struct Event {
    /// Names the event in logs, in `context.event_id` and in dead letters. Unique within its source.
    pub id: String,
    /// The event as its source had it. It may be malformed: that is this event's fault, never the source's.
    pub payload: Payload,
    /// How often the function was called with this event by this process, this call included. Calls that ended with
    /// the process that made them are not among them.
    pub attempt: u32,
    /// How often it was delivered to any process, this time included. A source that cannot know says 1. Much more than
    /// the attempts means that handling it ends processes.
    pub deliveries: u32,
    /// When the source read it.
    pub received: Instant,
    /// The input's fingerprint where the source compares its values; durable state keeps it in the same commit.
    pub fingerprint: Option<Fingerprint>,
    /// Which of the keyed states its call uses, as JSON text; noted by the engine, where states are kept for keys.
    pub key: Option<Arc<str>>,
    /// What the source had, where the payload is not all of it: a dead letter keeps it.
    pub original: Option<Arc<dyn Original>>,
    /// Why it is unusable, where the source knows better than whoever would be called with it: it goes the way of failed
    /// events at once.
    pub flaw: Option<Arc<str>>,
}

/// What a source had of an event.
pub trait Original: std::fmt::Debug + Send + Sync {
    /// As the source can read it again, whatever of it the payload leaves out. Asked for letters only.
    fn text(&self) -> String;
}

impl Event {
    /// A first attempt, received now.
    pub fn new(id: impl Into<String>, payload: impl Into<Payload>) -> Self {
        Self {
            id: id.into(),
            payload: payload.into(),
            attempt: 1,
            deliveries: 1,
            received: Instant::now(),
            fingerprint: None,
            key: None,
            original: None,
            flaw: None,
        }
    }
}

/// Events that were read together and are committed together, in order, with what settles them.
#[derive(Debug)]
pub struct Batch {
    /// Never empty. Exactly one for a source of kind [`Delivery::Latest`](super::Delivery::Latest).
    pub events: Vec<Event>,
    /// Tells the source what became of the events.
    pub receipt: Receipt,
    /// Values that a newer one replaced before they were read, as far as the source can know.
    pub skipped: u64,
}

impl Batch {
    /// One event of a source that needs no receipt.
    #[must_use]
    pub fn one(event: Event) -> Self {
        Self { events: vec![event], receipt: Receipt::none(), skipped: 0 }
    }
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its result is stored. A caller who waits for a reply gets the payload.
    Done {
        /// The result, `None` where it was empty.
        reply: Option<Payload>,
    },
    /// Its attempts are used up and the error policy let it go, with this reason.
    Failed {
        /// One line for a caller who waits.
        reason: String,
    },
}

/// How a source hears of the end of its events.
///
/// Consumed once, with one verdict per event in the order of the batch. Dropping it unused means "not delivered":
/// a stream entry stays pending, a waiting caller is told to come back.
#[derive(Default)]
pub struct Receipt(Option<Box<dyn Settle>>);

impl Receipt {
    /// For sources that do not care.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// For sources that do.
    pub fn new(settle: impl Settle + 'static) -> Self {
        Self(Some(Box::new(settle)))
    }

    /// Hands the verdicts over. After a fault with `retry` the engine calls again with the same verdicts.
    ///
    /// # Errors
    /// The source's backend could not be told.
    pub async fn settle(&mut self, verdicts: &[Verdict]) -> Result<(), Fault> {
        match &mut self.0 {
            Some(settle) => settle.settle(verdicts).await,
            None => Ok(()),
        }
    }

    /// Takes these events out, given by their places in the batch in ascending order: they are settled by the receipt
    /// that is returned, the others by this one, each in their old order.
    #[must_use]
    pub fn split(&mut self, places: &[usize]) -> Self {
        Self(self.0.as_mut().map(|settle| settle.split(places)))
    }

    /// Whether somebody is told, so that events whose receipt is dropped come again.
    #[must_use]
    pub const fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// What a transaction needs in order to acknowledge these events itself; see [`Settle::enlist`]. None for sources
    /// that can only be told.
    #[must_use]
    pub fn enlist(&self) -> Option<Box<dyn Any + Send>> {
        self.0.as_ref()?.enlist()
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Receipt" } else { "Receipt(none)" })
    }
}

/// The source's half of a [`Receipt`].
#[async_trait]
pub trait Settle: Send + Sync {
    /// May be called again with the same verdicts after a fault, and only then. A verdict that comes too late
    /// (the entry has another owner by now) is `Ok`.
    async fn settle(&mut self, verdicts: &[Verdict]) -> Result<(), Fault>;

    /// Takes these events out, given by their places in ascending order, for a receipt of their own.
    fn split(&mut self, places: &[usize]) -> Box<dyn Settle>;

    /// What the transaction of the source's [`Domain`](super::Domain) needs in order to acknowledge all events of the
    /// batch together with results and state. Whoever runs that transaction knows the type; the engine does not. After a
    /// commit the receipt is dropped unused, as there is nothing left to tell.
    fn enlist(&self) -> Option<Box<dyn Any + Send>> {
        None
    }
}
