//! The three stages of a function: pull, call, commit. Where a store keeps its state, the last two are one: `keep`.
//!
//! They are futures of one task, not tasks of their own: a latest-value event passes all three without waking
//! another thread, and a queue's stages overlap wherever one of them waits.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use super::assemble::Parts;
use super::board::Board;
use super::bond::{Bond, keys_of, lease_of};
use super::call::Caller;
use super::commit::{Committer, Landed, without};
use super::judge::Judge;
use super::keep::Keeper;
use super::meters::Meters;
use super::policy::Policy;
use super::pull::Puller;
use super::reload::Reloader;
use super::states::States;
use super::stop::{Stop, stop};
use super::tenure;
use crate::config::settings::{ErrorOptions, Then};
use crate::contract::{
    Batch, Commit, Delivery, Fault, Function, Lease, Receipt, Returned, Source, StateKey, StateStore,
};

/// Batches of a queue between the source and the end of the commit: one in each stage.
const QUEUE_IN_FLIGHT: usize = 3;

/// Every way in which a function's run can end.
#[derive(Debug)]
pub enum End {
    /// It was asked to stop, and everything in flight is committed.
    Stopped,
    /// The source has nothing any more, and everything is committed.
    Exhausted,
    /// It was asked to stop, and something was still in flight when the time to drain was over.
    NotDrained,
    /// The error policy `stop`: this event failed.
    Policy {
        /// Its id.
        event: String,
    },
    /// Another process has the lease. The run begins again when this one has it.
    Fenced,
    /// A component is beyond repair.
    Fault(Fault),
}

/// A batch on its way, with the permit that it occupies.
pub(super) struct Journey {
    pub(super) batch: Batch,
    permit: Arc<OwnedSemaphorePermit>,
    in_flight: InFlight,
}

impl Journey {
    pub(super) fn new(batch: Batch, permit: OwnedSemaphorePermit, meters: &Meters) -> Self {
        let in_flight = InFlight::new(meters.in_flight.clone(), batch.events.len());
        Self { batch, permit: Arc::new(permit), in_flight }
    }

    /// Takes the batch out, as it goes another way.
    pub(super) fn take(&mut self) -> Batch {
        std::mem::replace(&mut self.batch, Batch { events: Vec::new(), receipt: Receipt::none(), skipped: 0 })
    }

    /// Takes the events at these places, in ascending order, out for a journey of their own. Both occupy the one permit.
    pub(super) fn split(&mut self, places: &[usize]) -> Self {
        let receipt = if places.is_empty() { Receipt::none() } else { self.batch.receipt.split(places) };
        let mut taken = Vec::with_capacity(places.len());
        for place in places.iter().rev() {
            taken.push(self.batch.events.remove(*place));
        }
        taken.reverse();
        let in_flight = InFlight::new(self.in_flight.gauge.clone(), taken.len());
        self.in_flight.give_up(taken.len());
        Self { batch: Batch { events: taken, receipt, skipped: 0 }, permit: Arc::clone(&self.permit), in_flight }
    }
}

/// Events between the source and the end of their commit, on the gauge as long as this lives.
struct InFlight {
    gauge: metrics::Gauge,
    events: f64,
}

impl InFlight {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    fn new(gauge: metrics::Gauge, events: usize) -> Self {
        gauge.increment(events as f64);
        Self { gauge, events: events as f64 }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    fn give_up(&mut self, events: usize) {
        self.gauge.decrement(events as f64);
        self.events -= events as f64;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.decrement(self.events);
    }
}

/// A failed event that waits for its next attempt.
pub(super) struct Again {
    pub(super) batch: Batch,
    pub(super) due: Instant,
}

/// Runs a function until it ends. Backends that are away are waited for; with `require_backend` one that
/// cannot be opened at the start is the end. Where one process of several runs it, this one waits for its turn.
pub async fn run(parts: Parts, stop: Stop, board: Board, require_backend: bool) -> End {
    let (bond, keys, judge) = (Bond::of(&parts), keys_of(&parts), Judge::of(&parts));
    let lease: Option<Arc<dyn Lease>> = lease_of(&parts).map(Arc::from);
    // of the source's own lease: that of a state is guarded by the state's versions
    let guard = parts.source.lease().and_then(|_| parts.source.transaction());
    let Parts {
        name,
        mut source,
        mut function,
        state,
        state_key,
        sinks,
        dead_letters,
        origin,
        errors,
        drain,
        reload,
        ..
    } = parts;
    let meters = Meters::of(&name);
    let mut committer = Committer::new(
        Arc::clone(&name),
        sinks,
        Arc::clone(&state),
        dead_letters,
        bond,
        keys,
        lease.clone(),
        guard,
        board.clone(),
        meters.clone(),
    );
    let opened = tokio::select! {
        biased;
        () = stop.requested() => Some(End::Stopped),
        opened = open(&mut committer, &mut *source, &*state, require_backend) => opened.err().map(End::Fault),
    };
    if let Some(end) = opened {
        close(&name, &mut function, &mut committer, &mut *source, lease.as_deref(), left(&stop, drain)).await;
        return end;
    }
    let durable = state.durable();
    let mut run = Run {
        name: &name,
        source: &mut source,
        function: &mut function,
        committer: &mut committer,
        states: durable.then_some((state, state_key)),
        origin: &origin,
        errors: &errors,
        judge: &judge,
        drain,
        stop: &stop,
        board: &board,
        meters: &meters,
        reloader: reload.map(|reload| Reloader::new(&name, &board, reload)),
    };
    let end = match &lease {
        None => run.once(None).await,
        Some(lease) => run.in_turn(lease).await,
    };
    board.update(&name, |status| status.running = false);
    if matches!(end, End::NotDrained) {
        return end;
    }
    close(&name, &mut function, &mut committer, &mut *source, lease.as_deref(), left(&stop, drain)).await;
    end
}

/// How long the function may take to end, so that there is time for what comes after it.
fn left(stop: &Stop, drain: Duration) -> Duration {
    /// For sinks, source and lease.
    const RESERVE: Duration = Duration::from_secs(1);
    let left = stop.since().map_or(drain, |since| drain.saturating_sub(since.elapsed()));
    left.saturating_sub(RESERVE).max(left / 2)
}

/// What a run needs, from its first batch to its last.
struct Run<'a> {
    name: &'a Arc<str>,
    source: &'a mut Box<dyn Source>,
    function: &'a mut Box<dyn Function>,
    committer: &'a mut Committer,
    /// The store and the place of the key, where states are kept.
    states: Option<(Arc<dyn StateStore>, Option<String>)>,
    origin: &'a Arc<str>,
    errors: &'a ErrorOptions,
    judge: &'a Judge,
    drain: Duration,
    stop: &'a Stop,
    board: &'a Board,
    meters: &'a Meters,
    reloader: Option<Reloader<'a>>,
}

impl Run<'_> {
    /// Whenever this process has the lease, until it is stopped.
    async fn in_turn(&mut self, lease: &Arc<dyn Lease>) -> End {
        loop {
            let tenure = tokio::select! {
                biased;
                () = self.stop.requested() => return End::Stopped,
                tenure = tenure::stand_by(self.name, &**lease, self.board) => tenure,
                // a standby must tell the truth, too
                never = self.committer.keep_checking() => match never {},
            };
            let since = match tenure {
                Ok((fingerprint, since)) => {
                    if let Some(fingerprint) = fingerprint {
                        self.source.resume(fingerprint);
                    }
                    since
                }
                Err(fault) => return End::Fault(fault),
            };
            match self.once(Some((lease, since))).await {
                End::Fenced => {
                    tracing::warn!(function = %self.name, "the lease is lost, and what was in work with it; this process stands by until it has it again");
                    if let Err(fault) = self.source.close().await {
                        tracing::debug!(function = %self.name, "source not closed cleanly: {}", fault.chain());
                    }
                }
                end => return end,
            }
        }
    }

    /// From the first batch to the end, or to the loss of the lease.
    async fn once(&mut self, lease: Option<(&Arc<dyn Lease>, Instant)>) -> End {
        // what has to end when the lease is lost, ends as it does for a stop
        let (halter, halt) = stop();
        let name = self.name;
        // until the first check has succeeded; its faults take this one's place
        self.board.trouble(name, "source", Some("not opened yet"));
        self.board.update(name, |status| status.running = true);
        let policy = || Policy {
            name,
            errors: self.errors,
            board: self.board,
            meters: self.meters,
            judge: self.judge,
            origin: Arc::clone(self.origin),
        };
        let mut states = self
            .states
            .as_ref()
            .map(|(store, key)| States::new(name, Arc::clone(store), key.as_deref(), self.board, self.meters));
        if let Some(states) = &mut states {
            let first = tokio::select! {
                biased;
                () = self.stop.requested() => return End::Stopped,
                first = states.fingerprint() => first,
            };
            match first {
                Ok(Some(fingerprint)) => self.source.resume(fingerprint),
                Ok(None) => {}
                Err(fault) => return End::Fault(fault),
            }
        }
        let latest = self.source.delivery() == Delivery::Latest;
        let at_hand = usize::from(self.function.pipeline().is_some());
        let in_flight = if latest { 1 } else { QUEUE_IN_FLIGHT + at_hand };
        let (to_call, calls) = mpsc::channel(1);
        let (give_back, given_back) = mpsc::unbounded_channel();
        let fence = self.committer.fence();
        fence.store(false, Ordering::Relaxed);
        let pull = Puller {
            name,
            source: &mut **self.source,
            stop: &halt,
            board: self.board,
            permits: Arc::new(Semaphore::new(in_flight)),
            in_flight,
            to_call,
            given_back,
            meters: self.meters,
        };
        let (to_take_over, successors) = mpsc::channel(1);
        let (policy, committing) = (policy(), policy());
        let (function, committer) = (&mut *self.function, &mut *self.committer);
        let working = async {
            match states {
                Some(states) => {
                    let keeper = Keeper { policy, states, latest, give_back };
                    let (pulled, kept) = tokio::join!(pull.run(), keeper.run(function, committer, calls, successors));
                    kept.or(pulled)
                }
                None => {
                    let (to_commit, commits) = mpsc::channel(2);
                    let caller = Caller { policy, function, latest, to_commit, give_back };
                    let (pulled, called, committed) =
                        tokio::join!(pull.run(), caller.run(calls, successors), commit(committer, commits, committing));
                    committed.or(called).or(pulled)
                }
            }
        };
        let out_of_time = async {
            self.stop.requested().await;
            halter.stop();
            sleep(self.drain).await;
        };
        let reloading = async {
            match &mut self.reloader {
                Some(reloader) => reloader.run(to_take_over).await,
                None => std::future::pending().await,
            }
        };
        let losing = async {
            if let Some((lease, since)) = lease {
                tenure::keep(name, &**lease, since).await;
                fence.store(true, Ordering::Relaxed);
                halter.stop();
            }
            std::future::pending::<Infallible>().await
        };
        let end = tokio::select! {
            end = working => end.unwrap_or(End::Stopped),
            never = reloading => match never {},
            never = losing => match never {},
            () = out_of_time => End::NotDrained,
        };
        match end {
            End::Stopped if fence.load(Ordering::Relaxed) && !self.stop.is_requested() => End::Fenced,
            end => end,
        }
    }
}

/// Opens the sinks once, and what is required now. Sinks that are away are left to the third stage otherwise, the
/// source to the first.
async fn open(
    committer: &mut Committer,
    source: &mut dyn Source,
    state: &dyn StateStore,
    require_backend: bool,
) -> Result<(), Fault> {
    committer.check().await?;
    if require_backend {
        source.check().await?;
        if let Some(trouble) = committer.trouble() {
            return Err(Fault::backend(trouble));
        }
        // A lease lives beside the state. What is no server is never away: a file in use is waited for.
        if state.domain().is_some() {
            // which states there are and whether they can be used shows when they are needed
            let _ = state.load(&[StateKey::default()]).await?;
        }
    }
    Ok(())
}

async fn close(
    name: &str,
    function: &mut Box<dyn Function>,
    committer: &mut Committer,
    source: &mut dyn Source,
    lease: Option<&dyn Lease>,
    within: Duration,
) {
    if let Err(fault) = function.close(within).await {
        let report = fault.report().map(|report| format!("\n{}", report.trim_end())).unwrap_or_default();
        tracing::error!(function = name, "function not closed cleanly: {}{report}", fault.chain());
    }
    committer.close().await;
    if let Err(fault) = source.close().await {
        tracing::error!(function = name, "source not closed cleanly: {}", fault.chain());
    }
    if let Some(lease) = lease
        && let Err(fault) = lease.release().await
    {
        tracing::debug!(function = name, "the lease was not given back: {}", fault.chain());
    }
}

/// The third stage. Sinks in trouble are tried again also while there is nothing to write.
async fn commit(
    committer: &mut Committer,
    mut commits: mpsc::Receiver<(Journey, Commit)>,
    policy: Policy<'_>,
) -> Option<End> {
    loop {
        committer.look_if_due().await;
        // a sink that does not answer must not hold up the end
        let received = tokio::select! {
            biased;
            received = commits.recv() => received,
            () = committer.look() => continue,
        };
        let mut waiting = VecDeque::from([received?]);
        while let Some((mut journey, mut commit)) = waiting.pop_front() {
            let events = &mut journey.batch.events;
            match committer.commit(&mut commit, events).await {
                Ok(Landed::Lost(lost)) => {
                    lost.tell(policy.name, policy.meters);
                    without(&mut commit, events, &lost.events);
                    if !events.is_empty() {
                        waiting.push_front((journey, commit));
                    }
                }
                Ok(Landed::Fenced) => {
                    policy.meters.fenced.increment(events.len() as u64);
                    return Some(End::Fenced);
                }
                Ok(Landed::Refused(_)) if events.len() > 1 => {
                    // which of them it was
                    for one in apart(journey, commit).into_iter().rev() {
                        waiting.push_front(one);
                    }
                }
                Ok(Landed::Unstored(refused)) => {
                    for (id, fault) in refused {
                        let Some(one) = take_out(&mut journey, &mut commit, &id) else { continue };
                        match unstorable(&policy, one.0, one.1, fault) {
                            Ok(failed) => waiting.push_back(failed),
                            Err(end) => return Some(end),
                        }
                    }
                    if !journey.batch.events.is_empty() {
                        waiting.push_front((journey, commit));
                    }
                }
                Ok(Landed::Refused(fault)) => match unstorable(&policy, journey, commit, fault) {
                    Ok(failed) => waiting.push_front(failed),
                    Err(end) => return Some(end),
                },
                Ok(Landed::Done | Landed::Stale) => {}
                Err(fault) => return Some(End::Fault(fault)),
            }
        }
    }
}

/// Each event of a batch with its part of the commit.
fn apart(mut journey: Journey, mut commit: Commit) -> Vec<(Journey, Commit)> {
    let mut all = Vec::with_capacity(journey.batch.events.len());
    journey.batch.receipt = std::mem::take(&mut commit.receipt);
    for verdict in commit.verdicts {
        let mut one = journey.split(&[0]);
        let id = one.batch.events.first().map(|event| event.id.clone()).unwrap_or_default();
        let part = Commit {
            outputs: commit.outputs.extract_if(.., |output| output.event_id == id).collect(),
            letters: commit.letters.extract_if(.., |letter| letter.event == id).collect(),
            verdicts: vec![verdict],
            receipt: std::mem::take(&mut one.batch.receipt),
            states: Vec::new(),
        };
        all.push((one, part));
    }
    all
}

/// One event with its part of the commit, out of its batch.
fn take_out(journey: &mut Journey, commit: &mut Commit, id: &str) -> Option<(Journey, Commit)> {
    let place = journey.batch.events.iter().position(|event| event.id == id)?;
    journey.batch.receipt = std::mem::take(&mut commit.receipt);
    let mut one = journey.split(&[place]);
    commit.receipt = std::mem::take(&mut journey.batch.receipt);
    let part = Commit {
        outputs: commit.outputs.extract_if(.., |output| output.event_id == id).collect(),
        verdicts: vec![commit.verdicts.remove(place)],
        receipt: std::mem::take(&mut one.batch.receipt),
        ..Commit::default()
    };
    Some((one, part))
}

/// An event whose result can never be stored has failed: another call would give the same result.
fn unstorable(
    policy: &Policy<'_>,
    mut journey: Journey,
    mut commit: Commit,
    fault: Fault,
) -> Result<(Journey, Commit), End> {
    journey.batch.receipt = std::mem::take(&mut commit.receipt);
    let event = journey.batch.events.first().map(|event| event.id.clone()).unwrap_or_default();
    let (name, next) = (policy.name, policy.at_last());
    tracing::error!(function = name, %event, "its result cannot be stored: {}; {next}", fault.chain());
    let failed = Returned::Failed(fault);
    policy.meters.count(&failed);
    if policy.errors.then == Then::Stop {
        return Err(End::Policy { event });
    }
    let commit = policy.commit_of(&mut journey, vec![failed.into()]);
    Ok((journey, commit))
}
