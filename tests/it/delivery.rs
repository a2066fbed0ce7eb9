//! What becomes of an event and of all that depends on it, for every way in which its call can end: docs/delivery.md.
//!
//! * `stream` - each row of the table of streams
//! * `key` - each row of the table of keys
//! * `rollback` - a failed call leaves no trace, wherever in a batch it stands
//! * `letters` - dead letters come when they should, and are worked through once

mod key;
mod letters;
mod rollback;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{read_dir, read_to_string};
use std::process::Command;

use redis::Commands;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::bed::{Bed, PATIENCE, Vm};
use crate::support::project;
use crate::support::redis::RedisServer;
use crate::support::wait::eventually;

const ACTING: &str = include_str!("delivery/acting.py");

/// A server that a restart takes nothing from.
fn lasting() -> RedisServer {
    RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
}

/// From the stream `in` to the stream `out`, with its state in the same server; `options` are lines of the function's
/// table.
fn of_stream(server: &RedisServer, options: &str) -> Bed {
    let parts = "source.use = \"redis_stream\"\nsource.stream = \"in\"\nsource.field = \"data\"\n\
                 sinks.result.use = \"redis_stream\"\nsinks.result.stream = \"out\"";
    bed(server, parts, options)
}

/// From the key `metrics` to the key `result`, with its state in the same server.
fn of_key(server: &RedisServer, options: &str) -> Bed {
    let parts = "source.use = \"redis_key\"\nsource.key = \"metrics\"\nsource.period = \"5ms\"\nsource.watch = \"poll\"\n\
                 sinks.result.use = \"redis_key\"\nsinks.result.key = \"result\"";
    bed(server, parts, options)
}

fn bed(server: &RedisServer, parts: &str, options: &str) -> Bed {
    // a further attempt comes soon
    let backoff = if options.contains("errors.backoff") { "" } else { "errors.backoff = \"10ms\"" };
    let state = if options.contains("state.use") { "" } else { "state.use = \"redis\"" };
    let config = format!(
        "[redis]\nurl = \"{}\"\n[functions.vm]\n{state}\n{parts}\n{backoff}\n{options}\n\
         loader = {{ use = \"file\", path = \"usermodule.py\" }}\nexecutor = {{ use = \"python\" }}\n",
        server.url()
    );
    Bed::bare(ACTING).more(&config)
}

/// Adds entries in one step, so that whoever waits for them gets them as one batch. An entry's id tells its event's `i`.
fn add(redis: &mut redis::Connection, events: &[Value]) {
    let mut together = redis::pipe();
    together.atomic();
    for event in events {
        let (id, data) = (format!("1-{}", event["i"]), event.to_string());
        together.cmd("XADD").arg(&["in", &id, "data", &data]).ignore();
    }
    let () = together.query(redis).unwrap();
}

/// What a function has left in the server.
#[derive(Debug, Clone, PartialEq)]
struct Left {
    /// Results with the ids of their events, in their order.
    outputs: Vec<(String, Value)>,
    /// The entries of each state.
    states: BTreeMap<String, BTreeMap<String, String>>,
}

fn left(redis: &mut redis::Connection) -> Left {
    let outputs = entries(redis, "out").into_iter();
    let outputs = outputs.map(|entry| (entry["id"].clone(), serde_json::from_str(&entry["data"]).unwrap()));
    Left { outputs: outputs.collect(), states: states(redis) }
}

fn states(redis: &mut redis::Connection) -> BTreeMap<String, BTreeMap<String, String>> {
    let keys: Vec<String> = redis.keys("gaugefn:state:*").unwrap();
    let keys = keys.into_iter().filter(|key| !key.ends_with(":lease"));
    keys.map(|key| {
        let mut fields: BTreeMap<String, String> = redis.hgetall(&key).unwrap();
        fields.retain(|field, _| field.starts_with("e:") || field == "o");
        (key, fields)
    })
    .collect()
}

/// The one state: how many calls it has counted, and with which events.
fn state(redis: &mut redis::Connection) -> Option<(u64, Value)> {
    let fields: BTreeMap<String, String> = redis.hgetall("gaugefn:state:{vm}").unwrap();
    let entry = |name: &str| fields.get(name).map(|text| serde_json::from_str::<Value>(text).unwrap());
    Some((entry("e:\"n\"")?.as_u64()?, entry("e:\"seen\"")?))
}

/// The dead letters, oldest first.
fn dead(redis: &mut redis::Connection) -> Vec<BTreeMap<String, String>> {
    entries(redis, "gaugefn:dead:{vm}")
}

/// How many entries the group has not had, and how many it has not finished; None while there is no group.
fn open(redis: &mut redis::Connection) -> Option<(u64, u64)> {
    let groups: Vec<BTreeMap<String, redis::Value>> = redis::cmd("XINFO").arg(&["GROUPS", "in"]).query(redis).ok()?;
    let group = groups.into_iter().next()?;
    let number = |name: &str| redis::from_redis_value::<u64>(group[name].clone()).unwrap_or(u64::MAX);
    Some((number("lag"), number("pending")))
}

/// The entries of a stream.
fn entries(redis: &mut redis::Connection, stream: &str) -> Vec<BTreeMap<String, String>> {
    let entries: Vec<(String, BTreeMap<String, String>)> =
        redis::cmd("XRANGE").arg(&[stream, "-", "+"]).query(redis).unwrap();
    entries.into_iter().map(|(_, entry)| entry).collect()
}

/// Waits until every entry is read and acknowledged.
fn wait_done(redis: &mut redis::Connection, vm: &Vm) {
    let mut last = None;
    let done = eventually(PATIENCE, || {
        last = open(redis);
        (last == Some((0, 0))).then_some(())
    });
    assert!(done.is_some(), "lag and pending are {last:?}\n{}", vm.running.written());
}

/// The calls of one event, each with its `attempt` and the `life` of its process.
fn calls(vm: &Vm, i: u64) -> Vec<Value> {
    let text = read_to_string(vm.folder.path().join("calls")).unwrap_or_default();
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines.map(|line| serde_json::from_str::<Value>(line).unwrap()).filter(|call| call["i"] == i).collect()
}

/// Waits until an event is being called for the time of this number.
fn wait_call(vm: &Vm, i: u64, count: usize) {
    let called = eventually(PATIENCE, || (calls(vm, i).len() >= count).then_some(()));
    assert!(called.is_some(), "{i} was called {} times, not {count}\n{}", calls(vm, i).len(), vm.running.written());
}

/// Stops the process, without its workers, and waits until every thread of it stands still.
fn halt(vm: &mut Vm) {
    vm.running.signal(Signal::STOP);
    let stands = |stat: &str| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
    let tasks = format!("/proc/{}/task", vm.running.pid());
    let halted = eventually(PATIENCE, || {
        let mut tasks = read_dir(&tasks).unwrap().flatten();
        tasks.all(|task| read_to_string(task.path().join("stat")).is_ok_and(|stat| stands(&stat))).then_some(())
    });
    assert!(halted.is_some(), "SIGSTOP does not stop it");
}

/// Waits until these metrics, each by name and label, have these values; none of them may be beyond.
fn wait_counts(vm: &mut Vm, wanted: &[(&str, &str, u64)]) {
    for (metric, label, wanted) in wanted {
        let (start, mut last) = (format!("gaugefn_{metric}{{"), 0);
        let arrived = eventually(PATIENCE, || {
            let (_, body) = vm.admin.get("/metrics").unwrap();
            let mut lines = body.lines().filter(|line| line.starts_with(&start) && line.contains("function=\"vm\""));
            let line = lines.find(|line| line.contains(label));
            last = line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap());
            (last >= *wanted).then_some(())
        });
        assert!(
            arrived.is_some() && last == *wanted,
            "{metric} {label} is {last}, not {wanted}\n{}",
            vm.running.written()
        );
    }
}

/// Every row of the document's tables has its test, of its name.
#[test]
fn every_row_has_its_test() {
    let text = read_to_string(project("docs/delivery.md")).unwrap();
    let mut rows = BTreeSet::new();
    let mut part = None;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix('#') {
            part = match title.trim_start_matches('#').trim() {
                "From a stream" => Some("stream"),
                "From a key" => Some("key"),
                _ => None,
            };
        }
        let first = line.strip_prefix("| ").and_then(|line| line.split(" | ").next());
        if let (Some(part), Some(first)) = (part, first)
            && first != "call"
        {
            rows.insert(format!("delivery::{part}::{}", first.replace(' ', "_")));
        }
    }
    let outcomes = [
        "ok",
        "raise",
        "timeout",
        "crash",
        "bad_input",
        "bad_output",
        "state_too_big",
        "backend_down",
        "ownership_lost",
    ];
    for part in ["stream", "key"] {
        for outcome in outcomes {
            assert!(
                rows.contains(&format!("delivery::{part}::{outcome}")),
                "{part} has no row for {outcome}: {rows:?}"
            );
        }
    }
    let list = Command::new(std::env::current_exe().unwrap()).args(["--list", "--format", "terse"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let tests: BTreeSet<&str> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let missing: Vec<_> = rows.iter().filter(|row| !tests.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "rows of docs/delivery.md without a test: {missing:?}");
}

/// An event that does this, or nothing of note.
fn event(i: u64, what: &str) -> Value {
    if what.is_empty() { json!({ "i": i }) } else { json!({ "i": i, "do": what }) }
}
