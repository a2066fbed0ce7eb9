//! Two processes share a stream while everything is killed and stopped.

use super::*;
use crate::support::bed::PATIENCE;
use crate::support::replica::Process;
use crate::support::tier::{inline, scale, soak};
use rustix::process::Signal;
use std::thread::sleep;
use std::time::{Instant, SystemTime};

/// Counts, slowly enough that whoever is killed has some in flight.
const COUNTING: &str = "import os\nimport time\n\n\n\
    def handler(event, context):\n    \
        time.sleep(0.004)\n    \
        context.env['n'] = context.env.get('n', 0) + 1\n    \
        return {'i': event['i'], 'k': event['k'], 'n': context.env['n'], 'by': os.environ['REPLICA']}\n";

/// Numbers that look random, told with the test's output so that a run can be had again.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("GAUGEFN_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64);
        tell(format_args!("GAUGEFN_TEST_SEED={seed}"));
        Self(seed | 1)
    }

    /// Below `limit`.
    fn roll(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.roll(to - from))
    }
}

#[allow(clippy::print_stderr, reason = "shown with the output of the test")]
fn tell(what: std::fmt::Arguments<'_>) {
    eprintln!("{what}");
}

/// What was done to the processes.
#[derive(Debug, Default)]
struct Done {
    parents_killed: usize,
    parents_stopped: usize,
    workers_killed: usize,
    workers_stopped: usize,
    connections_killed: usize,
    /// Processes whose worker was killed while it loaded the function: at the start that is the end.
    never_began: usize,
}

/// Starts what has ended, as a supervisor does. Nothing but the test has ended it.
fn revive(replicas: &mut [Replica; 2], done: &mut Done) {
    for replica in replicas {
        if let Some(status) = replica.running().exited() {
            let is_ours = replica.running().stderr().contains("was killed by SIGKILL while");
            assert!(status.code() == Some(65) && is_ours, "{status}\n{}", replica.written());
            replica.start();
            done.never_began += 1;
        }
    }
}

/// Signals one process at random; those that were stopped go on when their time has come.
fn strike(dice: &mut Dice, replicas: &mut [Replica; 2], stopped: &mut Vec<(Instant, Process)>, done: &mut Done) {
    revive(replicas, done);
    let replica = &mut replicas[dice.roll(2) as usize];
    let ways = if inline() { 2 } else { 4 };
    let stop = |mut process: Process, stopped: &mut Vec<_>, time| {
        process.stop();
        stopped.push((Instant::now() + time, process));
    };
    match dice.roll(ways) {
        0 => {
            replica.kill();
            replica.start();
            done.parents_killed += 1;
        }
        1 => {
            stop(replica.process(), stopped, dice.millis(50, 1500));
            done.parents_stopped += 1;
        }
        way => {
            let workers = replica.workers();
            // it may have none right now
            let Some(mut worker) =
                (!workers.is_empty()).then(|| workers[dice.roll(workers.len() as u64) as usize]).and_then(Process::of)
            else {
                return;
            };
            if way == 2 {
                worker.signal(Signal::KILL);
                done.workers_killed += 1;
            } else {
                stop(worker, stopped, dice.millis(50, 1500));
                done.workers_stopped += 1;
            }
        }
    }
}

/// Every connection but that of the test, each few milliseconds.
fn cut(server: &RedisServer, dice: &mut Dice, time: Duration, done: &mut Done) {
    let mut redis = server.connection();
    let end = Instant::now() + time;
    while Instant::now() < end {
        done.connections_killed +=
            redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query::<usize>(&mut redis).unwrap();
        sleep(dice.millis(3, 8));
    }
}

/// Has two processes work through the stream while all sorts of things happen; each has its result once.
fn survive(function: &str, state: &str) -> (RedisServer, Vec<Value>) {
    let (entries, strikes, restarts) = (scale(10_000, 1000), scale(200, 20), scale(5, 1));
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let folder = tempfile::tempdir().unwrap();
    code(folder.path(), COUNTING);
    let mut replicas = ["a", "b"].map(|name| {
        let config = config(&server, folder.path(), name, "batch = 20\nclaim_idle = \"500ms\"", state);
        Replica::place(folder.path(), name, &format!("[functions.vm]\n{function}\n{config}"))
    });
    replicas.iter_mut().for_each(Replica::start);
    let (mut dice, mut stopped, mut done) = (Dice::new(), Vec::new(), Done::default());
    let begin = Instant::now();
    for strike_number in 0..strikes {
        // so that there is work as long as there is trouble
        let at = |number| entries * number / strikes;
        add(&mut server.connection(), at(strike_number)..at(strike_number + 1));
        strike(&mut dice, &mut replicas, &mut stopped, &mut done);
        sleep(dice.millis(50, 500));
        stopped.retain(|(until, _)| Instant::now() < *until);
        let every = strikes / restarts;
        if strike_number % every == every / 2 {
            let time = if soak() { 3000 } else { 1000 };
            cut(&server, &mut dice, Duration::from_millis(time), &mut done);
            server.restart();
        }
    }
    stopped.clear();
    let trouble = begin.elapsed();
    let both = eventually(PATIENCE, || {
        revive(&mut replicas, &mut done);
        let ready = |replica: &mut Replica| replica.admin.get("/readyz").is_ok_and(|(status, _)| status == 200);
        replicas.iter_mut().all(ready).then_some(())
    });
    let [a, b] = &replicas;
    assert!(both.is_some(), "not ready\n{}{}", a.written(), b.written());
    wait_done(&server, entries, Duration::from_secs(scale(600, 60) as u64), &[a, b]);
    tell(format_args!(
        "{done:?} and {restarts} restarts of the server in {trouble:?}, all done after {:?}",
        begin.elapsed()
    ));
    let results = check_results(&server, entries, &[a, b]);
    let [fenced, stale] = ["come too late", "the lease is lost, and what was in work with it"]
        .map(|text| a.lines(&[text]) + b.lines(&[text]));
    tell(format_args!("{fenced} commits fenced, {stale} times the lease was lost"));
    for replica in &mut replicas {
        assert!(replica.running().exited().is_none(), "{}", replica.written());
    }
    (server, results)
}

#[test]
fn one_counter_counts_every_event_once() {
    let (server, results) = survive("", "use = \"redis\"\nlease = \"1s\"");
    // one process after the other had the state: the results are in the order of their counts
    let counts: Vec<u64> = results.iter().map(|result| result["n"].as_u64().unwrap()).collect();
    assert_eq!(counts, (1..=results.len() as u64).collect::<Vec<_>>());
    assert_eq!(count(&mut server.connection(), "gaugefn:state:{vm}"), Some(results.len() as u64));
}

/// Two processes, each with so many workers, share the states of [`KEYS`] keys.
fn count_by_key(workers: usize) {
    let (server, results) = survive(&format!("workers = {workers}"), "use = \"redis\"\nkey = \"/k\"");
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    (0..results.len()).for_each(|number| *expected.entry(key(number)).or_default() += 1);
    let mut counts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for result in &results {
        counts.entry(result["k"].as_str().unwrap().to_owned()).or_default().push(result["n"].as_u64().unwrap());
    }
    assert_eq!(counts.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let mut redis = server.connection();
    for (key, expected) in expected {
        assert_eq!(counts[&key], (1..=expected).collect::<Vec<_>>(), "{key}");
        assert_eq!(count(&mut redis, &format!("gaugefn:state:{{vm}}:\"{key}\"")), Some(expected), "{key}");
    }
}

#[test]
fn each_keys_counter_counts_every_event_of_the_key_once() {
    count_by_key(1);
}

#[test]
fn each_keys_counter_counts_every_event_of_the_key_once_with_workers_that_share_the_keys() {
    count_by_key(2);
}
