//! The sink `redis_key` against a real redis-server.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use redis::Commands;
use runtime_core::contract::{Output, Sink};
use runtime_core::testkit::sink_contract;
use runtime_core::{Kind, Site};
use serde_json::json;
use sinks::redis_key::{Config, RedisKey};
use support::redis::RedisServer;

async fn sink(server: &RedisServer, options: serde_json::Value) -> Box<dyn Sink> {
    let mut table = json!({ "key": "result", "url": server.url() });
    table.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let config: Config = serde_json::from_value(table).unwrap();
    assert!(RedisKey::review(&config).is_empty());
    let (main_thread, _) = runtime_core::main_thread::pair();
    let stdout = Arc::new(std::fs::File::create("/dev/null").unwrap());
    RedisKey::build(config, &Site { function: "vm", shared: &[], main_thread, stdout }).await.unwrap()
}

fn output(payload: &'static str) -> Output {
    Output { event_id: "1".to_owned(), event: r#"{"host": "a"}"#.into(), payload: payload.into() }
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_sink() {
    let server = RedisServer::start();
    for options in [json!({}), json!({ "ttl": "1m" }), json!({ "publish": "results" })] {
        let mut sink = sink(&server, options).await;
        sink_contract(&mut *sink, &["1", "[2]", "\"3 é\""]).await;
        let stored: String = server.connection().get("result").unwrap();
        assert_eq!(stored, "\"3 é\"");
    }
}

#[tokio::test]
async fn a_result_lives_as_long_as_configured_and_for_good_without() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    sink(&server, json!({ "ttl": "1m" })).await.write(&[output("1")]).await.unwrap();
    let left: i64 = redis.pttl("result").unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    sink(&server, json!({})).await.write(&[output("2")]).await.unwrap();
    let left: i64 = redis.pttl("result").unwrap();
    assert_eq!(left, -1);
}

#[tokio::test]
async fn subscribers_get_each_result_when_it_can_be_read() {
    let server = RedisServer::start();
    let mut listener = server.connection();
    let mut subscription = listener.as_pubsub();
    subscription.subscribe("results").unwrap();
    let mut sink = sink(&server, json!({ "publish": "results" })).await;
    sink.write(&[output("1"), output("2")]).await.unwrap();
    for expected in ["1", "2"] {
        let heard: String = subscription.get_message().unwrap().get_payload().unwrap();
        assert_eq!(heard, expected);
    }
    let stored: String = server.connection().get("result").unwrap();
    assert_eq!(stored, "2");
}

#[tokio::test]
async fn keys_take_their_parts_from_the_result_or_else_the_event() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let mut sink = sink(&server, json!({ "key": "{x}:{/host}:{/n}" })).await;
    // one that has no such part does not hold up the others
    let outputs = [output(r#"{"n": 1}"#), output("[]"), output(r#"{"n": 2, "host": "b"}"#)];
    let refused = sink.store(&outputs).await.unwrap();
    assert!(matches!(&refused[..], [(1, fault)] if fault.to_string().contains("has a value at '/n'")), "{refused:?}");
    let keys: Vec<Option<String>> = redis.mget(&["{x}:a:1", "{x}:b:2"]).unwrap();
    assert_eq!(keys, [Some(r#"{"n": 1}"#.to_owned()), Some(r#"{"n": 2, "host": "b"}"#.to_owned())]);
    let fault = sink.write(&[output("[]")]).await.unwrap_err();
    assert!(!fault.retry() && !fault.is_fatal(), "{fault}");
    assert!(fault.to_string().contains("neither result nor event has a value at '/n'"), "{fault}");
}

#[tokio::test]
async fn it_says_where_a_result_goes_before_it_is_written() {
    let server = RedisServer::start();
    let sink = sink(&server, json!({ "key": "{x}:{/host}:{/n}" })).await;
    let route = sink.route().unwrap();
    let address = route.address(&output(r#"{"n": 1.0}"#)).unwrap();
    let place = format!("redis 127.0.0.1:{}/0", server.port());
    assert_eq!((address.place, address.name.as_str(), address.kind), (place, "{x}:a:1", "key"));
    let fault = route.address(&output("[]")).unwrap_err();
    assert!(fault.to_string().contains("has a value at '/n'") && !fault.retry(), "{fault}");
    assert!(self::sink(&server, json!({})).await.route().is_none());
    let config: Config = serde_json::from_value(json!({ "key": "gaugefn:{/host}" })).unwrap();
    let said = format!("{:?}", RedisKey::review(&config));
    assert!(said.contains("'gaugefn:{/host}': names that begin with 'gaugefn:' are gaugefn's own"), "{said}");
}

/// The server closes the connection on it, which is no outage.
#[tokio::test]
async fn a_result_that_is_too_large_is_told_from_a_server_that_is_away() {
    let server = RedisServer::start_with(&["--proto-max-bulk-len", "1048576"]);
    let mut sink = sink(&server, json!({ "key": "r:{/n}" })).await;
    let large: &'static str = Box::leak(format!("{{\"n\": 2, \"p\": \"{}\"}}", "x".repeat(2 << 20)).into_boxed_str());
    let outputs = [output(r#"{"n": 1}"#), output(large), output(r#"{"n": 3}"#)];
    let refused = sink.store(&outputs).await.unwrap();
    let said = format!(
        "redis at 127.0.0.1:{} takes no value of {} bytes (proto-max-bulk-len 1048576): keep results smaller, or raise it",
        server.port(),
        large.len()
    );
    assert!(matches!(&refused[..], [(1, fault)] if fault.to_string() == said), "{refused:?}");
    let there: Vec<bool> = ["r:1", "r:2", "r:3"].map(|key| server.connection().exists(key).unwrap()).into();
    assert_eq!(there, [true, false, true]);
}

#[tokio::test]
async fn a_refusal_names_the_key_and_may_be_repeated() {
    let server = RedisServer::start();
    let rules = ["SETUSER", "default", "-set"];
    let () = redis::cmd("ACL").arg(&rules).query(&mut server.connection()).unwrap();
    let mut sink = sink(&server, json!({})).await;
    let fault = sink.write(&[output("1")]).await.unwrap_err();
    assert!(fault.retry(), "{fault}");
    assert!(fault.to_string().contains("denies SET 'result' to user 'default' (NOPERM)"), "{fault}");
    let () = redis::cmd("ACL").arg(&["SETUSER", "default", "+set"]).query(&mut server.connection()).unwrap();
    sink.write(&[output("1")]).await.unwrap();
}

#[tokio::test]
async fn keys_are_known_where_they_are_the_same_for_every_result() {
    let server = RedisServer::start();
    assert_eq!(sink(&server, json!({ "publish": "told" })).await.keys(), Some(vec!["result".to_owned()]));
    assert_eq!(sink(&server, json!({ "key": "r:{vm}" })).await.keys(), Some(vec!["r:{vm}".to_owned()]));
    assert_eq!(sink(&server, json!({ "key": "r:{/host}" })).await.keys(), None);
}
