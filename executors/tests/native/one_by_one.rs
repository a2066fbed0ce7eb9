//! Batches that somebody follows event by event, and states that a store keeps.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use runtime_core::contract::{Blame, Call, Env, Observer, Outcome};

use crate::bed::{entries, events, lines, listen, open, shown};
use crate::support::libraries::{cc, keeps};

#[derive(Debug, Default)]
struct Seen(Mutex<Vec<String>>);

impl Seen {
    fn add(&self, text: String) {
        let text = format!("{} {text}", thread::current().name().unwrap_or_default());
        self.0.lock().unwrap().push(text);
    }
}

impl Observer for Seen {
    fn begins(&self, index: usize) {
        self.add(format!("begins {index}"));
    }

    fn ended(&self, index: usize, outcome: &Outcome) {
        self.add(format!("ended {index} {}", shown(outcome)));
    }
}

#[tokio::test]
async fn an_observer_follows_each_event_on_the_function_s_thread() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("keeps.so");
    keeps(false, &library);
    let mut function = open(&library, "handler").await;
    let seen = Arc::new(Seen::default());
    let observer: Arc<dyn Observer> = Arc::clone(&seen) as _;
    let batch = events(&["\"count\"", "\"fail\"", "{", "\"count\""]);
    let call = Call { observer: Some(Arc::clone(&observer)), ..Call::default() };
    let outcomes = function.invoke(&batch, call).await.unwrap();
    let shown: Vec<_> = outcomes.iter().map(shown).collect();
    assert_eq!(shown[0], r#"{"version":1,"typed":1,"env":1}"#);
    assert_eq!(shown[1], "function: as asked");
    assert!(shown[2].starts_with("event: the event is not json"), "{shown:?}");
    assert_eq!(shown[3], r#"{"version":1,"typed":3,"env":2}"#);
    let told: Vec<_> =
        (0..4).flat_map(|n| [format!("native begins {n}"), format!("native ended {n} {}", shown[n])]).collect();
    assert_eq!(*seen.0.lock().unwrap(), told);

    // each event has as long as the first one, whether somebody follows or not
    for observer in [Some(observer), None] {
        let deadline = Some(Instant::now() + Duration::from_secs(100));
        let call = Call { deadline, observer, ..Call::default() };
        for outcome in function.invoke(&events(&["\"remaining\"", "\"remaining\""]), call).await.unwrap() {
            let left: u64 = self::shown(&outcome).parse().unwrap();
            assert!((90_000..=100_000).contains(&left), "{left}");
        }
    }
}

#[tokio::test]
async fn a_state_of_a_store_goes_in_with_the_call_and_comes_out_of_each_event() {
    listen();
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("keeps.so");
    keeps(false, &library);
    let mut function = open(&library, "handler").await;
    let with = |env: &Env| Call { env: Some(env.clone()), ..Call::default() };
    let batch = events(&["\"count\"", "\"fail\"", "\"count\""]);
    let outcomes = function.invoke(&batch, with(&Env::default())).await.unwrap();
    let states: Vec<_> = outcomes.iter().map(|outcome| entries(outcome.env.as_ref().unwrap())).collect();
    let entry = |key: &str, value: &str| (format!("\"{key}\""), value.to_owned());
    let state = |n, typed: &str| vec![entry("n", n), entry("gaugefn.states", typed)];
    let wanted =
        [state("1", r#"{"keeps::Count":1}"#), state("1", r#"{"keeps::Count":2}"#), state("2", r#"{"keeps::Count":3}"#)];
    assert_eq!(states, wanted);

    // back to the state after the first event
    let first = outcomes[0].env.clone().unwrap();
    for _ in 0..2 {
        let outcomes = function.invoke(&events(&["\"count\""]), with(&first)).await.unwrap();
        assert_eq!(shown(&outcomes[0]), r#"{"version":1,"typed":2,"env":2}"#);
    }

    // what cannot be kept is told of once, and stays
    let outcomes = function.invoke(&events(&["\"pairs\"", "\"pairs\""]), with(&first)).await.unwrap();
    assert_eq!(outcomes[1].env.as_ref(), Some(&first));
    let outcomes = function.invoke(&events(&["\"pairs\""]), with(&first)).await.unwrap();
    assert_eq!(shown(&outcomes[0]), "3");
    assert_eq!(lines(), ["WARN 'keeps::Pairs' stays in memory: key must be a string"]);
}

#[tokio::test]
async fn a_library_that_cannot_tell_its_state_is_refused_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("older.so");
    let mark = format!("-DMARK=\"{}\"", folder.path().join("mark").display());
    cc("tests/libraries/matrix.c", &library, &[&mark, "-DMINOR=1", "-DOLDER=1", "-DOPENS"]);
    let mut function = open(&library, "handler").await;
    let call = Call { env: Some(Env::default()), ..Call::default() };
    let refused = function.invoke(&events(&["1"]), call).await.unwrap_err();
    assert_eq!(refused.blame(), Blame::Config);
    assert!(refused.to_string().starts_with("the library cannot keep its state in a store"), "{refused}");
}
