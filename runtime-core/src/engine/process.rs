//! The second and third stage of a function: calls it with the batches that were pulled, and commits what came of them.
//!
//! ```text
//!   todo ── submit ──> submitted (≤ 2) ── answered ──> ready ── commit ──> landed
//!     ^                     │ not run                                │ lost, stale, refused
//!     └───── rollback <─────┴────────────────────────────────────────┘
//! ```
//!
//! A batch is called while those before it are committed. Where a store keeps the states, it is called with states that
//! are only on their way to the store: where one of those commits fails, everything that was called after it is discarded,
//! and called again from what the store has. Where the function has its state itself, what was called stays called: a
//! refused commit is split until the event that is to blame fails alone.
//!
//! * `queues` - what is on its way, and the way back
//! * `landed` - what becomes of a batch whose commit has ended

mod landed;
mod queues;

use std::time::Instant;

use tokio::sync::mpsc;
use tokio::time::sleep_until;

use self::queues::{PendingCommit, Queues, RunningCommit, Submitted};
use super::calls::Calls;
use super::commit::Committer;
use super::end::End;
use super::in_flight::{InFlightBatch, Retry};
use super::outcome::{has_failed, is_over_delivered, places, take, unusable_state, was_not_run};
use super::policy::Policy;
use super::reload::Successor;
use super::states::States;
use crate::config::settings::{ReloadState, Then};
use crate::contract::{Call, Commit, Event, Function, Outcome, Returned};

/// Batches that a function has at once: the one that it works on and the next one, so that it never waits for us.
pub(super) const MAX_PIPELINED: usize = 2;

/// The second and the third stage of a function.
pub(super) struct Processor<'a> {
    policy: Policy<'a>,
    /// None where the function has its state itself: then there is no way back.
    states: Option<States>,
    latest: bool,
    /// Failed events, on their way back to the first stage.
    retries: mpsc::UnboundedSender<Retry>,
    queues: Queues,
    /// How the run ends, as soon as everything that was called is committed.
    ending: Option<End>,
}

impl<'a> Processor<'a> {
    pub(super) fn new(
        policy: Policy<'a>,
        states: Option<States>,
        latest: bool,
        retries: mpsc::UnboundedSender<Retry>,
    ) -> Self {
        Self { policy, states, latest, retries, queues: Queues::default(), ending: None }
    }

    /// Runs until the stage before has ended (`None`), the function or a sink is gone, the lease is lost, or the policy
    /// says stop.
    pub(super) async fn run(
        mut self,
        function: &mut Box<dyn Function>,
        committer: &mut Committer,
        mut batches: mpsc::Receiver<InFlightBatch>,
        mut successors: mpsc::Receiver<Successor>,
    ) -> Option<End> {
        let mut calls = Calls::new(function);
        let mut committer = Some(committer);
        let mut running: Option<RunningCommit<'_>> = None;
        let mut successor: Option<Successor> = None;
        let mut open = true;
        loop {
            if self.queues.submitted.is_empty() {
                self.resume(running.is_none());
                if let Some(successor) = successor.take() {
                    self.hand_over(successor, calls.idle()).await;
                }
            }
            let max = self.max_submitted(&mut calls);
            let is_free = self.queues.submitted.len() < max && self.ending.is_none() && self.queues.rollback.is_none();
            // where a failure ends everything, nothing may have been called after it; with states the next call needs
            // those of the one before
            let in_turn = self.stops() && self.states.is_some() && (running.is_some() || !self.queues.ready.is_empty());
            if is_free
                && !in_turn
                && successor.is_none()
                && self.queues.not_before.is_none()
                && let Some(batch) = self.queues.todo.pop_front()
            {
                let submitted = self.submit(batch, &mut calls).await;
                self.end_with(submitted);
                continue;
            }
            if let Some(committer) = &mut committer {
                committer.look_if_due().await;
            }
            if let Some(committer) = committer.take_if(|_| !self.queues.ready.is_empty())
                && let Some(mut pending) = self.queues.ready.pop_front()
            {
                running = Some(Box::pin(async move {
                    let outcome = committer.commit(&mut pending.commit, &pending.batch.batch.events).await;
                    (committer, pending, outcome)
                }));
            }
            if running.is_none() {
                if let Some(end) = self.ending.take() {
                    return Some(end);
                }
                if !open && self.queues.are_empty() {
                    return None;
                }
            }
            let commit = async {
                match &mut running {
                    Some(running) => running.await,
                    None => std::future::pending().await,
                }
            };
            let look = async {
                match &mut committer {
                    Some(committer) => committer.look().await,
                    None => std::future::pending().await,
                }
            };
            let wait = async {
                match self.queues.not_before {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let has_room = is_free && self.queues.todo.is_empty();
            tokio::select! {
                biased;
                (free, pending, outcome) = commit => {
                    (committer, running) = (Some(free), None);
                    let landed = match outcome {
                        Ok(outcome) => self.landed(pending, outcome),
                        Err(fault) => Err(End::Fault(fault)),
                    };
                    if let Err(end) = landed {
                        if matches!(end, End::Fenced) {
                            // whoever uses the function next would take these answers for those to its own batches
                            for _ in self.queues.submitted.drain(..) {
                                let _ = calls.take().await;
                            }
                        }
                        return Some(end);
                    }
                }
                () = calls.answered(), if !self.queues.submitted.is_empty() => {
                    let Some(oldest) = self.queues.submitted.pop_front() else { continue };
                    let (events, outcomes) = calls.take().await;
                    let answered = outcomes
                        .and_then(|outcomes| self.policy.complete(&events, outcomes))
                        .map_err(End::Fault)
                        .and_then(|outcomes| self.answered(oldest.with(events), outcomes));
                    if let Some(next) = self.queues.submitted.front_mut() {
                        // it had to wait until now
                        next.since = Instant::now();
                    }
                    self.end_with(answered);
                }
                Some(next) = successors.recv(), if successor.is_none() => successor = Some(next),
                () = wait => self.queues.not_before = None,
                batch = batches.recv(), if open && has_room => match batch {
                    Some(batch) => self.queues.todo.push_back(batch),
                    None => open = false,
                },
                () = look => {}
            }
        }
    }

    /// Whether a failed event of a queue holds up all others, and ends the process at last.
    fn stops(&self) -> bool {
        self.policy.errors.then == Then::Stop && !self.latest
    }

    /// Whether the events of a queue are called one by one: a failure ends everything, and what was called behind it could
    /// not be taken back.
    fn is_one_by_one(&self) -> bool {
        self.stops() && self.states.is_none()
    }

    fn max_submitted(&self, calls: &mut Calls<'_>) -> usize {
        let ahead = self.policy.errors.then != Then::Stop && (self.states.is_some() || calls.is_pipelined());
        if ahead { MAX_PIPELINED } else { 1 }
    }

    /// Nothing more is called; what was called is committed before the end.
    fn end_with(&mut self, step: Result<(), End>) {
        if let Err(end) = step {
            self.ending.get_or_insert(end);
        }
    }

    /// What has to be called again, as soon as nothing is submitted any more.
    fn resume(&mut self, is_written: bool) {
        // what is being written may have to be called again as well, before it
        let Some(rollback) = self.queues.rollback.take_if(|_| is_written || self.states.is_none()) else { return };
        if let Some(states) = &mut self.states {
            if rollback.states_hold { states.hand_again() } else { states.load_again() }
        }
        for batch in rollback.batches.into_iter().rev() {
            self.queues.todo.push_front(batch);
        }
    }

    /// Between two batches: new code takes the place of old code.
    async fn hand_over(&mut self, successor: Successor, function: &mut Box<dyn Function>) {
        let state = successor.take_over(function).await;
        match (state, &mut self.states) {
            (Some(ReloadState::Reset), Some(states)) => states.reset(),
            (Some(ReloadState::Keep), Some(states)) => states.hand_again(),
            _ => {}
        }
    }

    /// Gives the function a batch, with the states that it needs.
    async fn submit(&mut self, mut batch: InFlightBatch, calls: &mut Calls<'_>) -> Result<(), End> {
        if self.is_one_by_one() {
            return self.submit_one(batch, calls).await;
        }
        if self.stops()
            && batch.batch.events.len() > 1
            && let Some(place) = batch.batch.events.iter().position(is_over_delivered)
        {
            self.queues.isolate(batch, place, 0);
            return Ok(());
        }
        if let Some((failed, outcomes)) = self.policy.over_delivered(&mut batch) {
            self.failed(failed, outcomes)?;
        }
        if batch.is_empty() {
            return Ok(());
        }
        let attempts = self.policy.errors.retries.saturating_add(1);
        if self.stops()
            && let Some(event) = batch.batch.events.first().filter(|event| event.attempt > attempts)
        {
            return Err(End::Policy { event: event.id.clone() });
        }
        let mut call = Call::default();
        if let Some(states) = &mut self.states {
            let refused;
            (call, refused) = states.call(&mut batch.batch.events).await.map_err(End::Fault)?;
            if !refused.is_empty() {
                let (places, outcomes): (Vec<_>, Vec<Outcome>) =
                    refused.into_iter().map(|(place, fault)| (place, Returned::Failed(fault).into())).unzip();
                if self.stops() && batch.batch.events.len() > 1 {
                    self.states.iter_mut().for_each(|states| states.withdraw(std::mem::take(&mut call)));
                    self.queues.isolate(batch, places[0], 0);
                    return Ok(());
                }
                let failed = batch.split(&places);
                self.policy.counted(&failed.batch.events, &outcomes, 0.0);
                self.give_up(failed, outcomes)?;
                if batch.is_empty() {
                    self.states.iter_mut().for_each(|states| states.withdraw(std::mem::take(&mut call)));
                    return Ok(());
                }
            }
        }
        calls.give(std::mem::take(&mut batch.batch.events), call).await;
        self.queues.submitted.push_back(Submitted { batch, since: Instant::now() });
        Ok(())
    }

    /// The next event of a batch whose events are called one by one; after the last one, its commit.
    async fn submit_one(&mut self, mut batch: InFlightBatch, calls: &mut Calls<'_>) -> Result<(), End> {
        let place = batch.outcomes.len();
        let Some(event) = batch.batch.events.get(place) else {
            let outcomes = std::mem::take(&mut batch.outcomes);
            self.commit(batch, outcomes);
            return Ok(());
        };
        if is_over_delivered(event) {
            // counted and told
            let _ = self.policy.outcome_of_over_delivered(event);
            return self.stop_at(batch, place);
        }
        calls.give(vec![event.clone()], Call::default()).await;
        self.queues.submitted.push_back(Submitted { batch, since: Instant::now() });
        Ok(())
    }

    /// Sorts the outcomes of the oldest batch.
    fn answered(&mut self, oldest: Submitted, mut outcomes: Vec<Outcome>) -> Result<(), End> {
        let Submitted { mut batch, since } = oldest;
        let each = since.elapsed().as_secs_f64() / outcomes.len().max(1) as f64;
        if self.states.is_some() {
            return self.answered_with_states(batch, outcomes, each);
        }
        if self.is_one_by_one() {
            return self.answered_one(batch, outcomes, each);
        }
        self.policy.judge.judge(&batch.batch.events, &mut outcomes, true);
        self.policy.counted(&batch.batch.events, &outcomes, each);
        let not_run = places(&outcomes, was_not_run);
        if !not_run.is_empty() {
            // what has been called stays called
            take(&mut outcomes, &not_run);
            let rest = batch.split(&not_run);
            self.queues.rollback.get_or_insert_default().batches.push_back(rest);
        }
        if batch.is_empty() {
            return Ok(());
        }
        if outcomes.iter().any(has_failed) {
            return self.failed(batch, outcomes);
        }
        self.commit(batch, outcomes);
        Ok(())
    }

    /// The same for one event of a batch whose events are called one by one.
    fn answered_one(&mut self, mut batch: InFlightBatch, mut outcomes: Vec<Outcome>, each: f64) -> Result<(), End> {
        let place = batch.outcomes.len();
        let event = std::slice::from_ref(&batch.batch.events[place]);
        self.policy.judge.judge(event, &mut outcomes, true);
        self.policy.counted(event, &outcomes, each);
        let Some(outcome) = outcomes.pop().filter(|outcome| !was_not_run(outcome)) else {
            self.queues.todo.push_front(batch);
            return Ok(());
        };
        if self.policy.may_retry(&event[0], &outcome) {
            // also while stopping: what is not done when the time to drain is over stays undelivered
            self.queues.not_before = Some(self.policy.next_attempt(&mut batch.batch.events[place]));
        } else if has_failed(&outcome) {
            return self.stop_at(batch, place);
        } else {
            batch.outcomes.push(outcome);
        }
        self.queues.todo.push_front(batch);
        Ok(())
    }

    /// The same where a store keeps the states.
    fn answered_with_states(
        &mut self,
        mut batch: InFlightBatch,
        mut outcomes: Vec<Outcome>,
        each: f64,
    ) -> Result<(), End> {
        let (stops, is_alone) = (self.stops(), outcomes.len() == 1);
        let Some(states) = &mut self.states else { return Ok(()) };
        states.answered();
        if let Some(fault) = unusable_state(&mut outcomes) {
            // no event is to blame, and none could be called
            return Err(End::Fault(fault));
        }
        let judged = match self.queues.rollback {
            None => self.policy.judge.judge(&batch.batch.events, &mut outcomes, is_alone),
            Some(_) => Vec::new(),
        };
        if !judged.is_empty() && !is_alone {
            // those behind them were called with what their calls had done to the state
            self.queues.roll_back(None).batches.extend(batch.split_at(&judged));
            return Ok(());
        }
        // before it is counted, so that a call is either a good one or a failed one
        let refused = self.queues.rollback.is_none() && (!judged.is_empty() || states.refuse(&mut outcomes));
        self.policy.counted(&batch.batch.events, &outcomes, each);
        if refused {
            self.queues.roll_back(None);
        } else if let Some(rollback) = &mut self.queues.rollback {
            // it was called with states that are no more
            rollback.batches.push_back(batch);
            return Ok(());
        }
        let failed = places(&outcomes, has_failed);
        if !failed.is_empty() {
            states.doubt(&batch.batch.events, &outcomes);
        }
        if stops && !is_alone && !failed.is_empty() {
            // its call with the others was its first attempt
            self.queues.isolate(batch, failed[0], 1);
            return Ok(());
        }
        if outcomes.iter().any(was_not_run) {
            let (without, outcomes) = (batch.split(&failed), take(&mut outcomes, &failed));
            let rollback = self.queues.rollback.insert(queues::Rollback { states_hold: true, ..Default::default() });
            rollback.batches.extend(Some(batch).filter(|batch| !batch.is_empty()));
            return self.failed(without, outcomes);
        }
        if stops && !failed.is_empty() {
            return self.give_up(batch, outcomes);
        }
        let states = states.changed(&batch.batch.events, &mut outcomes);
        if !failed.is_empty() {
            let (without, outcomes) = (batch.split(&failed), take(&mut outcomes, &failed));
            self.failed(without, outcomes)?;
        }
        if batch.is_empty() {
            return Ok(());
        }
        let saves = states.iter().map(|(key, state)| (key.clone(), state.version)).collect();
        let commit = Commit { states, ..self.policy.commit_of(&mut batch, outcomes) };
        self.queues.ready.push_back(PendingCommit { batch, commit, saves, is_final: false });
        Ok(())
    }

    /// Failed events, without the others of their batch: tried again, in their place where nothing may overtake them, or
    /// committed as failed.
    fn give_up(&mut self, mut batch: InFlightBatch, outcomes: Vec<Outcome>) -> Result<(), End> {
        let event = batch.batch.events.first().zip(outcomes.first());
        if self.stops() && event.is_some_and(|(event, outcome)| self.policy.may_retry(event, outcome)) {
            self.queues.not_before = Some(self.policy.next_attempt(&mut batch.batch.events[0]));
            self.queues.todo.push_front(batch);
            return Ok(());
        }
        self.failed(batch, outcomes)
    }

    /// Events of which some have failed: those are tried again later, where they may, and what is final is committed.
    fn failed(&mut self, mut batch: InFlightBatch, mut outcomes: Vec<Outcome>) -> Result<(), End> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.latest {
            let event = batch.batch.events.first().zip(outcomes.first());
            if event.is_some_and(|(event, outcome)| self.policy.may_retry(event, outcome)) {
                // before the permit, which goes with the batch, and after which the first stage looks for it;
                // where that has ended, the event stays undelivered: it still had attempts left
                let retry = self.policy.retry(&mut batch);
                let _ = self.retries.send(retry);
                return Ok(());
            }
        } else if self.policy.errors.then != Then::Stop {
            for retry in self.policy.take_retries(&mut batch, &mut outcomes) {
                let _ = self.retries.send(retry);
            }
        }
        if self.policy.errors.then == Then::Stop
            && let Some(place) = outcomes.iter().position(has_failed)
        {
            batch.outcomes = outcomes;
            return self.stop_at(batch, place);
        }
        if !batch.is_empty() {
            self.commit(batch, outcomes);
        }
        Ok(())
    }

    /// The policy `stop`: what came before this event is committed, it and all after it stay undelivered.
    fn stop_at(&mut self, mut batch: InFlightBatch, place: usize) -> Result<(), End> {
        let event = batch.batch.events[place].id.clone();
        let mut outcomes = std::mem::take(&mut batch.outcomes);
        outcomes.truncate(place);
        let rest: Vec<usize> = (place..batch.batch.events.len()).collect();
        drop(batch.split(&rest));
        if !batch.is_empty() {
            self.commit(batch, outcomes);
        }
        Err(End::Policy { event })
    }

    /// On its way to the sinks, without a state: each outcome is final.
    fn commit(&mut self, mut batch: InFlightBatch, outcomes: Vec<Outcome>) {
        let commit = self.policy.commit_of(&mut batch, outcomes);
        self.queues.ready.push_back(PendingCommit { batch, commit, saves: Vec::new(), is_final: true });
    }
}

impl Submitted {
    /// Gives the batch its events back, where it has given all of them away.
    fn with(mut self, events: Vec<Event>) -> Self {
        if self.batch.is_empty() {
            self.batch.batch.events = events;
        }
        self
    }
}
