//! Before the first event: what is waited for, and what is the end.

use std::time::Duration;

use super::*;

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
