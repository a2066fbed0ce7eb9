//! The end of a batch's way. In one transaction where everything that it touches is in one place; otherwise sinks, then
//! dead letters, then state, then receipt. A failed step is repeated alone, never the call.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::backoff::Backoff;
use super::board::Board;
use super::bond::Bond;
use super::meters::Meters;
use crate::change::Fingerprint;
use crate::contract::{
    Commit, DeadLetters, Decision, Event, Fault, Lease, Letter, Saved, Sink, StateStore, Tenure, Transaction, Verdict,
};

/// How often what is in trouble is looked at again.
const RECHECK: Duration = Duration::from_secs(1);

/// How long a look may hold up what is to be written.
const PATIENCE: Duration = Duration::from_millis(250);

/// The place of dead letters, among the parts that may be in trouble.
const LETTERS: &str = "dead letters";

/// What became of a commit.
#[derive(Debug)]
pub(super) enum CommitOutcome {
    /// Everything is written.
    Done,
    /// Some of the events are not this process's any more; nothing is written.
    Lost(Lost),
    /// Somebody else has changed states that these events were called with. In order, results may be written already.
    Stale,
    /// Another process has the lease; nothing is written.
    Fenced,
    /// Results or states can never be stored, and nothing is.
    Refused(Fault),
    /// These events' results can never be stored, for these reasons, by their ids; those of the others are, which the
    /// commit has not any more. Nothing else is written.
    Unstored(BTreeMap<String, Fault>),
}

/// Events whose results are not written, and why.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) events: BTreeSet<String>,
    /// None where somebody else has them.
    why: Option<String>,
}

impl Lost {
    /// Says so. Only what others have is fenced.
    pub(super) fn tell(&self, function: &str, meters: &Meters) {
        let count = self.events.len();
        match &self.why {
            Some(why) => tracing::warn!(function, "{count} results are not written: {why}"),
            None => {
                meters.fenced.increment(count as u64);
                tracing::warn!(function, "{count} results come too late: others have claimed their events");
            }
        }
    }
}

/// Writes commits, one after the other.
pub(super) struct Committer {
    function: Arc<str>,
    sinks: Vec<(String, Box<dyn Sink>, Backoff)>,
    state: Arc<dyn StateStore>,
    letters: Option<Box<dyn DeadLetters>>,
    /// Of the last look at their place.
    unkept: Backoff,
    /// When what is in trouble is looked at again.
    next_look: Instant,
    bond: Bond,
    /// The keys that commits touch, until the place has been asked whether one transaction can span them.
    unasked: Option<Vec<String>>,
    lease: Option<Arc<dyn Lease>>,
    /// What can check the lease, also where commits are made in order.
    guard: Option<Arc<dyn Transaction>>,
    /// The lease is lost: nothing may be written any more.
    fenced: Arc<AtomicBool>,
    rest: Backoff,
    board: Board,
    meters: Meters,
}

impl Committer {
    #[expect(clippy::too_many_arguments, reason = "what a commit touches")]
    pub(super) fn new(
        function: Arc<str>,
        sinks: Vec<(String, Box<dyn Sink>)>,
        state: Arc<dyn StateStore>,
        letters: Option<Box<dyn DeadLetters>>,
        bond: Bond,
        keys: Vec<String>,
        lease: Option<Arc<dyn Lease>>,
        guard: Option<Arc<dyn Transaction>>,
        board: Board,
        meters: Meters,
    ) -> Self {
        let sinks = sinks
            .into_iter()
            .map(|(label, sink)| {
                let part = format!("sink {label}");
                let backoff = Backoff::new(&function, &part);
                (part, sink, backoff)
            })
            .collect();
        let unkept = Backoff::new(&function, LETTERS);
        let rest = Backoff::new(&function, "commit");
        Self {
            function,
            sinks,
            state,
            letters,
            unkept,
            next_look: Instant::now() + RECHECK,
            bond,
            unasked: Some(keys),
            lease,
            guard,
            fenced: Arc::default(),
            rest,
            board,
            meters,
        }
    }

    /// Set as soon as the lease is lost.
    pub(super) fn fence(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.fenced)
    }

    /// Opens every sink once, and looks whether letters could be kept; the trouble of what cannot be is noted, and its
    /// first write tries again.
    ///
    /// # Errors
    /// A sink or a place of letters that can never work.
    pub(super) async fn check(&mut self) -> Result<(), Fault> {
        for (part, sink, backoff) in &mut self.sinks {
            match sink.check().await {
                Ok(()) => {}
                Err(fault) if fault.retry() => {
                    backoff.failed(&fault);
                    self.board.trouble(&self.function, part, backoff.trouble());
                }
                Err(fault) => return Err(fault),
            }
        }
        match self.look_at_letters().await {
            Err(fault) if !fault.retry() => Err(fault),
            _ => Ok(()),
        }
    }

    /// Notes whether letters could be kept now.
    async fn look_at_letters(&mut self) -> Result<(), Fault> {
        let Some(letters) = &self.letters else { return Ok(()) };
        let looked = letters.check().await;
        match &looked {
            Ok(()) => self.unkept.succeeded(),
            Err(fault) if fault.retry() => drop(self.unkept.failed(fault)),
            // said once, by whoever hears of it
            Err(_) => return looked,
        }
        self.board.trouble(&self.function, LETTERS, self.unkept.trouble());
        looked
    }

    /// Looks at what is in trouble as soon as it is time to, so that readiness tells the truth also while nothing is
    /// written. May be dropped at any time: it is still due then.
    pub(super) async fn look(&mut self) {
        if !self.is_in_trouble() {
            return std::future::pending().await;
        }
        sleep_until(self.next_look).await;
        self.recheck().await;
        self.next_look = Instant::now() + RECHECK;
    }

    /// The same before something is written, where it is due: under a steady load there is no other time for it. What
    /// does not answer gives way.
    pub(super) async fn look_if_due(&mut self) {
        if self.is_in_trouble() && self.next_look <= Instant::now() {
            let _ = timeout(PATIENCE, self.recheck()).await;
            self.next_look = Instant::now() + RECHECK;
        }
    }

    async fn recheck(&mut self) {
        for (part, sink, backoff) in self.sinks.iter_mut().filter(|(_, _, backoff)| backoff.trouble().is_some()) {
            match sink.check().await {
                Ok(()) => backoff.succeeded(),
                Err(fault) => {
                    backoff.failed(&fault);
                }
            }
            self.board.trouble(&self.function, part, backoff.trouble());
        }
        if self.unkept.trouble().is_some() {
            // noted; what has become hopeless meanwhile, whoever puts a letter there hears of
            let _ = self.look_at_letters().await;
        }
    }

    /// Looks for as long as nothing is to be written. May be dropped at any time.
    pub(super) async fn keep_checking(&mut self) -> Infallible {
        loop {
            self.look().await;
        }
    }

    fn is_in_trouble(&self) -> bool {
        self.unkept.trouble().is_some() || self.sinks.iter().any(|(_, _, backoff)| backoff.trouble().is_some())
    }

    /// What is wrong with the first part that is in trouble.
    pub(super) fn trouble(&self) -> Option<String> {
        let parts = self.sinks.iter().map(|(part, _, backoff)| (part.as_str(), backoff));
        parts
            .chain([(LETTERS, &self.unkept)])
            .find_map(|(part, backoff)| backoff.trouble().map(|trouble| format!("{part}: {trouble}")))
    }

    /// Writes one batch's effects; waits for backends that are away. The caller bounds the time. What is written leaves
    /// the commit empty; otherwise it is as it was, but for results that are stored.
    ///
    /// # Errors
    /// A sink that will never work again.
    pub(super) async fn commit(&mut self, commit: &mut Commit, events: &[Event]) -> Result<CommitOutcome, Fault> {
        if self.is_fenced() {
            return Ok(CommitOutcome::Fenced);
        }
        if let Err(fault) = self.state.check(&commit.states) {
            return Ok(CommitOutcome::Refused(fault));
        }
        let landed = match self.ask().await {
            false => CommitOutcome::Fenced,
            true if matches!(self.bond, Bond::Atomic { .. }) => self.at_once(commit, events).await?,
            true => self.in_order(commit, events).await?,
        };
        match landed {
            CommitOutcome::Fenced => self.rest.give_up(),
            _ => self.rest.succeeded(),
        }
        self.board.trouble(&self.function, "commit", None);
        Ok(landed)
    }

    /// Whether the lease is lost: whoever waited looks here before anything else is written.
    fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Relaxed)
    }

    /// Before the first commit: a place that spreads its keys over servers may not be one for these. False where the lease
    /// was lost meanwhile.
    async fn ask(&mut self) -> bool {
        while let (Some(keys), Bond::Atomic { transaction, .. }) = (&self.unasked, &self.bond) {
            match transaction.obstacle(keys).await {
                Ok(None) => self.unasked = None,
                Ok(Some(why)) => {
                    tracing::warn!(function = %self.function, "commit: in order (at least once): {why}");
                    self.bond = Bond::InOrder;
                }
                Err(fault) => {
                    self.wait(&fault).await;
                    if self.is_fenced() {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Everything in one transaction.
    async fn at_once(&mut self, commit: &mut Commit, events: &[Event]) -> Result<CommitOutcome, Fault> {
        let Bond::Atomic { domain, transaction } = &self.bond else {
            return Ok(CommitOutcome::Done);
        };
        let transaction = Arc::clone(transaction);
        let together = self.letters.as_ref().is_some_and(|letters| letters.domain().as_ref() == Some(domain));
        let mut letters = std::mem::take(&mut commit.letters);
        self.tell_unsunk(commit);
        let landed = loop {
            let alone = commit.outputs.is_empty() && commit.states.is_empty();
            if !together && !self.put_letters(&mut letters).await? {
                break CommitOutcome::Fenced;
            }
            match self.transact(&*transaction, commit, &letters, events).await? {
                // the place of letters knows how to keep what is too large for one step
                CommitOutcome::Refused(_) if alone && !letters.is_empty() => {
                    if !self.put_letters(&mut letters).await? {
                        break CommitOutcome::Fenced;
                    }
                }
                landed => break landed,
            }
        };
        if !matches!(landed, CommitOutcome::Done) {
            commit.letters = letters;
            return Ok(landed);
        }
        self.kept(letters.len());
        self.state.enlisted(&commit.states);
        if !commit.outputs.is_empty() {
            // they were in it
            for (part, _, backoff) in &mut self.sinks {
                backoff.succeeded();
                self.board.trouble(&self.function, part, None);
            }
        }
        // acknowledged with the rest; there is nothing left to tell
        drop(std::mem::take(commit));
        Ok(CommitOutcome::Done)
    }

    /// Puts the transaction together, and runs it until it is decided.
    async fn transact(
        &mut self,
        transaction: &dyn Transaction,
        commit: &Commit,
        letters: &[Letter],
        events: &[Event],
    ) -> Result<CommitOutcome, Fault> {
        let mut parts = Vec::new();
        parts.extend(commit.receipt.enlist());
        if !commit.outputs.is_empty() {
            for (part, sink, _) in &self.sinks {
                match sink.enlist(&commit.outputs) {
                    Ok(writes) => parts.extend(writes),
                    Err(fault) => return Ok(CommitOutcome::Refused(not_stored(part, fault))),
                }
            }
        }
        if !commit.states.is_empty() {
            match self.state.enlist(&commit.states) {
                Ok(writes) => parts.extend(writes),
                Err(fault) => return Ok(CommitOutcome::Refused(fault)),
            }
        }
        if !letters.is_empty() {
            parts.extend(self.letters.as_ref().and_then(|place| place.enlist(letters)));
        }
        if let Some(lease) = &self.lease {
            parts.push(lease.enlist(newest(events, &commit.verdicts)));
        }
        if parts.is_empty() {
            return Ok(CommitOutcome::Done);
        }
        let prepared = transaction.prepare(parts).map_err(Fault::fatal)?;
        loop {
            match prepared.run().await {
                Ok(Decision::Done) => return Ok(CommitOutcome::Done),
                Ok(Decision::Lost(ids)) => {
                    return Ok(CommitOutcome::Lost(Lost { events: ids.into_iter().collect(), why: None }));
                }
                Ok(Decision::Gone { events, why }) => {
                    return Ok(CommitOutcome::Lost(Lost { events: events.into_iter().collect(), why: Some(why) }));
                }
                Ok(Decision::Stale) => return Ok(CommitOutcome::Stale),
                Ok(Decision::Fenced) => return Ok(CommitOutcome::Fenced),
                // whoever removes what lies there loses no result
                Ok(Decision::Unfit { key, why }) if self.takes_all(&key) => self.wait(&Fault::backend(why)).await,
                Ok(Decision::Unfit { why, .. }) => return Ok(CommitOutcome::Refused(Fault::function(why))),
                Err(fault) => self.wait(&fault).await,
            }
            if self.is_fenced() {
                return Ok(CommitOutcome::Fenced);
            }
        }
    }

    /// Whether a key is that of every result, or of every letter, as opposed to one that depends on the result.
    fn takes_all(&self, key: &str) -> bool {
        let sinks = self.sinks.iter().filter_map(|(_, sink, _)| sink.keys()).flatten();
        let letters = self.letters.iter().flat_map(|letters| letters.keys());
        sinks.chain(letters).any(|other| other == key)
    }

    async fn in_order(&mut self, commit: &mut Commit, events: &[Event]) -> Result<CommitOutcome, Fault> {
        if !self.has_lease(None).await? {
            return Ok(CommitOutcome::Fenced);
        }
        if !commit.outputs.is_empty() {
            self.tell_unsunk(commit);
            match self.write(commit).await? {
                None => return Ok(CommitOutcome::Fenced),
                Some(refused) if refused.is_empty() => {}
                Some(refused) => {
                    commit.outputs.clear();
                    return Ok(CommitOutcome::Unstored(refused));
                }
            }
        }
        if !self.put_letters(&mut commit.letters).await? {
            return Ok(CommitOutcome::Fenced);
        }
        if !commit.states.is_empty() {
            loop {
                // what was built on a state that is not saved must not be acknowledged either
                match self.state.save(&commit.states).await {
                    Ok(Saved::Done) => break,
                    Ok(Saved::Stale(keys)) => {
                        tracing::debug!(function = %self.function, ?keys, "somebody else has changed the state");
                        return Ok(CommitOutcome::Stale);
                    }
                    Err(fault) if fault.retry() => self.wait(&fault).await,
                    Err(fault) => return Ok(CommitOutcome::Refused(fault)),
                }
                if self.is_fenced() {
                    return Ok(CommitOutcome::Fenced);
                }
            }
        }
        if self.guard.is_some() {
            // lost by now, the newer holder has called for this input as well
            self.has_lease(newest(events, &commit.verdicts)).await?;
        }
        loop {
            match commit.receipt.settle(&commit.verdicts).await {
                Ok(()) => break,
                // also without the lease: the state has these events, which must not come again
                Err(fault) if fault.retry() => self.wait(&fault).await,
                Err(fault) => {
                    tracing::error!(function = %self.function, "events not acknowledged: {}", fault.chain());
                    break;
                }
            }
        }
        Ok(CommitOutcome::Done)
    }

    /// Whether this process still has the lease; the input is noted with it where a transaction of its own can do so. A
    /// clock is not asked: a process that was stopped may be here before it has looked at any.
    async fn has_lease(&mut self, fingerprint: Option<Fingerprint>) -> Result<bool, Fault> {
        let Some(lease) = self.lease.clone() else { return Ok(true) };
        let guard = self.guard.as_ref().map(|guard| guard.prepare(vec![lease.enlist(fingerprint)]));
        let prepared = guard.transpose().map_err(Fault::fatal)?;
        loop {
            let held = match &prepared {
                Some(prepared) => prepared.run().await.map(|decision| decision != Decision::Fenced),
                None => lease.hold().await.map(|tenure| matches!(tenure, Tenure::Mine { kept: true, .. })),
            };
            match held {
                Ok(held) => return Ok(held),
                Err(fault) => self.wait(&fault).await,
            }
            if self.is_fenced() {
                return Ok(false);
            }
        }
    }

    /// Results of a function without a sink go to the log.
    fn tell_unsunk(&self, commit: &Commit) {
        if self.sinks.is_empty() {
            for output in &commit.outputs {
                let text = String::from_utf8_lossy(&output.payload);
                tracing::info!(function = %self.function, event = %output.event_id, "result (no sink is configured): {text}");
            }
        }
    }

    /// Sinks, one after the other, each with all results. Those that one of them can never store, by their events; None
    /// where the lease was lost meanwhile.
    async fn write(&mut self, commit: &Commit) -> Result<Option<BTreeMap<String, Fault>>, Fault> {
        let mut all = BTreeMap::new();
        for at in 0..self.sinks.len() {
            let refused = loop {
                let (part, sink, backoff) = &mut self.sinks[at];
                match sink.store(&commit.outputs).await {
                    Ok(refused) => {
                        backoff.succeeded();
                        break refused;
                    }
                    Err(fault) if fault.retry() => {
                        let wait = backoff.failed(&fault);
                        self.board.trouble(&self.function, part, backoff.trouble());
                        tokio::time::sleep(wait).await;
                        if self.is_fenced() {
                            return Ok(None);
                        }
                    }
                    Err(fault) if fault.is_fatal() => return Err(fault),
                    Err(fault) => {
                        let all = 0..commit.outputs.len();
                        break all.map(|place| (place, Fault::backend(fault.chain()).permanent())).collect();
                    }
                }
            };
            let (part, _, _) = &self.sinks[at];
            self.board.trouble(&self.function, part, None);
            let sink = part.trim_start_matches("sink ").to_owned();
            metrics::counter!("gaugefn_write_failures_total", "function" => self.function.to_string(), "sink" => sink)
                .increment(refused.len() as u64);
            for (place, fault) in refused {
                all.entry(commit.outputs[place].event_id.clone()).or_insert_with(|| not_stored(part, fault));
            }
        }
        Ok(Some(all))
    }

    /// Dead letters that are no part of a transaction; none is left. A failed event is not let go before they have it. False
    /// where the lease was lost meanwhile.
    async fn put_letters(&mut self, letters: &mut Vec<Letter>) -> Result<bool, Fault> {
        while let (Some(place), false) = (&self.letters, letters.is_empty()) {
            match place.put(letters).await {
                Ok(()) => {
                    self.kept(letters.len());
                    // not a second time, whatever becomes of the rest
                    letters.clear();
                    break;
                }
                Err(fault) if fault.is_fatal() => return Err(fault),
                Err(fault) => self.wait(&fault).await,
            }
            if self.is_fenced() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// So many letters are kept.
    fn kept(&mut self, letters: usize) {
        if letters > 0 {
            self.meters.dead_letters.increment(letters as u64);
            self.unkept.succeeded();
            self.board.trouble(&self.function, LETTERS, None);
        }
    }

    /// Backs off from what did not take its part of the commit.
    async fn wait(&mut self, fault: &Fault) {
        let wait = self.rest.failed(fault);
        self.board.trouble(&self.function, "commit", self.rest.trouble());
        tokio::time::sleep(wait).await;
    }

    pub(super) async fn close(&mut self) {
        for (part, sink, _) in &mut self.sinks {
            if let Err(fault) = sink.close().await {
                tracing::error!(function = %self.function, part = %part, "not closed cleanly: {}", fault.chain());
            }
        }
    }
}

/// What a sink has refused, as what has become of the call.
fn not_stored(part: &str, fault: Fault) -> Fault {
    let label = part.trim_start_matches("sink ");
    Fault::function(format!("the result cannot be stored by sink '{label}': {}", fault.chain()))
}

/// The newest input that was handled. One whose call failed is called again by whoever comes next.
fn newest(events: &[Event], verdicts: &[Verdict]) -> Option<Fingerprint> {
    let done = events.iter().zip(verdicts).filter(|(_, verdict)| matches!(verdict, Verdict::Done { .. }));
    done.filter_map(|(event, _)| event.fingerprint).last()
}

/// Takes the events with these ids out of a commit, whose receipt then settles only the others.
pub(super) fn without(commit: &mut Commit, events: &mut Vec<Event>, lost: &BTreeSet<String>) {
    let places: Vec<usize> =
        events.iter().enumerate().filter(|(_, event)| lost.contains(&event.id)).map(|(place, _)| place).collect();
    drop(commit.receipt.split(&places));
    for place in places.iter().rev() {
        events.remove(*place);
        commit.verdicts.remove(*place);
    }
    commit.outputs.retain(|output| !lost.contains(&output.event_id));
    commit.letters.retain(|letter| !lost.contains(&letter.event));
}
