//! The wish to stop, at every place where it can come.

use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Stops, and asserts that this needs none of tokio's time.
async fn ends_at_once((stopper, running): Running) {
    let begin = tokio::time::Instant::now();
    stopper.stop();
    assert_end!(running.await.unwrap(), End::Stopped);
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn at_once_where_nothing_is_in_flight() {
    for idle in [Script::Wait, Script::Again(3600 * SECOND)] {
        for delivery in [Delivery::Latest, Delivery::Queue] {
            let idle = match &idle {
                Script::Again(after) => Script::Again(*after),
                _ => Script::Wait,
            };
            let bench = Bench::new(delivery, [Script::Events(vec!["a"]), idle]);
            let (journal, board) = (bench.journal.clone(), bench.board.clone());
            let running = bench.spawn();
            journal.reaches("pull", 2).await;
            ends_at_once(running).await;
            assert_eq!(journal.lines("close"), ["close function", "close result", "close source"]);
            assert_eq!(board.reasons(), ["function 'vm' is not running"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn at_once_while_the_source_is_in_trouble() {
    let bench = Bench::new(Delivery::Queue, (0..1000).map(|_| Script::Trouble("redis is away")));
    let journal = bench.journal.clone();
    let running = bench.spawn();
    journal.reaches("pull", 10).await;
    ends_at_once(running).await;

    let mut bench = Bench::new(Delivery::Queue, []);
    bench.source.failing_checks = u32::MAX;
    let journal = bench.journal.clone();
    let running = bench.spawn();
    journal.reaches("check", 10).await;
    ends_at_once(running).await;
    assert_eq!((journal.count("pull"), journal.count("close")), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn at_once_while_an_idle_sink_is_in_trouble() {
    let bench = Bench::new(Delivery::Latest, [Script::Wait]);
    let journal = bench.journal.clone();
    bench.sink().fail_checks(u32::MAX);
    let running = bench.spawn();
    journal.reaches("check result", 5).await;
    ends_at_once(running).await;
}

#[tokio::test(start_paused = true)]
async fn at_once_while_a_latest_event_waits_for_its_next_attempt() {
    for idle in [None, Some(Script::Again(3600 * SECOND))] {
        let script = std::iter::once(Script::Events(vec!["x"])).chain(idle);
        let mut bench =
            Bench::new(Delivery::Latest, script).answering(failing("x", usize::MAX)).retrying(5, Then::Stop);
        bench.errors.backoff = Span::seconds(50);
        let journal = bench.journal.clone();
        let running = bench.spawn();
        journal.reaches("pull", 2).await;
        ends_at_once(running).await;
        assert_eq!((journal.count("call"), journal.lines("undelivered")), (1, vec!["undelivered 1".to_owned()]));
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_start_nothing_is_pulled() {
    let bench = Bench::new(Delivery::Latest, [Script::Events(vec!["a"])]);
    let (journal, (stopper, stop)) = (bench.journal.clone(), stop());
    stopper.stop();
    assert_end!(bench.run_with(stop, false).await, End::Stopped);
    assert_eq!(journal.lines(""), ["close function", "close result", "close source"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_is_finished_and_written() {
    for delivery in [Delivery::Latest, Delivery::Queue] {
        let bench = Bench::new(delivery, [Script::Events(vec!["a"]), Script::Wait]).taking(10 * SECOND);
        let (journal, sink) = (bench.journal.clone(), bench.sink());
        sink.fail(3);
        let (stopper, running) = bench.spawn();
        journal.reaches("call", 1).await;
        stopper.stop();
        assert_end!(running.await.unwrap(), End::Stopped);
        assert_eq!((sink.texts(), journal.lines("settle")), (vec!["a".to_owned()], vec!["settle 1 done a".to_owned()]));
        assert!(journal.timed("close source")[0].0 > 10 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_queue_has_read_ahead_is_finished_and_nothing_more_is_pulled() {
    let bench = Bench::new(Delivery::Queue, (0..50).map(|_| Script::Events(vec!["a"]))).taking(SECOND);
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    let (stopper, running) = bench.spawn();
    journal.reaches("call", 5).await;
    let pulled = journal.count("pull");
    stopper.stop();
    assert_end!(running.await.unwrap(), End::Stopped);
    assert_eq!((journal.count("pull"), journal.count("call"), sink.texts().len()), (pulled, pulled, pulled));
    assert_eq!(journal.count("undelivered"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_always_has_work_does_not_delay_it() {
    for delivery in [Delivery::Latest, Delivery::Queue] {
        let bench = Bench::new(delivery, (0..100_000).map(|_| Script::Events(vec!["a"])));
        let journal = bench.journal.clone();
        let (stopper, running) = bench.spawn();
        // the run gives way to this task by tokio's budget alone
        while journal.count("call") == 0 {
            tokio::task::yield_now().await;
        }
        let pulled = journal.count("pull");
        stopper.stop();
        assert_end!(running.await.unwrap(), End::Stopped);
        assert!(journal.count("pull") <= pulled + 3, "{} after {pulled}", journal.count("pull"));
        assert_eq!(journal.count("undelivered"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_to_drain_is_bounded() {
    let mut bench = Bench::new(Delivery::Queue, [Script::Events(vec!["a"])]).taking(3600 * SECOND);
    bench.drain = 2 * SECOND;
    let (journal, board) = (bench.journal.clone(), bench.board.clone());
    let (stopper, running) = bench.spawn();
    journal.reaches("call", 1).await;
    let begin = tokio::time::Instant::now();
    stopper.stop();
    assert_end!(running.await.unwrap(), End::NotDrained);
    assert_eq!(begin.elapsed(), 2 * SECOND);
    assert_eq!(journal.lines("undelivered"), ["undelivered 1"]);
    assert_eq!(board.reasons(), ["function 'vm' is not running"]);

    let bench = Bench::new(Delivery::Latest, [Script::Events(vec!["a"])]);
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    sink.fail(100_000);
    let (stopper, running) = bench.spawn();
    journal.reaches("write", 3).await;
    stopper.stop();
    assert_end!(running.await.unwrap(), End::NotDrained);
    assert_eq!(journal.count("settle"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_queue_that_waits_for_an_attempt_stays_undelivered() {
    let bench = Bench::new(Delivery::Queue, [Script::Events(vec!["x"]), Script::Wait])
        .answering(failing("x", 3))
        .retrying(3, Then::Skip);
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    let (stopper, running) = bench.spawn();
    journal.reaches("call", 1).await;
    stopper.stop();
    assert_end!(running.await.unwrap(), End::Stopped);
    assert_eq!((journal.count("call"), sink.texts().len(), journal.count("settle")), (1, 0, 0));
    assert_eq!(journal.lines("undelivered"), ["undelivered 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_latest_event_with_attempts_left_stays_undelivered() {
    let mut bench = Bench::new(Delivery::Latest, [Script::Events(vec!["x"]), Script::Wait]).retrying(1, Then::Stop);
    let answer = |_: &Event, _: &str| Returned::Failed(Fault::function("boom"));
    bench.function = Box::new(ScriptedFunction::new(answer).taking(SECOND).journal(&bench.journal));
    let journal = bench.journal.clone();
    let (stopper, running) = bench.spawn();
    journal.reaches("call", 1).await;
    stopper.stop();
    assert_end!(running.await.unwrap(), End::Stopped);
    assert_eq!((journal.count("call"), journal.count("settle")), (1, 0));
    assert_eq!(journal.lines("undelivered"), ["undelivered 1"]);
}
