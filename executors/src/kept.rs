//! States that somebody else keeps: what a function does for [`Call::keep`], whatever its language.
//!
//! A mark is a state's bytes at a moment that can be returned to. A call that fails costs a return to the mark of its
//! key, and the calls since then once more; the others cost nothing. At the end of a batch the state of every key that
//! it has used is written once: what differs from the bytes before the batch goes out, and becomes the next mark. While
//! calls fail now and then, marks are taken more often, so that few calls have to be made once more.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime_core::Fault;
use runtime_core::contract::{Call, Env, Event, Outcome, Returned, StateKey};

/// Names of what cannot be written that are told. A function may make new ones for ever.
const TOLD: usize = 100;

/// After a batch with a call that failed, so many events long another one counts as likely.
const WARY: usize = 1000;

/// Then a mark is taken wherever the calls since the last one have taken so many times as long as writing it does: that
/// costs a tenth, and the calls to be made once more cost little.
const WORTH: u32 = 10;

/// A function with its live states, as this module needs it.
pub(crate) trait Live {
    /// Which state the event's call uses.
    fn key(&self, event: &Event) -> StateKey;

    /// Why no state of it can be kept at all.
    fn refusal(&self) -> Option<Fault> {
        None
    }

    /// Calls the function.
    fn call(&mut self, event: &Event) -> Called;

    /// Writes a state.
    fn save(&mut self, key: &StateKey) -> Saved;

    /// Puts a state in the place of all that there is for its key.
    ///
    /// # Errors
    /// It cannot be read. What there is now is of no use.
    fn give(&mut self, key: &StateKey, env: &Env) -> Result<(), Fault>;

    /// Returns to a mark. What could not be written is not in it, and stays as it is, and so does all of a state whose
    /// text is the mark's: most calls that fail have changed nothing.
    ///
    /// # Errors
    /// As for [`give`](Self::give).
    fn restore(&mut self, key: &StateKey, mark: &Mark) -> Result<(), Fault>;

    /// Lets go of a state; its next call begins with an empty one.
    fn forget(&mut self, key: &StateKey);
}

/// One call.
pub(crate) struct Called {
    pub(crate) returned: Returned,
    /// False where the event did not even reach the function, which cannot have changed anything then.
    pub(crate) reached: bool,
}

/// A state's bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) env: Env,
    /// Of the state itself nothing can be written: it is one object without a text, or its entries alone have one.
    pub(crate) odd: bool,
}

/// A state as written.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    pub(crate) mark: Mark,
    /// What cannot be written: its name, and a few words that contain it.
    pub(crate) lost: Vec<(String, String)>,
}

/// What goes on from one batch to the next.
pub(crate) struct Kept {
    function: Arc<str>,
    marks: HashMap<StateKey, Mark>,
    /// Keys whose state could not be read, each with the reason. It must not be replaced by what an empty one becomes.
    unreadable: HashMap<StateKey, String>,
    /// How many entries of each key's state cannot be written, where there are any.
    unsaved: HashMap<StateKey, usize>,
    /// Of all keys.
    all_unsaved: usize,
    /// So many are measured; none before the first batch, as the process before may have measured others.
    measured: Option<usize>,
    told: HashSet<String>,
    /// Events for which calls that fail are likely.
    wary: usize,
    /// How long it took to write a state.
    writing: Duration,
}

/// A key that the batch has used.
struct Used {
    key: StateKey,
    /// The bytes before the batch.
    before: Env,
    /// Calls that succeeded after the mark, in their order.
    since: Vec<usize>,
    /// How long they took, where that is measured.
    worked: Duration,
}

/// A batch on its way.
struct Run<'a, L> {
    live: &'a mut L,
    events: &'a [Event],
    call: &'a Call,
    outcomes: Vec<Outcome>,
    used: Vec<Used>,
    /// The place of a key in `used`.
    places: HashMap<StateKey, usize>,
    /// The same for each event so far.
    uses: Vec<Option<usize>>,
    /// Whether a call has failed.
    failed: bool,
}

impl Kept {
    pub(crate) fn new(function: Arc<str>) -> Self {
        Self {
            function,
            marks: HashMap::new(),
            unreadable: HashMap::new(),
            unsaved: HashMap::new(),
            all_unsaved: 0,
            measured: None,
            told: HashSet::new(),
            wary: 0,
            writing: Duration::ZERO,
        }
    }

    /// Whoever goes on where this function stands would not know these: a key, and why its state cannot be read.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        self.unreadable.values().next().map(String::as_str)
    }

    /// The function begins with another state, from which nothing is known.
    pub(crate) fn reset(&mut self) {
        (self.marks, self.unreadable, self.unsaved, self.all_unsaved) = Default::default();
    }

    /// All events of a batch; one outcome for each.
    pub(crate) fn run<L: Live>(&mut self, live: &mut L, events: &[Event], call: &Call) -> Vec<Outcome> {
        let mut run = Run {
            outcomes: Vec::with_capacity(events.len()),
            used: Vec::new(),
            places: HashMap::new(),
            uses: Vec::with_capacity(events.len()),
            failed: false,
            live,
            events,
            call,
        };
        let refusal = run.live.refusal();
        if refusal.is_none() {
            self.begin(run.live, call);
        }
        for index in 0..events.len() {
            let outcome = match &refusal {
                Some(refusal) => Returned::Failed(Fault::config(refusal.to_string())),
                None => run.event(self, index),
            };
            run.outcomes.push(outcome.into());
        }
        self.wary = if run.failed { WARY } else { self.wary.saturating_sub(events.len()) };
        let outcomes = run.end(self);
        self.measure();
        if let Some(observer) = &call.observer {
            for (index, outcome) in outcomes.iter().enumerate() {
                observer.ended(index, outcome);
            }
        }
        outcomes
    }

    fn begin<L: Live>(&mut self, live: &mut L, call: &Call) {
        for key in &call.forget {
            live.forget(key);
            self.drop_all_of(key);
        }
        if call.anew {
            // whoever keeps the states may have let these go; it brings what is used of them
            let given: HashSet<&StateKey> = call.states.iter().map(|(key, _)| key).collect();
            let held = self.marks.keys().chain(self.unreadable.keys());
            for key in held.filter(|key| !given.contains(key)).cloned().collect::<Vec<_>>() {
                live.forget(&key);
                self.drop_all_of(&key);
            }
        }
        for (key, env) in &call.states {
            self.drop_all_of(key);
            match live.give(key, env) {
                Ok(()) => drop(self.marks.insert(key.clone(), Mark { env: env.clone(), odd: false })),
                Err(fault) => self.lose(live, key, &fault),
            }
        }
    }

    fn drop_all_of(&mut self, key: &StateKey) {
        self.marks.remove(key);
        self.unreadable.remove(key);
        self.note_unsaved(key, 0);
    }

    /// A state can neither be used nor replaced from now on.
    fn lose<L: Live>(&mut self, live: &mut L, key: &StateKey, fault: &Fault) {
        live.forget(key);
        self.drop_all_of(key);
        let which = key.0.as_ref().map(|key| format!(" for '{key}'")).unwrap_or_default();
        let reason = format!(
            "the state of function '{}'{which} cannot be read, and is not written over: run what can read it, or remove \
             it from the store: {}",
            self.function,
            fault.chain()
        );
        self.unreadable.insert(key.clone(), reason);
    }

    /// The state as it is becomes the mark.
    fn take_mark<L: Live>(&mut self, live: &mut L, key: &StateKey) {
        let start = Instant::now();
        let Saved { mark, lost } = live.save(key);
        self.writing = start.elapsed();
        self.tell(key, &lost);
        self.marks.insert(key.clone(), mark);
    }

    /// Says what stays in memory, once for each name.
    fn tell(&mut self, key: &StateKey, lost: &[(String, String)]) {
        self.note_unsaved(key, lost.len());
        let mut news = Vec::new();
        for (name, words) in lost {
            if self.told.len() < TOLD && self.told.insert(name.clone()) {
                news.push(words.as_str());
            }
        }
        if !news.is_empty() {
            tracing::warn!(
                function = &*self.function,
                "no store can keep {}: it stays in memory, and is gone with the process",
                news.join(", ")
            );
        }
    }

    fn note_unsaved(&mut self, key: &StateKey, count: usize) {
        let before = match count {
            0 => self.unsaved.remove(key),
            _ => self.unsaved.insert(key.clone(), count),
        };
        self.all_unsaved = self.all_unsaved + count - before.unwrap_or_default();
    }

    fn measure(&mut self) {
        if self.measured != Some(self.all_unsaved) {
            self.measured = Some(self.all_unsaved);
            metrics::gauge!("gaugefn_state_unsaved_keys", "function" => self.function.to_string())
                .set(self.all_unsaved as f64);
        }
    }
}

impl<L: Live> Run<'_, L> {
    /// The call of the next event, with all that follows if it fails.
    fn event(&mut self, kept: &mut Kept, index: usize) -> Returned {
        let key = self.live.key(&self.events[index]);
        self.uses.push(None);
        if let Some(reason) = kept.unreadable.get(&key) {
            // without the one state nothing can be called; without that of a key, what has other keys can
            let blame = if key.0.is_some() { Fault::function } else { Fault::config };
            return Returned::Failed(blame(reason.clone()));
        }
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None => self.uses_first(kept, key),
        };
        self.uses[index] = Some(place);
        let start = (kept.wary > 0).then(Instant::now);
        let Called { returned, reached } = self.call(index);
        match &returned {
            Returned::Failed(_) if reached => {
                self.failed = true;
                self.return_to_mark(kept, place);
            }
            Returned::Failed(_) => {}
            _ => {
                let used = &mut self.used[place];
                used.since.push(index);
                used.worked += start.map_or(Duration::ZERO, |start| start.elapsed());
                if start.is_some() && used.worked >= kept.writing * WORTH {
                    kept.take_mark(self.live, &used.key);
                    used.since.clear();
                    used.worked = Duration::ZERO;
                }
            }
        }
        returned
    }

    fn uses_first(&mut self, kept: &mut Kept, key: StateKey) -> usize {
        if !kept.marks.contains_key(&key) {
            kept.take_mark(self.live, &key);
        }
        let before = kept.marks.get(&key).map(|mark| mark.env.clone()).unwrap_or_default();
        self.used.push(Used { key: key.clone(), before, since: Vec::new(), worked: Duration::ZERO });
        self.places.insert(key, self.used.len() - 1);
        self.used.len() - 1
    }

    fn call(&mut self, index: usize) -> Called {
        if let Some(observer) = &self.call.observer {
            observer.begins(index);
        }
        self.live.call(&self.events[index])
    }

    /// Takes back what a call that failed has done to its state. Each time a call fails that succeeded before, it is
    /// left out from then on, so this ends.
    fn return_to_mark(&mut self, kept: &mut Kept, place: usize) {
        let key = self.used[place].key.clone();
        loop {
            let Some(mark) = kept.marks.get(&key) else { return };
            if let Err(fault) = self.live.restore(&key, mark) {
                kept.lose(self.live, &key, &fault);
                let reason = kept.unreadable.get(&key).cloned().unwrap_or_default();
                for index in std::mem::take(&mut self.used[place].since) {
                    self.outcomes[index].returned = Returned::Failed(Fault::function(reason.clone()));
                }
                return;
            }
            if self.repeat(place) {
                if !self.used[place].since.is_empty() {
                    kept.take_mark(self.live, &key);
                    self.used[place].since.clear();
                    self.used[place].worked = Duration::ZERO;
                }
                return;
            }
        }
    }

    /// Calls once more what succeeded after the mark; false where one of them fails, which is then no more among them.
    fn repeat(&mut self, place: usize) -> bool {
        let mut done = 0;
        while let Some(&index) = self.used[place].since.get(done) {
            let Called { returned, reached } = self.call(index);
            let failed = matches!(returned, Returned::Failed(_));
            self.outcomes[index].returned = returned;
            if failed {
                self.used[place].since.remove(done);
                if reached {
                    return false;
                }
            } else {
                done += 1;
            }
        }
        true
    }

    /// Adds the states that have changed.
    fn end(mut self, kept: &mut Kept) -> Vec<Outcome> {
        // with the last call that used it and succeeded: no later one can have changed it
        let mut last = vec![None; self.used.len()];
        for (index, (outcome, place)) in self.outcomes.iter().zip(&self.uses).enumerate() {
            if let (Some(place), false) = (*place, matches!(outcome.returned, Returned::Failed(_))) {
                last[place] = Some(index);
            }
        }
        for (Used { key, before, since, .. }, last) in self.used.into_iter().zip(last) {
            if !since.is_empty() {
                kept.take_mark(self.live, &key);
            }
            if let (Some(mark), Some(last)) = (kept.marks.get(&key), last)
                && mark.env != before
            {
                self.outcomes[last].states.push((key, mark.env.clone()));
            }
        }
        self.outcomes
    }
}
