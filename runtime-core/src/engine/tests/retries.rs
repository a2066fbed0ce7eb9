//! Failed calls and their further attempts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_latest_event_is_tried_again_with_growing_attempts_and_waits() {
    let bench = Bench::new(Delivery::Latest, [Script::Events(vec!["a"]), Script::Again(Duration::from_secs(60))])
        .answering(failing("a", 3))
        .retrying(3, Then::Skip);
    let (journal, board) = (bench.journal.clone(), bench.board.clone());
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!(journal.lines("call"), ["call 1#1 a", "call 1#2 a", "call 1#3 a", "call 1#4 a"]);
    assert_eq!(journal.lines("settle"), ["settle 1 done a"]);
    assert_waits(&journal);
    let status = &board.functions()["vm"];
    assert_eq!((status.calls["failed"], status.calls["ok"]), (3, 1));
    assert_eq!(status.last_error.as_deref(), Some("boom"));
}

/// 200, 400, 800 ms, each less up to a quarter.
fn assert_waits(journal: &Journal) {
    let waits: Vec<_> = journal.timed("call").windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    for (wait, longest) in waits.iter().zip([200, 400, 800]) {
        let millis = wait.as_millis();
        assert!(millis >= longest * 3 / 4 && millis <= longest + 2, "{waits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_are_used_up_and_the_next_event_goes_on() {
    for delivery in [Delivery::Latest, Delivery::Queue] {
        // asked once before each further attempt of a latest event
        let idle = (0..3).map(|_| Script::Again(Duration::from_secs(60)));
        let script = std::iter::once(Script::Events(vec!["a"])).chain(idle).chain([Script::Events(vec!["b"])]);
        let bench = Bench::new(delivery, script).answering(failing("a", usize::MAX)).retrying(2, Then::Skip);
        let (journal, sink) = (bench.journal.clone(), bench.sink());
        assert_end!(bench.run().await, End::Exhausted);
        assert_eq!(journal.lines("call"), ["call 1#1 a", "call 1#2 a", "call 1#3 a", "call 2#1 b"]);
        assert_eq!(journal.lines("settle"), ["settle 1 failed: boom", "settle 2 done b"]);
        assert_eq!(sink.texts(), ["b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn without_retries_a_failed_event_is_called_once() {
    for delivery in [Delivery::Latest, Delivery::Queue] {
        let bench = Bench::new(delivery, [Script::Events(vec!["a"])]).answering(failing("a", usize::MAX));
        let journal = bench.journal.clone();
        assert_end!(bench.run().await, End::Exhausted);
        assert_eq!((journal.count("call"), journal.lines("settle")), (1, vec!["settle 1 failed: boom".to_owned()]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_newer_value_ends_the_retries_of_the_last_one() {
    let bench = Bench::new(
        Delivery::Latest,
        [
            Script::Events(vec!["a"]),
            Script::Again(Duration::from_millis(500)),
            Script::Again(Duration::from_millis(500)),
            Script::Events(vec!["b"]),
        ],
    )
    .answering(failing("a", usize::MAX))
    .retrying(10, Then::Stop);
    let journal = bench.journal.clone();
    assert_end!(bench.run().await, End::Exhausted);
    let calls = journal.lines("call");
    assert_eq!(calls.last().map(String::as_str), Some("call 2#1 b"));
    assert_eq!(calls.iter().filter(|call| call.starts_with("call 1")).count(), calls.len() - 1);
    assert_eq!(journal.lines("settle"), ["settle 2 done b"]);
    assert_eq!(journal.lines("undelivered"), ["undelivered 1"]);
}

/// Of all metrics, `gaugefn_retries_total` alone.
#[derive(Default)]
struct Retries(Arc<AtomicU64>);

impl metrics::Recorder for Retries {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        if key.name() == "gaugefn_retries_total" {
            metrics::Counter::from_arc(Arc::clone(&self.0))
        } else {
            metrics::Counter::noop()
        }
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

/// Runs to the end of the source: calls, and the retries that were counted.
fn counted(bench: Bench) -> (usize, u64) {
    let (journal, recorder) = (bench.journal.clone(), Retries::default());
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let _ended = runtime.unwrap().block_on(bench.run());
    });
    (journal.count("call"), recorder.0.load(Ordering::Relaxed))
}

#[test]
fn an_attempt_that_is_never_made_is_not_counted() {
    for then in [Then::Skip, Then::Stop] {
        let bench = Bench::new(Delivery::Latest, [Script::Events(vec!["a"]), Script::Events(vec!["b"])])
            .answering(failing("a", usize::MAX))
            .retrying(5, then);
        assert_eq!(counted(bench), (2, 0), "a newer value has come before the first retry");
        for delivery in [Delivery::Latest, Delivery::Queue] {
            let bench = Bench::new(delivery, [Script::Events(vec!["a"])]).answering(failing("a", 2)).retrying(3, then);
            assert_eq!(counted(bench), (3, 2));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_source_is_asked_between_the_attempts_of_a_latest_event() {
    let bench = Bench::new(Delivery::Latest, [Script::Events(vec!["a"]), Script::Events(vec!["b"])])
        .answering(failing("a", usize::MAX))
        .retrying(5, Then::Skip);
    let journal = bench.journal.clone();
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!(journal.lines("call"), ["call 1#1 a", "call 2#1 b"]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_due_does_not_wait_for_a_source_in_trouble() {
    let script = std::iter::once(Script::Events(vec!["a"])).chain((0..50).map(|_| Script::Trouble("redis is away")));
    let bench = Bench::new(Delivery::Latest, script).answering(failing("a", 3)).retrying(3, Then::Skip);
    let journal = bench.journal.clone();
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!(journal.count("call"), 4);
    assert_waits(&journal);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_source_waits_for_the_last_attempts() {
    for delivery in [Delivery::Latest, Delivery::Queue] {
        let bench =
            Bench::new(delivery, [Script::Events(vec!["a"])]).answering(failing("a", 3)).retrying(3, Then::Skip);
        let (journal, sink) = (bench.journal.clone(), bench.sink());
        sink.fail(3);
        assert_end!(bench.run().await, End::Exhausted);
        assert_eq!((journal.count("call"), sink.texts()), (4, vec!["a".to_owned()]));
        assert_waits(&journal);
        assert_eq!(journal.lines("settle"), ["settle 1 done a"]);
        assert_eq!(journal.count("close"), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unusable_event_is_not_tried_again() {
    for delivery in [Delivery::Latest, Delivery::Queue] {
        let bench = Bench::new(delivery, [Script::Events(vec!["{"])])
            .answering(|_, _| Returned::Failed(Fault::event("the payload is no JSON")))
            .retrying(5, Then::Skip);
        let (journal, board) = (bench.journal.clone(), bench.board.clone());
        assert_end!(bench.run().await, End::Exhausted);
        assert_eq!(journal.lines("call"), ["call 1#1 {"]);
        assert_eq!(journal.lines("settle"), ["settle 1 failed: the payload is no JSON"]);
        assert_eq!(board.functions()["vm"].calls["bad_input"], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn failed_events_of_a_queue_hold_up_no_others() {
    let bench = Bench::new(Delivery::Queue, [Script::Events(vec!["a", "x", "b", "y"]), Script::Events(vec!["c"])])
        .retrying(2, Then::Skip);
    let mut calls = 0;
    let bench = bench.answering(move |event, text| {
        calls += 1;
        match text {
            "x" if event.attempt < 3 => Returned::Failed(Fault::function("boom")),
            "y" => Returned::Failed(Fault::function("bang")),
            "a" => Returned::Empty,
            text => Returned::Output(format!("{text}{calls}").into()),
        }
    });
    let journal = bench.journal.clone();
    assert_end!(bench.run().await, End::Exhausted);
    let calls = journal.lines("call");
    assert_eq!(calls[..5], ["call 1#1 a", "call 2#1 x", "call 3#1 b", "call 4#1 y", "call 5#1 c"]);
    // their waits differ by chance
    let of = |event: &str| calls[5..].iter().filter(|call| call.starts_with(event)).cloned().collect::<Vec<_>>();
    assert_eq!(of("call 2"), ["call 2#2 x", "call 2#3 x"]);
    assert_eq!(of("call 4"), ["call 4#2 y", "call 4#3 y"]);
    assert_eq!(calls.len(), 9);
    let mut settled = journal.lines("settle");
    assert_eq!(settled[..2], ["settle 1 done, 3 done b3", "settle 5 done c5"]);
    settled[2..].sort();
    assert!(settled[2].starts_with("settle 2 done x") && settled[3] == "settle 4 failed: bang", "{settled:?}");
    assert_eq!((settled.len(), journal.count("undelivered")), (4, 0));
}
