//! The source `redis_key` against a real redis-server: what it delivers, and what it makes of notifications.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use redis::Commands;
use runtime_core::contract::{Batch, Delivery, Fault, Pull, Source};
use runtime_core::testkit::source_contract;
use runtime_core::{Kind, Site};
use serde_json::json;
use sources::redis_key::{Config, RedisKey};
use support::redis::RedisServer;

/// Nothing in these tests waits for the end of this period.
const NEVER: &str = "1h";

const ANNOUNCED: [&str; 2] = ["--notify-keyspace-events", "KA"];

async fn source(server: &RedisServer, options: serde_json::Value) -> Box<dyn Source> {
    let mut table = json!({ "key": "metrics", "period": NEVER, "url": server.url() });
    table.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let config: Config = serde_json::from_value(table).unwrap();
    assert!(RedisKey::review(&config).is_empty());
    let (main_thread, _) = runtime_core::main_thread::pair();
    let stdout = Arc::new(std::fs::File::create("/dev/null").unwrap());
    RedisKey::build(config, &Site { function: "vm", shared: &[], main_thread, stdout }).await.unwrap()
}

/// The next batch, as the engine would come by it.
async fn next(source: &mut dyn Source) -> Batch {
    let patience = tokio::time::sleep(Duration::from_secs(15));
    tokio::pin!(patience);
    loop {
        match source.next_batch(1).await.unwrap() {
            Pull::Batch(batch) => return batch,
            Pull::Again(after) => tokio::select! {
                () = tokio::time::sleep(after) => {}
                () = source.woken() => {}
                () = &mut patience => panic!("no batch"),
            },
            Pull::Exhausted => panic!("exhausted"),
        }
    }
}

/// Pulls until the source has nothing to do for longer than `after`, without a batch.
async fn rests(source: &mut dyn Source, after: Duration) {
    for _ in 0..100 {
        match source.next_batch(1).await.unwrap() {
            Pull::Again(wait) if wait > after => return,
            Pull::Again(wait) => tokio::time::sleep(wait).await,
            other => panic!("{other:?}"),
        }
    }
    panic!("no rest");
}

fn text(batch: &Batch) -> &str {
    std::str::from_utf8(&batch.events[0].payload).unwrap()
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_source() {
    for options in [json!({ "watch": "poll", "period": "2ms" }), json!({ "watch": "notify" })] {
        let server = RedisServer::start_with(&ANNOUNCED);
        let mut writer = server.connection();
        let mut source = source(&server, options).await;
        assert_eq!(source.delivery(), Delivery::Latest);
        let writing = std::thread::spawn(move || {
            for value in 0..2000 {
                let () = writer.set("metrics", value).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let events = source_contract(&mut *source, 20).await;
        let values: Vec<u64> =
            events.iter().map(|event| str::from_utf8(&event.payload).unwrap().parse().unwrap()).collect();
        assert!(values.is_sorted_by(|a, b| a < b), "never an older value after a newer one: {values:?}");
        assert!(events.iter().all(|event| event.fingerprint.is_some()));
        drop(source);
        // the rest of the values is of no interest
        drop(writing);
    }
}

#[tokio::test]
async fn a_notification_ends_the_wait_and_counts_what_was_replaced() {
    let server = RedisServer::start_with(&ANNOUNCED);
    let mut redis = server.connection();
    let mut source = source(&server, json!({})).await;
    rests(&mut *source, Duration::from_secs(60)).await;
    for (round, burst) in [1_u64, 5, 1, 100].into_iter().enumerate() {
        for value in 0..burst {
            let () = redis.set_ex("metrics", format!("[{round}, {value}]"), 100).unwrap();
        }
        // everything has been announced to everybody by the time of this answer, and one read is enough
        tokio::time::sleep(Duration::from_millis(50)).await;
        let batch = next(&mut *source).await;
        assert_eq!(text(&batch), format!("[{round}, {}]", burst - 1));
        assert_eq!(batch.skipped, burst - 1);
    }
    let () = redis.set("metrics", "[3,99]").unwrap();
    rests(&mut *source, Duration::from_secs(60)).await;
}

#[tokio::test]
async fn a_failed_read_is_repeated_although_nothing_new_is_announced() {
    let server = RedisServer::start_with(&ANNOUNCED);
    let mut redis = server.connection();
    let mut source = source(&server, json!({})).await;
    rests(&mut *source, Duration::from_secs(60)).await;
    let () = redis.set("metrics", "1").unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let () = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).query(&mut redis).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let fault: Fault = match source.next_batch(1).await {
        Err(fault) => fault,
        // the cut may have been noticed before the read
        Ok(Pull::Batch(batch)) => return assert_eq!(text(&batch), "1"),
        Ok(other) => panic!("{other:?}"),
    };
    assert!(fault.retry(), "{fault}");
    assert_eq!(text(&next(&mut *source).await), "1");
}

#[tokio::test]
async fn a_silent_server_makes_notify_complain_until_it_speaks() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let mut source = source(&server, json!({ "watch": "notify", "period": "20ms" })).await;
    for value in ["1", "2"] {
        assert_eq!(source.complaint(), None);
        let () = redis.set("metrics", value).unwrap();
        assert_eq!(text(&next(&mut *source).await), value);
    }
    let complaint = source.complaint().unwrap();
    assert!(complaint.contains("does not announce changes of key 'metrics'"), "{complaint}");
    let () = redis::cmd("CONFIG").arg(&["SET", "notify-keyspace-events", "K$"]).query(&mut redis).unwrap();
    let () = redis.set("metrics", "3").unwrap();
    assert_eq!(text(&next(&mut *source).await), "3");
    // the read may have come before the notification
    let () = redis.set("metrics", "4").unwrap();
    assert_eq!(text(&next(&mut *source).await), "4");
    assert_eq!(source.complaint(), None);
}

#[tokio::test]
async fn late_notifications_are_no_reason_to_stop_listening() {
    let server = RedisServer::start_with(&ANNOUNCED);
    let mut redis = server.connection();
    // polls all the time, so that many a change is read before its notification is heard
    let mut source = source(&server, json!({ "watch": "notify", "period": "1ms" })).await;
    for value in 0..2000 {
        let () = redis.set("metrics", value).unwrap();
        assert_eq!(text(&next(&mut *source).await), value.to_string());
        assert_eq!(source.complaint(), None);
    }
}

#[tokio::test]
async fn missing_empty_and_malformed_values_are_no_events() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let mut source = source(&server, json!({ "watch": "poll", "period": "1ms" })).await;
    assert!(matches!(source.next_batch(1).await.unwrap(), Pull::Again(_)));
    for value in ["", "{", "{'a': 1}"] {
        let () = redis.set("metrics", value).unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(matches!(source.next_batch(1).await.unwrap(), Pull::Again(_)), "{value}");
    }
    let () = redis.set("metrics", "{\"a\": 1}").unwrap();
    assert_eq!(text(&next(&mut *source).await), "{\"a\": 1}");
}

#[tokio::test]
async fn a_wrong_key_is_named_by_the_check_and_by_each_read() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let () = redis.lpush("metrics", 1).unwrap();
    let mut source = source(&server, json!({})).await;
    for _ in 0..2 {
        let checked = source.check().await.unwrap_err();
        let pulled = source.next_batch(1).await.unwrap_err();
        for fault in [checked, pulled] {
            assert!(fault.retry() && fault.to_string().contains("(WRONGTYPE)"), "{fault}");
        }
    }
    let () = redis.del("metrics").unwrap();
    let () = redis.set("metrics", "1").unwrap();
    assert_eq!(text(&next(&mut *source).await), "1");
}

#[tokio::test]
async fn always_is_once_a_period_whatever_is_announced() {
    let server = RedisServer::start_with(&ANNOUNCED);
    let mut redis = server.connection();
    let () = redis.set("metrics", "1").unwrap();
    let mut source = source(&server, json!({ "trigger": "always", "period": "100ms" })).await;
    let start = tokio::time::Instant::now();
    for _ in 0..4 {
        assert_eq!(text(&next(&mut *source).await), "1");
        let () = redis.set("metrics", "1").unwrap();
    }
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    let subscribers: (String, u64) =
        redis::cmd("PUBSUB").arg(&["NUMSUB", "__keyspace@0__:metrics"]).query(&mut redis).unwrap();
    assert_eq!(subscribers.1, 0);
}

#[test]
fn notify_contradicts_always() {
    let config: Config = serde_json::from_value(json!({ "key": "k", "trigger": "always", "watch": "notify" })).unwrap();
    let concerns = RedisKey::review(&config);
    assert_eq!(concerns.len(), 1);
    assert_eq!(concerns[0].option, "watch");
}
