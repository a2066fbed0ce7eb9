//! A call that fails leaves nothing behind but its dead letter: state and results are those of a run without it.

use std::collections::hash_map::RandomState;
use std::fs::{remove_file, rename, write};
use std::hash::BuildHasher;

use super::*;
use crate::support::tier::scale;

const BATCH: u64 = 10;

/// The places of a batch at which an event fails; each is a batch of its own.
const PLACES: [u64; 3] = [0, BATCH / 2, BATCH - 1];

/// So often it is called.
const ATTEMPTS: u64 = 3;

/// Events of three hosts, of which one in each batch does this; without those where it does nothing.
fn batches(what: &str) -> Vec<Vec<Value>> {
    let batch = |(at, place): (usize, &u64)| {
        let first = BATCH * at as u64 + 1;
        let events = (0..BATCH).filter(|n| !what.is_empty() || n != place);
        let events = events.map(|n| {
            let mut event = event(first + n, if n == *place { what } else { "" });
            event["host"] = format!("host-{}", n % 3).into();
            event
        });
        events.collect()
    };
    PLACES.iter().enumerate().map(batch).collect()
}

/// Runs them, batch after batch.
fn run(what: &str, options: &str) -> (Left, Vec<BTreeMap<String, String>>, Vm) {
    // what ends its process needs one of its own
    let process = match what {
        "hang" => "timeout = \"300ms\"",
        "exit" | "segv" => "isolation = \"process\"",
        _ => "",
    };
    run_all(&batches(what), &format!("{process}\n{options}"))
}

fn run_all(batches: &[Vec<Value>], options: &str) -> (Left, Vec<BTreeMap<String, String>>, Vm) {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let options = format!("errors.retries = {}\n{options}", ATTEMPTS - 1);
    let vm = of_stream(&server, &options).start();
    for batch in batches {
        add(&mut redis, batch);
        wait_done(&mut redis, &vm);
    }
    (left(&mut redis), dead(&mut redis), vm)
}

fn leaves_no_trace(what: &str) {
    for options in ["", "state.key = \"/host\""] {
        let (expected, none, _) = run("", options);
        assert_eq!(none, []);
        assert_eq!(expected.outputs.len() as u64, (BATCH - 1) * PLACES.len() as u64);
        let (found, letters, vm) = run(what, options);
        assert_eq!(found, expected, "{what} {options}\n{}", vm.running.written());
        let failed: Vec<u64> = PLACES.iter().enumerate().map(|(at, place)| BATCH * at as u64 + 1 + place).collect();
        let named: Vec<_> = letters.iter().map(|letter| letter["event"].clone()).collect();
        assert_eq!(named, failed.iter().map(|i| format!("1-{i}")).collect::<Vec<_>>());
        for (i, letter) in failed.iter().zip(&letters) {
            assert_eq!(letter["attempts"], ATTEMPTS.to_string());
            let attempts: Vec<_> = calls(&vm, *i).iter().map(|call| call["attempt"].clone()).collect();
            assert_eq!(attempts, (1..=ATTEMPTS).collect::<Vec<_>>(), "{what} {options}: event {i}");
        }
    }
}

#[test]
fn of_an_exception() {
    leaves_no_trace("raise");
}

#[test]
fn of_a_timeout() {
    leaves_no_trace("hang");
}

#[test]
fn of_an_end_of_the_process() {
    leaves_no_trace("exit");
}

#[test]
fn of_a_fault_of_memory() {
    leaves_no_trace("segv");
}

#[test]
fn of_a_system_exit() {
    leaves_no_trace("sys.exit");
}

#[test]
fn of_a_result_that_is_no_json() {
    leaves_no_trace("object");
}

/// Several in one batch, each in its own way.
#[test]
fn of_everything_at_once() {
    const WAYS: [&str; 4] = ["raise", "sys.exit", "object", "grow"];
    let limits = "isolation = \"process\"\nstate.max_bytes = \"4KiB\"";
    for options in ["", "state.key = \"/host\"", "state.key = \"/host\"\nworkers = 2"] {
        let random = RandomState::new();
        let event = |i: u64| {
            let dice = random.hash_one(i);
            let what = match (dice % 8, i % 25) {
                // seldom: a worker that ends again and again is started more and more slowly
                (_, 7) => ["exit", "segv"][(dice / 8) as usize % 2],
                (0, _) => WAYS[(dice / 8) as usize % WAYS.len()],
                _ => "",
            };
            let mut event = event(i, what);
            event["host"] = format!("host-{}", dice / 64 % 5).into();
            event
        };
        let events: Vec<Value> = (1..=scale(1000, 100) as u64).map(event).collect();
        let batches = |events: &[Value]| events.chunks(50).map(<[Value]>::to_vec).collect::<Vec<_>>();
        let good: Vec<Value> = events.iter().filter(|event| event.get("do").is_none()).cloned().collect();
        let options = format!("{limits}\n{options}");
        let (expected, none, _) = run_all(&batches(&good), &options);
        assert_eq!(none, []);
        let (found, letters, vm) = run_all(&batches(&events), &options);
        assert_eq!(found, expected, "{options}\n{events:?}\n{}", vm.running.written());
        let failed: BTreeSet<_> = letters.iter().map(|letter| letter["event"].clone()).collect();
        let bad = events.iter().filter(|event| event.get("do").is_some());
        assert_eq!(failed, bad.map(|event| format!("1-{}", event["i"])).collect());
        assert_eq!(failed.len(), letters.len(), "each of them once");
        for letter in &letters {
            assert_eq!(letter["attempts"], ATTEMPTS.to_string(), "{letter:?}");
        }
    }
}

/// A worker that cannot be started holds up neither what is done already nor the code that could be started.
#[test]
fn new_code_takes_over_where_no_worker_can_be_started() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let bed = of_stream(&server, "errors.retries = 1\nstandby = \"none\"");
    let (module, needed) = (bed.folder.path().join("usermodule.py"), bed.folder.path().join("needed"));
    write(&needed, "").unwrap();
    write(&module, format!("open('needed').close()\n{ACTING}")).unwrap();
    let mut vm = bed.start();
    add(&mut redis, &[event(1, "")]);
    wait_done(&mut redis, &vm);
    remove_file(&needed).unwrap();
    add(&mut redis, &[event(2, "exit"), event(3, "")]);
    vm.wait_lines(&["no worker can be started"], 1);
    vm.wait_unready("function 'vm', worker: ", PATIENCE);
    let next = vm.folder.path().join("next");
    write(&next, ACTING).unwrap();
    rename(next, module).unwrap();
    wait_done(&mut redis, &vm);
    wait_counts(&mut vm, &[("reloads_total", "outcome=\"ok\"", 1)]);
    assert_eq!(state(&mut redis), Some((2, json!([1, 3]))));
    let letters: Vec<_> = dead(&mut redis).into_iter().map(|letter| letter["event"].clone()).collect();
    assert_eq!(letters, ["1-2"]);
    vm.wait_ready(PATIENCE);
}
