//! One of several processes runs a function; the others stand by, ready, and go on where it ends.

use crate::support::bed::{PATIENCE, bound};
use crate::support::redis::RedisServer;
use crate::support::replica::Replica;
use crate::support::tier::scale;
use crate::support::wait::eventually;
use redis::Commands;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// Says who called, slowly enough that whoever is killed may be in a call.
const NAMED: &str = "import os\nimport time\n\n\n\
    def handler(event, context):\n    \
        time.sleep(0.003)\n    \
        context.env['n'] = context.env.get('n', 0) + 1\n    \
        return {'v': event['v'], 'n': context.env['n'], 'by': os.environ['REPLICA']}\n";

/// Three replicas from a source to the stream `out`.
fn place(server: &RedisServer, folder: &Path, source: &str, state: &str) -> [Replica; 3] {
    write(folder.join("usermodule.py"), NAMED).unwrap();
    ["a", "b", "c"].map(|name| {
        let source = source.replace("NAME", name);
        let config = format!(
            "[redis]\nurl = \"{}\"\n\
             [functions.vm.source]\n{source}\n\
             [functions.vm.loader]\nuse = \"file\"\npath = \"{}\"\n\
             [functions.vm.state]\n{state}\n\
             [functions.vm.sinks.result]\nuse = \"redis_stream\"\nstream = \"out\"\nmax_length = 0\n",
            server.url(),
            folder.join("usermodule.py").display()
        );
        Replica::place(folder, name, &config)
    })
}

fn key(lease: &str) -> String {
    format!("use = \"redis_key\"\nkey = \"metrics\"\nperiod = \"10ms\"\nlease = \"{lease}\"")
}

/// What each result says, in order.
fn results(redis: &mut redis::Connection) -> Vec<Value> {
    let entries: Vec<(String, BTreeMap<String, String>)> =
        redis::cmd("XRANGE").arg(&["out", "-", "+"]).query(redis).unwrap();
    entries.into_iter().map(|(_, entry)| serde_json::from_str(&entry["data"]).unwrap()).collect()
}

fn last(redis: &mut redis::Connection) -> Option<Value> {
    let entries: Vec<(String, BTreeMap<String, String>)> =
        redis::cmd("XREVRANGE").arg(&["out", "+", "-", "COUNT", "1"]).query(redis).unwrap();
    entries.first().map(|(_, entry)| serde_json::from_str(&entry["data"]).unwrap())
}

fn written(replicas: &[Replica]) -> String {
    replicas.iter().map(Replica::written).collect()
}

/// Waits for a result that is so; the newest one.
fn wait_result(server: &RedisServer, replicas: &[Replica], is_so: impl Fn(&Value) -> bool) -> Value {
    let (mut redis, mut newest) = (server.connection(), None);
    let found = eventually(PATIENCE, || {
        newest = last(&mut redis);
        newest.clone().filter(|newest| is_so(newest))
    });
    found.unwrap_or_else(|| panic!("the newest result is {newest:?}\n{}", written(replicas)))
}

/// The replica that a result came from.
fn of(replicas: &[Replica], result: &Value) -> usize {
    let place = replicas.iter().position(|replica| result["by"] == replica.life());
    place.unwrap_or_else(|| panic!("{result} is of none that lives\n{}", written(replicas)))
}

/// Sets the key to ever greater values until it ends.
struct Changes {
    over: Arc<AtomicBool>,
    writer: JoinHandle<u64>,
}

impl Changes {
    fn begin(server: &RedisServer) -> Self {
        let (over, mut redis) = (Arc::new(AtomicBool::new(false)), server.connection());
        let ends = Arc::clone(&over);
        let writer = spawn(move || {
            let mut value = 0;
            while !ends.load(Ordering::Relaxed) {
                value += 1;
                let () = redis.set("metrics", json!({ "v": value }).to_string()).unwrap();
                sleep(Duration::from_millis(2 + value % 7));
            }
            value
        });
        Self { over, writer }
    }

    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.writer.join().unwrap()
    }
}

/// One runs it, the others are ready and say who that is.
fn wait_standby(replicas: &mut [Replica], active: usize) {
    let holder = format!("/{} runs it", replicas[active].running().pid());
    for (place, replica) in replicas.iter_mut().enumerate() {
        replica.wait_ready();
        if place != active {
            replica.wait_line(&["INFO", "stands by: ", &holder]);
        }
    }
}

#[test]
fn a_standby_is_ready_and_says_who_runs_it() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let mut replicas = place(&server, folder.path(), &key("60s"), "use = \"memory\"");
    let () = server.connection().set("metrics", json!({ "v": 1 }).to_string()).unwrap();
    replicas.iter_mut().for_each(Replica::start);
    let active = of(&replicas, &wait_result(&server, &replicas, |_| true));
    wait_standby(&mut replicas, active);
    let () = server.connection().set("metrics", json!({ "v": 2 }).to_string()).unwrap();
    let by = wait_result(&server, &replicas, |result| result["v"] == 2)["by"].clone();
    assert_eq!(by, replicas[active].life());
    assert_eq!(results(&mut server.connection()).len(), 2);
}

#[test]
fn one_of_three_reads_the_stream_whose_state_is_one() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let mut redis = server.connection();
    let stream = "use = \"redis_stream\"\nstream = \"in\"\nfield = \"data\"\nconsumer = \"NAME\"\nbatch = 10";
    let mut replicas = place(&server, folder.path(), stream, "use = \"redis\"\nlease = \"60s\"");
    let mut count = 0;
    let mut add = |redis: &mut redis::Connection| {
        for _ in 0..100 {
            count += 1;
            let () =
                redis::cmd("XADD").arg(&["in", "*", "data", &json!({ "v": count }).to_string()]).query(redis).unwrap();
        }
        count
    };
    add(&mut redis);
    replicas.iter_mut().for_each(Replica::start);
    let active = of(&replicas, &wait_result(&server, &replicas, |result| result["n"] == 100));
    wait_standby(&mut replicas, active);
    let consumers: Vec<redis::Value> = redis::cmd("XINFO").arg(&["CONSUMERS", "in", "vm"]).query(&mut redis).unwrap();
    assert_eq!(consumers.len(), 1, "who stands by reads nothing");
    // the next one goes on with the state
    let until = add(&mut redis);
    replicas[active].running().signal(Signal::TERM);
    assert_eq!(replicas[active].running().wait_exit(PATIENCE).code(), Some(0), "{}", replicas[active].written());
    wait_result(&server, &replicas, |result| result["n"] == until);
    let until = add(&mut redis);
    let next = of(&replicas, &wait_result(&server, &replicas, |result| result["n"] == until));
    assert_ne!(next, active);
    let results = results(&mut redis);
    let expected: BTreeSet<u64> = (1..=until).collect();
    for name in ["n", "v"] {
        let values: Vec<u64> = results.iter().map(|result| result[name].as_u64().unwrap()).collect();
        assert_eq!((values.len() as u64, &values.into_iter().collect()), (until, &expected), "{name}");
    }
}

mod timing {
    use super::*;

    const LEASE: Duration = Duration::from_secs(1);

    #[allow(clippy::print_stderr, reason = "a figure that the test is made for")]
    fn tell(what: &str, mut times: Vec<Duration>) {
        times.sort();
        eprintln!("{what}: median {:?}, most {:?} of {}", times[times.len() / 2], times[times.len() - 1], times.len());
    }

    /// The active one is lost, again and again, while the value changes.
    fn loses(
        rounds: usize,
        state: &str,
        mut lose: impl FnMut(usize, &mut Replica) -> Option<crate::support::replica::Process>,
    ) {
        let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
        let mut replicas = place(&server, folder.path(), &key("1s"), state);
        replicas.iter_mut().for_each(Replica::start);
        replicas.iter_mut().for_each(Replica::wait_ready);
        let changes = Changes::begin(&server);
        let mut active = of(&replicas, &wait_result(&server, &replicas, |_| true));
        let mut times = Vec::new();
        for round in 0..rounds {
            // not always at the same place of a term
            sleep(Duration::from_millis(50 + (round as u64 * 137) % 400));
            let (lost, begin) = (replicas[active].life(), Instant::now());
            let stopped = lose(round, &mut replicas[active]);
            let next = wait_result(&server, &replicas, |result| result["by"] != lost);
            times.push(begin.elapsed());
            let is_stopped = stopped.is_some();
            drop(stopped);
            if is_stopped {
                replicas[active].wait_ready();
            } else {
                replicas[active].start();
            }
            active = of(&replicas, &next);
            replicas.iter_mut().for_each(Replica::wait_ready);
        }
        let end = changes.end();
        wait_result(&server, &replicas, |result| result["v"] == end);
        let values: Vec<u64> =
            results(&mut server.connection()).iter().map(|result| result["v"].as_u64().unwrap()).collect();
        let back = values.windows(2).find(|pair| pair[0] >= pair[1]);
        assert!(
            back.is_none(),
            "{back:?}: a result for a change that has one, or that is older\n{}",
            written(&replicas)
        );
        if state.contains("redis") {
            let results = results(&mut server.connection());
            let counts: Vec<u64> = results.iter().map(|result| result["n"].as_u64().unwrap()).collect();
            assert_eq!(counts, (1..=results.len() as u64).collect::<Vec<_>>());
        }
        let fenced: u64 = replicas.iter_mut().map(|replica| replica.metric("fenced_total")).sum();
        tell(&format!("taken over ({} results, {fenced} fenced)", values.len()), times.clone());
        let most = bound(LEASE + Duration::from_secs(1));
        assert!(times.iter().all(|time| *time <= most), "{times:?}\n{}", written(&replicas));
    }

    #[test]
    fn of_the_killed_one_is_taken_over() {
        loses(scale(20, 3), "use = \"memory\"", |_, replica| {
            replica.kill();
            None
        });
    }

    #[test]
    fn of_the_stopped_one_is_taken_over() {
        loses(scale(20, 3), "use = \"memory\"", |_, replica| {
            let mut process = replica.process();
            assert!(process.stop());
            Some(process)
        });
    }

    #[test]
    fn of_the_lost_one_is_taken_over_with_its_state() {
        loses(scale(20, 4), "use = \"redis\"", |round, replica| {
            if round % 2 == 0 {
                replica.kill();
                return None;
            }
            let mut process = replica.process();
            assert!(process.stop());
            Some(process)
        });
    }

    #[test]
    fn of_one_that_ends_is_handed_over_at_once() {
        let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
        let mut replicas = place(&server, folder.path(), &key("60s"), "use = \"memory\"");
        replicas.iter_mut().for_each(Replica::start);
        let changes = Changes::begin(&server);
        let mut times = Vec::new();
        for _ in 0..scale(10, 3) {
            replicas.iter_mut().for_each(Replica::wait_ready);
            let active = of(&replicas, &wait_result(&server, &replicas, |_| true));
            let (ended, begin) = (replicas[active].life(), Instant::now());
            replicas[active].running().signal(Signal::TERM);
            wait_result(&server, &replicas, |result| result["by"] != ended);
            times.push(begin.elapsed());
            let code = replicas[active].running().wait_exit(PATIENCE).code();
            assert_eq!(code, Some(0), "{}", replicas[active].written());
            replicas[active].start();
        }
        let end = changes.end();
        wait_result(&server, &replicas, |result| result["v"] == end);
        tell("handed over", times.clone());
        let most = bound(Duration::from_secs(1));
        assert!(times.iter().all(|time| *time <= most), "{times:?}\n{}", written(&replicas));
        let values: Vec<u64> =
            results(&mut server.connection()).iter().map(|result| result["v"].as_u64().unwrap()).collect();
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "{values:?}");
    }
}
