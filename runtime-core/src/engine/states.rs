//! States that a store keeps, as far as they are at hand: what the next commit builds on, and what the function holds.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::board::Board;
use super::meters::Meters;
use crate::change::Fingerprint;
use crate::contract::{Call, Env, Event, Fault, Outcome, Returned, StateKey, StateStore, Versioned};
use crate::pointer::Pointer;

/// Keyed states that are kept at hand. What is used less is loaded again when it is needed.
const MOST_KEYS: usize = 10_000;

/// The state for all, or that of events without a value; the fingerprint of the last input is in it.
const WHOLE: StateKey = StateKey(None);

/// Bytes of them.
const MOST_BYTES: usize = 64 << 20;

/// One state.
struct Known {
    /// As the last commit on its way will leave it.
    state: Versioned,
    /// When the store lets it go, where it does.
    until: Option<Instant>,
    /// Whether the function has it.
    handed: bool,
    /// Whether a call has changed it since the function was handed it, which then could read it.
    proved: bool,
    /// The function may be unable to read it: the store is asked again before the next call.
    doubted: bool,
    /// Commits on their way that change it.
    pending: u32,
    /// When it was used, on a clock of uses.
    used: u64,
}

impl Known {
    /// One that was never saved.
    fn fresh(used: u64) -> Self {
        // random, as two processes may begin it at the same time; the standard library seeds its hashers from the system
        let life = RandomState::new().build_hasher().finish().max(1);
        let state = Versioned { life, ..Versioned::default() };
        Self { state, until: None, handed: false, proved: false, doubted: false, pending: 0, used }
    }
}

/// New code has wished for an empty state.
#[derive(Clone, Copy)]
enum Reset {
    /// No commit has it yet.
    Due,
    /// The commit of this version has.
    Under(u64),
}

/// A state that a commit saves, as told when it has landed.
pub(super) type Save = (StateKey, u64);

/// The states of one function.
pub(super) struct States {
    store: Arc<dyn StateStore>,
    /// Where in an event the key stands; without it there is one state.
    pointer: Option<Pointer>,
    known: HashMap<StateKey, Known>,
    bytes: usize,
    uses: u64,
    /// Of these uses the last ones, which are calls that are not answered.
    calls: u64,
    /// Keys that the function may let go with the next call.
    forget: Vec<StateKey>,
    /// Nothing is known to be held by the function.
    anew: bool,
    /// Until it has landed, what the store has is not what counts.
    reset: Option<Reset>,
    backoff: Backoff,
    board: Board,
    function: Arc<str>,
    meters: Meters,
}

impl States {
    pub(super) fn new(
        function: &Arc<str>,
        store: Arc<dyn StateStore>,
        pointer: Option<&str>,
        board: &Board,
        meters: &Meters,
    ) -> Self {
        Self {
            store,
            pointer: pointer.map(Pointer::new),
            known: HashMap::new(),
            bytes: 0,
            uses: 0,
            calls: 0,
            forget: Vec::new(),
            anew: true,
            reset: None,
            backoff: Backoff::new(function, "state"),
            board: board.clone(),
            function: Arc::clone(function),
            meters: meters.clone(),
        }
    }

    /// The fingerprint of the last input.
    pub(super) async fn fingerprint(&mut self) -> Result<Option<Fingerprint>, Fault> {
        // where values have states of their own, an event that needs this one fails, and says why
        drop(self.load(&[WHOLE].into()).await?);
        Ok(self.known.get(&WHOLE).and_then(|known| known.state.fingerprint))
    }

    /// Notes the keys of the events, loads their states where they are not at hand, and says what the call has to bring
    /// along; and the places of events whose state cannot be used, each with the reason. Waits for a store that is away.
    ///
    /// # Errors
    /// What the store holds can never be used by any event.
    pub(super) async fn call(&mut self, events: &mut [Event]) -> Result<(Call, Vec<(usize, Fault)>), Fault> {
        if let Some(pointer) = &self.pointer {
            for event in events.iter_mut() {
                // one spelling for each value: without spaces, with the shortest escapes
                event.key = pointer.find(&event.payload).map(|value| value.to_string().into());
            }
        }
        let keys: BTreeSet<Option<&str>> = events.iter().map(|event| event.key.as_deref()).collect();
        let mut needed: BTreeSet<StateKey> = keys.into_iter().map(|key| StateKey(key.map(str::to_owned))).collect();
        // the commit notes it there, in a version that has to be the next one
        let for_fingerprint = events.iter().any(|event| event.fingerprint.is_some()) && needed.insert(WHOLE);
        self.expire(&needed);
        let unusable = self.load(&needed).await?;
        let refused = refused(events, &unusable);
        self.uses += 1;
        self.calls += 1;
        let mut states = Vec::new();
        for key in needed {
            let Some(known) = self.known.get_mut(&key) else { continue };
            known.used = self.uses;
            let is_called_with = !(for_fingerprint && key == WHOLE);
            if is_called_with && (self.anew || !known.handed) {
                (known.handed, known.proved) = (true, false);
                states.push((key, known.state.env.clone()));
            }
        }
        let anew = std::mem::replace(&mut self.anew, false);
        let call = Call { keep: true, states, anew, forget: std::mem::take(&mut self.forget), ..Call::default() };
        Ok((call, refused))
    }

    /// The oldest call has been answered.
    pub(super) const fn answered(&mut self) {
        self.calls = self.calls.saturating_sub(1);
    }

    /// The call that was put together last is not made.
    pub(super) fn withdraw(&mut self, call: Call) {
        self.answered();
        // those that are not answered are the last uses
        self.uses = self.uses.saturating_sub(1);
        for known in self.known.values_mut() {
            known.used = known.used.min(self.uses);
        }
        for (key, _) in &call.states {
            if let Some(known) = self.known.get_mut(key) {
                known.handed = false;
            }
        }
        self.anew |= call.anew;
        self.forget.extend(call.forget);
    }

    /// After a batch with failed events: no event of these keys has succeeded since the function was handed their states,
    /// which it may be unable to read. Somebody may put that right in the store.
    pub(super) fn doubt(&mut self, events: &[Event], outcomes: &[Outcome]) {
        let mut failed: HashMap<&str, bool> = HashMap::new();
        for (event, outcome) in events.iter().zip(outcomes) {
            if let Some(key) = event.key.as_deref() {
                *failed.entry(key).or_insert(true) &= super::outcome::is_retryable(outcome);
            }
        }
        for (key, _) in failed.into_iter().filter(|(_, failed)| *failed) {
            if let Some(known) = self.known.get_mut(&StateKey(Some(key.to_owned()))) {
                // an empty one can be read
                known.doubted = !known.proved && known.state.version > 0;
            }
        }
    }

    /// Forgets what the store has let go meanwhile; it is asked again.
    fn expire(&mut self, keys: &BTreeSet<StateKey>) {
        let now = Instant::now();
        for key in keys {
            drop(self.forget_if(key, |known| known.until.is_some_and(|until| until <= now)));
        }
    }

    /// Takes a state out, unless a call on its way may change it.
    fn forget_if(&mut self, key: &StateKey, is_over: impl Fn(&Known) -> bool) -> Option<Known> {
        let answered = self.uses - self.calls;
        let known = self.known.get(key)?;
        if known.pending > 0 || known.used > answered || !is_over(known) {
            return None;
        }
        self.bytes = self.bytes.saturating_sub(size(&known.state.env));
        self.known.remove(key)
    }

    /// Loads what is not at hand. What cannot be used is returned, where others can.
    async fn load(&mut self, keys: &BTreeSet<StateKey>) -> Result<Vec<(StateKey, Fault)>, Fault> {
        let mut doubted = HashMap::new();
        for key in keys {
            if let Some(known) = self.forget_if(key, |known| known.doubted) {
                doubted.insert(key, known);
            }
        }
        let missing: Vec<StateKey> = keys.iter().filter(|key| !self.known.contains_key(key)).cloned().collect();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let (found, asked) = loop {
            let asked = Instant::now();
            let loaded = self.store.load(&missing).await.and_then(|mut found| match self.pointer {
                // there is but one
                None => found.drain(..).map(|found| found.map(Ok)).collect(),
                Some(_) => Ok(found),
            });
            match loaded {
                Ok(found) => break (found, asked),
                Err(fault) if fault.retry() => {
                    let wait = self.backoff.failed(&fault);
                    self.board.trouble(&self.function, "state", self.backoff.trouble());
                    tokio::time::sleep(wait).await;
                }
                Err(fault) => return Err(fault),
            }
        };
        self.backoff.succeeded();
        self.board.trouble(&self.function, "state", None);
        let mut unusable = Vec::new();
        for (key, found) in missing.into_iter().zip(found) {
            let mut known = Known::fresh(self.uses);
            match found {
                Ok(Some(state)) => {
                    known.until = state.left.and_then(|left| asked.checked_add(left));
                    known.state = Versioned { left: None, ..state };
                }
                Ok(None) => {}
                Err(fault) => {
                    unusable.push((key, fault));
                    continue;
                }
            }
            if key == WHOLE && self.reset.is_some() {
                known.state.env = Env::default();
            }
            // what is as it was stays with the function, and with it what cannot be encoded
            known.handed = doubted.remove(&key).is_some_and(|old: Known| old.handed && old.state == known.state);
            self.bytes += size(&known.state.env);
            self.known.insert(key, known);
        }
        self.measure();
        Ok(unusable)
    }

    /// What the store has to save after these outcomes. `fingerprint` is that of the newest input that was handled, where
    /// the source compares inputs.
    pub(super) fn changed(&mut self, events: &[Event], outcomes: &mut [Outcome]) -> Vec<(StateKey, Versioned)> {
        let mut changed: HashMap<StateKey, Option<Env>> = HashMap::new();
        for outcome in outcomes.iter_mut() {
            changed.extend(std::mem::take(&mut outcome.states).into_iter().map(|(key, env)| (key, Some(env))));
        }
        let done = events.iter().zip(&*outcomes).filter(|(_, outcome)| !super::outcome::has_failed(outcome));
        let newest = done.map(|(event, _)| event.fingerprint).reduce(|last, newer| newer.or(last));
        let fingerprint = newest.flatten();
        // without an event that is done there is no commit of states
        if fingerprint.is_some() || newest.is_some() && matches!(self.reset, Some(Reset::Due)) {
            changed.entry(WHOLE).or_default();
        }
        let until = self.store.ttl().and_then(|ttl| Instant::now().checked_add(ttl));
        let mut saves = Vec::with_capacity(changed.len());
        for (key, env) in changed {
            let uses = self.uses;
            let known = self.known.entry(key.clone()).or_insert_with(|| Known { handed: true, ..Known::fresh(uses) });
            known.state.version += 1;
            known.until = until;
            if key == WHOLE && matches!(self.reset, Some(Reset::Due)) {
                self.reset = Some(Reset::Under(known.state.version));
            }
            if let Some(env) = env {
                self.bytes = (self.bytes + size(&env)).saturating_sub(size(&known.state.env));
                known.state.env = env;
                known.proved = true;
            }
            if key == WHOLE && fingerprint.is_some() {
                known.state.fingerprint = fingerprint;
            }
            known.pending += 1;
            saves.push((key, known.state.clone()));
        }
        self.measure();
        saves
    }

    /// Makes the outcome of an event that was called alone a failed one where the store can never take the states after
    /// it. Which of several events made them so cannot be told.
    pub(super) fn refuse(&self, outcomes: &mut [Outcome]) -> bool {
        let [outcome] = outcomes else { return false };
        let versioned =
            |(key, env): &(StateKey, Env)| (key.clone(), Versioned { env: env.clone(), ..Versioned::default() });
        let states: Vec<_> = outcome.states.iter().map(versioned).collect();
        let Err(fault) = self.store.check(&states) else { return false };
        *outcome = Returned::Failed(Fault::function(fault.to_string())).into();
        true
    }

    /// A commit with these states has landed.
    pub(super) fn landed(&mut self, saves: &[Save]) {
        for (key, version) in saves {
            if let Some(known) = self.known.get_mut(key) {
                known.pending = known.pending.saturating_sub(1);
            }
            if *key == WHOLE && matches!(self.reset, Some(Reset::Under(under)) if under <= *version) {
                self.reset = None;
            }
        }
        if self.known.len() > MOST_KEYS || self.bytes > MOST_BYTES {
            self.shrink();
        }
    }

    /// Lets a quarter of the states go, those of values that were not used for longest.
    fn shrink(&mut self) {
        let mut idle: Vec<(u64, StateKey)> = self
            .known
            .iter()
            .filter(|(key, known)| key.0.is_some() && known.pending == 0 && known.used + 8 < self.uses)
            .map(|(key, known)| (known.used, key.clone()))
            .collect();
        idle.sort_unstable();
        idle.truncate(MOST_KEYS / 4);
        for (_, key) in idle {
            if let Some(known) = self.known.remove(&key) {
                self.bytes = self.bytes.saturating_sub(size(&known.state.env));
                self.forget.push(key);
            }
        }
        self.measure();
    }

    /// The function's memory is gone, or may not be what the next commit builds on.
    pub(super) fn hand_again(&mut self) {
        self.anew = true;
        self.calls = 0;
        self.forget.clear();
        self.known.values_mut().for_each(|known| known.handed = false);
    }

    /// What was on its way to the store will not get there, or somebody else was faster.
    pub(super) fn load_again(&mut self) {
        self.hand_again();
        self.known.clear();
        self.bytes = 0;
        if self.reset.is_some() {
            self.reset = Some(Reset::Due);
        }
    }

    /// The un-keyed state begins anew, as new code wishes it to: also where the store has the old one until the next
    /// commit.
    pub(super) fn reset(&mut self) {
        if self.pointer.is_none() {
            self.reset = Some(Reset::Due);
            if let Some(known) = self.known.get_mut(&WHOLE) {
                self.bytes = self.bytes.saturating_sub(size(&known.state.env));
                known.state.env = Env::default();
            }
        }
        self.hand_again();
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    fn measure(&self) {
        self.meters.state_bytes.set(self.bytes as f64);
    }
}

/// The places of events whose state, or that with the fingerprint of their input, is among these; each with the reason.
fn refused(events: &[Event], unusable: &[(StateKey, Fault)]) -> Vec<(usize, Fault)> {
    if unusable.is_empty() {
        return Vec::new();
    }
    let of = |wanted: Option<&str>| unusable.iter().find(|(key, _)| key.0.as_deref() == wanted);
    let why = |event: &Event| {
        let (_, fault) = of(event.key.as_deref()).or_else(|| event.fingerprint.and_then(|_| of(None)))?;
        Some(Fault::function(fault.chain()))
    };
    events.iter().enumerate().filter_map(|(place, event)| Some((place, why(event)?))).collect()
}

fn size(env: &Env) -> usize {
    env.0.iter().map(|(key, value)| key.len() + value.len()).sum()
}
