//! Servers that are killed, stopped, cut off, or refuse.

use crate::support::bed::{Bed, PATIENCE, RECORDING, Vm, bound};
use crate::support::redis::RedisServer;
use crate::support::tier::{scale, soak};
use crate::support::wait::eventually;
use redis::Commands;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

const ECHO: &str = "def handler(input, context):\n    return {'got': input}\n";

const ANNOUNCED: [&str; 2] = ["--notify-keyspace-events", "KA"];

/// From the moment in which the server is back.
const RECOVERY: Duration = Duration::from_secs(2);

/// A writer that sets the key to 1, 2, 3, … whenever the server lets it.
struct Load {
    over: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    writer: JoinHandle<()>,
}

impl Load {
    fn begin(server: &RedisServer) -> Self {
        let (over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (client, ends, counter) = (server.client(), Arc::clone(&over), Arc::clone(&written));
        let writer = spawn(move || {
            let mut value = 0;
            while !ends.load(Ordering::Relaxed) {
                let Ok(mut connection) = client.get_connection_with_timeout(Duration::from_millis(500)) else {
                    sleep(Duration::from_millis(5));
                    continue;
                };
                connection.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                while !ends.load(Ordering::Relaxed) {
                    value += 1;
                    if connection.set::<_, _, ()>("metrics", value).is_err() {
                        break;
                    }
                    counter.store(value, Ordering::Relaxed);
                    sleep(Duration::from_millis(2));
                }
            }
        });
        Self { over, written, writer }
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits until a value that is written from now on has its result; the time that this takes.
    fn wait_newer(&self, server: &RedisServer, vm: &Vm) -> Duration {
        let (start, before) = (Instant::now(), self.written());
        let mut redis = server.connection();
        let newer = eventually(PATIENCE, || {
            let result: Option<String> = redis.get("result").unwrap();
            let got = result.and_then(|text| serde_json::from_str::<Value>(&text).unwrap()["got"].as_u64());
            got.is_some_and(|got| got > before).then_some(())
        });
        assert!(newer.is_some(), "no result after that of {before}\n{}", vm.running.written());
        start.elapsed()
    }

    /// Ends, and waits for the result of the final value.
    fn end(self, server: &RedisServer, vm: &mut Vm) {
        self.over.store(true, Ordering::Relaxed);
        self.writer.join().unwrap();
        let mut redis = server.connection();
        let last: u64 = redis.get("metrics").unwrap();
        vm.wait_result(&mut redis, &format!(r#"{{"got": {last}}}"#), bound(RECOVERY));
        assert!(vm.running.exited().is_none());
        vm.wait_ready(PATIENCE);
    }
}

fn recovered(vm: &Vm, time: Duration) {
    assert!(time <= bound(RECOVERY), "recovered after {time:?}\n{}", vm.running.written());
}

fn report(what: &str, times: &[Duration]) {
    #[allow(clippy::print_stderr, reason = "a figure that a run is made for")]
    {
        eprintln!("{what}: at most {:?} in {} times", times.iter().max().unwrap(), times.len());
    }
}

/// What is said of an outage: that the connection was closed, and that there is no other, of source and sink each.
fn said_little(vm: &Vm, outages: usize) {
    let said = vm.lines(&["WARN"]);
    assert!((outages..=4 * outages).contains(&said), "{said} warnings\n{}", vm.running.written());
}

#[test]
fn load_while_the_server_is_killed_and_restarted() {
    let mut server = RedisServer::start_with(&ANNOUNCED);
    let mut vm = Bed::new(&server, "period = \"100ms\"", ECHO).start();
    let load = Load::begin(&server);
    load.wait_newer(&server, &vm);
    let outages = scale(20, 3);
    let times: Vec<_> = (0..outages)
        .map(|outage| {
            server.kill9();
            vm.wait_unready("redis at 127.0.0.1:", PATIENCE);
            // now and then long enough for the longest back-off
            sleep(Duration::from_millis(if outage % 5 == 0 { 3000 } else { 300 }));
            server.restart();
            load.wait_newer(&server, &vm)
        })
        .collect();
    report("killed and restarted, answering to result", &times);
    times.iter().for_each(|time| recovered(&vm, *time));
    load.end(&server, &mut vm);
    said_little(&vm, outages);
}

#[test]
fn load_while_the_server_is_killed_and_back_at_once() {
    let mut server = RedisServer::start_with(&ANNOUNCED);
    let mut vm = Bed::new(&server, "period = \"100ms\"", ECHO).start();
    let load = Load::begin(&server);
    for _ in 0..scale(20, 3) {
        server.restart();
        recovered(&vm, load.wait_newer(&server, &vm));
    }
    load.end(&server, &mut vm);
}

#[test]
fn load_while_the_server_is_stopped() {
    let server = RedisServer::start_with(&ANNOUNCED);
    let mut vm = Bed::new(&server, "period = \"100ms\"", ECHO).start();
    let load = Load::begin(&server);
    load.wait_newer(&server, &vm);
    let end = Instant::now() + Duration::from_secs(if soak() { 10 } else { 3 });
    server.stop_signal();
    vm.wait_unready("does not answer in time", PATIENCE);
    sleep(end.saturating_duration_since(Instant::now()));
    server.cont();
    let time = load.wait_newer(&server, &vm);
    report("stopped, continued to result", &[time]);
    recovered(&vm, time);
    load.end(&server, &mut vm);
    said_little(&vm, 1);
}

#[test]
fn load_while_connections_are_killed() {
    let server = RedisServer::start_with(&ANNOUNCED);
    let mut vm = Bed::new(&server, "period = \"100ms\"", ECHO).start();
    let load = Load::begin(&server);
    let mut redis = server.connection();
    let times: Vec<_> = (0..scale(100, 10))
        .map(|_| {
            // those of the writer as well
            for kind in ["normal", "pubsub"] {
                let () = redis::cmd("CLIENT").arg(&["KILL", "TYPE", kind, "SKIPME", "yes"]).query(&mut redis).unwrap();
            }
            load.wait_newer(&server, &vm)
        })
        .collect();
    report("connections killed, kill to result", &times);
    times.iter().for_each(|time| recovered(&vm, *time));
    load.end(&server, &mut vm);
}

#[test]
fn a_server_that_is_away_at_the_start_is_waited_for() {
    let mut server = RedisServer::start();
    server.kill9();
    let mut vm = Bed::new(&server, "period = \"100ms\"", ECHO).spawn();
    let reason = format!(
        "redis at 127.0.0.1:{} refuses the connection: start it, or check REDIS_HOST and REDIS_PORT",
        server.port()
    );
    let body = vm.wait_unready(&reason, PATIENCE);
    assert!(body.contains("\"function 'vm', sink result: redis"), "{body}");
    vm.wait_unready("\"function 'vm', source: redis", PATIENCE);
    // past several attempts
    sleep(Duration::from_secs(2));
    for part in ["part=source", "part=\"sink result\""] {
        vm.wait_lines(&["WARN", part, &reason, "; trying again"], 1);
    }
    vm.wait_lines(&["WARN"], 2);
    server.restart();
    let mut redis = server.connection();
    let () = redis.set("metrics", 1).unwrap();
    vm.wait_result(&mut redis, r#"{"got": 1}"#, bound(RECOVERY));
    vm.wait_ready(PATIENCE);
    for part in ["part=source", "part=\"sink result\""] {
        vm.wait_lines(&["INFO", part, "works again after"], 1);
    }
}

/// The trouble is named, in the log once for each of the parts and in `/readyz`, and is over after `remedy`.
fn named_until(mut vm: Vm, redis: &mut redis::Connection, sentence: &str, parts: &[&str], remedy: &[&[&str]]) {
    for part in parts {
        vm.wait_unready(&format!("function 'vm', {part}: {sentence}"), PATIENCE);
    }
    // past several attempts
    sleep(Duration::from_millis(1500));
    for part in parts {
        let field = if part.contains(' ') { format!("part={part:?}") } else { format!("part={part}") };
        vm.wait_lines(&["WARN", &field, sentence], 1);
    }
    vm.wait_lines(&["WARN"], parts.len());
    for words in remedy {
        let () = redis::cmd(words[0]).arg(&words[1..]).query(redis).unwrap();
    }
    vm.wait_ready(PATIENCE);
    vm.wait_result(redis, r#"{"got": 1}"#, bound(RECOVERY));
    vm.wait_lines(&["WARN"], parts.len());
    vm.wait_lines(&["INFO", "works again"], parts.len());
}

#[test]
fn a_wrong_password_is_named() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    let url = format!("redis://:right@127.0.0.1:{}/0", server.port());
    let mut redis = redis::Client::open(url).unwrap().get_connection().unwrap();
    let () = redis.set("metrics", 1).unwrap();
    let vm = Bed::new(&server, "period = \"100ms\"", ECHO).env("GAUGEFN__REDIS__PASSWORD", "s3cret").spawn();
    let sentence = format!("redis at 127.0.0.1:{} refuses the password of user 'default' (WRONGPASS)", server.port());
    let remedy: &[&[&str]] = &[&["CONFIG", "SET", "requirepass", "s3cret"]];
    named_until(vm, &mut redis, &sentence, &["source", "sink result"], remedy);
}

#[test]
fn a_missing_password_is_named() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    let url = format!("redis://:right@127.0.0.1:{}/0", server.port());
    let mut redis = redis::Client::open(url).unwrap().get_connection().unwrap();
    let () = redis.set("metrics", 1).unwrap();
    let vm = Bed::new(&server, "period = \"100ms\"", ECHO).spawn();
    let sentence = format!("redis at 127.0.0.1:{} wants a password (NOAUTH): set REDIS_PASSWORD", server.port());
    let remedy: &[&[&str]] = &[&["CONFIG", "SET", "requirepass", ""]];
    named_until(vm, &mut redis, &sentence, &["source", "sink result"], remedy);
}

#[test]
fn a_read_only_replica_is_named() {
    let server = RedisServer::start_with(&["--replicaof", "127.0.0.1 1", "--replica-read-only", "no"]);
    let mut redis = server.connection();
    let () = redis.set("metrics", 1).unwrap();
    let () = redis::cmd("CONFIG").arg(&["SET", "replica-read-only", "yes"]).query(&mut redis).unwrap();
    let vm = Bed::new(&server, "period = \"100ms\"", ECHO).spawn();
    let sentence = format!("redis at 127.0.0.1:{} is a read-only replica (READONLY)", server.port());
    named_until(vm, &mut redis, &sentence, &["sink result"], &[&["REPLICAOF", "NO", "ONE"]]);
}

#[test]
fn a_denied_key_is_named() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let () = redis.set("metrics", 1).unwrap();
    let rules = ["SETUSER", "vm", "on", ">s3cret", "~result", "~metrics", "+set"];
    let () = redis::cmd("ACL").arg(&rules).query(&mut redis).unwrap();
    let vm = Bed::new(&server, "period = \"100ms\"\nwatch = \"poll\"", ECHO)
        .env("GAUGEFN__REDIS__USERNAME", "vm")
        .env("GAUGEFN__REDIS__PASSWORD", "s3cret")
        .spawn();
    let sentence = format!("redis at 127.0.0.1:{} denies GET 'metrics' to user 'vm' (NOPERM)", server.port());
    named_until(vm, &mut redis, &sentence, &["source"], &[&["ACL", "SETUSER", "vm", "+get"]]);
}

#[test]
fn a_key_of_another_type_is_named() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let () = redis.lpush("metrics", 1).unwrap();
    let vm = Bed::new(&server, "period = \"100ms\"", ECHO).spawn();
    let sentence = format!("redis at 127.0.0.1:{} holds no string under 'metrics', as GET expects", server.port());
    let remedy: &[&[&str]] = &[&["DEL", "metrics"], &["SET", "metrics", "1"]];
    named_until(vm, &mut redis, &sentence, &["source"], remedy);
}

#[test]
fn a_server_that_loads_is_named() {
    let server = RedisServer::start_with(&[
        "--enable-debug-command",
        "yes",
        "--key-load-delay",
        "20000",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    let mut redis = server.connection();
    for key in 0..150 {
        let () = redis.set(format!("filler{key}"), "x".repeat(2048)).unwrap();
    }
    let () = redis.set("metrics", 1).unwrap();
    let mut vm = Bed::new(&server, "period = \"100ms\"", ECHO).start();
    vm.wait_result(&mut redis, r#"{"got": 1}"#, PATIENCE);
    let () = redis.set("metrics", 2).unwrap();
    vm.wait_result(&mut redis, r#"{"got": 2}"#, PATIENCE);
    // about three seconds, in which others get an answer now and then
    let reload = spawn(move || {
        let () = redis::cmd("DEBUG").arg("RELOAD").query(&mut redis).unwrap();
        redis
    });
    let sentence = format!("redis at 127.0.0.1:{} is still loading its data (LOADING)", server.port());
    vm.wait_unready(&format!("function 'vm', source: {sentence}"), PATIENCE);
    let mut redis = reload.join().unwrap();
    let () = redis.set("metrics", 3).unwrap();
    vm.wait_result(&mut redis, r#"{"got": 3}"#, bound(RECOVERY));
    vm.wait_ready(PATIENCE);
    vm.wait_lines(&["WARN", "part=source", &sentence], 1);
}

#[test]
fn a_required_backend_that_cannot_be_used_ends_the_start() {
    let mut away = RedisServer::start();
    let there = RedisServer::start();
    let locked = RedisServer::start_with(&["--requirepass", "right"]);
    let mut typed = RedisServer::start();
    away.kill9();
    let () = typed.connection().lpush("metrics", 1).unwrap();
    let sink = format!("url = \"{}\"", away.url());
    for (server, more, sentence) in [
        (&away, "", "refuses the connection"),
        (&locked, "", "wants a password (NOAUTH)"),
        (&typed, "", "holds no string under 'metrics'"),
        (&there, sink.as_str(), "sink result: redis at"),
    ] {
        let mut vm = Bed::new(server, "", ECHO).more(more).args(&["--require-backend"]).spawn();
        assert_eq!(vm.running.wait_exit(PATIENCE).code(), Some(69), "{}", vm.running.written());
        assert!(vm.lines(&["ERROR", sentence]) == 1, "{sentence}\n{}", vm.running.written());
    }
    // nothing but the state is on a server, and without a key its lease
    for key in ["", "key = \"/name\"\n"] {
        let config = format!(
            "[functions.vm.source]\nuse = \"host\"\n[functions.vm.loader]\nuse = \"file\"\npath = \"usermodule.py\"\n\
             [functions.vm.state]\nuse = \"redis\"\nurl = \"{}\"\n{key}[functions.vm.sinks.stdout]",
            away.url()
        );
        let mut vm = Bed::bare(ECHO).more(&config).args(&["--require-backend"]).spawn();
        assert_eq!(vm.running.wait_exit(PATIENCE).code(), Some(69), "{}", vm.running.written());
        assert!(vm.lines(&["ERROR", "refuses the connection"]) == 1, "{}", vm.running.written());
    }
    typed.restart();
    let mut vm = Bed::new(&typed, "", ECHO).args(&["--require-backend"]).start();
    assert!(vm.running.exited().is_none());
}

#[test]
fn the_newest_result_is_written_when_the_sinks_server_is_back() {
    let (server, mut other) = (RedisServer::start(), RedisServer::start());
    let mut redis = server.connection();
    let mut vm = Bed::new(&server, "period = \"10ms\"\nwatch = \"poll\"", RECORDING)
        .more(&format!("url = \"{}\"", other.url()))
        .start();
    let () = redis.set("metrics", 1).unwrap();
    vm.wait_result(&mut other.connection(), r#"{"got": 1}"#, PATIENCE);
    other.kill9();
    for value in 2..6 {
        let () = redis.set("metrics", value).unwrap();
        vm.wait_unready("function 'vm', sink result: redis at", PATIENCE);
        sleep(Duration::from_millis(100));
    }
    assert_eq!(vm.calls(), 2, "the source waits\n{}", vm.running.written());
    other.restart();
    vm.wait_result(&mut other.connection(), r#"{"got": 5}"#, bound(RECOVERY));
    vm.wait_ready(PATIENCE);
    let inputs: Vec<_> = vm.recorded().into_iter().map(|(_, input)| input).collect();
    assert_eq!(inputs, [json!(1), json!(2), json!(5)]);
    vm.wait_lines(&["INFO", "part=\"sink result\"", "works again"], 1);
    assert!((1..=2).contains(&vm.lines(&["WARN"])), "{}", vm.running.written());
}

#[test]
fn connections_that_are_closed_in_a_pause_are_not_spoken_of() {
    let server = RedisServer::start_with(&["--timeout", "1"]);
    let mut vm = Bed::new(&server, "period = \"2500ms\"\nwatch = \"poll\"", ECHO).start();
    for value in 1..3 {
        sleep(Duration::from_millis(2300));
        let mut redis = server.connection();
        let () = redis.set("metrics", value).unwrap();
        vm.wait_result(&mut redis, &format!("{{\"got\": {value}}}"), PATIENCE);
    }
    assert_eq!(vm.lines(&["WARN"]), 0, "{}", vm.running.written());
}

/// The value of a key comes as a whole or not at all.
#[test]
fn a_value_that_is_more_than_the_server_lets_through_is_named_once() {
    let server = RedisServer::start_with(&["--client-output-buffer-limit", "normal 1mb 1mb 1"]);
    let mut redis = server.connection();
    let mut vm = Bed::new(&server, "period = \"100ms\"\nwatch = \"poll\"", ECHO).start();
    let () = redis.set("metrics", format!("\"{}\"", "x".repeat(1_500_000))).unwrap();
    vm.wait_unready("closes the connection at each GET 'metrics'", PATIENCE);
    sleep(Duration::from_millis(1500));
    vm.wait_lines(&["WARN"], 1);
    let () = redis.set("metrics", 1).unwrap();
    vm.wait_result(&mut redis, r#"{"got": 1}"#, bound(RECOVERY));
    vm.wait_lines(&["INFO", "works again after"], 1);
}
