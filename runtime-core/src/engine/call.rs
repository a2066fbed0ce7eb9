//! The second stage: calls the function, decides about further attempts, makes the commit.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::backoff::retry_wait;
use super::board::Board;
use super::meters::Meters;
use super::reload::Successor;
use super::run::{Again, End, Journey};
use crate::config::settings::{ErrorOptions, Then};
use crate::contract::{Batch, Blame, Call, Commit, Event, Fault, Function, Outcome, Output, Returned, Verdict};

/// The second stage of a function.
pub(super) struct Caller<'a> {
    pub(super) name: &'a str,
    pub(super) function: &'a mut Box<dyn Function>,
    pub(super) board: &'a Board,
    pub(super) errors: &'a ErrorOptions,
    pub(super) latest: bool,
    pub(super) to_commit: mpsc::Sender<(Journey, Commit)>,
    pub(super) give_back: mpsc::UnboundedSender<Again>,
    pub(super) meters: &'a Meters,
}

/// Batches that a function has at hand: the one that it works on and the next one, so that it never waits for us.
const AT_HAND: usize = 2;

/// A batch that was given and is not answered.
struct Given {
    journey: Journey,
    since: Instant,
}

impl Caller<'_> {
    /// Calls until the stage before or after it has ended (`None`), the function is gone, or the policy says stop.
    pub(super) async fn run(
        mut self,
        calls: mpsc::Receiver<Journey>,
        successors: mpsc::Receiver<Successor>,
    ) -> Option<End> {
        // where a failure ends everything, nothing may have been called after it
        let in_turn = self.latest || self.errors.then == Then::Stop;
        let ended = if !in_turn && self.function.pipeline().is_some() {
            self.run_ahead(calls, successors).await
        } else {
            self.run_in_turn(calls, successors).await
        };
        match ended {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    /// One batch after the other.
    async fn run_in_turn(
        &mut self,
        mut calls: mpsc::Receiver<Journey>,
        mut successors: mpsc::Receiver<Successor>,
    ) -> Result<Infallible, Option<End>> {
        loop {
            let journey = tokio::select! {
                biased;
                () = self.to_commit.closed() => return Err(None),
                Some(successor) = successors.recv() => {
                    successor.take_over(self.function).await;
                    continue;
                }
                journey = calls.recv() => journey.ok_or(None)?,
            };
            let outcomes = self.call(&journey.batch.events).await.map_err(|fault| Some(End::Fault(fault)))?;
            self.settle(journey, outcomes).await?;
        }
    }

    /// The next batch is given while the function works on the one before.
    async fn run_ahead(
        &mut self,
        mut calls: mpsc::Receiver<Journey>,
        mut successors: mpsc::Receiver<Successor>,
    ) -> Result<Infallible, Option<End>> {
        let mut given = VecDeque::with_capacity(AT_HAND);
        loop {
            if given.len() == AT_HAND {
                self.finish(&mut given).await?;
                continue;
            }
            let pipeline = self.function.pipeline().ok_or(None)?;
            tokio::select! {
                biased;
                () = self.to_commit.closed() => return Err(None),
                Some(successor) = successors.recv() => {
                    self.finish_all(&mut given).await?;
                    successor.take_over(self.function).await;
                    // a version without would be another executor's, and there is one executor
                    self.function.pipeline().ok_or(None)?;
                }
                journey = calls.recv() => match journey {
                    Some(journey) => {
                        pipeline.give(journey.batch.events.as_slice().into(), Call::default()).await;
                        given.push_back(Given { journey, since: Instant::now() });
                    }
                    None => {
                        self.finish_all(&mut given).await?;
                        return Err(None);
                    }
                },
                () = pipeline.answered(), if !given.is_empty() => self.finish(&mut given).await?,
            }
        }
    }

    async fn finish_all(&mut self, given: &mut VecDeque<Given>) -> Result<(), Option<End>> {
        while !given.is_empty() {
            self.finish(given).await?;
        }
        Ok(())
    }

    /// Settles the oldest batch.
    async fn finish(&mut self, given: &mut VecDeque<Given>) -> Result<(), Option<End>> {
        let Some(first) = given.pop_front() else { return Ok(()) };
        let outcomes = self.taken(&first).await?;
        if self.errors.retries == 0 || !outcomes.iter().any(is_retryable) {
            if let Some(next) = given.front_mut() {
                // it had to wait until now
                next.since = Instant::now();
            }
            return self.settle(first.journey, outcomes).await;
        }
        // further attempts are calls of their own, so what else was given is answered first
        let mut later = Vec::new();
        while let Some(next) = given.pop_front() {
            let outcomes = self.taken(&next).await?;
            later.push((next.journey, outcomes));
        }
        self.settle(first.journey, outcomes).await?;
        for (journey, outcomes) in later {
            self.settle(journey, outcomes).await?;
        }
        Ok(())
    }

    async fn taken(&mut self, given: &Given) -> Result<Vec<Outcome>, Option<End>> {
        let pipeline = self.function.pipeline().ok_or(None)?;
        let taken = pipeline.take().await;
        self.counted(&given.journey.batch.events, given.since, taken).map_err(|fault| Some(End::Fault(fault)))
    }

    /// Decides about further attempts, and hands over what is to be committed.
    async fn settle(&mut self, mut journey: Journey, mut outcomes: Vec<Outcome>) -> Result<(), Option<End>> {
        if self.latest {
            let failed = outcomes.first().is_some_and(is_retryable);
            if let Some(event) = journey.batch.events.first_mut().filter(|event| failed && self.may_retry(event)) {
                let due = tokio::time::Instant::now() + retry_wait(self.errors.backoff.0, event.attempt);
                event.attempt += 1;
                self.meters.retries.increment(1);
                // before the permit, which goes with the journey, and after which the first stage looks for it;
                // where that has ended, the event stays undelivered: it still had attempts left
                let _ = self.give_back.send(Again { batch: journey.take(), due });
                return Ok(());
            }
        } else {
            self.retry_in_place(&mut journey.batch.events, &mut outcomes).await?;
        }
        let failed = outcomes.iter().position(|outcome| matches!(outcome.returned, Returned::Failed(_)));
        let ends = failed.filter(|_| self.errors.then == Then::Stop);
        if let Some(at) = ends {
            // what came before is committed, the failed event and all after it stay undelivered
            let event = journey.batch.events[at].id.clone();
            outcomes.truncate(at);
            journey.batch.events.truncate(at);
            let _undelivered = std::mem::take(&mut journey.batch.receipt);
            let commit = self.commit_of(&mut journey.batch, outcomes);
            let _ = self.to_commit.send((journey, commit)).await;
            return Err(Some(End::Policy { event }));
        }
        let commit = self.commit_of(&mut journey.batch, outcomes);
        self.to_commit.send((journey, commit)).await.map_err(|_| None)
    }

    /// One call with all events; counted, timed, failures logged.
    async fn call(&mut self, events: &[Event]) -> Result<Vec<Outcome>, Fault> {
        let start = Instant::now();
        let outcomes = self.function.invoke(events, Call::default()).await;
        self.counted(events, start, outcomes)
    }

    /// Counts, times and logs what became of a batch.
    fn counted(
        &self,
        events: &[Event],
        start: Instant,
        outcomes: Result<Vec<Outcome>, Fault>,
    ) -> Result<Vec<Outcome>, Fault> {
        let each = start.elapsed().as_secs_f64() / events.len().max(1) as f64;
        let outcomes = outcomes.and_then(|outcomes| {
            if outcomes.len() == events.len() {
                return Ok(outcomes);
            }
            let message =
                format!("function '{}' gave {} outcomes for {} events", self.name, outcomes.len(), events.len());
            Err(Fault::internal(message))
        });
        let outcomes = outcomes?;
        for (event, outcome) in events.iter().zip(&outcomes) {
            self.meters.duration.record(each);
            let label = self.meters.count(&outcome.returned);
            self.board.update(self.name, |status| {
                *status.calls.entry(label).or_default() += 1;
                if let Returned::Failed(fault) = &outcome.returned {
                    status.last_error = Some(fault.chain());
                }
            });
            if let Returned::Failed(fault) = &outcome.returned {
                let report = fault.report().map(|report| format!("\n{}", report.trim_end())).unwrap_or_default();
                tracing::error!(function = self.name, event = %event.id, attempt = event.attempt, "call failed: {}{report}", fault.chain());
            }
        }
        Ok(outcomes)
    }

    /// The failed events of a queue, each alone until it succeeds or its attempts are used up. Without an end where
    /// the last stage has ended meanwhile.
    async fn retry_in_place(&mut self, events: &mut [Event], outcomes: &mut [Outcome]) -> Result<(), Option<End>> {
        for (event, outcome) in events.iter_mut().zip(outcomes) {
            while is_retryable(outcome) && event.attempt <= self.errors.retries {
                // also while stopping: what is not done when the time to drain is over stays undelivered
                tokio::select! {
                    biased;
                    () = self.to_commit.closed() => return Err(None),
                    () = sleep(retry_wait(self.errors.backoff.0, event.attempt)) => {}
                }
                event.attempt += 1;
                self.meters.retries.increment(1);
                let again = self.call(std::slice::from_ref(event)).await.map_err(|fault| Some(End::Fault(fault)))?;
                if let Some(again) = again.into_iter().next() {
                    *outcome = again;
                }
            }
        }
        Ok(())
    }

    fn may_retry(&self, event: &Event) -> bool {
        event.attempt <= self.errors.retries
    }

    fn commit_of(&self, batch: &mut Batch, outcomes: Vec<Outcome>) -> Commit {
        let mut outputs = Vec::new();
        let mut verdicts = Vec::new();
        for (event, outcome) in batch.events.iter().zip(outcomes) {
            verdicts.push(match outcome.returned {
                Returned::Empty => Verdict::Done { reply: None },
                Returned::Output(payload) => {
                    let output =
                        Output { event_id: event.id.clone(), event: event.payload.clone(), payload: payload.clone() };
                    outputs.push(output);
                    Verdict::Done { reply: Some(payload) }
                }
                Returned::Failed(fault) => Verdict::Failed { reason: fault.to_string() },
            });
        }
        Commit { outputs, states: Vec::new(), verdicts, receipt: std::mem::take(&mut batch.receipt) }
    }
}

/// Another attempt can only help where the call failed, not where the event itself is unusable.
fn is_retryable(outcome: &Outcome) -> bool {
    matches!(&outcome.returned, Returned::Failed(fault) if fault.blame() != Blame::Event)
}
