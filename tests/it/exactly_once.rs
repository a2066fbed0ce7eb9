//! Streams, states and results on one Redis server: what is seen of each event is there exactly once, whatever is killed.
//!
//! * `chaos` - processes, workers, connections and the server are killed and stopped, all the time
//! * `late` - a result that comes when its event belongs to somebody else
//! * `logs` - the log cannot be written any more, in every way

mod chaos;
mod late;
mod logs;

use crate::support::redis::RedisServer;
use crate::support::replica::Replica;
use crate::support::wait::eventually;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::write;
use std::path::Path;
use std::time::Duration;

/// One function from the stream `in` to the stream `out`; `state` holds the lines of the state's table.
fn config(server: &RedisServer, folder: &Path, consumer: &str, source: &str, state: &str) -> String {
    format!(
        "[redis]\nurl = \"{}\"\n\
         [functions.vm.source]\nuse = \"redis_stream\"\nstream = \"in\"\nfield = \"data\"\nconsumer = \"{consumer}\"\n{source}\n\
         [functions.vm.loader]\nuse = \"file\"\npath = \"{}\"\n\
         [functions.vm.state]\n{state}\n\
         # a worker that is killed from outside has failed\n\
         [functions.vm.errors]\nretries = 1000\nbackoff = \"5ms\"\n\
         [functions.vm.sinks.result]\nuse = \"redis_stream\"\nstream = \"out\"\n",
        server.url(),
        folder.join("usermodule.py").display()
    )
}

/// The function's file, for all replicas in the folder.
fn code(folder: &Path, code: &str) {
    write(folder.join("usermodule.py"), code).unwrap();
}

/// Adds entries with ids of their own: one that was added before its answer was lost is not added again.
fn add(redis: &mut redis::Connection, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let (id, data) = (format!("{}-0", number + 1), json!({ "i": number, "k": key(number) }).to_string());
        let added: redis::RedisResult<String> = redis::cmd("XADD").arg(&["in", &id, "data", &data]).query(redis);
        assert!(added.as_ref().is_ok_and(|added| *added == id), "{added:?}");
    }
}

const KEYS: usize = 100;

/// In no order that batches could follow.
fn key(number: usize) -> String {
    format!("k{}", (number * 37 + number / KEYS * 11) % KEYS)
}

/// Every result with the id of its event, in order.
fn results(redis: &mut redis::Connection) -> Vec<(String, Value)> {
    let entries: Vec<(String, BTreeMap<String, String>)> =
        redis::cmd("XRANGE").arg(&["out", "-", "+"]).query(redis).unwrap();
    entries.into_iter().map(|(_, entry)| (entry["id"].clone(), serde_json::from_str(&entry["data"]).unwrap())).collect()
}

/// The id of the last entry that was delivered to anybody, and how many are pending; None while there is no group.
fn left(redis: &mut redis::Connection) -> Option<(String, usize)> {
    let groups: Vec<BTreeMap<String, redis::Value>> =
        redis::cmd("XINFO").arg(&["GROUPS", "in"]).query(redis).unwrap_or_default();
    let group = groups.first()?;
    let delivered = redis::from_redis_value(group["last-delivered-id"].clone()).unwrap();
    Some((delivered, redis::from_redis_value(group["pending"].clone()).unwrap()))
}

/// Waits until there is nothing left to do.
fn wait_done(server: &RedisServer, entries: usize, limit: Duration, replicas: &[&Replica]) {
    let mut redis = server.connection();
    let (mut last, all) = ((None, 0), Some((format!("{entries}-0"), 0)));
    let done = eventually(limit, || {
        last = (left(&mut redis), redis::cmd("XLEN").arg("out").query::<usize>(&mut redis).unwrap());
        (last.0 == all).then_some(())
    });
    let written: String = replicas.iter().map(|replica| replica.written()).collect();
    assert!(done.is_some(), "(delivered, pending) and results are {last:?} of {entries}\n{written}");
}

/// Each of the entries has one result, and no dead letter.
fn check_results(server: &RedisServer, entries: usize, replicas: &[&Replica]) -> Vec<Value> {
    let mut redis = server.connection();
    let written = || replicas.iter().map(|replica| replica.written()).collect::<String>();
    let dead: usize = redis::cmd("XLEN").arg("gaugefn:dead:{vm}").query(&mut redis).unwrap();
    assert_eq!(dead, 0, "dead letters\n{}", written());
    let results = results(&mut redis);
    let ids: BTreeSet<_> = results.iter().map(|(id, _)| id.as_str()).collect();
    let twice = results.len() - ids.len();
    assert_eq!((ids.len(), twice), (entries, 0), "distinct results, and those that are there again\n{}", written());
    for (id, result) in &results {
        assert_eq!(*id, format!("{}-0", result["i"].as_u64().unwrap() + 1));
    }
    results.into_iter().map(|(_, result)| result).collect()
}

/// What a state in Redis holds under `n`.
fn count(redis: &mut redis::Connection, state: &str) -> Option<u64> {
    let text: Option<String> = redis::cmd("HGET").arg(&[state, "e:\"n\""]).query(redis).unwrap();
    text.map(|text| text.parse().unwrap())
}
