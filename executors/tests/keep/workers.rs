//! Functions in workers, which end in the middle.

use std::sync::Arc;
use std::time::Duration;

use runtime_core::contract::{Call, Env, Event, Legacy, Returned, StateKey};
use runtime_core::main_thread::MainThread;

use crate::bed::{Bed, Keeper, event, keep, python, shown};
use crate::python::{DOES, PATTERNS, check, fresh, row};

fn one(id: usize, way: &str) -> Event {
    event(id, None, format!("{{\"id\": {id}, \"do\": \"{way}\"}}"))
}

pub(crate) async fn whatever_ends_leaves_no_trace(main: MainThread) {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed { workers: 1, ..python(folder.path(), DOES) };
    let mut function = bed.open(&main).await;
    for (way, patterns) in [
        ("raise", &PATTERNS[..]),
        ("crash", &PATTERNS[..4]),
        ("die", &PATTERNS[1..5]),
        ("kill", &PATTERNS[3..4]),
        ("hang", &PATTERNS[1..2]),
    ] {
        for pattern in patterns {
            let row = row(pattern, way, &[None]);
            let mut keeper = Keeper::default();
            let outcomes = function.invoke(&[one(9, "")], Call { anew: true, ..fresh(&[None]) }).await.unwrap();
            assert_eq!(shown(&outcomes[0]), "1");
            function.invoke(&[one(9, "raise")], fresh(&[None])).await.unwrap();
            let results = keeper.drive(&mut *function, &row.events).await;
            check(&row, &keeper, &results, &format!("{way} {pattern}"));
            let ends = if way == "raise" { 0 } else { pattern.matches('x').count() };
            assert!(keeper.given <= ends + 1, "{way} {pattern}: {} batches", keeper.given);
        }
    }
    function.close(Duration::from_secs(10)).await.unwrap();
}

pub(crate) async fn a_repetition_has_a_limit_of_its_own(main: MainThread) {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed { workers: 1, ..python(folder.path(), DOES) };
    let mut function = bed.open(&main).await;
    let mark = folder.path().join("mark").display().to_string();
    let again = format!("{{\"id\": 2, \"do\": \"hang again\", \"mark\": \"{mark}\"}}");
    let batch = [one(1, ""), event(2, None, again), one(3, ""), one(4, "raise"), one(5, "")];
    let outcomes = function.invoke(&batch, keep()).await.unwrap();
    let texts: Vec<_> = outcomes.iter().map(shown).collect();
    assert_eq!(texts, ["not called", "failed", "not called", "not called", "not called"]);
    let Returned::Failed(fault) = &outcomes[1].returned else { panic!("not failed") };
    assert!(fault.to_string().starts_with("no answer within 1500ms"), "{fault}");
    // what runs is also known after calls were repeated
    let mut keeper = Keeper::default();
    let batch = [one(1, ""), one(2, "raise"), one(3, ""), one(4, "die"), one(5, "")];
    assert_eq!(keeper.drive(&mut *function, &batch).await, ["1", "failed", "2", "failed", "3"]);
    // the states of the first one were not there, and those of the second one went with its end
    assert_eq!((keeper.given, keeper.state(None)["\"seen\""].as_str()), (3, "[1,3,5]"));
    function.close(Duration::from_secs(10)).await.unwrap();
}

pub(crate) async fn keys_have_workers_of_their_own(main: MainThread) {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed { workers: 2, key: Some("/host"), ..python(folder.path(), DOES) };
    let mut function = bed.open(&main).await;
    let keys = [Some("a"), Some("b"), Some("c"), Some("d"), None];
    let mut keeper = Keeper::default();
    let row = row(".....x....x...........x..", "die", &keys);
    for part in row.events.chunks(9) {
        let before = keeper.given;
        for (event, result) in part.iter().zip(keeper.drive(&mut *function, part).await) {
            let index: usize = event.id[1..].parse().unwrap();
            assert_eq!(result, row.results[index], "{}", event.id);
        }
        assert!(keeper.given - before <= 3, "{}", keeper.given);
    }
    check(&row, &keeper, &row.results, "five keys");
    // a key whose worker has no event yet is told later
    let call = Call { forget: fresh(&keys).forget, ..keep() };
    let payload = |id: usize| format!("{{\"id\": {id}}}");
    let outcomes = function.invoke(&[event(1, Some("a"), payload(1))], call).await.unwrap();
    assert_eq!(shown(&outcomes[0]), "1");
    let others: Vec<_> = keys[1..].iter().map(|key| event(2, *key, payload(2))).collect();
    for outcome in function.invoke(&others, keep()).await.unwrap() {
        assert_eq!(shown(&outcome), "1");
    }
    function.close(Duration::from_secs(10)).await.unwrap();
}

pub(crate) async fn what_was_given_behind_a_worker_s_end_is_given_back(main: MainThread) {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed { workers: 1, ..python(folder.path(), DOES) };
    let mut function = bed.open(&main).await;
    let texts = |outcomes: &[runtime_core::contract::Outcome]| outcomes.iter().map(shown).collect::<Vec<_>>();
    let pipeline = function.pipeline().unwrap();
    let batch = |ids: &[(usize, &str)]| -> Arc<[Event]> { ids.iter().map(|(id, way)| one(*id, way)).collect() };

    // a failure that the function survives does not disturb the next batch
    pipeline.give(batch(&[(1, ""), (2, "raise")]), keep()).await;
    pipeline.give(batch(&[(3, ""), (4, "")]), keep()).await;
    assert_eq!(texts(&pipeline.take().await.unwrap()), ["1", "failed"]);
    let outcomes = pipeline.take().await.unwrap();
    assert_eq!(texts(&outcomes), ["2", "3"]);
    let mut keeper = Keeper::default();
    keeper.take(&outcomes);

    pipeline.give(batch(&[(5, ""), (6, "die"), (7, "")]), keep()).await;
    pipeline.give(batch(&[(8, ""), (9, "")]), keep()).await;
    let outcomes = pipeline.take().await.unwrap();
    assert_eq!(texts(&outcomes), ["not called", "failed", "not called"]);
    let Returned::Failed(fault) = &outcomes[1].returned else { panic!("not failed") };
    assert_eq!(fault.to_string(), "the worker exited with 3");
    assert_eq!(texts(&pipeline.take().await.unwrap()), ["not called", "not called"]);
    // until it is told the states
    pipeline.give(batch(&[(8, "")]), keep()).await;
    pipeline.give(batch(&[(5, ""), (7, "")]), keeper.anew()).await;
    assert_eq!(texts(&pipeline.take().await.unwrap()), ["not called"]);
    pipeline.give(batch(&[(8, ""), (9, "")]), keep()).await;
    assert_eq!(texts(&pipeline.take().await.unwrap()), ["4", "5"]);
    let outcomes = pipeline.take().await.unwrap();
    assert_eq!(texts(&outcomes), ["6", "7"]);
    keeper.take(&outcomes);
    assert_eq!(keeper.state(None)["\"seen\""], "[1,3,4,5,7,8,9]");
    function.close(Duration::from_secs(10)).await.unwrap();
}

pub(crate) async fn a_worker_that_ends_while_idle_is_noticed(main: MainThread) {
    let folder = tempfile::tempdir().unwrap();
    let text = "import os, threading, time\ndef handler(data, context):\n    context.env['n'] = context.env.get('n', 0) + 1\n    if data.get('do') == 'later':\n        threading.Timer(0.1, os._exit, (3,)).start()\n    return context.env['n']\n";
    let mut function = Bed { workers: 1, ..python(folder.path(), text) }.open(&main).await;
    let mut keeper = Keeper::default();
    assert_eq!(keeper.drive(&mut *function, &[one(1, "later")]).await, ["1"]);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let outcomes = function.invoke(&[one(2, ""), one(3, "")], keep()).await.unwrap();
    assert_eq!(outcomes.iter().map(shown).collect::<Vec<_>>(), ["not called", "not called"]);
    let outcomes = function.invoke(&[one(2, ""), one(3, "")], keeper.anew()).await.unwrap();
    assert_eq!(outcomes.iter().map(shown).collect::<Vec<_>>(), ["2", "3"]);
    function.close(Duration::from_secs(10)).await.unwrap();
}

pub(crate) async fn an_event_that_ends_workers_before_it_begins_is_blamed(main: MainThread) {
    let folder = tempfile::tempdir().unwrap();
    // the process ends where it reads the state that comes with the batch
    let text = "import os, zoneinfo\nzoneinfo.ZoneInfo = lambda name: os._exit(3)\ndef handler(data, context):\n    return 1\n";
    let mut function = Bed { workers: 1, ..python(folder.path(), text) }.open(&main).await;
    let env = Env(vec![("\"zone\"".into(), r#"{"$timezone":{"zone":"Europe/Berlin"}}"#.into())]);
    let call = Call { anew: true, states: vec![(StateKey(None), env)], ..keep() };
    let mut seen = Vec::new();
    for batch in [&[1, 2][..], &[1, 2], &[2, 3], &[2]] {
        let batch: Vec<_> = batch.iter().map(|id| one(*id, "")).collect();
        let outcomes = function.invoke(&batch, call.clone()).await.unwrap();
        seen.push(outcomes.iter().map(shown).collect::<Vec<_>>());
    }
    let wanted: [&[&str]; 4] =
        [&["not called", "not called"], &["failed", "not called"], &["not called", "not called"], &["failed"]];
    assert_eq!(seen, wanted);
    function.close(Duration::from_secs(10)).await.unwrap();
}

pub(crate) async fn a_state_goes_on_in_the_next_version(main: MainThread) {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed { workers: 1, ..python(folder.path(), DOES) };
    let mut function = bed.open(&main).await;
    let mut keeper = Keeper::default();
    assert_eq!(keeper.drive(&mut *function, &[one(1, ""), one(2, "raise")]).await, ["1", "failed"]);
    let legacy = function.hand_over().await.unwrap();
    assert!(matches!(legacy, Legacy::Encoded { .. }));
    let mut next = bed.open(&main).await;
    next.take_over(Some(legacy)).await.unwrap();
    assert_eq!(keeper.drive(&mut *next, &[one(3, "raise"), one(4, "")]).await, ["failed", "2"]);
    assert_eq!((keeper.state(None)["\"seen\""].as_str(), keeper.given), ("[1,4]", 2));

    // the states that a version has lost its successor does not know either
    let outcomes = next.invoke(&[one(5, "die")], keep()).await.unwrap();
    assert_eq!(shown(&outcomes[0]), "failed");
    let legacy = next.hand_over().await.unwrap();
    let mut last = bed.open(&main).await;
    last.take_over(Some(legacy)).await.unwrap();
    let outcomes = last.invoke(&[one(6, "")], keep()).await.unwrap();
    assert_eq!(shown(&outcomes[0]), "not called");
    assert_eq!(keeper.drive(&mut *last, &[one(6, "")]).await, ["3"]);
    for mut function in [function, next, last] {
        let _ = function.close(Duration::from_secs(10)).await;
    }
}
