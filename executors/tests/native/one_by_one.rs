//! Batches that somebody follows event by event.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use runtime_core::contract::{Call, Observer, Outcome};

use crate::bed::{events, open, shown};
use crate::support::libraries::keeps;

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
