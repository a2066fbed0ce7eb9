//! Where events come from.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::batch::{Batch, Event};
use super::commit::{Domain, Transaction};
use super::fault::Fault;
use super::function::Facts;
use super::lease::Lease;
use super::letters::Letter;
use crate::change::Fingerprint;

/// What a source promises about its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// One value that is replaced by newer ones: one event a batch, one in flight, the newest wins, replaced ones
    /// are counted. A newer value ends the retries of an older one.
    Latest,
    /// Every event counts: batches, read ahead, retried until the error policy lets go.
    Queue,
}

/// The answer of [`Source::next_batch`].
#[derive(Debug)]
pub enum Pull {
    /// Work. The engine calls again as soon as it has room for more.
    Batch(Batch),
    /// Nothing now. The engine asks again after this time, or as soon as [`Source::woken`] resolves.
    Again(Duration),
    /// Nothing ever again. When every source is exhausted, the process ends with 0.
    Exhausted,
}

/// Where events come from: the engine pulls, the source holds no loop, no sleep, no back-off and no shutdown code.
///
/// The engine's loop, which is all that ever calls a source:
///
/// ```text
/// source.check()                              until it succeeds, backing off; readiness is off meanwhile
/// if the state is durable: source.resume(fingerprint of the last commit)
/// loop:
///     permit = one of the batches that may be in flight          Latest: 1, Queue: 3
///     match source.next_batch(room):
///         Batch(batch)  -> function, commit, receipt; the permit comes back after the commit
///         Again(after)  -> wait for the first of: after, source.woken(), a retry that is due, stop
///         Exhausted     -> leave the loop when all that is in flight is committed
///         Err(fault)    -> fault.retry: say so once, back off, go on; else: stop the function
/// source.close()
/// ```
///
/// Futures of [`next_batch`](Source::next_batch) and [`check`](Source::check) are dropped only while the function
/// ends; those of [`woken`](Source::woken) at any time.
#[async_trait]
pub trait Source: Send {
    /// Which promise the source makes. Asked once.
    fn delivery(&self) -> Delivery;

    /// The next events, at most `max` (at least 1) of them; a `Latest` source gives one.
    ///
    /// May wait for work for as long as it likes if nothing is lost when the future is dropped; a source that
    /// polls answers [`Pull::Again`] instead. So does a `Latest` source: a retry that is due waits for the answer.
    /// After [`Pull::Exhausted`] it may be asked once more.
    ///
    /// # Errors
    /// With `retry`, the engine backs off and calls again; the source connects anew by itself. Without, the
    /// function stops. A malformed payload is no error here: it is an event.
    async fn next_batch(&mut self, max: usize) -> Result<Pull, Fault>;

    /// Resolves when it is worth asking before the time of [`Pull::Again`] is over: a notification came.
    /// Must be safe to drop at any time. By default it never resolves.
    async fn woken(&mut self) {
        std::future::pending().await
    }

    /// Opens what the source needs, so that wrong settings show at the start. May be called again after a fault.
    ///
    /// # Errors
    /// As for `next_batch`.
    async fn check(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    /// Durable state has seen this input: the source must not deliver it again before it changes.
    fn resume(&mut self, _fingerprint: Fingerprint) {}

    /// Why the function should not count as ready although nothing failed: a server that never notifies.
    fn complaint(&self) -> Option<String> {
        None
    }

    /// The place whose transaction could include this source's acknowledgement. None: receipts come last.
    fn domain(&self) -> Option<Domain> {
        None
    }

    /// What runs the transactions of its domain.
    fn transaction(&self) -> Option<Arc<dyn Transaction>> {
        None
    }

    /// Keys that an acknowledgement touches, in a place that spreads keys over servers.
    fn keys(&self) -> Vec<String> {
        Vec::new()
    }

    /// What makes one process of several the only one that reads this source.
    fn lease(&self) -> Option<Box<dyn Lease>> {
        None
    }

    /// The event of a letter, as the source would give it now.
    fn event(&self, letter: &Letter) -> Event {
        Event::new(letter.event.clone(), letter.payload.clone())
    }

    /// What the transaction of the source's domain needs in order to feed these letters to the source once more, as new
    /// events, one part for each. None where it takes nothing back.
    ///
    /// # Errors
    /// Letters that are not of this source.
    fn feed(&self, _letters: &[Letter]) -> Result<Option<Vec<Box<dyn Any + Send>>>, Fault> {
        Ok(None)
    }

    /// Who else gets what is fed to the source, and where: `2 other groups of stream 'in' (audit, copy)`. None where
    /// nobody does.
    ///
    /// # Errors
    /// The place is away.
    async fn also_fed(&mut self) -> Result<Option<String>, Fault> {
        Ok(None)
    }

    /// What the function's context tells of this source.
    fn facts(&self) -> Facts {
        Facts::default()
    }

    /// Called after the last receipt, and when another process has become the one that reads it; then it may be asked
    /// for events again later. Errors are logged.
    ///
    /// # Errors
    /// Whatever could not be given back.
    async fn close(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}
