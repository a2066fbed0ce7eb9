//! Each event once, in order, and no more in flight than promised.

use std::time::Duration;

use super::*;
use crate::contract::Pull;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_latest_event_passes_all_stages_before_the_source_is_asked_again() {
    let bench =
        Bench::new(Delivery::Latest, [Script::Events(vec!["a"]), Script::Again(5 * SECOND), Script::Events(vec!["b"])]);
    let journal = bench.journal.clone();
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!(
        journal.lines(""),
        [
            "check result",
            "check",
            "pull",
            "call 1#1 a",
            "answer",
            "write result 1 a",
            "settle 1 done a",
            "pull",
            "pull",
            "call 2#1 b",
            "answer",
            "write result 2 b",
            "settle 2 done b",
            "pull",
            "close function",
            "close result",
            "close source",
        ]
    );
    let pulls: Vec<_> = journal.timed("pull").into_iter().map(|(at, _)| at).collect();
    assert_eq!(pulls, [Duration::ZERO, Duration::ZERO, 5 * SECOND, 5 * SECOND]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_keeps_order_across_batches_and_stages() {
    let script = [
        Script::Events(vec!["a", "b"]),
        Script::Events(vec!["c"]),
        Script::Again(SECOND),
        Script::Events(vec!["d", "e", "f"]),
        Script::Events(vec!["g"]),
    ];
    let bench = Bench::new(Delivery::Queue, script).taking(Duration::from_millis(10));
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    sink.fail(3);
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!(
        journal.lines("call"),
        ["call 1#1 a", "call 2#1 b", "call 3#1 c", "call 4#1 d", "call 5#1 e", "call 6#1 f", "call 7#1 g"]
    );
    assert_eq!(sink.texts(), ["a", "b", "c", "d", "e", "f", "g"]);
    assert_eq!(
        journal.lines("settle"),
        ["settle 1 done a, 2 done b", "settle 3 done c", "settle 4 done d, 5 done e, 6 done f", "settle 7 done g"]
    );
}

#[tokio::test(start_paused = true)]
async fn many_batches_each_come_out_once() {
    const WORDS: [&str; 4] = ["n", "o", "p", "q"];
    let script = (0..500).map(|number| match number % 7 {
        6 => Script::Again(Duration::from_millis(3)),
        size => Script::Events(WORDS.iter().copied().cycle().skip(number % 4).take(1 + size % 3).collect()),
    });
    let bench = Bench::new(Delivery::Queue, script).taking(Duration::from_millis(2));
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    assert_end!(bench.run().await, End::Exhausted);
    let ids: Vec<String> = journal.lines("write").iter().flat_map(|line| ids_of(line)).collect();
    let wanted: Vec<String> = (1..=journal.count("call")).map(|id| id.to_string()).collect();
    assert_eq!(ids, wanted);
    assert_eq!(sink.texts().len(), wanted.len());
    assert!(wanted.len() > 800, "{}", wanted.len());
}

fn ids_of(write: &str) -> Vec<String> {
    let outputs = write.trim_start_matches("write result ").split(", ");
    outputs.filter_map(|output| output.split(' ').next()).map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn latest_pulls_and_calls_nothing_while_a_sink_is_away() {
    let bench = Bench::new(Delivery::Latest, [Script::Events(vec!["a"]), Script::Events(vec!["b"])]);
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    sink.fail(10);
    let (_stopper, running) = bench.spawn();
    journal.reaches("write", 8).await;
    assert_eq!((journal.count("pull"), journal.count("call")), (1, 1));
    assert_end!(running.await.unwrap(), End::Exhausted);
    assert_eq!(sink.texts(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_reads_three_batches_ahead_and_no_more() {
    let bench = Bench::new(Delivery::Queue, (0..6).map(|_| Script::Events(vec!["a", "b"])));
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    sink.fail(10);
    let (_stopper, running) = bench.spawn();
    journal.reaches("write", 8).await;
    assert_eq!((journal.count("pull"), journal.count("call"), journal.count("settle")), (3, 6, 0));
    assert_end!(running.await.unwrap(), End::Exhausted);
    assert_eq!(sink.texts().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn empty_results_reach_no_sink_and_are_done() {
    let bench = Bench::new(Delivery::Queue, [Script::Events(vec!["a", "b"]), Script::Events(vec!["c"])])
        .answering(|event, text| if event.id == "2" { echo(event, text) } else { Returned::Empty });
    let (journal, board) = (bench.journal.clone(), bench.board.clone());
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!(journal.lines("write"), ["write result 2 b"]);
    assert_eq!(journal.lines("settle"), ["settle 1 done, 2 done b", "settle 3 done"]);
    let calls = &board.functions()["vm"].calls;
    assert_eq!(calls.iter().map(|(outcome, count)| (*outcome, *count)).collect::<Vec<_>>(), [("empty", 2), ("ok", 1)]);
}

/// Asks again after an hour, unless woken after a second.
struct Woken(u32);

#[async_trait::async_trait]
impl crate::contract::Source for Woken {
    fn delivery(&self) -> Delivery {
        Delivery::Latest
    }

    async fn next_batch(&mut self, _: usize) -> Result<Pull, Fault> {
        self.0 += 1;
        Ok(if self.0 > 3 { Pull::Exhausted } else { Pull::Again(3600 * SECOND) })
    }

    async fn woken(&mut self) {
        tokio::time::sleep(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_notification_ends_the_wait() {
    let (mut parts, board) = Bench::new(Delivery::Latest, []).parts();
    parts.source = Box::new(Woken(0));
    let (begin, (_stopper, stop)) = (tokio::time::Instant::now(), stop());
    assert_end!(run(parts, stop, board, false).await, End::Exhausted);
    assert_eq!(begin.elapsed(), 3 * SECOND);
}
