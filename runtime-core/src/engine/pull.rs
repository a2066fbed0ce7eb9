//! The first stage: takes a permit, asks the source, waits where there is nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use super::board::Board;
use super::meters::Meters;
use super::run::{Again, End, Journey};
use super::stop::Stop;
use crate::contract::{Batch, Delivery, Fault, Pull, Source};

/// The most events of one batch: enough to make every border crossing cheap, few enough that a batch of slow calls
/// does not hold results back for long.
pub(super) const BATCH: usize = 100;

/// The first stage of a function.
pub(super) struct Puller<'a> {
    pub(super) name: &'a str,
    pub(super) source: &'a mut dyn Source,
    pub(super) stop: &'a Stop,
    pub(super) board: &'a Board,
    pub(super) meters: &'a Meters,
    pub(super) permits: Arc<Semaphore>,
    /// How many of them there are.
    pub(super) in_flight: usize,
    pub(super) to_call: mpsc::Sender<Journey>,
    /// Failed events that shall be tried again, unless something newer comes.
    pub(super) given_back: mpsc::UnboundedReceiver<Again>,
}

/// Resolves when there is no point in pulling any more: a stop, or the end of a later stage. Asked first wherever
/// something else is waited for, so that a source that always has work is not asked once more.
async fn over(stop: &Stop, to_call: &mpsc::Sender<Journey>) {
    tokio::select! {
        () = stop.requested() => {}
        () = to_call.closed() => {}
    }
}

/// Sleeps; `None` where it is over meanwhile.
pub(super) async fn pause(stop: &Stop, to_call: &mpsc::Sender<Journey>, wait: Duration) -> Option<()> {
    tokio::select! {
        biased;
        () = over(stop, to_call) => None,
        () = sleep(wait) => Some(()),
    }
}

impl Puller<'_> {
    /// Pulls until it is over (`None`), the source is exhausted, or it is beyond repair.
    pub(super) async fn run(mut self) -> Option<End> {
        let mut backoff = Backoff::new(self.name, "source");
        loop {
            let tried = tokio::select! {
                biased;
                () = over(self.stop, &self.to_call) => return None,
                tried = self.source.check() => tried,
            };
            match tried {
                Ok(()) => break self.fine(&mut backoff),
                Err(fault) => match self.trouble(&mut backoff, fault) {
                    Ok(wait) => pause(self.stop, &self.to_call, wait).await?,
                    Err(end) => return Some(end),
                },
            }
        }
        if self.source.delivery() == Delivery::Queue {
            return self.run_queue(backoff).await;
        }
        let mut again = None;
        loop {
            let permit = tokio::select! {
                biased;
                () = over(self.stop, &self.to_call) => return None,
                permit = Arc::clone(&self.permits).acquire_owned() => permit.ok()?,
            };
            // the permit of a failed event comes back after the event
            again = self.given_back.try_recv().ok().or(again);
            match self.next(&mut backoff, &mut again).await? {
                Ok(batch) => self.to_call.send(Journey::new(batch, permit, self.meters)).await.ok()?,
                Err(end) => return Some(end),
            }
        }
    }

    /// The next batch: something new, or the failed event that is due for another attempt.
    async fn next(&mut self, backoff: &mut Backoff, again: &mut Option<Again>) -> Option<Result<Batch, End>> {
        loop {
            if let Some(due) = again.take_if(|again| again.due <= Instant::now()) {
                return Some(Ok(due.batch));
            }
            let pulled = tokio::select! {
                biased;
                () = over(self.stop, &self.to_call) => return None,
                pulled = self.source.next_batch(BATCH) => pulled,
            };
            let until_retry = again.as_ref().map(|again| again.due.saturating_duration_since(Instant::now()));
            let wait = match pulled {
                Ok(Pull::Batch(batch)) => {
                    self.fine(backoff);
                    if again.take().is_some() {
                        tracing::debug!(function = self.name, "a newer value ends the retries of the last one");
                    }
                    self.took(&batch);
                    return Some(Ok(batch));
                }
                Ok(Pull::Again(after)) => {
                    self.fine(backoff);
                    after
                }
                Ok(Pull::Exhausted) if again.is_none() => return Some(Err(End::Exhausted)),
                // the last event still has attempts left
                Ok(Pull::Exhausted) => Duration::MAX,
                Err(fault) => match self.trouble(backoff, fault) {
                    Ok(wait) => {
                        pause(self.stop, &self.to_call, wait.min(until_retry.unwrap_or(wait))).await?;
                        continue;
                    }
                    Err(end) => return Some(Err(end)),
                },
            };
            tokio::select! {
                biased;
                () = over(self.stop, &self.to_call) => return None,
                () = sleep(wait.min(until_retry.unwrap_or(wait))) => {}
                () = self.source.woken() => {}
            }
        }
    }

    /// Notes what a batch tells.
    pub(super) fn took(&self, batch: &Batch) {
        self.meters.skipped.increment(batch.skipped);
        let received = batch.events.last().map(|event| event.received);
        self.board.update(self.name, |status| status.last_input = received);
    }

    /// What to do about a fault: wait so long, or end.
    pub(super) fn trouble(&self, backoff: &mut Backoff, fault: Fault) -> Result<Duration, End> {
        if !fault.retry() {
            return Err(End::Fault(fault));
        }
        let wait = backoff.failed(&fault);
        self.board.trouble(self.name, "source", backoff.trouble());
        Ok(wait)
    }

    pub(super) fn fine(&self, backoff: &mut Backoff) {
        backoff.succeeded();
        self.board.trouble(self.name, "source", self.source.complaint().as_deref());
    }
}
