//! What a batch of a stream costs on the server, and what events that always fail cost all others.
//!
//! * `timing` - how much later the others come, and how many fewer

mod timing;

use std::collections::BTreeMap;
use std::fs::{copy, read_to_string};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::LazyLock;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::support::bed::{Bed, PATIENCE, Vm};
use crate::support::project;
use crate::support::redis::RedisServer;
use crate::support::wait::eventually;

/// The yardstick function, which fails for some events after it has changed its state.
const CODE: &str = "from handler_vm import handler as yardstick\n\n\n\
    def handler(input, context):\n    \
        result = yardstick(input, context)\n    \
        if input['poison']:\n        \
            raise ValueError('poison')\n    \
        return {'i': input['i'], **result}\n";

/// One event in so many is poison.
const RARE: usize = 100;

/// Attempts of an event before it is a dead letter: the first one, and the retries that queues have by default.
const ATTEMPTS: &str = "4";

static LINES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let text = read_to_string(project("tests/data/metrics.jsonl")).unwrap();
    text.lines().map(str::to_owned).collect()
});

/// From the stream `in` to the stream `out`, both on this server, with the state in this store.
fn bed(server: &RedisServer, state: &str) -> Bed {
    let bed = Bed::bare(CODE);
    copy(project("benches/peers/handler_vm.py"), bed.folder.path().join("handler_vm.py")).unwrap();
    bed.more(&format!(
        "[redis]\nurl = \"{}\"\n\
         [functions.vm]\nisolation = \"process\"\nstate.use = \"{state}\"\nerrors.backoff = \"10ms\"\n\
         source = {{ use = \"redis_stream\", stream = \"in\", field = \"data\" }}\n\
         loader = {{ use = \"file\", path = \"usermodule.py\" }}\n\
         sinks.result = {{ use = \"redis_stream\", stream = \"out\", max_length = 0 }}\n",
        server.url()
    ))
}

fn is_poison(i: usize, poisoned: bool) -> bool {
    poisoned && i % RARE == RARE / 2
}

/// An event of about 2 KB.
fn event(i: usize, poisoned: bool) -> String {
    format!("{{\"i\":{i},\"poison\":{},{}", is_poison(i, poisoned), &LINES[i % LINES.len()][1..])
}

/// Adds events before anybody reads them.
fn fill(redis: &mut redis::Connection, events: usize, poisoned: bool) {
    for start in (0..events).step_by(1000) {
        let mut pipeline = redis::pipe();
        for i in start..events.min(start + 1000) {
            pipeline.cmd("XADD").arg(&["in", "*", "data", &event(i, poisoned)]).ignore();
        }
        let () = pipeline.query(redis).unwrap();
    }
}

fn length(redis: &mut redis::Connection, stream: &str) -> usize {
    redis::cmd("XLEN").arg(stream).query(redis).unwrap()
}

/// Waits until so many events have results, so many others are dead letters after all their attempts, and nothing is
/// pending. When that was.
fn wait_done(redis: &mut redis::Connection, vm: &Vm, good: usize, dead: usize) -> Instant {
    let mut last = (0, 0, redis::Value::Nil);
    let done = eventually(PATIENCE * 4, || {
        let summary: Vec<redis::Value> = redis::cmd("XPENDING").arg(&["in", "vm"]).query(redis).ok()?;
        last = (length(redis, "out"), length(redis, "gaugefn:dead:{vm}"), summary.into_iter().next()?);
        (last == (good, dead, redis::Value::Int(0))).then(Instant::now)
    });
    let Some(done) = done else {
        panic!("results, letters, pending: {last:?}, not {good}, {dead}, 0\n{}", tail(&vm.running.written()));
    };
    let letters: Vec<(String, BTreeMap<String, String>)> =
        redis::cmd("XRANGE").arg(&["gaugefn:dead:{vm}", "-", "+"]).query(redis).unwrap();
    for (_, letter) in letters {
        assert!(letter["attempts"] == ATTEMPTS && letter["payload"].contains("\"poison\":true"), "{letter:?}");
    }
    done
}

/// The log of thousands of failures is too long for a message.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(100)..].join("\n")
}

/// A command as the server saw it: whether a script ran it, its name, and its first argument.
#[derive(Debug)]
struct Seen {
    by_script: bool,
    command: String,
    first: String,
}

/// Everything that is asked of the server from now on, until somebody says `ECHO done`.
fn watch(server: &RedisServer) -> JoinHandle<Vec<Seen>> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
    stream.write_all(b"MONITOR\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "+OK");
    std::thread::spawn(move || {
        let lines = lines.map(Result::unwrap).take_while(|line| !line.contains("\"ECHO\" \"done\""));
        // +1700000000.000000 [0 127.0.0.1:40000] "XADD" "out" …, or [0 lua]
        let seen = |line: String| {
            let (who, what) = line.split_once("] ").unwrap();
            let mut words = what.split(' ').map(|word| word.trim_matches('"').to_owned());
            let (command, first) = (words.next().unwrap(), words.next().unwrap_or_default());
            Seen { by_script: who.ends_with(" lua"), command: command.to_uppercase(), first }
        };
        lines.map(seen).collect()
    })
}

#[test]
fn results_state_and_acknowledgement_of_a_batch_are_one_round_trip() {
    const BATCHES: usize = 10;
    const BATCH: usize = 100;
    for (state, states) in [("redis", 1), ("memory", 0)] {
        let server = RedisServer::start();
        let mut redis = server.connection();
        fill(&mut redis, BATCHES * BATCH, false);
        let watched = watch(&server);
        let mut vm = bed(&server, state).start();
        vm.wait_calls((BATCHES * BATCH) as u64);
        let () = redis::cmd("ECHO").arg("done").query(&mut redis).unwrap();
        let seen = watched.join().unwrap();
        wait_done(&mut redis, &vm, BATCHES * BATCH, 0);

        // each commit with what its script has run
        let starts = seen.iter().enumerate().filter(|(_, seen)| !seen.by_script).map(|(at, _)| at);
        let script = |at: usize| seen[at + 1..].iter().take_while(|seen| seen.by_script).collect::<Vec<_>>();
        let commits: Vec<(usize, Vec<&Seen>)> = starts
            .map(|at| (at, script(at)))
            .filter(|(_, ran)| ran.iter().any(|seen| seen.command == "XADD"))
            .collect();
        assert_eq!(commits.len(), BATCHES, "{state}");
        for (at, ran) in &commits {
            assert_eq!(seen[*at].command, "EVALSHA");
            let count = |command: &str, first: &str| {
                ran.iter().filter(|seen| seen.command == command && seen.first == first).count()
            };
            let counts = (count("XADD", "out"), count("XACK", "in"), count("HSET", "gaugefn:state:{vm}").min(1));
            assert_eq!(counts, (BATCH, 1, states), "{state}: {ran:?}");
        }

        // nothing is written but by them, and between them there is nothing but reading on
        let of_clients = |seen: &[Seen]| -> Vec<String> {
            seen.iter().filter(|seen| !seen.by_script).map(|seen| seen.command.clone()).collect()
        };
        let writing = ["XADD", "XACK", "HSET", "SET", "MULTI", "EXEC"];
        let all = of_clients(&seen);
        assert!(!all.iter().any(|command| writing.contains(&&**command)), "{state}: {all:?}");
        let between = of_clients(&seen[commits[0].0..commits[BATCHES - 1].0]);
        let trips = between.iter().filter(|command| *command != "XREADGROUP").count();
        assert!(trips < BATCHES + 3, "{state}: {between:?}");
    }
}
