//! The second stage of a function that holds its state itself: calls it, and sorts the outcomes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::backoff::retry_wait;
use super::policy::{Policy, has_failed, is_worn};
use super::reload::Successor;
use super::run::{Again, End, Journey};
use crate::config::settings::Then;
use crate::contract::{Call, Commit, Event, Fault, Function, Outcome, Returned};

/// The second stage of a function.
pub(super) struct Caller<'a> {
    pub(super) policy: Policy<'a>,
    pub(super) function: &'a mut Box<dyn Function>,
    pub(super) latest: bool,
    pub(super) to_commit: mpsc::Sender<(Journey, Commit)>,
    pub(super) give_back: mpsc::UnboundedSender<Again>,
}

/// Batches that a function has at hand: the one that it works on and the next one, so that it never waits for us.
pub(super) const AT_HAND: usize = 2;

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
        let in_turn = self.latest || self.policy.errors.then == Then::Stop;
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
                    let _ = successor.take_over(self.function).await;
                    continue;
                }
                journey = calls.recv() => journey.ok_or(None)?,
            };
            let Some(journey) = self.begin(journey).await? else { continue };
            if self.stops() {
                self.one_by_one(journey).await?;
                continue;
            }
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
                    let _ = successor.take_over(self.function).await;
                    // a version without would be another executor's, and there is one executor
                    self.function.pipeline().ok_or(None)?;
                }
                journey = calls.recv() => match journey {
                    Some(journey) => {
                        if let Some(journey) = self.begin(journey).await? {
                            let pipeline = self.function.pipeline().ok_or(None)?;
                            pipeline.give(journey.batch.events.as_slice().into(), Call::default()).await;
                            given.push_back(Given { journey, since: Instant::now() });
                        }
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

    /// What of a batch may be called at all.
    async fn begin(&mut self, mut journey: Journey) -> Result<Option<Journey>, Option<End>> {
        if !self.stops()
            && let Some((worn, outcomes)) = self.policy.worn_out(&mut journey)
        {
            self.settle(worn, outcomes).await?;
        }
        Ok(Some(journey).filter(|journey| !journey.batch.events.is_empty()))
    }

    /// Whether nothing of a queue may be called after an event that fails.
    fn stops(&self) -> bool {
        self.policy.errors.then == Then::Stop && !self.latest
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
        let pipeline = self.function.pipeline().ok_or(None)?;
        let taken = pipeline.take().await;
        let outcomes =
            self.counted(&first.journey.batch.events, first.since, taken).map_err(|fault| Some(End::Fault(fault)))?;
        if let Some(next) = given.front_mut() {
            // it had to wait until now
            next.since = Instant::now();
        }
        self.settle(first.journey, outcomes).await
    }

    /// Decides about further attempts, and hands over what is to be committed.
    async fn settle(&mut self, mut journey: Journey, mut outcomes: Vec<Outcome>) -> Result<(), Option<End>> {
        if self.latest {
            let event = journey.batch.events.first().zip(outcomes.first());
            if event.is_some_and(|(event, outcome)| self.policy.may_retry(event, outcome)) {
                // before the permit, which goes with the journey, and after which the first stage looks for it;
                // where that has ended, the event stays undelivered: it still had attempts left
                let again = self.policy.again(&mut journey);
                let _ = self.give_back.send(again);
                return Ok(());
            }
        } else if self.policy.errors.then != Then::Stop {
            for again in self.policy.set_aside(&mut journey, &mut outcomes) {
                let _ = self.give_back.send(again);
            }
            if journey.batch.events.is_empty() {
                return Ok(());
            }
        }
        if self.policy.errors.then == Then::Stop
            && let Some(at) = outcomes.iter().position(has_failed)
        {
            return self.stop_at(journey, outcomes, at).await;
        }
        let commit = self.policy.commit_of(&mut journey, outcomes);
        self.to_commit.send((journey, commit)).await.map_err(|_| None)
    }

    /// What came before this event is committed, it and all after it stay undelivered.
    async fn stop_at(
        &mut self,
        mut journey: Journey,
        mut outcomes: Vec<Outcome>,
        at: usize,
    ) -> Result<(), Option<End>> {
        let event = journey.batch.events[at].id.clone();
        outcomes.truncate(at);
        let rest: Vec<usize> = (at..journey.batch.events.len()).collect();
        drop(journey.split(&rest));
        if !journey.batch.events.is_empty() {
            let commit = self.policy.commit_of(&mut journey, outcomes);
            let _ = self.to_commit.send((journey, commit)).await;
        }
        Err(Some(End::Policy { event }))
    }

    /// The policy `stop`: each event of a queue alone, with all its attempts, as nothing may be called after one that
    /// fails.
    async fn one_by_one(&mut self, mut journey: Journey) -> Result<(), Option<End>> {
        let mut outcomes = Vec::with_capacity(journey.batch.events.len());
        for at in 0..journey.batch.events.len() {
            let event = &mut journey.batch.events[at];
            let outcome =
                if is_worn(event) { self.policy.outcome_of_worn(event) } else { self.in_place(event).await? };
            let failed = has_failed(&outcome);
            outcomes.push(outcome);
            if failed {
                return self.stop_at(journey, outcomes, at).await;
            }
        }
        self.settle(journey, outcomes).await
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
        let mut outcomes = self.policy.complete(events, outcomes?)?;
        self.policy.judge.judge(events, &mut outcomes, true);
        self.policy.counted(events, &outcomes, each);
        Ok(outcomes)
    }

    /// An event until it succeeds or its attempts are used up. Without an end where the last stage has ended meanwhile.
    async fn in_place(&mut self, event: &mut Event) -> Result<Outcome, Option<End>> {
        loop {
            let outcomes = self.call(std::slice::from_ref(event)).await.map_err(|fault| Some(End::Fault(fault)))?;
            // one for each, or it would be a fault
            let outcome = outcomes.into_iter().next().unwrap_or_else(|| Returned::NotCalled.into());
            if !self.policy.may_retry(event, &outcome) {
                return Ok(outcome);
            }
            // also while stopping: what is not done when the time to drain is over stays undelivered
            tokio::select! {
                biased;
                () = self.to_commit.closed() => return Err(None),
                () = sleep(retry_wait(self.policy.errors.backoff.0, event.attempt)) => {}
            }
            event.attempt += 1;
        }
    }
}
