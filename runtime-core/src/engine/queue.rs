//! The first stage of a queue: reads ahead, and brings failed events back when they are due, beside those to come.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::pull::{BATCH, Puller, pause};
use super::run::{Again, End, Journey};
use crate::contract::{Batch, Pull};

/// Failed events that wait for their next attempt. With more, it is the function that fails, not the event, and reading
/// on would only add to them.
const MOST_ASIDE: usize = 1000;

/// Further attempts in flight, each alone. Each waits behind the batches before it: with one at a time, a bad event in
/// each batch would make more of them than are made.
const ATTEMPTS: u32 = 16;

/// What a look at the source has come to.
enum Looked {
    Batch(Batch, OwnedSemaphorePermit),
    Exhausted,
    End(End),
    Over,
}

impl Puller<'_> {
    /// Pulls until it is over (`None`), the source is exhausted, or it is beyond repair.
    pub(super) async fn run_queue(mut self, mut backoff: Backoff) -> Option<End> {
        let (stop, to_call, meters) = (self.stop.clone(), self.to_call.clone(), self.meters.clone());
        let (permits, in_flight) = (Arc::clone(&self.permits), u32::try_from(self.in_flight).unwrap_or(u32::MAX));
        let (_, nothing) = mpsc::unbounded_channel();
        let mut given_back = std::mem::replace(&mut self.given_back, nothing);
        // further attempts never wait for a permit that the events behind them hold
        let second = Arc::new(Semaphore::new(ATTEMPTS as usize));
        let mut aside: Vec<Again> = Vec::new();
        let (mut reading, mut ended) = (true, None);
        loop {
            let mut looking = pin!(self.look(&mut backoff));
            let looked = loop {
                let due = aside.iter().map(|again| again.due).min();
                let its_turn = async {
                    match due {
                        Some(due) => sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                    Arc::clone(&second).acquire_owned().await
                };
                let all_back = async {
                    let all = permits.acquire_many(in_flight).await;
                    all.is_ok() && second.acquire_many(ATTEMPTS).await.is_ok()
                };
                tokio::select! {
                    biased;
                    () = to_call.closed() => return None,
                    () = stop.requested(), if reading => {
                        reading = false;
                        break Looked::Over;
                    }
                    // whoever hears of a dropped event again need not have it finished now
                    Some(again) = given_back.recv() => if !stop.is_requested() || !again.batch.receipt.is_some() {
                        aside.push(again);
                    },
                    permit = its_turn => {
                        let Some(at) = aside.iter().position(|again| again.due <= Instant::now()) else { continue };
                        let batch = aside.swap_remove(at).batch;
                        to_call.send(Journey::new(batch, permit.ok()?, &meters)).await.ok()?;
                    }
                    looked = &mut looking, if reading && aside.len() < MOST_ASIDE => break looked,
                    // nothing is on its way any more that could still come back
                    _ = all_back, if !reading && aside.is_empty() => match given_back.try_recv() {
                        Ok(again) => aside.push(again),
                        Err(_) => return ended,
                    },
                }
            };
            match looked {
                Looked::Batch(batch, permit) => to_call.send(Journey::new(batch, permit, &meters)).await.ok()?,
                Looked::Exhausted => (reading, ended) = (false, Some(End::Exhausted)),
                Looked::End(end) => return Some(end),
                Looked::Over => aside.retain(|again| !again.batch.receipt.is_some()),
            }
        }
    }

    /// The next batch, with a permit for it.
    async fn look(&mut self, backoff: &mut Backoff) -> Looked {
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return Looked::Over };
        loop {
            match self.source.next_batch(BATCH).await {
                Ok(Pull::Batch(batch)) => {
                    self.fine(backoff);
                    self.took(&batch);
                    return Looked::Batch(batch, permit);
                }
                Ok(Pull::Again(after)) => {
                    self.fine(backoff);
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(after) => {}
                        () = self.source.woken() => {}
                    }
                }
                Ok(Pull::Exhausted) => return Looked::Exhausted,
                Err(fault) => match self.trouble(backoff, fault) {
                    Ok(wait) => {
                        if pause(self.stop, &self.to_call, wait).await.is_none() {
                            return Looked::Over;
                        }
                    }
                    Err(end) => return Looked::End(end),
                },
            }
        }
    }
}
