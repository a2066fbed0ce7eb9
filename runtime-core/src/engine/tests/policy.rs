//! The error policy `stop`.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_end_names_the_event_and_what_came_before_is_written() {
    let bench =
        Bench::new(Delivery::Queue, [Script::Events(vec!["a"]), Script::Events(vec!["b", "x", "c"]), Script::Wait])
            .answering(failing("x", usize::MAX))
            .retrying(1, Then::Stop);
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    assert_end!(bench.run().await, End::Policy { event } if event == "3");
    assert_eq!(sink.texts(), ["a", "b"]);
    assert_eq!(journal.lines("settle"), ["settle 1 done a", "settle 2 done b"]);
    assert_eq!(journal.lines("undelivered"), ["undelivered 3, 4"]);
    assert_eq!(journal.lines("close"), ["close function", "close result", "close source"]);
}

#[tokio::test(start_paused = true)]
async fn where_a_failure_ends_everything_nothing_behind_it_is_called() {
    let bench = Bench::new(Delivery::Queue, [Script::Events(vec!["a", "x", "b"]), Script::Events(vec!["c"])])
        .answering(failing("x", 1))
        .retrying(1, Then::Stop);
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!(journal.lines("call"), ["call 1#1 a", "call 2#1 x", "call 2#2 x", "call 3#1 b", "call 4#1 c"]);
    assert_eq!(sink.texts(), ["a", "x", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_ahead_is_neither_called_nor_settled() {
    let bench =
        Bench::new(Delivery::Queue, [Script::Events(vec!["x"]), Script::Events(vec!["a"]), Script::Events(vec!["b"])])
            .answering(failing("x", usize::MAX))
            .retrying(1, Then::Stop);
    let journal = bench.journal.clone();
    assert_end!(bench.run().await, End::Policy { event } if event == "1");
    assert_eq!(journal.lines("call"), ["call 1#1 x", "call 1#2 x"]);
    assert_eq!((journal.count("write"), journal.count("settle")), (0, 0));
    let mut undelivered = journal.lines("undelivered");
    undelivered.sort();
    assert_eq!(undelivered, ["undelivered 1", "undelivered 2", "undelivered 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_latest_event_has_its_attempts_first() {
    let bench = Bench::new(Delivery::Latest, [Script::Events(vec!["x"])])
        .answering(failing("x", usize::MAX))
        .retrying(2, Then::Stop);
    let journal = bench.journal.clone();
    assert_end!(bench.run().await, End::Policy { event } if event == "1");
    assert_eq!(journal.count("call"), 3);
    assert_eq!(journal.lines("undelivered"), ["undelivered 1"]);
}

#[tokio::test(start_paused = true)]
async fn an_unusable_event_stops_too() {
    let bench = Bench::new(Delivery::Latest, [Script::Events(vec!["{"]), Script::Wait])
        .answering(|_, _| Returned::Failed(Fault::event("the payload is no JSON")))
        .retrying(2, Then::Stop);
    assert_end!(bench.run().await, End::Policy { event } if event == "1");
}

#[tokio::test(start_paused = true)]
async fn what_came_before_waits_for_a_sink_that_is_away() {
    let bench = Bench::new(Delivery::Queue, [Script::Events(vec!["a", "x"]), Script::Wait])
        .answering(failing("x", usize::MAX))
        .retrying(0, Then::Stop);
    let sink = bench.sink();
    sink.fail(5);
    assert_end!(bench.run().await, End::Policy { event } if event == "2");
    assert_eq!(sink.texts(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn what_came_before_an_entry_that_is_not_called_is_written() {
    let mut bench = Bench::new(Delivery::Queue, [Script::Events(vec!["a", "b", "flawed", "c"]), Script::Wait])
        .retrying(2, Then::Stop);
    bench.source.flawed = Some("flawed");
    let (journal, sink, board) = (bench.journal.clone(), bench.sink(), bench.board.clone());
    assert_end!(bench.run().await, End::Policy { event } if event == "3");
    assert_eq!(sink.texts(), ["a", "b"]);
    assert_eq!(journal.lines("settle"), ["settle 1 done a, 2 done b"]);
    assert_eq!((journal.count("call"), journal.lines("undelivered")), (2, vec!["undelivered 3, 4".to_owned()]));
    assert_eq!(board.functions()["vm"].calls.get("bad_input"), Some(&1));
}
