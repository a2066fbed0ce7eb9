//! The second and third stage of a function whose state a store keeps: calls it, and commits results and states together.
//!
//! ```text
//!   todo ── give ──> given (2 at most) ── answered ──> ready ── commit ──> landed
//!     ^                   │  a worker has ended            │  stale, lost
//!     └──── rolled back ──┴───────────────────────────────┘
//! ```
//!
//! A batch is called while the ones before it are committed, with states that are only on their way to the store. Where
//! one of those commits fails, everything that was called after it is discarded, and called again from what the store
//! has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use tokio::sync::mpsc;

use super::call::AT_HAND;
use super::calls::Calls;
use super::commit::{Committer, Landed, without};
use super::policy::{Policy, has_failed, is_worn};
use super::reload::Successor;
use super::run::{Again, End, Journey};
use super::states::{Save, States};
use crate::config::settings::{ReloadState, Then};
use crate::contract::{Blame, Commit, Fault, Function, Outcome, Returned};
use crate::registry::BoxFuture;

/// The second and the third stage of a function.
pub(super) struct Keeper<'a> {
    pub(super) policy: Policy<'a>,
    pub(super) states: States,
    pub(super) latest: bool,
    pub(super) give_back: mpsc::UnboundedSender<Again>,
}

/// A batch that was given and is not answered.
struct Given {
    journey: Journey,
    since: Instant,
}

/// A batch on its way into the store.
struct Ready {
    journey: Journey,
    commit: Commit,
    saves: Vec<Save>,
    /// Its events have failed for good, whatever the state is.
    is_final: bool,
}

/// One that is being written, with who writes it.
type Writing<'a> = BoxFuture<'a, (&'a mut Committer, Ready, Result<Landed, Fault>)>;

/// What is on its way.
#[derive(Default)]
struct Way {
    todo: VecDeque<Journey>,
    given: VecDeque<Given>,
    ready: VecDeque<Ready>,
    /// What has to be called again, in its order, as soon as nothing is given any more; whether the states at hand are
    /// what the store will have.
    back: Option<Back>,
}

struct Back {
    journeys: VecDeque<Journey>,
    states_hold: bool,
}

impl Keeper<'_> {
    /// Runs until the stage before has ended (`None`), the function or a sink is gone, the lease is lost, or the policy
    /// says stop.
    pub(super) async fn run(
        mut self,
        function: &mut Box<dyn Function>,
        committer: &mut Committer,
        mut calls: mpsc::Receiver<Journey>,
        mut successors: mpsc::Receiver<Successor>,
    ) -> Option<End> {
        let mut function = Calls::new(function);
        let mut way = Way::default();
        let mut writer = Some(committer);
        let mut writing: Option<Writing<'_>> = None;
        let mut successor: Option<Successor> = None;
        let mut open = true;
        // where a failure ends everything, nothing may have been called after it
        let most = if self.policy.errors.then == Then::Stop { 1 } else { AT_HAND };
        loop {
            if way.given.is_empty() {
                if let Some(back) = way.back.take_if(|_| writing.is_none()) {
                    if back.states_hold {
                        self.states.hand_again()
                    } else {
                        self.states.load_again()
                    }
                    for journey in back.journeys.into_iter().rev() {
                        way.todo.push_front(journey);
                    }
                }
                if let Some(successor) = successor.take() {
                    match successor.take_over(function.idle()).await {
                        Some(ReloadState::Reset) => self.states.reset(),
                        Some(ReloadState::Keep) => self.states.hand_again(),
                        None => {}
                    }
                }
            }
            let in_turn = most == 1 && (writing.is_some() || !way.ready.is_empty());
            if way.back.is_none()
                && successor.is_none()
                && way.given.len() < most
                && !in_turn
                && let Some(journey) = way.todo.pop_front()
            {
                match self.give(journey, &mut function, &mut way).await {
                    Ok(()) => continue,
                    Err(end) => return Some(end),
                }
            }
            if let Some(writer) = &mut writer {
                writer.look_if_due().await;
            }
            if let Some(committer) = writer.take_if(|_| !way.ready.is_empty())
                && let Some(mut ready) = way.ready.pop_front()
            {
                writing = Some(Box::pin(async move {
                    let landed = committer.commit(&mut ready.commit, &ready.journey.batch.events).await;
                    (committer, ready, landed)
                }));
            }
            if !open && way.todo.is_empty() && way.given.is_empty() && way.back.is_none() && writing.is_none() {
                return None;
            }
            let write = async {
                match &mut writing {
                    Some(writing) => writing.await,
                    None => std::future::pending().await,
                }
            };
            let look = async {
                match &mut writer {
                    Some(writer) => writer.look().await,
                    None => std::future::pending().await,
                }
            };
            let room = way.todo.is_empty() && way.given.len() < most && way.back.is_none();
            tokio::select! {
                biased;
                (committer, ready, landed) = write => {
                    (writer, writing) = (Some(committer), None);
                    let settled = match landed {
                        Ok(landed) => self.landed(ready, landed, &mut way).await,
                        Err(fault) => Err(End::Fault(fault)),
                    };
                    if let Err(end) = settled {
                        if matches!(end, End::Fenced) {
                            // whoever uses the function next would take these answers for those to its own batches
                            for _ in way.given.drain(..) {
                                let _ = function.take().await;
                            }
                        }
                        return Some(end);
                    }
                }
                () = function.answered(), if !way.given.is_empty() => {
                    let Some(given) = way.given.pop_front() else { continue };
                    let taken = function.take().await;
                    self.states.answered();
                    let outcomes = taken.and_then(|outcomes| self.policy.complete(&given.journey.batch.events, outcomes));
                    let outcomes = outcomes.map_err(End::Fault);
                    if let Err(end) = match outcomes {
                        Ok(outcomes) => self.answered(given, outcomes, &mut way).await,
                        Err(end) => Err(end),
                    } {
                        return Some(end);
                    }
                    if let Some(next) = way.given.front_mut() {
                        // it had to wait until now
                        next.since = Instant::now();
                    }
                }
                Some(next) = successors.recv(), if successor.is_none() => successor = Some(next),
                journey = calls.recv(), if open && room => match journey {
                    Some(journey) => way.todo.push_back(journey),
                    None => open = false,
                },
                () = look => {}
            }
        }
    }

    /// Gives the function a batch, with the states that it needs.
    async fn give(&mut self, mut journey: Journey, function: &mut Calls<'_>, way: &mut Way) -> Result<(), End> {
        if self.stops()
            && journey.batch.events.len() > 1
            && let Some(worn) = journey.batch.events.iter().position(is_worn)
        {
            return self.apart(journey, worn, 0, way);
        }
        if let Some((worn, outcomes)) = self.policy.worn_out(&mut journey) {
            self.failed(worn, outcomes, way)?;
        }
        if journey.batch.events.is_empty() {
            return Ok(());
        }
        let attempts = self.policy.errors.retries.saturating_add(1);
        if self.stops()
            && let Some(event) = journey.batch.events.first().filter(|event| event.attempt > attempts)
        {
            // what came before it is committed by now
            return Err(End::Policy { event: event.id.clone() });
        }
        let (call, refused) = self.states.call(&mut journey.batch.events).await.map_err(End::Fault)?;
        if !refused.is_empty() {
            let (places, outcomes): (Vec<_>, Vec<Outcome>) =
                refused.into_iter().map(|(place, fault)| (place, Returned::Failed(fault).into())).unzip();
            if self.stops() && journey.batch.events.len() > 1 {
                self.states.withdraw(call);
                return self.apart(journey, places[0], 0, way);
            }
            let casualties = journey.split(&places);
            self.policy.counted(&casualties.batch.events, &outcomes, 0.0);
            self.give_up(casualties, outcomes, way).await?;
            if journey.batch.events.is_empty() {
                self.states.withdraw(call);
                return Ok(());
            }
        }
        function.give(journey.batch.events.as_slice().into(), call).await;
        way.given.push_back(Given { journey, since: Instant::now() });
        Ok(())
    }

    /// Sorts the outcomes of the oldest batch.
    async fn answered(&mut self, given: Given, mut outcomes: Vec<Outcome>, way: &mut Way) -> Result<(), End> {
        let Given { mut journey, since } = given;
        if let Some(fault) = unusable(&mut outcomes) {
            // no event is to blame, and none could be called
            return Err(End::Fault(fault));
        }
        let each = since.elapsed().as_secs_f64() / outcomes.len().max(1) as f64;
        let alone = outcomes.len() == 1;
        let judged = match way.back {
            None => self.policy.judge.judge(&journey.batch.events, &mut outcomes, alone),
            Some(_) => Vec::new(),
        };
        if !judged.is_empty() && !alone {
            // those behind them were called with what their calls had done to the state
            roll_back(None, way);
            if let Some(back) = &mut way.back {
                back.journeys.extend(pieces(journey, &judged));
            }
            return Ok(());
        }
        // before it is counted, so that a call is either a good one or a failed one
        let refused = way.back.is_none() && (!judged.is_empty() || self.states.refuse(&mut outcomes));
        self.policy.counted(&journey.batch.events, &outcomes, each);
        if refused {
            roll_back(None, way);
        } else if let Some(back) = &mut way.back {
            // it was called with states that are no more
            back.journeys.push_back(journey);
            return Ok(());
        }
        let failed: Vec<usize> = places(&outcomes, has_failed);
        if !failed.is_empty() {
            self.states.doubt(&journey.batch.events, &outcomes);
        }
        if self.stops() && outcomes.len() > 1 && !failed.is_empty() {
            // its call with the others was its first attempt
            return self.apart(journey, failed[0], 1, way);
        }
        if outcomes.iter().any(|outcome| matches!(outcome.returned, Returned::NotCalled)) {
            let casualties = (journey.split(&failed), take(&mut outcomes, &failed));
            let journeys = Some(journey).filter(|journey| !journey.batch.events.is_empty()).into_iter().collect();
            way.back = Some(Back { journeys, states_hold: true });
            return self.failed(casualties.0, casualties.1, way);
        }
        if self.stops() && !failed.is_empty() {
            return self.give_up(journey, outcomes, way).await;
        }
        let states = self.states.changed(&journey.batch.events, &mut outcomes);
        if !failed.is_empty() {
            let casualties = (journey.split(&failed), take(&mut outcomes, &failed));
            self.failed(casualties.0, casualties.1, way)?;
        }
        if journey.batch.events.is_empty() {
            return Ok(());
        }
        let saves = states.iter().map(|(key, state)| (key.clone(), state.version)).collect();
        let commit = Commit { states, ..self.policy.commit_of(&mut journey, outcomes) };
        way.ready.push_back(Ready { journey, commit, saves, is_final: false });
        Ok(())
    }

    /// Whether a failed event of a queue holds up all others, and ends the process at last.
    fn stops(&self) -> bool {
        self.policy.errors.then == Then::Stop && !self.latest
    }

    /// Failed events, without the others of their batch: tried again, in their place where nothing may overtake them, or
    /// committed as failed.
    async fn give_up(&mut self, journey: Journey, outcomes: Vec<Outcome>, way: &mut Way) -> Result<(), End> {
        if self.stops() { self.in_place(journey, outcomes, way).await } else { self.failed(journey, outcomes, way) }
    }

    /// Failed events, without the others of their batch: tried again later, or committed as failed.
    fn failed(&mut self, mut journey: Journey, mut outcomes: Vec<Outcome>, way: &mut Way) -> Result<(), End> {
        if journey.batch.events.is_empty() {
            return Ok(());
        }
        if self.latest {
            let event = journey.batch.events.first().zip(outcomes.first());
            if event.is_some_and(|(event, outcome)| self.policy.may_retry(event, outcome)) {
                // before the permit, which goes with the journey
                let again = self.policy.again(&mut journey);
                let _ = self.give_back.send(again);
                return Ok(());
            }
        } else if self.policy.errors.then != Then::Stop {
            for again in self.policy.set_aside(&mut journey, &mut outcomes) {
                let _ = self.give_back.send(again);
            }
        }
        if self.policy.errors.then == Then::Stop
            && let Some(event) = journey.batch.events.first()
        {
            return Err(End::Policy { event: event.id.clone() });
        }
        if !journey.batch.events.is_empty() {
            let commit = self.policy.commit_of(&mut journey, outcomes);
            way.ready.push_back(Ready { journey, commit, saves: Vec::new(), is_final: true });
        }
        Ok(())
    }

    /// The policy `stop`: what came before the failed event is called without the rest, then that one alone, with so many
    /// more attempts behind it.
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "one of several ways to sort outcomes")]
    fn apart(&mut self, mut before: Journey, failed: usize, attempts: u32, way: &mut Way) -> Result<(), End> {
        let behind: Vec<usize> = (failed + 1..before.batch.events.len()).collect();
        let behind = before.split(&behind);
        let mut alone = before.split(&[failed]);
        alone.batch.events.iter_mut().for_each(|event| event.attempt += attempts);
        let journeys = [before, alone, behind].into_iter().filter(|journey| !journey.batch.events.is_empty()).collect();
        way.back = Some(Back { journeys, states_hold: true });
        Ok(())
    }

    /// The policy `stop`: a failed event, alone, has its further attempts before anything else is called.
    async fn in_place(&mut self, mut journey: Journey, outcomes: Vec<Outcome>, way: &mut Way) -> Result<(), End> {
        let event = journey.batch.events.first().zip(outcomes.first());
        if event.is_some_and(|(event, outcome)| self.policy.may_retry(event, outcome)) {
            let again = self.policy.again(&mut journey);
            tokio::time::sleep_until(again.due).await;
            journey.batch = again.batch;
            way.todo.push_front(journey);
            return Ok(());
        }
        self.failed(journey, outcomes, way)
    }

    /// What a commit has come to.
    async fn landed(&mut self, mut ready: Ready, landed: Landed, way: &mut Way) -> Result<(), End> {
        let name = self.policy.name;
        match landed {
            Landed::Done => self.states.landed(&ready.saves),
            Landed::Lost(lost) => {
                lost.tell(name, self.policy.meters);
                without(&mut ready.commit, &mut ready.journey.batch.events, &lost.events);
                if ready.journey.batch.events.is_empty() && ready.saves.is_empty() {
                    return Ok(());
                }
                if ready.saves.is_empty() {
                    // nothing of it was made of the others
                    way.ready.push_front(ready);
                    return Ok(());
                }
                roll_back(Some(ready), way);
            }
            Landed::Stale => {
                tracing::debug!(
                    function = name,
                    "the state was changed by another process: called again with the newer one"
                );
                roll_back(Some(ready), way);
            }
            Landed::Fenced => {
                self.policy.meters.fenced.increment(ready.journey.batch.events.len() as u64);
                return Err(End::Fenced);
            }
            Landed::Refused(fault) => return self.refused(ready, fault, way).await,
            Landed::Unstored(refused) => return self.unstored(ready, refused, way).await,
        }
        Ok(())
    }

    /// Results of some events can never be stored: those are called again alone, as the states have the others' calls.
    async fn unstored(
        &mut self,
        mut ready: Ready,
        mut refused: BTreeMap<String, Fault>,
        way: &mut Way,
    ) -> Result<(), End> {
        let events = &ready.journey.batch.events;
        if let [event] = &events[..]
            && let Some(fault) = refused.remove(&event.id)
        {
            return self.refused(ready, fault, way).await;
        }
        let places: Vec<usize> = places(events, |event| refused.contains_key(&event.id));
        ready.journey.batch.receipt = std::mem::take(&mut ready.commit.receipt);
        roll_back(None, way);
        if let Some(back) = &mut way.back {
            for piece in pieces(ready.journey, &places).into_iter().rev() {
                back.journeys.push_front(piece);
            }
        }
        Ok(())
    }

    /// Results or states that can never be stored: the event that they came from fails.
    async fn refused(&mut self, mut ready: Ready, fault: Fault, way: &mut Way) -> Result<(), End> {
        ready.journey.batch.receipt = std::mem::take(&mut ready.commit.receipt);
        let mut journey = ready.journey;
        if journey.batch.events.len() <= 1 {
            roll_back(None, way);
            let outcomes = vec![Returned::Failed(Fault::function(fault.chain())).into()];
            self.policy.counted(&journey.batch.events, &outcomes, 0.0);
            return self.give_up(journey, outcomes, way).await;
        }
        roll_back(None, way);
        if let Some(back) = &mut way.back {
            while !journey.batch.events.is_empty() {
                let last = journey.batch.events.len() - 1;
                back.journeys.push_front(journey.split(&[last]));
            }
        }
        Ok(())
    }
}

/// Discards what was called after a commit that has failed, and that one with it.
fn roll_back(first: Option<Ready>, way: &mut Way) {
    let mut journeys = VecDeque::new();
    let mut stay = VecDeque::new();
    for mut ready in first.into_iter().chain(way.ready.drain(..)) {
        if ready.is_final {
            stay.push_back(ready);
            continue;
        }
        ready.journey.batch.receipt = std::mem::take(&mut ready.commit.receipt);
        if !ready.journey.batch.events.is_empty() {
            journeys.push_back(ready.journey);
        }
    }
    way.ready = stay;
    journeys.extend(way.back.take().into_iter().flat_map(|back| back.journeys));
    way.back = Some(Back { journeys, states_hold: false });
}

/// Why the function cannot be called with its state at all: it cannot be read, or the function can keep none.
fn unusable(outcomes: &mut [Outcome]) -> Option<Fault> {
    let is_unusable =
        |outcome: &&mut Outcome| matches!(&outcome.returned, Returned::Failed(fault) if fault.blame() == Blame::Config);
    let outcome = outcomes.iter_mut().find(is_unusable)?;
    match std::mem::replace(&mut outcome.returned, Returned::NotCalled) {
        Returned::Failed(fault) => Some(fault),
        _ => None,
    }
}

/// A batch in pieces: the events at these places each alone, in their order with what stands between them.
fn pieces(mut journey: Journey, alone: &[usize]) -> VecDeque<Journey> {
    let mut pieces = VecDeque::new();
    for place in alone.iter().rev() {
        let behind: Vec<usize> = (place + 1..journey.batch.events.len()).collect();
        pieces.push_front(journey.split(&behind));
        pieces.push_front(journey.split(&[*place]));
    }
    pieces.push_front(journey);
    pieces.retain(|piece| !piece.batch.events.is_empty());
    pieces
}

fn places<T>(all: &[T], which: impl Fn(&T) -> bool) -> Vec<usize> {
    all.iter().enumerate().filter(|(_, one)| which(one)).map(|(place, _)| place).collect()
}

/// Takes the outcomes at these places out, in their order.
fn take(outcomes: &mut Vec<Outcome>, places: &[usize]) -> Vec<Outcome> {
    let places: BTreeSet<usize> = places.iter().copied().collect();
    let (taken, left): (Vec<_>, Vec<_>) =
        std::mem::take(outcomes).into_iter().enumerate().partition(|(place, _)| places.contains(place));
    *outcomes = left.into_iter().map(|(_, outcome)| outcome).collect();
    taken.into_iter().map(|(_, outcome)| outcome).collect()
}
