//! The source `redis_stream` against a real redis-server: what it delivers, and that nothing is lost on the way.
#![allow(clippy::unwrap_used)]

#[path = "redis_stream/consumers.rs"]
mod deleted_consumers;
#[path = "redis_stream/groups.rs"]
mod groups;
#[path = "redis_stream/lives.rs"]
mod lives;
#[path = "redis_stream/portions.rs"]
mod portions;
mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Commands, Value};
use runtime_core::contract::{Batch, Delivery, Fault, Pull, Source, Verdict};
use runtime_core::testkit::source_contract;
use runtime_core::{Kind, Site};
use serde_json::json;
use sources::redis_stream::{Config, RedisStream};
use support::redis::RedisServer;
use tokio::time::timeout;

/// Nothing waits this long unless the machine is in trouble or the test fails.
const PATIENCE: Duration = Duration::from_secs(15);

async fn source(server: &RedisServer, options: serde_json::Value) -> Box<dyn Source> {
    let mut table = json!({ "stream": "in", "consumer": "a", "field": "data", "url": server.url() });
    table.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let config: Config = serde_json::from_value(table).unwrap();
    assert!(RedisStream::review(&config).is_empty());
    let (main_thread, _) = runtime_core::main_thread::pair();
    let stdout = Arc::new(std::fs::File::create("/dev/null").unwrap());
    RedisStream::build(config, &Site { function: "vm", shared: &[], main_thread, stdout }).await.unwrap()
}

/// Runs a command given as one line.
fn run(server: &RedisServer, line: &str) -> Value {
    let mut words = line.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap());
    for word in words {
        cmd.arg(word);
    }
    cmd.query(&mut server.connection()).unwrap()
}

/// Adds entries with the ids `from`-0 on, whose data is the number.
fn add(server: &RedisServer, numbers: std::ops::Range<usize>) {
    let mut pipeline = redis::pipe();
    for number in numbers {
        pipeline.cmd("XADD").arg("in").arg(format!("{number}-0")).arg("data").arg(number).ignore();
    }
    let () = pipeline.query(&mut server.connection()).unwrap();
}

/// Ids, owners and delivery counts of what is pending.
fn pending(server: &RedisServer) -> Vec<(String, String, u64)> {
    let rows: Vec<(String, String, u64, u64)> =
        redis::cmd("XPENDING").arg(&["in", "vm", "-", "+", "1000"]).query(&mut server.connection()).unwrap();
    rows.into_iter().map(|(id, owner, _, count)| (id, owner, count)).collect()
}

fn consumers(server: &RedisServer) -> Vec<String> {
    let rows: Vec<std::collections::HashMap<String, Value>> =
        redis::cmd("XINFO").arg(&["CONSUMERS", "in", "vm"]).query(&mut server.connection()).unwrap();
    rows.into_iter().map(|row| redis::from_redis_value(row["name"].clone()).unwrap()).collect()
}

/// The first call joins the group.
async fn join(source: &mut dyn Source) {
    source.check().await.unwrap();
    assert!(matches!(source.next_batch(1).await.unwrap(), Pull::Again(Duration::ZERO)));
}

/// The next batch, as the engine would come by it; faults that may pass are passed over.
async fn next(source: &mut dyn Source, max: usize) -> Batch {
    let pulled = async {
        loop {
            match source.next_batch(max).await {
                Ok(Pull::Batch(batch)) => return batch,
                Ok(Pull::Again(after)) => tokio::time::sleep(after).await,
                Ok(Pull::Exhausted) => panic!("exhausted"),
                Err(fault) => {
                    assert!(fault.retry(), "{}", fault.chain());
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    };
    timeout(PATIENCE, pulled).await.expect("a batch")
}

async fn fails(source: &mut dyn Source) -> Fault {
    let pulled = async {
        loop {
            match source.next_batch(100).await {
                Err(fault) => return fault,
                Ok(Pull::Again(after)) => tokio::time::sleep(after).await,
                Ok(other) => panic!("{other:?}"),
            }
        }
    };
    timeout(PATIENCE, pulled).await.expect("a fault")
}

/// No batch for a while.
async fn idles(source: &mut dyn Source, time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        match timeout(left, source.next_batch(100)).await {
            Ok(Ok(Pull::Again(after))) => tokio::time::sleep(after).await,
            Err(_) => {}
            Ok(other) => panic!("{other:?}"),
        }
    }
}

async fn settle(mut batch: Batch) {
    let verdicts = vec![Verdict::Done { reply: None }; batch.events.len()];
    batch.receipt.settle(&verdicts).await.unwrap();
}

fn ids(batch: &Batch) -> Vec<&str> {
    batch.events.iter().map(|event| event.id.as_str()).collect()
}

fn deliveries(batch: &Batch) -> Vec<u32> {
    batch.events.iter().inspect(|event| assert_eq!(event.attempt, 1)).map(|event| event.deliveries).collect()
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_source() {
    let server = RedisServer::start();
    add(&server, 1..51);
    let mut source = source(&server, json!({})).await;
    assert_eq!(source.delivery(), Delivery::Queue);
    let events = source_contract(&mut *source, 50).await;
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event.id, format!("{}-0", number + 1));
        assert_eq!(event.payload, (number + 1).to_string());
        assert_eq!((event.attempt, event.deliveries), (1, 1));
    }
    assert_eq!(pending(&server), []);
    // left with nothing pending, it is gone
    assert_eq!(consumers(&server), Vec::<String>::new());
    assert_eq!(run(&server, "HGETALL gaugefn:consumers:{in}:vm"), Value::Array(Vec::new()));
}

#[tokio::test]
async fn an_entry_is_an_event_by_one_field_or_as_a_whole() {
    let server = RedisServer::start();
    run(&server, "XADD in 1-0 host a data {\"x\":1}");
    run(&server, "XADD in 2-0 host b");
    let mut one = source(&server, json!({})).await;
    let batch = next(&mut *one, 10).await;
    assert_eq!(batch.events[0].payload, "{\"x\":1}");
    assert_eq!(batch.events[1].payload, r#"{"host":"b"}"#, "the event is malformed, the batch goes on");
    assert_eq!(batch.events[1].flaw.as_deref(), Some("the entry has no field 'data'; it has 'host'"));
    let mut all = source(&server, json!({ "group": "other", "field": null })).await;
    let batch = next(&mut *all, 10).await;
    assert_eq!(batch.events[0].payload, r#"{"host":"a","data":"{\"x\":1}"}"#);
    assert_eq!(batch.events[1].payload, r#"{"host":"b"}"#);
}

#[tokio::test]
async fn batches_keep_to_the_option_and_to_the_room_there_is() {
    let server = RedisServer::start();
    add(&server, 1..30);
    let mut source = source(&server, json!({ "batch": 7 })).await;
    let first = next(&mut *source, 100).await;
    assert_eq!(first.events.len(), 7);
    let second = next(&mut *source, 3).await;
    assert_eq!(ids(&second), ["8-0", "9-0", "10-0"]);
}

#[tokio::test]
async fn a_new_group_begins_where_it_is_told() {
    let server = RedisServer::start();
    add(&server, 1..4);
    let mut source = source(&server, json!({ "start": "$" })).await;
    join(&mut *source).await;
    add(&server, 4..5);
    assert_eq!(ids(&next(&mut *source, 10).await), ["4-0"]);
}

#[tokio::test]
async fn what_a_predecessor_left_pending_comes_first() {
    let server = RedisServer::start();
    add(&server, 1..6);
    let mut before = source(&server, json!({})).await;
    let left = next(&mut *before, 3).await;
    // as if it had been killed
    std::mem::forget(left);
    std::mem::forget(before);

    let mut source = source(&server, json!({})).await;
    let batch = next(&mut *source, 2).await;
    assert_eq!((ids(&batch), deliveries(&batch)), (vec!["1-0", "2-0"], vec![2, 2]));
    settle(batch).await;
    let batch = next(&mut *source, 2).await;
    assert_eq!((ids(&batch), deliveries(&batch)), (vec!["3-0"], vec![2]));
    settle(batch).await;
    let batch = next(&mut *source, 10).await;
    assert_eq!((ids(&batch), deliveries(&batch)), (vec!["4-0", "5-0"], vec![1, 1]));
    settle(batch).await;
    assert_eq!(pending(&server), []);
}

#[tokio::test]
async fn a_dropped_read_loses_nothing() {
    let server = RedisServer::start();
    let mut source = source(&server, json!({})).await;
    for number in 1..20 {
        // it waits in the server when it is dropped
        while let Ok(pulled) = timeout(Duration::from_millis(20), source.next_batch(10)).await {
            assert!(matches!(pulled.unwrap(), Pull::Again(_)));
        }
        add(&server, number..number + 1);
        let batch = next(&mut *source, 10).await;
        assert_eq!((ids(&batch), deliveries(&batch)), (vec![&*format!("{number}-0")], vec![1]));
        settle(batch).await;
    }
    // left while it waits: what it brings belongs to the others at once, as if it had never been delivered
    let mut other = self::source(&server, json!({ "consumer": "b" })).await;
    join(&mut *other).await;
    while timeout(Duration::from_millis(20), source.next_batch(10)).await.is_ok() {}
    add(&server, 20..21);
    tokio::time::sleep(Duration::from_millis(20)).await;
    source.close().await.unwrap();
    let batch = next(&mut *other, 10).await;
    assert_eq!((ids(&batch), deliveries(&batch)), (vec!["20-0"], vec![1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_lose_nothing_and_count_for_nothing() {
    const ENTRIES: usize = 3000;
    let server = RedisServer::start();
    add(&server, 1..ENTRIES + 1);
    let mut source = source(&server, json!({ "batch": 10 })).await;
    let mut killer = server.connection();
    let (over, ends) = std::sync::mpsc::channel::<()>();
    let killing = std::thread::spawn(move || {
        let mut kills = 0;
        while ends.recv_timeout(Duration::from_millis(5)).is_err() {
            let killed: i64 =
                redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query(&mut killer).unwrap();
            kills += killed;
        }
        kills
    });
    let (mut seen, mut again) = (BTreeSet::new(), 0);
    let mut waiting: Vec<Batch> = Vec::new();
    while seen.len() < ENTRIES {
        let batch = next(&mut *source, 10).await;
        for event in &batch.events {
            assert_eq!(event.deliveries, 1, "a lost answer is no delivery");
            again += usize::from(!seen.insert(event.id.clone()));
        }
        waiting.push(batch);
        // some in flight, as in the engine
        if waiting.len() == 3 {
            let mut batch = waiting.remove(0);
            let verdicts = vec![Verdict::Done { reply: None }; batch.events.len()];
            while let Err(fault) = batch.receipt.settle(&verdicts).await {
                assert!(fault.retry(), "{}", fault.chain());
            }
        }
    }
    over.send(()).unwrap();
    assert!(killing.join().unwrap() > 10);
    assert_eq!(again, 0, "what is in flight here is not given out again");
    for batch in waiting {
        settle(batch).await;
    }
    assert_eq!(pending(&server), []);
}

#[tokio::test]
async fn a_server_that_comes_back_empty_gets_its_group_again() {
    let server = RedisServer::start();
    add(&server, 1..4);
    let mut source = source(&server, json!({ "start": "$" })).await;
    join(&mut *source).await;
    add(&server, 4..6);
    let held = next(&mut *source, 10).await;
    assert_eq!(ids(&held), ["4-0", "5-0"]);
    run(&server, "FLUSHALL");
    // what came before the group was made again
    add(&server, 1..3);
    let batch = next(&mut *source, 10).await;
    assert_eq!(ids(&batch), ["1-0", "2-0"], "a new stream counts from its first entry");
    settle(batch).await;
    // its entry is gone, and so there is nothing to acknowledge
    settle(held).await;

    run(&server, "XGROUP DESTROY in vm");
    add(&server, 3..4);
    assert_eq!(ids(&next(&mut *source, 10).await), ["3-0"], "the same stream goes on where it was");
    let incarnation: Option<String> =
        redis::cmd("HGET").arg(&["gaugefn:consumers:{in}:vm", "i:a"]).query(&mut server.connection()).unwrap();
    assert!(incarnation.is_some());
}

#[tokio::test]
async fn abandoned_entries_are_taken_over_with_the_cursor_followed() {
    let server = RedisServer::start();
    add(&server, 1..301);
    let mut gone = source(&server, json!({ "consumer": "gone", "batch": 300 })).await;
    let left = next(&mut *gone, 300).await;
    assert_eq!(left.events.len(), 300);
    // nobody keeps them any more
    drop(left);
    let mut source = source(&server, json!({ "claim_idle": "200ms" })).await;
    let mut seen = Vec::new();
    while seen.len() < 300 {
        let batch = next(&mut *source, 20).await;
        assert!(batch.events.len() <= 20 && deliveries(&batch).iter().all(|count| *count == 2), "{batch:?}");
        seen.extend(ids(&batch).into_iter().map(str::to_owned));
        settle(batch).await;
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 300);
    assert_eq!(pending(&server), []);
}

#[tokio::test]
async fn long_work_is_not_taken_over_nor_counted() {
    let server = RedisServer::start();
    add(&server, 1..4);
    let options = |consumer: &str| json!({ "consumer": consumer, "claim_idle": "300ms" });
    let mut slow = source(&server, options("slow")).await;
    let batch = next(&mut *slow, 10).await;
    let mut other = source(&server, options("other")).await;
    idles(&mut *other, Duration::from_millis(1500)).await;
    let mine = |count| (1..4).map(|n| (format!("{n}-0"), "slow".to_owned(), count)).collect::<Vec<_>>();
    assert_eq!(pending(&server), mine(1));
    settle(batch).await;
    assert_eq!(pending(&server), []);
}

#[tokio::test]
async fn entries_claimed_by_somebody_else_stay_with_them() {
    let server = RedisServer::start();
    add(&server, 1..3);
    let mut source = source(&server, json!({ "claim_idle": "300ms" })).await;
    let batch = next(&mut *source, 10).await;
    run(&server, "XCLAIM in vm other 0 2-0");
    // several heartbeats
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(pending(&server)[1], ("2-0".to_owned(), "other".to_owned(), 2));
    // the late verdict is no fault
    settle(batch).await;
}

#[tokio::test]
async fn entries_deleted_while_they_are_pending_are_acknowledged() {
    let server = RedisServer::start();
    add(&server, 1..6);
    let mut before = source(&server, json!({})).await;
    std::mem::forget(next(&mut *before, 3).await);
    std::mem::forget(before);
    run(&server, "XDEL in 1-0 3-0");
    let mut source = source(&server, json!({})).await;
    let batch = next(&mut *source, 10).await;
    assert_eq!(ids(&batch), ["2-0"]);
    settle(batch).await;
    assert_eq!(ids(&next(&mut *source, 10).await), ["4-0", "5-0"]);
    assert_eq!(pending(&server).len(), 2);

    // all of them, and those of another consumer
    run(&server, "XTRIM in MAXLEN 0");
    let mut other = self::source(&server, json!({ "consumer": "b", "claim_idle": "100ms" })).await;
    idles(&mut *other, Duration::from_millis(600)).await;
    assert_eq!(pending(&server), []);
}

#[tokio::test]
async fn who_leaves_hands_its_entries_over_at_once() {
    let server = RedisServer::start();
    add(&server, 1..5);
    let mut leaving = source(&server, json!({})).await;
    settle(next(&mut *leaving, 2).await).await;
    drop(next(&mut *leaving, 10).await);
    leaving.close().await.unwrap();
    assert_eq!(consumers(&server), ["a"], "it still owns two");
    let mut other = source(&server, json!({ "consumer": "b" })).await;
    let batch = next(&mut *other, 10).await;
    assert_eq!((ids(&batch), deliveries(&batch)), (vec!["3-0", "4-0"], vec![2, 2]));
    settle(batch).await;
}

#[tokio::test]
async fn idle_consumers_go_when_they_own_nothing() {
    let server = RedisServer::start();
    add(&server, 1..2);
    run(&server, "XGROUP CREATE in vm 0");
    run(&server, "XREADGROUP GROUP vm owner COUNT 1 STREAMS in >");
    run(&server, "XGROUP CREATECONSUMER in vm idle");
    run(&server, "HSET gaugefn:consumers:{in}:vm i:idle x");
    let mut source = source(&server, json!({ "claim_idle": "5s" })).await;
    join(&mut *source).await;
    assert_eq!(consumers(&server), ["a", "idle", "owner"], "not silent for long enough");
    drop(source);
    let mut source = self::source(&server, json!({ "claim_idle": "100ms" })).await;
    join(&mut *source).await;
    let end = Instant::now() + PATIENCE;
    // the owner's entry becomes ours, in flight from then on
    let batch = next(&mut *source, 10).await;
    while consumers(&server).len() > 1 {
        assert!(Instant::now() < end, "{:?}", consumers(&server));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(consumers(&server), ["a"]);
    settle(batch).await;
    let left: BTreeSet<String> =
        redis::cmd("HKEYS").arg("gaugefn:consumers:{in}:vm").query(&mut server.connection()).unwrap();
    assert_eq!(left, ["i:a", "l"].map(str::to_owned).into(), "this one, and the stream's life");
}

#[tokio::test]
async fn a_check_takes_no_name_and_makes_no_group() {
    let server = RedisServer::start();
    source(&server, json!({})).await.check().await.unwrap();
    assert_eq!(run(&server, "DBSIZE"), Value::Int(0));
    let mut working = source(&server, json!({ "claim_idle": "100ms" })).await;
    join(&mut *working).await;
    let mut checked = source(&server, json!({})).await;
    checked.check().await.unwrap();
    checked.close().await.unwrap();
    idles(&mut *working, Duration::from_millis(300)).await;
    add(&server, 1..2);
    settle(next(&mut *working, 10).await).await;
}

#[tokio::test]
async fn the_older_of_two_with_one_name_goes_on_under_another() {
    let server = RedisServer::start();
    let mut older = source(&server, json!({ "claim_idle": "300ms" })).await;
    add(&server, 1..3);
    let held = next(&mut *older, 1).await;
    let mut newer = source(&server, json!({ "claim_idle": "300ms" })).await;
    let batch = next(&mut *newer, 10).await;
    assert_eq!((ids(&batch), ids(&held)), (vec!["1-0"], vec!["1-0"]));
    settle(next(&mut *newer, 10).await).await;
    // noticed with the next heartbeat, also without a commit
    idles(&mut *older, Duration::from_millis(300)).await;
    let names = consumers(&server);
    assert!(matches!(&names[..], [one, two] if one == "a" && two.starts_with("a-") && two.len() == 10), "{names:?}");
    drop(held);
    settle(batch).await;
    add(&server, 3..5);
    let (one, two) = (next(&mut *older, 1).await, next(&mut *newer, 1).await);
    assert_ne!(ids(&one), ids(&two));
    settle(one).await;
    settle(two).await;
    assert_eq!(pending(&server), []);
    older.close().await.unwrap();
    assert_eq!(consumers(&server), ["a"]);
}

#[tokio::test]
async fn a_key_of_another_type_is_named() {
    let server = RedisServer::start();
    run(&server, "SET in text");
    let mut source = source(&server, json!({})).await;
    let fault = source.check().await.unwrap_err();
    assert_eq!(
        fault.to_string(),
        format!(
            "redis at 127.0.0.1:{} holds no stream under 'in', as XINFO expects (WRONGTYPE): delete the key or name another",
            server.port()
        )
    );
    assert!(fault.retry(), "somebody may put it right");
    run(&server, "DEL in");
    join(&mut *source).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed() {
    let server = RedisServer::start();
    let mut source = source(&server, json!({ "claim_idle": "100ms" })).await;
    join(&mut *source).await;
    server.stop_signal();
    let fault = fails(&mut *source).await;
    server.cont();
    assert!(fault.to_string().contains("does not answer in time") && fault.retry(), "{}", fault.chain());
    add(&server, 1..2);
    assert_eq!(ids(&next(&mut *source, 10).await), ["1-0"]);
}

/// The rules that the documentation names.
#[tokio::test]
async fn a_user_with_these_permissions_can_read_a_stream() {
    let server = RedisServer::start();
    run(
        &server,
        "ACL SETUSER reader on >s3cret ~in ~gaugefn:consumers:{in}:vm +@stream +hget +hset +hdel +hgetall +type \
         +evalsha +eval +script|load +client|id +client|unblock",
    );
    add(&server, 1..4);
    let url = format!("redis://reader:s3cret@127.0.0.1:{}/0", server.port());
    let mut source = source(&server, json!({ "url": url, "claim_idle": "100ms" })).await;
    let batch = next(&mut *source, 2).await;
    assert_eq!(ids(&batch), ["1-0", "2-0"]);
    settle(batch).await;
    drop(next(&mut *source, 2).await);
    idles(&mut *source, Duration::from_millis(20)).await;
    // given up here, abandoned, claimed again
    let batch = next(&mut *source, 2).await;
    assert_eq!((ids(&batch), deliveries(&batch)), (vec!["3-0"], vec![2]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    settle(batch).await;
    source.close().await.unwrap();
    assert_eq!(consumers(&server), Vec::<String>::new());
}

#[test]
fn wrong_options_are_named() {
    let wrong = |options: serde_json::Value| {
        let mut table = json!({ "stream": "in" });
        table.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let config: Config = serde_json::from_value(table).unwrap();
        RedisStream::review(&config).iter().map(|concern| format!("{concern:?}")).collect::<Vec<_>>().join("; ")
    };
    for (options, said) in [
        (json!({ "stream": "" }), "name the key of the stream"),
        (json!({ "group": "" }), "leave the option out"),
        (json!({ "consumer": "" }), "leave the option out"),
        (json!({ "batch": 0 }), "0 is not from 1 to 1000"),
        (json!({ "batch": 1001 }), "1001 is not from 1 to 1000"),
        (json!({ "claim_idle": "99ms" }), "the least is 100ms"),
        (json!({ "url": "http://x" }), "unknown scheme"),
    ] {
        assert!(wrong(options.clone()).contains(said), "{}: {said}", wrong(options));
    }
    assert_eq!(wrong(json!({ "start": "$" })), "");
    serde_json::from_value::<Config>(json!({ "stream": "in", "start": "1" })).unwrap_err();
}
