//! The sink `redis_stream` against a real redis-server.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use runtime_core::contract::{Output, Sink};
use runtime_core::testkit::sink_contract;
use runtime_core::{Kind, Site};
use serde_json::json;
use sinks::redis_stream::{Config, RedisStream};
use support::redis::RedisServer;

async fn sink(server: &RedisServer, options: serde_json::Value) -> Box<dyn Sink> {
    let mut table = json!({ "stream": "out", "url": server.url() });
    table.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let config: Config = serde_json::from_value(table).unwrap();
    assert!(RedisStream::review(&config).is_empty());
    let (main_thread, _) = runtime_core::main_thread::pair();
    let stdout = Arc::new(std::fs::File::create("/dev/null").unwrap());
    RedisStream::build(config, &Site { function: "vm", shared: &[], main_thread, stdout }).await.unwrap()
}

fn output(id: &str, payload: &'static str) -> Output {
    Output { event_id: id.to_owned(), event: r#"{"host": "a"}"#.into(), payload: payload.into() }
}

/// Fields and values of all entries.
fn entries(server: &RedisServer, stream: &str) -> Vec<Vec<String>> {
    let entries: Vec<(String, Vec<String>)> =
        redis::cmd("XRANGE").arg(&[stream, "-", "+"]).query(&mut server.connection()).unwrap();
    entries.into_iter().map(|(_, fields)| fields).collect()
}

fn length(server: &RedisServer, stream: &str) -> usize {
    redis::cmd("XLEN").arg(stream).query(&mut server.connection()).unwrap()
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_sink() {
    let server = RedisServer::start();
    sink_contract(&mut *sink(&server, json!({})).await, &["1", "[2]", "\"3 é\""]).await;
    // each was written twice, and can be told by its event's id
    assert_eq!(entries(&server, "out")[4..], [["data", "\"3 é\"", "id", "2"], ["data", "\"3 é\"", "id", "2"]]);
    sink_contract(&mut *sink(&server, json!({ "stream": "s:{/host}", "max_length": 0 })).await, &["{\"host\": \"b\"}"])
        .await;
    assert_eq!(length(&server, "s:b"), 2);
}

#[tokio::test]
async fn results_go_where_they_say_in_order() {
    let server = RedisServer::start();
    let mut sink = sink(&server, json!({ "stream": "s:{/host}", "field": "result" })).await;
    let outputs = [output("1-0", "1"), output("2-0", "{\"host\": \"b\"}"), output("3-0", "3")];
    sink.write(&outputs).await.unwrap();
    assert_eq!(entries(&server, "s:a"), [["result", "1", "id", "1-0"], ["result", "3", "id", "3-0"]]);
    assert_eq!(entries(&server, "s:b"), [["result", "{\"host\": \"b\"}", "id", "2-0"]]);
}

#[tokio::test]
async fn a_stream_keeps_about_as_many_as_configured() {
    let server = RedisServer::start();
    let many: Vec<_> = (0..1000).map(|number| output(&number.to_string(), "1")).collect();
    sink(&server, json!({ "max_length": 300 })).await.write(&many).await.unwrap();
    // whole blocks of a hundred go
    assert!((300..500).contains(&length(&server, "out")), "{}", length(&server, "out"));
    sink(&server, json!({ "stream": "all", "max_length": 0 })).await.write(&many).await.unwrap();
    assert_eq!(length(&server, "all"), 1000);
}

#[tokio::test]
async fn a_key_of_another_type_loses_its_own_results_only() {
    let server = RedisServer::start();
    let () = redis::cmd("SET").arg(&["s:b", "text"]).query(&mut server.connection()).unwrap();
    let mut sink = sink(&server, json!({ "stream": "s:{/host}" })).await;
    let outputs = [output("1", "1"), output("2", "{\"host\": \"b\"}"), output("3", "3")];
    let refused = sink.store(&outputs).await.unwrap();
    let said = format!(
        "redis at 127.0.0.1:{} holds no stream under 's:b', as XADD expects (WRONGTYPE): delete the key or name another",
        server.port()
    );
    assert!(matches!(&refused[..], [(1, fault)] if fault.to_string() == said), "{refused:?}");
    assert_eq!(length(&server, "s:a"), 2);

    let mut constant = self::sink(&server, json!({ "stream": "s:b" })).await;
    let fault = constant.check().await.unwrap_err();
    assert!(fault.to_string().contains("holds no stream under 's:b'") && fault.retry(), "{fault}");
    // somebody puts it right, and no result is lost until then
    let fault = constant.store(&outputs).await.unwrap_err();
    assert!(fault.retry(), "{fault}");
    let () = redis::cmd("DEL").arg("s:b").query(&mut server.connection()).unwrap();
    assert!(constant.store(&outputs).await.unwrap().is_empty());
    assert_eq!(length(&server, "s:b"), 3);
}

#[tokio::test]
async fn a_result_without_its_key_fails_alone() {
    let server = RedisServer::start();
    let mut sink = sink(&server, json!({ "stream": "s:{/absent}" })).await;
    let fault = sink.write(&[output("1", "1")]).await.unwrap_err();
    assert!(!fault.retry());
    let refused = sink.store(&[output("1", "1"), output("2", "{\"absent\": 7}")]).await.unwrap();
    assert!(matches!(&refused[..], [(0, fault)] if fault.to_string().contains("'/absent'")), "{refused:?}");
    assert_eq!(length(&server, "s:7"), 1);
}

#[tokio::test]
async fn a_server_that_is_away_is_a_fault_that_may_pass() {
    let mut server = RedisServer::start();
    let mut sink = sink(&server, json!({})).await;
    sink.check().await.unwrap();
    server.kill9();
    assert!(sink.write(&[output("1", "1")]).await.unwrap_err().retry());
    assert!(sink.write(&[output("1", "1")]).await.unwrap_err().retry());
    server.restart();
    sink.write(&[output("1", "1")]).await.unwrap();
    assert_eq!(length(&server, "out"), 1);
}

#[test]
fn wrong_options_are_named() {
    let wrong = |options: serde_json::Value| {
        let config: Config = serde_json::from_value(options).unwrap();
        RedisStream::review(&config).iter().map(|concern| format!("{concern:?}")).collect::<Vec<_>>().join("; ")
    };
    assert!(wrong(json!({ "stream": "s", "field": "" })).contains("empty"));
    assert!(wrong(json!({ "stream": "s", "field": "id" })).contains("'id' holds the event's id"));
    assert!(wrong(json!({ "stream": "s", "url": "http://x" })).contains("unknown scheme"));
    assert_eq!(wrong(json!({ "stream": "s" })), "");
}

#[tokio::test]
async fn keys_are_known_where_they_are_the_same_for_every_result() {
    let server = RedisServer::start();
    assert_eq!(sink(&server, json!({})).await.keys(), Some(vec!["out".to_owned()]));
    assert_eq!(sink(&server, json!({ "stream": "{vm}:{/host}" })).await.keys(), None);
}
