//! With a function whose states are numbers.
#![allow(clippy::unwrap_used)]

use super::*;
use std::sync::Mutex;

type Step = fn(i64, u32) -> Result<i64, &'static str>;

/// Where in a batch, of which key, and its text.
type Changed = (usize, Option<String>, String);

/// Events, their results, and what has changed where.
type Row = (&'static [&'static str], &'static [&'static str], &'static [(usize, &'static str)]);

/// States are numbers, written as text; an event's payload names what is done with that of its key.
#[derive(Default)]
struct Toy {
    states: HashMap<StateKey, i64>,
    steps: HashMap<&'static str, Step>,
    /// How often each event was called, by its id.
    calls: HashMap<String, u32>,
    saves: usize,
    unreadable: bool,
    /// What cannot be written.
    odd: Vec<&'static str>,
}

fn env(number: i64) -> Env {
    Env(vec![("n".into(), number.to_string().into())])
}

impl Live for Toy {
    fn key(&self, event: &Event) -> StateKey {
        StateKey(event.key.as_deref().map(str::to_owned))
    }

    fn call(&mut self, event: &Event) -> Called {
        let text = std::str::from_utf8(&event.payload).unwrap();
        if text == "malformed" {
            return Called { returned: Returned::Failed(Fault::event("no json")), reached: false };
        }
        let calls = self.calls.entry(event.id.clone()).or_default();
        *calls += 1;
        let state = self.states.entry(StateKey(event.key.as_deref().map(str::to_owned))).or_default();
        let returned = match self.steps[text](*state, *calls) {
            Ok(new) => {
                *state = new;
                Returned::Output(new.to_string().into())
            }
            Err(why) => {
                // a call that fails has done something before
                *state += 1000;
                Returned::Failed(Fault::function(why))
            }
        };
        Called { returned, reached: true }
    }

    fn save(&mut self, key: &StateKey) -> Saved {
        self.saves += 1;
        let env = self.states.get(key).map(|number| env(*number)).unwrap_or_default();
        let lost = self.odd.iter().map(|name| ((*name).to_owned(), format!("{name} (a lock)"))).collect();
        Saved { mark: Mark { env, odd: false }, lost }
    }

    fn give(&mut self, key: &StateKey, env: &Env) -> Result<(), Fault> {
        if self.unreadable {
            return Err(Fault::function("no number"));
        }
        match env.0.first() {
            Some((_, text)) => self.states.insert(key.clone(), std::str::from_utf8(text).unwrap().parse().unwrap()),
            None => self.states.remove(key),
        };
        Ok(())
    }

    fn restore(&mut self, key: &StateKey, mark: &Mark) -> Result<(), Fault> {
        self.give(key, &mark.env)
    }

    fn forget(&mut self, key: &StateKey) {
        self.states.remove(key);
    }
}

fn toy() -> Toy {
    let steps: [(&'static str, Step); 6] = [
        ("add", |state, _| Ok(state + 1)),
        ("double", |state, _| Ok(state * 2)),
        ("look", |state, _| Ok(state)),
        ("fail", |_, _| Err("as asked")),
        ("once", |state, calls| if calls == 1 { Ok(state + 1) } else { Err("not again") }),
        ("late", |state, calls| if calls < 2 { Ok(state + 1) } else { Err("enough") }),
    ];
    Toy { steps: steps.into_iter().collect(), ..Toy::default() }
}

/// `key:step`, or a step without a key.
fn events(steps: &[&str]) -> Vec<Event> {
    let event = |(n, step): (usize, &&str)| {
        let (key, step) = step.split_once(':').map_or((None, *step), |(key, step)| (Some(key.into()), step));
        Event { key, ..Event::new(format!("e{n}"), step.as_bytes().to_vec()) }
    };
    steps.iter().enumerate().map(event).collect()
}

fn keep() -> Call {
    Call { keep: true, ..Call::default() }
}

/// Results, and states with the place of the outcome that has them.
fn shown(outcomes: &[Outcome]) -> (Vec<String>, Vec<Changed>) {
    let result = |outcome: &Outcome| match &outcome.returned {
        Returned::Output(text) => String::from_utf8(text.to_vec()).unwrap(),
        Returned::Failed(fault) => fault.to_string(),
        other => panic!("{other:?}"),
    };
    let states = outcomes.iter().enumerate().flat_map(|(n, outcome)| {
        let text = |env: &Env| String::from_utf8(env.0[0].1.to_vec()).unwrap();
        outcome.states.iter().map(move |(key, env)| (n, key.0.clone(), text(env)))
    });
    (outcomes.iter().map(result).collect(), states.collect())
}

#[test]
fn what_fails_leaves_no_trace() {
    let rows: &[Row] = &[
        (&["add", "add", "double"], &["1", "2", "4"], &[(2, "4")]),
        (&["fail", "add"], &["as asked", "1"], &[(1, "1")]),
        (&["add", "fail", "double"], &["1", "as asked", "2"], &[(2, "2")]),
        (&["add", "add", "fail"], &["1", "2", "as asked"], &[(1, "2")]),
        (&["add", "fail", "fail", "add", "fail"], &["1", "as asked", "as asked", "2", "as asked"], &[(3, "2")]),
        (&["malformed", "add", "malformed"], &["no json", "1", "no json"], &[(1, "1")]),
        (&["look", "fail"], &["0", "as asked"], &[(0, "0")]),
        (&["fail"], &["as asked"], &[]),
        // it fails as soon as it is called again, so what comes after it is without it
        (&["add", "once", "double", "fail", "add"], &["1", "not again", "2", "as asked", "3"], &[(4, "3")]),
        (&["once", "late", "add", "fail"], &["not again", "enough", "1", "as asked"], &[(2, "1")]),
    ];
    for (steps, results, states) in rows {
        let mut toy = toy();
        let outcomes = Kept::new("f".into()).run(&mut toy, &events(steps), &keep());
        let states: Vec<_> = states.iter().map(|(n, text)| (*n, None, (*text).to_owned())).collect();
        assert_eq!(shown(&outcomes), (results.iter().map(ToString::to_string).collect(), states), "{steps:?}");
    }
}

#[test]
fn keys_do_not_know_of_each_other() {
    let (mut toy, mut kept) = (toy(), Kept::new("f".into()));
    let steps = ["a:add", "b:add", "a:fail", "b:double", "add", "b:fail", "c:fail"];
    let outcomes = kept.run(&mut toy, &events(&steps), &keep());
    let (results, states) = shown(&outcomes);
    assert_eq!(results, ["1", "1", "as asked", "2", "1", "as asked", "as asked"]);
    let key = |key: &str| Some(key.to_owned());
    assert_eq!(states, [(0, key("a"), "1".to_owned()), (3, key("b"), "2".to_owned()), (4, None, "1".to_owned())]);
    // calls of one key are repeated for that key alone
    assert_eq!((toy.calls["e0"], toy.calls["e1"], toy.calls["e4"]), (2, 2, 1));
    assert_eq!(toy.states.get(&StateKey(key("c"))), None);
}

#[test]
fn a_batch_costs_one_writing() {
    let (mut toy, mut kept) = (toy(), Kept::new("f".into()));
    let call = Call { states: vec![(StateKey(None), env(5))], ..keep() };
    kept.run(&mut toy, &events(&["add"; 100]), &call);
    assert_eq!(toy.saves, 1);
    let outcomes = kept.run(&mut toy, &events(&["look"; 100]), &keep());
    assert_eq!(toy.saves, 2);
    assert_eq!(shown(&outcomes).1, [], "nothing has changed");
    // a failure that has changed nothing, and one that has
    toy.steps.insert("at once", |state, _| if state == 105 { Err("as asked") } else { Ok(state) });
    kept.run(&mut toy, &events(&["fail"; 100]), &keep());
    assert_eq!(toy.states[&StateKey(None)], 105);
}

#[test]
fn after_a_failure_few_calls_are_repeated() {
    let repeated = || {
        let (mut toy, mut kept) = (toy(), Kept::new("f".into()));
        toy.steps.insert("slow", |state, _| {
            std::thread::sleep(Duration::from_millis(10));
            Ok(state + 1)
        });
        kept.run(&mut toy, &events(&["slow", "slow", "fail"]), &keep());
        assert_eq!(toy.calls.values().sum::<u32>(), 5, "nothing was known of failures");
        toy.calls.clear();
        let outcomes = kept.run(&mut toy, &events(&["slow", "slow", "fail", "slow"]), &keep());
        let (results, states) = shown(&outcomes);
        assert_eq!(
            (results, states),
            (vec!["3", "4", "as asked", "5"].into_iter().map(str::to_owned).collect(), vec![(3, None, "5".to_owned())])
        );
        toy.calls.values().sum::<u32>() - 4
    };
    // on a busy machine the writing itself may take so long that it is not worth it
    assert!((0..5).any(|_| repeated() == 0));
}

#[test]
fn states_are_given_and_forgotten() {
    let (mut toy, mut kept) = (toy(), Kept::new("f".into()));
    let key = |key: &str| StateKey(Some(key.to_owned()));
    let given = |states: &[(&str, i64)], forget: &[&str]| Call {
        states: states.iter().map(|(name, number)| (key(name), env(*number))).collect(),
        forget: forget.iter().map(|name| key(name)).collect(),
        ..keep()
    };
    let steps = events(&["a:add", "b:add", "a:fail"]);
    let outcomes = kept.run(&mut toy, &steps, &given(&[("a", 10), ("b", 20)], &[]));
    assert_eq!(shown(&outcomes).0, ["11", "21", "as asked"]);
    let outcomes = kept.run(&mut toy, &steps, &given(&[("b", 5)], &["a", "b"]));
    assert_eq!(shown(&outcomes).0, ["1", "6", "as asked"]);
}

/// Whoever keeps the states lets go of them all with a rollback, and names only those that are used again.
#[test]
fn what_begins_anew_holds_no_states_of_before() {
    let (mut kept, mut toy) = (Kept::new("vm".into()), toy());
    kept.run(&mut toy, &events(&["a:add", "b:add", "c:add"]), &keep());
    assert_eq!((toy.states.len(), kept.marks.len()), (3, 3));
    let states = vec![(StateKey(Some("a".to_owned())), env(7))];
    let outcomes = kept.run(&mut toy, &events(&["a:add"]), &Call { states, anew: true, ..keep() });
    assert_eq!(shown(&outcomes).0, ["8"]);
    assert_eq!((toy.states.len(), kept.marks.len()), (1, 1));
}

#[test]
fn an_unreadable_state_is_not_replaced() {
    let (mut toy, mut kept) = (toy(), Kept::new("f".into()));
    toy.unreadable = true;
    let call = Call { states: vec![(StateKey(Some("a".to_owned())), env(7))], ..keep() };
    let outcomes = kept.run(&mut toy, &events(&["a:add", "b:add"]), &call);
    let (results, states) = shown(&outcomes);
    let reason = "the state of function 'f' for 'a' cannot be read, and is not written over: run what can read it, or \
                  remove it from the store: no number";
    assert_eq!(results, [reason, "1"]);
    assert_eq!(states.len(), 1);
    assert_eq!(kept.unreadable(), Some(reason));
    toy.unreadable = false;
    let outcomes = kept.run(&mut toy, &events(&["a:add"]), &call);
    assert_eq!(shown(&outcomes).0, ["8"]);
    assert_eq!(kept.unreadable(), None);
}

/// The last value of the one gauge.
#[derive(Default)]
struct Gauged(Arc<Mutex<Vec<f64>>>);

struct Values(Arc<Mutex<Vec<f64>>>);

impl metrics::GaugeFn for Values {
    fn increment(&self, _: f64) {}
    fn decrement(&self, _: f64) {}
    fn set(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

impl metrics::Recorder for Gauged {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::noop()
    }

    fn register_gauge(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        assert_eq!(key.name(), "gaugefn_state_unsaved_keys");
        assert_eq!(key.labels().map(|label| label.value()).collect::<Vec<_>>(), ["f"]);
        metrics::Gauge::from_arc(Arc::new(Values(Arc::clone(&self.0))))
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[test]
fn what_cannot_be_written_is_counted_for_all_keys() {
    let recorder = Gauged::default();
    metrics::with_local_recorder(&recorder, || {
        let (mut toy, mut kept) = (toy(), Kept::new("f".into()));
        kept.run(&mut toy, &events(&["a:add"]), &keep());
        toy.odd = vec!["lock", "other"];
        kept.run(&mut toy, &events(&["a:add", "b:add"]), &keep());
        kept.run(&mut toy, &events(&["a:add", "b:add"]), &keep());
        let forget = vec![StateKey(Some("a".to_owned()))];
        kept.run(&mut toy, &events(&["b:add"]), &Call { forget, ..keep() });
        toy.odd.clear();
        kept.run(&mut toy, &events(&["b:add"]), &keep());
    });
    assert_eq!(*recorder.0.lock().unwrap(), [0.0, 4.0, 2.0, 0.0]);
}

#[derive(Debug, Default)]
struct Seen(Mutex<Vec<String>>);

impl runtime_core::contract::Observer for Seen {
    fn begins(&self, index: usize) {
        self.0.lock().unwrap().push(format!("begins {index}"));
    }

    fn ended(&self, index: usize, outcome: &Outcome) {
        self.0.lock().unwrap().push(format!("ended {index} {}", outcome.states.len()));
    }
}

#[test]
fn an_observer_sees_repetitions_and_only_final_outcomes() {
    let seen = Arc::new(Seen::default());
    let call = Call { observer: Some(Arc::clone(&seen) as _), ..keep() };
    Kept::new("f".into()).run(&mut toy(), &events(&["add", "fail", "add"]), &call);
    let wanted = ["begins 0", "begins 1", "begins 0", "begins 2", "ended 0 0", "ended 1 0", "ended 2 1"];
    assert_eq!(*seen.0.lock().unwrap(), wanted);
}
