//! Receipts: once, with the right verdicts, after everything else.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_receipt_is_repeated_after_a_fault_with_the_same_verdicts_and_nothing_else_is() {
    let mut bench = Bench::new(Delivery::Queue, [Script::Events(vec!["a", "x"]), Script::Events(vec!["b"])])
        .answering(failing("x", usize::MAX));
    bench.source.failing_receipts.store(2, Ordering::Relaxed);
    let second = bench.second_sink();
    let (journal, board) = (bench.journal.clone(), bench.board.clone());
    let (_stopper, running) = bench.spawn();
    journal.reaches("settle", 2).await;
    assert_eq!(board.reasons(), ["function 'vm', commit: the receipt is told to fail"]);
    assert_end!(running.await.unwrap(), End::Exhausted);
    let settle = "settle 1 done a, 2 failed: boom";
    assert_eq!(journal.lines("settle"), [settle, settle, settle, "settle 3 done b"]);
    assert_eq!(journal.lines("write"), ["write result 1 a", "write copy 1 a", "write result 3 b", "write copy 3 b"]);
    assert_eq!((second.texts().len(), journal.count("call")), (2, 3));
    assert_eq!(journal.count("undelivered"), 0);
    assert!(board.functions()["vm"].troubles.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_receipt_comes_after_all_sinks() {
    let mut bench = Bench::new(Delivery::Queue, [Script::Events(vec!["a"])]);
    let (journal, second) = (bench.journal.clone(), bench.second_sink());
    second.fail(3);
    assert_end!(bench.run().await, End::Exhausted);
    let lines: Vec<_> =
        journal.lines("").into_iter().filter(|line| line.starts_with("write") || line.starts_with("settle")).collect();
    let copy = "write copy 1 a";
    assert_eq!(lines, ["write result 1 a", copy, copy, copy, copy, "settle 1 done a"]);
}

#[tokio::test(start_paused = true)]
async fn without_sinks_results_are_done_all_the_same() {
    let mut bench = Bench::new(Delivery::Latest, [Script::Events(vec!["a"])]);
    bench.sinks.clear();
    let journal = bench.journal.clone();
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!(journal.lines("settle"), ["settle 1 done a"]);
}

#[tokio::test(start_paused = true)]
async fn each_of_many_receipts_is_settled_once() {
    let bench = Bench::new(Delivery::Queue, (0..200).map(|_| Script::Events(vec!["a", "b", "c"])))
        .taking(Duration::from_millis(1));
    let journal = bench.journal.clone();
    assert_end!(bench.run().await, End::Exhausted);
    let wanted: Vec<_> = (0..200)
        .map(|n| n * 3)
        .map(|n| format!("settle {} done a, {} done b, {} done c", n + 1, n + 2, n + 3))
        .collect();
    assert_eq!(journal.lines("settle"), wanted);
    assert_eq!(journal.count("undelivered"), 0);
}
