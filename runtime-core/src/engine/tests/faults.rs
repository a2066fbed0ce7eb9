//! Components in trouble: what is repeated, what is given up, what ends the function.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::keep::Kept;
use super::*;
use crate::contract::{Call, DeadLetters, Filed, Letter, Outcome};

#[tokio::test(start_paused = true)]
async fn only_the_failed_sink_is_written_again_with_the_same_outputs() {
    let mut bench = Bench::new(Delivery::Queue, [Script::Events(vec!["a", "b"])]);
    let (journal, first, second) = (bench.journal.clone(), bench.sink(), bench.second_sink());
    second.fail(2);
    assert_end!(bench.run().await, End::Exhausted);
    let copy = "write copy 1 a, 2 b";
    assert_eq!(journal.lines("write"), ["write result 1 a, 2 b", copy, copy, copy]);
    assert_eq!(journal.count("call"), 2);
    assert_eq!((first.texts(), second.texts()), (vec!["a".into(), "b".into()], vec!["a".into(), "b".into()]));
    let waits: Vec<_> = journal.timed("write copy").windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(waits[0] <= Duration::from_millis(51) && waits[1] > waits[0] && waits[1] < Duration::from_millis(102));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_refuses_results_loses_those_alone() {
    let mut bench = Bench::new(Delivery::Queue, [Script::Events(vec!["a"]), Script::Events(vec!["b"])]);
    let (journal, first, second) = (bench.journal.clone(), bench.sink(), bench.second_sink());
    first.fail_with(Fault::backend("key 'k' holds a list").permanent());
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!((first.texts(), second.texts()), (vec!["b".into()], vec!["a".into(), "b".into()]));
    assert_eq!(journal.count("write result 1"), 1);
    assert_eq!(journal.count("settle"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_a_sink_refuses_fails_its_event_and_no_other() {
    let mut bench = Bench::new(Delivery::Queue, [Script::Events(vec!["a", "b", "c"])]);
    let (journal, first, second) = (bench.journal.clone(), bench.sink(), bench.second_sink());
    // all of them together, and then the first of them by itself
    first.fail_with(Fault::backend("one is too large").permanent());
    first.fail_with(Fault::backend("it is too large").permanent());
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!(
        (first.texts(), second.texts()),
        (vec!["b".into(), "c".into()], ["a", "b", "c"].map(String::from).into())
    );
    let mut settled = journal.lines("settle");
    settled.sort();
    let why = "the result cannot be stored by sink 'result': it is too large";
    assert_eq!(settled, [format!("settle 1 failed: {why}"), "settle 2 done b, 3 done c".to_owned()]);
    assert_eq!(journal.count("call"), 3, "another call would give the same result");
    assert_eq!(journal.count("write copy"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sink_beyond_repair_ends_the_function_also_while_the_source_waits() {
    for delivery in [Delivery::Latest, Delivery::Queue] {
        let bench = Bench::new(delivery, [Script::Events(vec!["a"]), Script::Wait]);
        let journal = bench.journal.clone();
        bench.sink().fail_with(Fault::backend("the reader has gone").fatal());
        assert_end!(bench.run().await, End::Fault(fault) if fault.to_string() == "the reader has gone");
        assert_eq!(journal.lines("undelivered"), ["undelivered 1"]);
        assert_eq!(journal.lines("close"), ["close function", "close result", "close source"]);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_called_after_a_sink_beyond_repair() {
    for delivery in [Delivery::Latest, Delivery::Queue] {
        let bench = Bench::new(delivery, ["a", "b", "c", "d"].map(|text| Script::Events(vec![text])))
            .taking(Duration::from_millis(10));
        let journal = bench.journal.clone();
        bench.sink().fail_with(Fault::backend("the reader has gone").fatal());
        assert_end!(bench.run().await, End::Fault(_));
        assert_eq!(journal.count("call 1"), 1);
        assert_eq!(journal.count("call 3"), 0);
        assert_eq!(journal.count("settle"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn retries_of_a_queue_end_with_a_sink_beyond_repair() {
    let bench = Bench::new(Delivery::Queue, [Script::Events(vec!["a"]), Script::Events(vec!["b"])])
        .answering(failing("b", usize::MAX))
        .retrying(u32::MAX, Then::Skip);
    bench.sink().fail(10);
    bench.sink().fail_with(Fault::backend("the reader has gone").fatal());
    assert_end!(bench.run().await, End::Fault(_));
}

#[tokio::test(start_paused = true)]
async fn a_source_in_trouble_is_asked_again_and_the_board_tells() {
    let bench = Bench::new(
        Delivery::Latest,
        [
            Script::Trouble("redis at h:1 is away"),
            Script::Trouble("redis at h:1 is away"),
            Script::Trouble("redis at h:1 is loading"),
            Script::Again(Duration::from_secs(9)),
            Script::Events(vec!["a"]),
        ],
    );
    let (journal, board) = (bench.journal.clone(), bench.board.clone());
    let (_stopper, running) = bench.spawn();
    journal.reaches("pull", 2).await;
    assert_eq!(board.reasons(), ["function 'vm', source: redis at h:1 is away"]);
    journal.reaches("pull", 3).await;
    assert_eq!(board.reasons(), ["function 'vm', source: redis at h:1 is loading"]);
    journal.reaches("pull", 4).await;
    assert_eq!(board.reasons(), Vec::<String>::new());
    assert_end!(running.await.unwrap(), End::Exhausted);
    let pulls: Vec<_> = journal.timed("pull").windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(pulls[0] >= Duration::from_millis(37) && pulls[2] >= Duration::from_millis(150), "{pulls:?}");
    assert_eq!(journal.count("call"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_beyond_repair_ends_the_function_after_what_is_in_flight() {
    let bench = Bench::new(Delivery::Queue, [Script::Events(vec!["a"]), Script::Broken("the stream is no stream")])
        .taking(Duration::from_secs(1));
    let (journal, board) = (bench.journal.clone(), bench.board.clone());
    assert_end!(bench.run().await, End::Fault(fault) if fault.to_string() == "the stream is no stream");
    assert_eq!(journal.lines("settle"), ["settle 1 done a"]);
    assert_eq!(board.reasons(), ["function 'vm' is not running"]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_in_trouble_is_on_the_board_until_a_check_or_a_write_succeeds() {
    let bench = Bench::new(Delivery::Latest, [Script::Events(vec!["a"]), Script::Again(Duration::from_secs(60))]);
    let (journal, board, sink) = (bench.journal.clone(), bench.board.clone(), bench.sink());
    sink.fail_checks(3);
    let (_stopper, running) = bench.spawn();
    journal.reaches("check result", 1).await;
    journal.reaches("settle", 1).await;
    // the write went well
    assert_eq!(board.reasons(), Vec::<String>::new());
    assert_end!(running.await.unwrap(), End::Exhausted);

    let bench = Bench::new(Delivery::Latest, [Script::Again(Duration::from_secs(60))]);
    let (journal, board, sink) = (bench.journal.clone(), bench.board.clone(), bench.sink());
    sink.fail_checks(3);
    let (_stopper, running) = bench.spawn();
    journal.reaches("check result", 3).await;
    assert_eq!(board.reasons(), ["function 'vm', sink result: the recorder cannot be opened"]);
    journal.reaches("check result", 4).await;
    assert_eq!(board.reasons(), Vec::<String>::new());
    assert_end!(running.await.unwrap(), End::Exhausted);
    assert_eq!(journal.count("check result"), 4, "a sink that works is not checked");
}

#[tokio::test(start_paused = true)]
async fn a_complaint_of_the_source_is_on_the_board_while_it_lasts() {
    let bench = Bench::new(
        Delivery::Latest,
        [Script::Complain(Some("the server never notifies")), Script::Complain(None), Script::Again(Duration::ZERO)],
    );
    let (journal, board) = (bench.journal.clone(), bench.board.clone());
    let (_stopper, running) = bench.spawn();
    journal.reaches("pull", 1).await;
    assert_eq!(board.reasons(), ["function 'vm', source: the server never notifies"]);
    journal.reaches("pull", 2).await;
    assert_eq!(board.reasons(), Vec::<String>::new());
    assert_end!(running.await.unwrap(), End::Exhausted);
}

/// A function that breaks its promises.
enum Bad {
    Gone,
    Silent,
    Talkative,
}

#[async_trait]
impl Function for Bad {
    async fn invoke(&mut self, events: &[Event], _: Call) -> Result<Vec<Outcome>, Fault> {
        let answers = match self {
            Self::Gone => return Err(Fault::function("the library has gone")),
            Self::Silent => 0,
            Self::Talkative => events.len() + 1,
        };
        Ok((0..answers).map(|_| Returned::Empty.into()).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_that_is_gone_or_miscounts_ends_the_run() {
    for (function, text, code) in [
        (Bad::Gone, "the library has gone", 65),
        (Bad::Silent, "function 'vm' gave 0 outcomes for 2 events", 70),
        (Bad::Talkative, "function 'vm' gave 3 outcomes for 2 events", 70),
    ] {
        let mut bench = Bench::new(Delivery::Queue, [Script::Events(vec!["a", "b"]), Script::Wait]);
        bench.function = Box::new(function);
        let journal = bench.journal.clone();
        let End::Fault(fault) = bench.run().await else { panic!("no fault") };
        assert_eq!((fault.to_string().as_str(), fault.blame().exit_code()), (text, code));
        assert_eq!(journal.lines("undelivered"), ["undelivered 1, 2"]);
        assert_eq!((journal.count("write"), journal.count("close source")), (0, 1));
    }
}

/// A place of letters that is away for so many looks; each takes a while, the first one none.
struct Distant {
    away: AtomicU32,
    takes: Duration,
    journal: Journal,
}

impl Distant {
    fn boxed(away: u32, takes: Duration, journal: &Journal) -> Box<dyn DeadLetters> {
        Box::new(Self { away: AtomicU32::new(away), takes, journal: journal.clone() })
    }
}

#[async_trait]
impl DeadLetters for Distant {
    async fn put(&self, _: &[Letter]) -> Result<(), Fault> {
        Err(Fault::internal("no event failed"))
    }

    async fn check(&self) -> Result<(), Fault> {
        self.journal.note("look");
        if self.journal.count("look") > 1 {
            tokio::time::sleep(self.takes).await;
        }
        match self.away.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Err(Fault::backend("the letters are away")),
            Err(_) => Ok(()),
        }
    }

    fn describe(&self) -> String {
        "far away".to_owned()
    }

    async fn list(&self, _: Option<&str>, _: usize) -> Result<Vec<Filed>, Fault> {
        Ok(Vec::new())
    }

    async fn get(&self, _: &str) -> Result<Option<Filed>, Fault> {
        Ok(None)
    }

    async fn remove(&self, _: &[String]) -> Result<u64, Fault> {
        Ok(0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_steady_load_does_not_keep_from_looking_at_what_is_in_trouble() {
    for durable in [false, true] {
        let load = (0..200).flat_map(|_| [Script::Events(vec!["a"]), Script::Again(Duration::from_millis(40))]);
        // nothing is written that could show that the sink works
        let mut bench = Bench::new(Delivery::Queue, load).answering(|_, _| Returned::Empty);
        bench.state = durable.then(|| Arc::new(Kept::default()) as Arc<dyn StateStore>);
        let (journal, board) = (bench.journal.clone(), bench.board.clone());
        bench.letters = Some(Distant::boxed(2, Duration::from_millis(100), &journal));
        bench.sink().fail_checks(2);
        let (_stopper, running) = bench.spawn();
        journal.reaches("settle", 1).await;
        assert_eq!(
            board.reasons(),
            [
                "function 'vm', dead letters: the letters are away",
                "function 'vm', sink result: the recorder cannot be opened"
            ]
        );
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(board.reasons().is_empty(), "durable: {durable}: {:?}", board.reasons());
        assert_end!(running.await.unwrap(), End::Exhausted);
        assert_eq!(journal.count("settle"), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_trouble_and_does_not_answer_holds_up_little() {
    for durable in [false, true] {
        let load = (0..100).flat_map(|_| [Script::Events(vec!["a"]), Script::Again(Duration::from_millis(40))]);
        let mut bench = Bench::new(Delivery::Queue, load);
        bench.state = durable.then(|| Arc::new(Kept::default()) as Arc<dyn StateStore>);
        let journal = bench.journal.clone();
        bench.letters = Some(Distant::boxed(1, Duration::from_secs(3600), &journal));
        let (_stopper, running) = bench.spawn();
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert!(running.is_finished(), "durable: {durable}: {}", journal.count("settle"));
        assert_end!(running.await.unwrap(), End::Exhausted);
    }
}
