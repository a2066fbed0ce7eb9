//! The first stage: takes a permit, asks the source, waits where there is nothing, and brings failed events back when their
//! next attempt is due.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::Backoff;
use super::board::Board;
use super::end::End;
use super::in_flight::{InFlightBatch, Retry};
use super::meters::Meters;
use super::stop::Stop;
use crate::contract::{Batch, Delivery, Fault, Pull, Source};

/// The most events of one batch: enough to make every border crossing cheap, few enough that a batch of slow calls
/// does not hold results back for long.
const BATCH: usize = 100;

/// Failed events that wait for their next attempt. With more, it is the function that fails, not the event, and reading
/// on would only add to them.
const MAX_WAITING: usize = 1000;

/// Further attempts of a queue in flight, each alone. Each waits behind the batches before it: with one at a time, a bad
/// event in each batch would make more of them than are made.
const MAX_RETRYING: u32 = 16;

/// The first stage of a function.
pub(super) struct Puller<'a> {
    pub(super) name: &'a str,
    pub(super) source: &'a mut dyn Source,
    pub(super) stop: &'a Stop,
    pub(super) board: &'a Board,
    pub(super) meters: &'a Meters,
    /// Batches between here and the end of their commit; one where the newest value counts.
    pub(super) max_in_flight: u32,
    pub(super) batches: mpsc::Sender<InFlightBatch>,
    /// Failed events that shall be tried again; of the newest value, unless something newer comes.
    pub(super) retries: mpsc::UnboundedReceiver<Retry>,
}

/// What a look at the source has come to.
enum Polled {
    Batch(Batch, OwnedSemaphorePermit),
    /// Nothing newer has come until the next attempt of the last value.
    RetryDue(OwnedSemaphorePermit),
    Exhausted,
    End(End),
    Over,
}

impl Puller<'_> {
    /// Pulls until it is over (`None`), the source is exhausted, or it is beyond repair.
    pub(super) async fn run(self) -> Option<End> {
        let Self { name, source, stop, board, meters, max_in_flight, batches, mut retries } = self;
        let latest = source.delivery() == Delivery::Latest;
        let permits = Arc::new(Semaphore::new(max_in_flight as usize));
        // further attempts of a queue never wait for a permit that the events behind them hold
        let retrying = Arc::new(Semaphore::new(MAX_RETRYING as usize));
        let (due, next_due) = watch::channel(None);
        let backoff = Backoff::new(name, "source");
        let next_due = latest.then_some(next_due);
        let mut poller =
            Poller { name, source, stop, board, meters, batches: &batches, permits: &permits, next_due, backoff };
        if let Err(end) = poller.open().await? {
            return Some(end);
        }
        let mut waiting: Vec<Retry> = Vec::new();
        let (mut reading, mut stopping, mut ended) = (true, false, None);
        loop {
            let mut polling = pin!(poller.poll());
            let polled = loop {
                let first = waiting.iter().map(|retry| retry.due).min();
                due.send_replace(first);
                let turn = async {
                    match first.filter(|_| !latest || !reading) {
                        Some(due) => sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                    Arc::clone(&retrying).acquire_owned().await
                };
                let all_back = async {
                    let all = permits.acquire_many(max_in_flight).await;
                    all.is_ok() && retrying.acquire_many(MAX_RETRYING).await.is_ok()
                };
                tokio::select! {
                    biased;
                    () = batches.closed() => return None,
                    () = stop.requested(), if !stopping => break Polled::Over,
                    // a failed event comes back before its permit
                    Some(retry) = retries.recv() => if !stopping || may_finish(&retry, latest) {
                        waiting.push(retry);
                    } else {
                        ended = None;
                    },
                    permit = turn => {
                        let Some(at) = waiting.iter().position(|retry| retry.due <= Instant::now()) else { continue };
                        let batch = waiting.swap_remove(at).batch;
                        batches.send(InFlightBatch::new(batch, permit.ok()?, meters)).await.ok()?;
                    }
                    polled = &mut polling, if reading && waiting.len() < MAX_WAITING => break polled,
                    // nothing is on its way any more that could still come back
                    _ = all_back, if !reading && waiting.is_empty() => match retries.try_recv() {
                        Ok(retry) => waiting.push(retry),
                        Err(_) => return ended,
                    },
                }
            };
            match polled {
                Polled::Batch(batch, permit) => {
                    if latest && !waiting.is_empty() {
                        tracing::debug!(function = name, "a newer value ends the retries of the last one");
                        waiting.clear();
                    }
                    batches.send(InFlightBatch::new(batch, permit, meters)).await.ok()?;
                }
                Polled::RetryDue(permit) => {
                    if let Some(retry) = waiting.pop() {
                        batches.send(InFlightBatch::new(retry.batch, permit, meters)).await.ok()?;
                    }
                }
                Polled::Exhausted => (reading, ended) = (false, Some(End::Exhausted)),
                Polled::End(end) => return Some(end),
                Polled::Over => {
                    (reading, stopping) = (false, true);
                    if waiting.extract_if(.., |retry| !may_finish(retry, latest)).count() > 0 {
                        // it has not had all of its attempts
                        ended = None;
                    }
                }
            }
        }
    }
}

/// Whether an event has its further attempts also while stopping: whoever hears of a dropped event again need not have it
/// finished now, and a value that counts only while it is the newest comes again.
fn may_finish(retry: &Retry, latest: bool) -> bool {
    !latest && !retry.batch.receipt.is_some()
}

/// Asks the source.
struct Poller<'a> {
    name: &'a str,
    source: &'a mut dyn Source,
    stop: &'a Stop,
    board: &'a Board,
    meters: &'a Meters,
    batches: &'a mpsc::Sender<InFlightBatch>,
    permits: &'a Arc<Semaphore>,
    /// When the last value's next attempt is due, where the newest value counts: the source is not waited for then.
    next_due: Option<watch::Receiver<Option<Instant>>>,
    backoff: Backoff,
}

impl Poller<'_> {
    /// Until the source is usable. `None` where it is over before.
    async fn open(&mut self) -> Option<Result<(), End>> {
        loop {
            let tried = tokio::select! {
                biased;
                () = over(self.stop, self.batches) => return None,
                tried = self.source.check() => tried,
            };
            match tried {
                Ok(()) => {
                    self.fine();
                    return Some(Ok(()));
                }
                Err(fault) => match self.trouble(fault) {
                    Ok(wait) => pause(self.stop, self.batches, wait).await?,
                    Err(end) => return Some(Err(end)),
                },
            }
        }
    }

    /// The next batch, with a permit for it.
    async fn poll(&mut self) -> Polled {
        let Ok(permit) = Arc::clone(self.permits).acquire_owned().await else { return Polled::Over };
        loop {
            let until_retry = self.until_retry();
            if until_retry == Some(Duration::ZERO) {
                return Polled::RetryDue(permit);
            }
            let polled = self.source.next_batch(BATCH).await;
            // asking may take its time
            let at_most = |wait: Duration, until: Option<Duration>| wait.min(until.unwrap_or(wait));
            match polled {
                Ok(Pull::Batch(batch)) => {
                    self.fine();
                    self.meters.skipped.increment(batch.skipped);
                    let received = batch.events.last().map(|event| event.received);
                    self.board.update(self.name, |status| status.last_input = received);
                    return Polled::Batch(batch, permit);
                }
                Ok(Pull::Again(after)) => {
                    self.fine();
                    let wait = at_most(after, self.until_retry());
                    tokio::select! {
                        biased;
                        () = sleep(wait) => {}
                        () = self.source.woken() => {}
                    }
                }
                Ok(Pull::Exhausted) => return Polled::Exhausted,
                Err(fault) => match self.trouble(fault) {
                    Ok(wait) => {
                        let wait = at_most(wait, self.until_retry());
                        if pause(self.stop, self.batches, wait).await.is_none() {
                            return Polled::Over;
                        }
                    }
                    Err(end) => return Polled::End(end),
                },
            }
        }
    }

    fn until_retry(&self) -> Option<Duration> {
        let due = (*self.next_due.as_ref()?.borrow())?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// What to do about a fault: wait so long, or end.
    fn trouble(&mut self, fault: Fault) -> Result<Duration, End> {
        if !fault.retry() {
            return Err(End::Fault(fault));
        }
        let wait = self.backoff.failed(&fault);
        self.board.trouble(self.name, "source", self.backoff.trouble());
        Ok(wait)
    }

    fn fine(&mut self) {
        self.backoff.succeeded();
        self.board.trouble(self.name, "source", self.source.complaint().as_deref());
    }
}

/// Resolves when there is no point in pulling any more: a stop, or the end of a later stage. Asked first wherever
/// something else is waited for, so that a source that always has work is not asked once more.
async fn over(stop: &Stop, batches: &mpsc::Sender<InFlightBatch>) {
    tokio::select! {
        () = stop.requested() => {}
        () = batches.closed() => {}
    }
}

/// Sleeps; `None` where it is over meanwhile.
async fn pause(stop: &Stop, batches: &mpsc::Sender<InFlightBatch>, wait: Duration) -> Option<()> {
    tokio::select! {
        biased;
        () = over(stop, batches) => None,
        () = sleep(wait) => Some(()),
    }
}
