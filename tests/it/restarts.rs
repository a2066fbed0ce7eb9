//! A function is killed at any moment: its successor goes on from the last commit. That of a key calls nothing twice.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::read_to_string;
use std::hash::BuildHasher;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};
use std::time::Duration;

use redis::Commands;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::bed::{Bed, PATIENCE, Vm, wait_looks};
use crate::support::redis::RedisServer;
use crate::support::tier::scale;
use crate::support::wait::eventually;

/// Notes what its state was before each call, and keeps what it has seen.
const COUNTING: &str = r#"
import collections, json, os

CALLS = open(os.environ["CALLS"], "a", buffering=1)


def handler(value, context):
    env = context.env
    before = {"n": env.get("n", 0), "last": env.get("last"), "window": list(env.get("window", []))}
    CALLS.write(json.dumps({"life": os.environ["LIFE"], "value": value, "before": before}) + "\n")
    env["n"] = env.get("n", 0) + 1
    env["last"] = value
    env.setdefault("window", collections.deque(maxlen=5)).append(value)
    return {"n": env["n"], "value": value}
"#;

/// A state as the store has it, in the words of the function.
fn in_words(entry: impl Fn(&str) -> Option<Value>) -> Value {
    json!({
        "n": entry("n").unwrap_or(json!(0)),
        "last": entry("last").unwrap_or_default(),
        "window": entry("window").map_or(json!([]), |window| window["$deque"]["items"].clone()),
    })
}

/// What is committed in the store `file`.
fn in_file(folder: &Path, _: &mut redis::Connection) -> Value {
    let text = read_to_string(folder.join("vm.json")).unwrap_or_else(|_| r#"{"env":[]}"#.to_owned());
    let whole: Value = serde_json::from_str(&text).unwrap();
    let entries = whole["env"].as_array().unwrap();
    in_words(|name| entries.iter().find(|entry| entry[0] == name).map(|entry| entry[1].clone()))
}

/// What is committed in the store `redis`, together with the result that goes with it.
fn in_redis(_: &Path, redis: &mut redis::Connection) -> Value {
    // at one moment: the writer of both may still be at work
    let (fields, result): (BTreeMap<String, String>, Option<String>) =
        redis::pipe().atomic().hgetall("gaugefn:state:{vm}").get("result").query(redis).unwrap();
    let entry = |name: &str| fields.get(&format!("e:\"{name}\"")).map(|text| serde_json::from_str(text).unwrap());
    let state = in_words(entry);
    if let Some(result) = result {
        let result: Value = serde_json::from_str(&result).unwrap();
        assert_eq!((&result["n"], &result["value"]), (&state["n"], &state["last"]), "one commit has both");
    }
    state
}

/// A number below this one.
fn random(below: u64) -> u64 {
    RandomState::new().hash_one(()) % below
}

/// Sets the key to one number after the other, until it is dropped.
struct Load {
    over: Arc<AtomicBool>,
    writer: Option<std::thread::JoinHandle<u64>>,
}

impl Load {
    fn from(server: &RedisServer, mut value: u64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (mut redis, ends) = (server.connection(), Arc::clone(&over));
        let writer = spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                value += 1;
                let () = redis.set("metrics", value).unwrap();
                sleep(Duration::from_micros(500));
            }
            value
        });
        Self { over, writer: Some(writer) }
    }

    /// The last value that was set.
    fn end(mut self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.writer.take().unwrap().join().unwrap()
    }
}

/// The function in one of its lives; what outlives it lies in the folder.
fn begin(server: &RedisServer, folder: &Path, parts: &str, life: usize) -> Vm {
    let config = format!(
        "[redis]\nurl = \"{}\"\n\
         [functions.vm]\n{parts}\n\
         loader = {{ use = \"file\", path = \"usermodule.py\" }}\nexecutor = {{ use = \"python\" }}\n",
        server.url()
    );
    let calls = folder.join("calls");
    Bed::bare(COUNTING).more(&config).env("CALLS", calls.to_str().unwrap()).env("LIFE", &life.to_string()).spawn()
}

/// Waits until it has ended, and the server has done what it had sent.
fn wait_gone(mut vm: Vm, redis: &mut redis::Connection) {
    vm.running.wait_exit(PATIENCE);
    let alone = eventually(PATIENCE, || {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(redis).unwrap();
        (clients.lines().count() == 1).then_some(())
    });
    assert!(alone.is_some(), "its connections outlive it");
}

/// The calls of one life.
fn calls(folder: &Path, life: usize) -> Vec<Value> {
    let text = read_to_string(folder.join("calls")).unwrap_or_default();
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let calls = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    calls.filter(|call| call["life"].as_str() == Some(&life.to_string())).collect()
}

fn killed_at_any_moment(store: impl Fn(&Path) -> String, committed: impl Fn(&Path, &mut redis::Connection) -> Value) {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let parts = &format!(
        "state = {{ {} }}\nsource = {{ use = \"redis_key\", key = \"metrics\", period = \"2ms\", watch = \"poll\" }}\n\
         sinks.result = {{ use = \"redis_key\", key = \"result\" }}",
        store(folder)
    );
    let mut value = 0;
    for life in 0..scale(50, 5) {
        let before = committed(folder, &mut redis);
        // the value that was seen last; where nothing is committed yet, none
        match before["last"].as_u64() {
            Some(last) => redis.set::<_, _, ()>("metrics", last).unwrap(),
            None => redis.del::<_, ()>("metrics").unwrap(),
        }
        let mut vm = begin(&server, folder, parts, life);
        vm.wait_ready(PATIENCE);
        // whoever had the lease before keeps it for a while
        wait_looks(&mut redis, 3);
        assert_eq!(calls(folder, life), [] as [Value; 0], "the value seen last is called again: {before}");
        value += 1;
        let () = redis.set("metrics", value).unwrap();
        let called = eventually(PATIENCE, || calls(folder, life).into_iter().next());
        let called = called.unwrap_or_else(|| panic!("no call\n{}", vm.running.written()));
        assert_eq!((&called["value"], &called["before"]), (&json!(value), &before), "life {life}");
        let load = Load::from(&server, value);
        sleep(Duration::from_micros(random(200_000)));
        vm.running.signal(Signal::KILL);
        value = load.end();
        wait_gone(vm, &mut redis);
        // once more, in the middle of a start
        let mut vm = begin(&server, folder, parts, usize::MAX);
        sleep(Duration::from_micros(random(100_000)));
        vm.running.signal(Signal::KILL);
        wait_gone(vm, &mut redis);
    }
    let end = committed(folder, &mut redis);
    assert!(end["n"].as_u64().unwrap() > scale(50, 5) as u64, "{end}");
}

fn in_a_file(folder: &Path) -> String {
    format!("use = \"file\", path = \"{}\"", folder.join("vm.json").display())
}

#[test]
fn a_killed_process_goes_on_from_its_file() {
    killed_at_any_moment(in_a_file, in_file);
}

#[test]
fn a_killed_process_goes_on_from_its_hash() {
    killed_at_any_moment(|_| "use = \"redis\", lease = \"200ms\"".to_owned(), in_redis);
}

/// Stream and state are in two places: nothing is lost, and only what was in flight may come twice.
#[test]
fn a_killed_process_with_its_stream_elsewhere_loses_nothing() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let folder = tempfile::tempdir().unwrap();
    let (entries, kills) = (scale(5000, 500), scale(50, 5));
    let mut together = redis::pipe();
    for value in 0..entries {
        together.cmd("XADD").arg(&["in", &format!("1-{}", value + 1), "data", &value.to_string()]).ignore();
    }
    let () = together.query(&mut redis).unwrap();
    for life in 0..=kills {
        let parts = "source = { use = \"redis_stream\", stream = \"in\", field = \"data\", batch = 10 }\n\
                     sinks.result = { use = \"redis_stream\", stream = \"out\" }";
        let store = in_a_file(folder.path());
        let mut vm = begin(&server, folder.path(), &format!("state = {{ {store} }}\n{parts}"), life);
        if life < kills {
            vm.wait_ready(PATIENCE);
            sleep(Duration::from_micros(random(50_000)));
            vm.running.signal(Signal::KILL);
            wait_gone(vm, &mut redis);
            continue;
        }
        let mut last = Vec::new();
        let done = eventually(PATIENCE, || {
            last = redis::cmd("XPENDING").arg(&["in", "vm"]).query::<Vec<redis::Value>>(&mut redis).unwrap();
            let all: usize = redis.xlen("out").unwrap();
            (last[0] == redis::Value::Int(0) && all >= entries).then_some(())
        });
        assert!(done.is_some(), "{last:?}\n{}", vm.running.written());
        vm.wait_lines(&["commit: in order (at least once)"], 1);
    }
    let results: Vec<(String, BTreeMap<String, String>)> =
        redis::cmd("XRANGE").arg(&["out", "-", "+"]).query(&mut redis).unwrap();
    let distinct: BTreeSet<_> = results.iter().map(|(_, result)| result["id"].clone()).collect();
    assert_eq!(distinct.len(), entries, "each has its result");
    // four batches are on their way at most
    let twice = 40 * kills;
    assert!(results.len() <= entries + twice, "{} results", results.len());
    let n = in_file(folder.path(), &mut redis)["n"].as_u64().unwrap() as usize;
    assert!((entries..=entries + twice).contains(&n), "the state has counted {n}");
}
