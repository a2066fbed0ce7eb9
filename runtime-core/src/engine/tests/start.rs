//! Before the first event: what is waited for, and what is the end.

use std::time::Duration;

use super::*;
use crate::contract::{DeadLetters, Filed, Letter};

#[tokio::test(start_paused = true)]
async fn backends_that_are_away_at_the_start_are_waited_for() {
    let mut bench = Bench::new(Delivery::Latest, [Script::Events(vec!["a"])]);
    bench.source.failing_checks = 3;
    let (journal, board, sink) = (bench.journal.clone(), bench.board.clone(), bench.sink());
    sink.fail_checks(1);
    sink.fail(2);
    let (_stopper, running) = bench.spawn();
    tokio::task::yield_now().await;
    assert_eq!(
        board.reasons(),
        [
            "function 'vm', sink result: the recorder cannot be opened",
            "function 'vm', source: the source cannot be opened"
        ]
    );
    assert_end!(running.await.unwrap(), End::Exhausted);
    assert_eq!(
        (journal.lines("check").iter().filter(|line| *line == "check").count(), sink.texts()),
        (4, vec!["a".into()])
    );
    assert!(board.functions()["vm"].troubles.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_required_backend_that_is_away_is_the_end() {
    let mut bench = Bench::new(Delivery::Latest, [Script::Events(vec!["a"])]);
    bench.source.failing_checks = 1;
    let journal = bench.journal.clone();
    let End::Fault(fault) = bench.run_with(stop().1, true).await else { panic!("no fault") };
    assert_eq!((fault.to_string().as_str(), fault.blame().exit_code()), ("the source cannot be opened", 69));
    assert_eq!(journal.lines("close"), ["close function", "close result", "close source"]);

    let bench = Bench::new(Delivery::Latest, [Script::Events(vec!["a"])]);
    let journal = bench.journal.clone();
    bench.sink().fail_checks(1);
    let End::Fault(fault) = bench.run_with(stop().1, true).await else { panic!("no fault") };
    assert_eq!(
        (fault.to_string().as_str(), fault.blame().exit_code()),
        ("sink result: the recorder cannot be opened", 69)
    );
    assert_eq!((journal.count("pull"), journal.count("close")), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn required_backends_that_are_there_make_no_difference() {
    let bench = Bench::new(Delivery::Latest, [Script::Events(vec!["a"])]);
    let (sink, (_stopper, stop)) = (bench.sink(), stop());
    assert_end!(bench.run_with(stop, true).await, End::Exhausted);
    assert_eq!(sink.texts(), ["a"]);
}

/// A source whose server takes the connection and says nothing.
struct Silent;

#[async_trait::async_trait]
impl crate::contract::Source for Silent {
    fn delivery(&self) -> Delivery {
        Delivery::Latest
    }

    async fn check(&mut self) -> Result<(), Fault> {
        std::future::pending().await
    }

    async fn next_batch(&mut self, _: usize) -> Result<crate::contract::Pull, Fault> {
        unreachable!("it is never open")
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_not_open_yet_is_not_ready() {
    for require_backend in [false, true] {
        let bench = Bench::new(Delivery::Latest, []);
        let (journal, board, (stopper, stop)) = (bench.journal.clone(), bench.board.clone(), stop());
        let (mut parts, _) = bench.parts();
        parts.source = Box::new(Silent);
        let running = tokio::spawn(run(parts, stop, board.clone(), require_backend));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!board.reasons().is_empty());
        stopper.stop();
        assert_end!(running.await.unwrap(), End::Stopped);
        assert_eq!(journal.lines("close"), ["close function", "close result"]);
    }
}

/// A place of dead letters that looks like this, one look after the other, and is fine then.
struct Place(std::sync::Mutex<Vec<Fault>>);

#[async_trait::async_trait]
impl DeadLetters for Place {
    async fn put(&self, _: &[Letter]) -> Result<(), Fault> {
        Ok(())
    }

    async fn check(&self) -> Result<(), Fault> {
        self.0.lock().unwrap().pop().map_or(Ok(()), Err)
    }

    fn describe(&self) -> String {
        "a place".to_owned()
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
async fn dead_letters_that_could_not_be_kept_are_told_before_the_first_failure() {
    for durable in [false, true] {
        let mut bench = Bench::new(Delivery::Queue, [Script::Wait]);
        bench.state = durable.then(|| Arc::new(keep::Kept::default()) as _);
        let (board, (stopper, stop)) = (bench.board.clone(), stop());
        let (mut parts, _) = bench.parts();
        let away = || Fault::backend("the place is full");
        parts.dead_letters = Some(Box::new(Place(vec![away(), away(), away()].into())));
        let running = tokio::spawn(run(parts, stop, board.clone(), false));
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(board.reasons(), ["function 'vm', dead letters: the place is full"]);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(board.reasons(), [""; 0]);
        stopper.stop();
        assert_end!(running.await.unwrap(), End::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_that_can_never_be_kept_are_the_end() {
    let run_with = |fault: Fault, require_backend: bool| async move {
        let (mut parts, board) = Bench::new(Delivery::Queue, [Script::Wait]).parts();
        parts.dead_letters = Some(Box::new(Place(vec![fault].into())));
        let End::Fault(fault) = run(parts, stop().1, board, require_backend).await else { panic!("no fault") };
        (fault.to_string(), fault.blame().exit_code())
    };
    let (gone, away) = (Fault::file("no such folder"), Fault::backend("the place is full"));
    assert_eq!(run_with(gone, false).await, ("no such folder".to_owned(), 66));
    assert_eq!(run_with(away, true).await, ("dead letters: the place is full".to_owned(), 69));
}
