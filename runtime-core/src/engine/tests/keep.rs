//! A function whose state a store keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::*;
use crate::change::fingerprint;
use crate::contract::{Call, Env, Found, Outcome, Saved, StateKey, StateStore, Versioned};

/// Counts its events in the state of their key; the result is `text:count`.
struct Counting {
    counts: BTreeMap<StateKey, i64>,
    /// Nothing is held: only a call that brings all states is answered.
    fresh: bool,
    /// Keys that it was handed a state of which it cannot read.
    unreadable: BTreeSet<StateKey>,
    /// Events that still end the process that they are called in, and how often.
    deadly: BTreeMap<String, u32>,
    journal: Journal,
}

impl Counting {
    fn boxed(journal: &Journal, deadly: &[(&str, u32)]) -> Box<dyn Function> {
        let deadly = deadly.iter().map(|(text, times)| ((*text).to_owned(), *times)).collect();
        let (counts, unreadable) = Default::default();
        Box::new(Self { counts, fresh: true, unreadable, deadly, journal: journal.clone() })
    }
}

pub(super) fn env(count: i64) -> Env {
    Env(vec![("\"n\"".into(), count.to_string().into())])
}

/// As only a newer version can read it.
pub(super) fn newer() -> Env {
    Env(vec![("\"n\"".into(), "?".into())])
}

fn count(env: &Env) -> i64 {
    env.0.first().map_or(0, |(_, count)| std::str::from_utf8(count).unwrap().parse().unwrap())
}

fn key_of(event: &Event) -> StateKey {
    StateKey(event.key.as_deref().map(str::to_owned))
}

#[async_trait]
impl Function for Counting {
    async fn invoke(&mut self, events: &[Event], call: Call) -> Result<Vec<Outcome>, Fault> {
        assert!(call.keep);
        let nothing = || events.iter().map(|_| Returned::NotCalled.into()).collect::<Vec<Outcome>>();
        if call.anew {
            (self.counts, self.fresh) = (BTreeMap::new(), false);
        }
        let texts: Vec<_> = events.iter().map(|event| String::from_utf8_lossy(&event.payload).into_owned()).collect();
        if self.fresh {
            self.journal.note(format!("not called {}", texts.join(" ")));
            return Ok(nothing());
        }
        for (key, env) in &call.states {
            self.unreadable.remove(key);
            if *env == newer() {
                self.unreadable.insert(key.clone());
            } else {
                self.counts.insert(key.clone(), count(env));
            }
        }
        self.journal.note(format!("call {}", texts.join(" ")));
        tokio::time::sleep(Duration::from_millis(10)).await;
        let mut outcomes = nothing();
        let mut touched = BTreeSet::new();
        for (place, event) in events.iter().enumerate() {
            let text = &texts[place];
            if let Some(times) = self.deadly.get_mut(text).filter(|times| **times > 0) {
                *times -= 1;
                self.fresh = true;
                outcomes = nothing();
                outcomes[place] = Returned::Failed(Fault::function("crashed")).into();
                return Ok(outcomes);
            }
            outcomes[place] = if self.unreadable.contains(&key_of(event)) {
                Returned::Failed(Fault::function("no count")).into()
            } else if text.contains("bad") {
                Returned::Failed(Fault::function("boom")).into()
            } else {
                let count = self.counts.entry(key_of(event)).or_default();
                *count += 1;
                touched.insert(key_of(event));
                Returned::Output(format!("{text}:{count}").into()).into()
            };
        }
        let states = touched.into_iter().map(|key| (key.clone(), env(self.counts[&key]))).collect();
        if let Some(last) = outcomes.last_mut() {
            last.states = states;
        }
        Ok(outcomes)
    }
}

/// Keeps states in memory that outlives runs.
#[derive(Clone, Default)]
pub(super) struct Kept {
    pub(super) states: Arc<Mutex<BTreeMap<StateKey, Versioned>>>,
    /// Others save in between before so many of the next saves.
    others: Arc<Mutex<u32>>,
    /// The largest count that can be saved.
    most: Option<i64>,
    /// Keys whose state is none.
    pub(super) broken: Arc<Mutex<BTreeSet<StateKey>>>,
    /// How long states are kept.
    ttl: Option<Duration>,
    /// How often states were loaded.
    pub(super) loads: Arc<Mutex<u32>>,
    /// When each was saved.
    saved: Arc<Mutex<BTreeMap<StateKey, tokio::time::Instant>>>,
}

impl Kept {
    pub(super) fn expiring(after: Duration) -> Self {
        Self { ttl: Some(after), ..Self::default() }
    }

    pub(super) fn count(&self, key: Option<&str>) -> i64 {
        let states = self.states.lock().unwrap();
        states.get(&StateKey(key.map(str::to_owned))).map_or(0, |state| count(&state.env))
    }

    fn expire(&self) {
        let saved = self.saved.lock().unwrap();
        let is_over = |key: &StateKey| self.ttl.is_some_and(|ttl| saved.get(key).is_some_and(|at| at.elapsed() >= ttl));
        self.states.lock().unwrap().retain(|key, _| !is_over(key));
    }
}

#[async_trait]
impl StateStore for Kept {
    fn durable(&self) -> bool {
        true
    }

    async fn load(&self, keys: &[StateKey]) -> Result<Vec<Found>, Fault> {
        self.expire();
        *self.loads.lock().unwrap() += 1;
        let (states, broken) = (self.states.lock().unwrap(), self.broken.lock().unwrap());
        let found = |key: &StateKey| match broken.contains(key) {
            true => Err(Fault::backend(format!("'{}' is no state", key.0.as_deref().unwrap_or_default())).permanent()),
            false => Ok(states.get(key).cloned().map(|state| Versioned { left: self.ttl, ..state })),
        };
        Ok(keys.iter().map(found).collect())
    }

    fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    fn check(&self, states: &[(StateKey, Versioned)]) -> Result<(), Fault> {
        match self.most.filter(|most| states.iter().any(|(_, state)| count(&state.env) > *most)) {
            Some(most) => Err(Fault::function(format!("the state is larger than {most}"))),
            None => Ok(()),
        }
    }

    async fn save(&self, states: &[(StateKey, Versioned)]) -> Result<Saved, Fault> {
        tokio::time::sleep(Duration::from_millis(3)).await;
        self.expire();
        let mut kept = self.states.lock().unwrap();
        let mut others = self.others.lock().unwrap();
        if *others > 0 {
            *others -= 1;
            for (key, _) in states {
                let old = kept.get(key).cloned();
                let old = old.unwrap_or(Versioned::default());
                let newer = Versioned { version: old.version + 1, env: env(count(&old.env) + 100), ..old };
                kept.insert(key.clone(), newer);
            }
        }
        let stale: Vec<StateKey> = states
            .iter()
            .filter(|(key, state)| match kept.get(key) {
                Some(kept) => (kept.version + 1, kept.life) != (state.version, state.life),
                None => state.version != 1,
            })
            .map(|(key, _)| key.clone())
            .collect();
        if !stale.is_empty() {
            return Ok(Saved::Stale(stale));
        }
        let now = tokio::time::Instant::now();
        self.saved.lock().unwrap().extend(states.iter().map(|(key, _)| (key.clone(), now)));
        kept.extend(states.iter().cloned());
        Ok(Saved::Done)
    }
}

pub(super) fn kept(texts: &[&[&'static str]], deadly: &[(&str, u32)]) -> (Bench, Kept) {
    let mut bench = Bench::new(Delivery::Queue, texts.iter().map(|texts| Script::Events(texts.to_vec())));
    bench.function = Counting::boxed(&bench.journal, deadly);
    let store = Kept::default();
    bench.state = Some(Arc::new(store.clone()));
    (bench, store)
}

#[tokio::test(start_paused = true)]
async fn results_and_state_of_every_batch_are_kept_in_order() {
    let (bench, store) = kept(&[&["a", "b"], &["c"], &["d", "e", "f"]], &[]);
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!(sink.texts(), ["a:1", "b:2", "c:3", "d:4", "e:5", "f:6"]);
    assert_eq!(store.count(None), 6);
    assert_eq!((journal.count("undelivered"), journal.count("settle")), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn failed_events_leave_the_batch_and_no_trace() {
    let (bench, store) = kept(&[&["a", "bad", "c"], &["d"]], &[]);
    let bench = bench.retrying(1, Then::Skip);
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!(journal.lines("call"), ["call a bad c", "call d", "call bad"]);
    assert_eq!(sink.texts(), ["a:1", "c:2", "d:3"]);
    assert_eq!(store.count(None), 3);
    assert_eq!(
        journal.lines("settle"),
        ["settle 1 done a:1, 3 done c:2", "settle 4 done d:3", "settle 2 failed: boom"]
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_the_others_are_called_again_with_the_state_that_was_committed() {
    let (bench, store) = kept(&[&["a", "b"], &["c", "x", "d"], &["e"], &["f"]], &[("x", 1)]);
    let bench = bench.retrying(3, Then::Skip);
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    assert_end!(bench.run().await, End::Exhausted);
    let mut texts = sink.texts();
    assert_eq!(store.count(None), 7);
    // its second attempt comes when its wait is over
    assert_eq!(texts.iter().filter(|text| text.starts_with("x:")).count(), 1);
    texts.retain(|text| !text.starts_with("x:"));
    assert_eq!(texts, ["a:1", "b:2", "c:3", "d:4", "e:5", "f:6"]);
    assert_eq!(journal.count("undelivered"), 0);
    assert!(journal.lines("call").contains(&"call c d".to_owned()), "{:?}", journal.lines("call"));
}

#[tokio::test(start_paused = true)]
async fn a_crash_for_ever_uses_up_the_attempts_of_its_event_alone() {
    let (bench, store) = kept(&[&["x", "a"], &["b"]], &[("x", u32::MAX)]);
    let bench = bench.retrying(2, Then::Skip);
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!((sink.texts(), store.count(None)), (vec!["a:1".to_owned(), "b:2".to_owned()], 2));
    assert_eq!(journal.lines("call").iter().filter(|call| call.contains('x')).count(), 3);
    assert_eq!(journal.lines("settle").last().map(String::as_str), Some("settle 1 failed: crashed"));
}

#[tokio::test(start_paused = true)]
async fn a_stale_state_discards_what_was_built_on_it() {
    let (bench, store) = kept(&[&["a"], &["b"], &["c"], &["d"]], &[]);
    *store.others.lock().unwrap() = 2;
    let journal = bench.journal.clone();
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!(store.count(None), 204);
    let settled = journal.lines("settle");
    assert_eq!(settled, ["settle 1 done a:201", "settle 2 done b:202", "settle 3 done c:203", "settle 4 done d:204"]);
    assert_eq!(journal.count("undelivered"), 0);
}

#[tokio::test(start_paused = true)]
async fn keys_have_states_of_their_own() {
    let (mut bench, store) =
        kept(&[&["{\"k\":1}", "{\"k\":\"z\"}", "{\"k\":1}"], &["{}", "{\"k\":1,\"bad\":1}"], &["{\"k\":\"z\"}"]], &[]);
    bench.state_key = Some("/k".to_owned());
    let journal = bench.journal.clone();
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!((store.count(Some("1")), store.count(Some("\"z\"")), store.count(None)), (2, 2, 1));
    assert_eq!(journal.count("undelivered"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_cannot_be_saved_fails_the_event_that_made_it_so() {
    let (mut bench, mut store) = kept(&[&["a", "b", "c"], &["d"]], &[]);
    store.most = Some(2);
    bench.state = Some(Arc::new(store.clone()));
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!((sink.texts(), store.count(None)), (vec!["a:1".to_owned(), "b:2".to_owned()], 2));
    let settled = journal.lines("settle");
    assert_eq!(
        settled,
        [
            "settle 1 done a:1",
            "settle 2 done b:2",
            "settle 3 failed: the state is larger than 2",
            "settle 4 failed: the state is larger than 2"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_policy_stop_commits_what_came_before() {
    let (bench, store) = kept(&[&["a"], &["b", "bad", "c"], &["d"]], &[]);
    let bench = bench.retrying(1, Then::Stop);
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    assert_end!(bench.run().await, End::Policy { event } if event == "3");
    assert_eq!((sink.texts(), store.count(None)), (vec!["a:1".to_owned(), "b:2".to_owned()], 2));
    assert_eq!(journal.lines("call"), ["call a", "call b bad c", "call b", "call bad"]);
    let undelivered = journal.lines("undelivered").join(" ");
    assert!(["3", "4", "5"].iter().all(|id| undelivered.contains(id)), "{undelivered}");
}

#[tokio::test(start_paused = true)]
async fn a_state_goes_on_in_the_next_run() {
    let (bench, store) = kept(&[&["a", "b"]], &[]);
    assert_end!(bench.run().await, End::Exhausted);
    let (mut bench, _) = kept(&[&["c"]], &[]);
    bench.state = Some(Arc::new(store.clone()));
    let sink = bench.sink();
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!((sink.texts(), store.count(None)), (vec!["c:3".to_owned()], 3));
}

#[tokio::test(start_paused = true)]
async fn the_last_input_is_known_after_a_restart() {
    let store = Kept::default();
    let seen = fingerprint(b"1").unwrap();
    let state = Versioned { version: 4, env: env(4), fingerprint: Some(seen), ..Versioned::default() };
    store.states.lock().unwrap().insert(StateKey(None), state);
    let mut bench = Bench::new(Delivery::Latest, []);
    bench.state = Some(Arc::new(store));
    let journal = bench.journal.clone();
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!(journal.lines("resume"), [format!("resume {seen}")]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_commits_what_was_called() {
    let (mut bench, store) = kept(&[&["a"], &["b"]], &[]);
    bench.source.script.push_back(Script::Wait);
    let journal = bench.journal.clone();
    let (stopper, running) = bench.spawn();
    journal.reaches("call", 2).await;
    stopper.stop();
    assert_end!(running.await.unwrap(), End::Stopped);
    assert_eq!((store.count(None), journal.count("settle"), journal.count("undelivered")), (2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_state_that_has_expired_is_not_used_any_more() {
    let second = Duration::from_secs(1);
    let (mut bench, mut store) = kept(&[&["a"], &["b"]], &[]);
    bench.source.script.extend([Script::Again(3 * second), Script::Events(vec!["c"]), Script::Events(vec!["d"])]);
    store.ttl = Some(second);
    bench.state = Some(Arc::new(store.clone()));
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!(sink.texts(), ["a:1", "b:2", "c:1", "d:2"]);
    // found out before the call, not by the commit
    assert_eq!(journal.count("call"), 4);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_state_is_the_trouble_of_its_events_alone() {
    for (then, ends) in [(Then::Skip, None), (Then::Stop, Some("2"))] {
        let (mut bench, store) = kept(&[&["{\"k\":1}", "{\"k\":2}", "{\"k\":3}"], &["{\"k\":2}"], &["{\"k\":1}"]], &[]);
        bench.state_key = Some("/k".to_owned());
        let bench = bench.retrying(1, then);
        store.broken.lock().unwrap().insert(StateKey(Some("2".to_owned())));
        let journal = bench.journal.clone();
        let end = bench.run().await;
        match ends {
            None => {
                assert_end!(end, End::Exhausted);
            }
            Some(id) => {
                assert_end!(end, End::Policy { event } if event == id);
            }
        }
        let all = journal.lines("call").join(" ");
        assert!(!all.contains("{\"k\":2}"), "{all}");
        assert_eq!(store.count(Some("2")), 0);
        let settled = journal.lines("settle").join(", ");
        if ends.is_none() {
            assert_eq!((store.count(Some("1")), store.count(Some("3"))), (2, 1));
            assert_eq!(settled.matches("failed: '2' is no state").count(), 2, "{settled}");
        } else {
            // what came before is committed, and nothing behind it is called
            assert_eq!((store.count(Some("1")), store.count(Some("3"))), (1, 0), "{settled}");
        }
    }
}

/// The state with the fingerprint is none of the events'.
#[tokio::test(start_paused = true)]
async fn the_fingerprint_of_keyed_states_goes_on_after_a_rollback() {
    let mut bench = Bench::new(Delivery::Latest, ["1", "2", "3"].map(|key| Script::Events(vec![key])));
    bench.source.compares = true;
    bench.function = Counting::boxed(&bench.journal, &[]);
    bench.state_key = Some(String::new());
    let store = Kept::default();
    *store.others.lock().unwrap() = 1;
    bench.state = Some(Arc::new(store.clone()));
    assert_end!(bench.run().await, End::Exhausted);
    let states = store.states.lock().unwrap();
    assert_eq!(states[&StateKey(None)].fingerprint, Some(fingerprint(b"3").unwrap()));
    assert_eq!(states[&StateKey(None)].version, 4, "one of another process, and three");
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_a_batch_leaves_its_event_all_attempts_where_a_failure_ends_everything() {
    let (bench, store) = kept(&[&["a", "x", "b"], &["c"]], &[("x", 2)]);
    let bench = bench.retrying(2, Then::Stop);
    let sink = bench.sink();
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!((sink.texts(), store.count(None)), (["a:1", "x:2", "b:3", "c:4"].map(str::to_owned).to_vec(), 4));
    let (bench, store) = kept(&[&["a", "x", "b"]], &[("x", u32::MAX)]);
    let bench = bench.retrying(2, Then::Stop);
    let journal = bench.journal.clone();
    assert_end!(bench.run().await, End::Policy { event } if event == "2");
    assert_eq!(store.count(None), 1);
    let calls = journal.lines("call");
    assert_eq!(calls.iter().filter(|call| call.contains('x')).count(), 3, "{calls:?}");
    assert!(!calls.contains(&"call b".to_owned()), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn the_policy_stop_commits_what_came_before_an_entry_that_is_not_called() {
    let (bench, store) = kept(&[&["a", "b", "flawed", "c"]], &[]);
    let mut bench = bench.retrying(0, Then::Stop);
    bench.source.flawed = Some("flawed");
    let (journal, board) = (bench.journal.clone(), bench.board.clone());
    assert_end!(bench.run().await, End::Policy { event } if event == "3");
    assert_eq!(journal.lines("call"), ["call a b"]);
    assert_eq!((journal.lines("settle"), store.count(None)), (vec!["settle 1 done a:1, 2 done b:2".to_owned()], 2));
    assert_eq!(board.functions()["vm"].calls.get("bad_input"), Some(&1));
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_state_is_unusable_has_its_attempts_and_its_reason() {
    for retries in [0, 2] {
        let (mut bench, store) = kept(&[&["{\"k\":1}", "{\"k\":2}"]], &[]);
        bench.state_key = Some("/k".to_owned());
        store.broken.lock().unwrap().insert(StateKey(Some("2".to_owned())));
        let bench = bench.retrying(retries, Then::Stop);
        let board = bench.board.clone();
        assert_end!(bench.run().await, End::Policy { event } if event == "2");
        let status = &board.functions()["vm"];
        assert_eq!(status.calls.get("failed"), Some(&(u64::from(retries) + 1)));
        assert_eq!(status.last_error.as_deref(), Some("'2' is no state"));
        assert_eq!(store.count(Some("1")), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_may_be_without_an_end() {
    for then in [Then::Skip, Then::Stop] {
        let (bench, store) = kept(&[&["a", "x"]], &[("x", 3)]);
        let bench = bench.retrying(u32::MAX, then);
        assert_end!(bench.run().await, End::Exhausted);
        assert_eq!(store.count(None), 2);
    }
}
