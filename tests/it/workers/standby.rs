//! What is kept ready for a worker that has to be replaced, and replacements by plan.

use super::*;

/// Notes its imports, counts its calls, and does what it is asked to.
const COUNTING: &str = r#"
import threading
note("imports")
kept = []


def handler(event, context):
    note(n=event["n"])
    context.env["calls"] = context.env.get("calls", 0) + 1
    if event.get("do") == "hang":
        time.sleep(1e9)
    if event.get("do") == "die":
        os._exit(3)
    if event.get("do") == "grow":
        kept.append(b"x" * (8 << 20))
        time.sleep(0.02)
    if event.get("do") == "lock":
        context.env["a lock"] = threading.Lock()
    if event.get("do") == "pause":
        time.sleep(0.02)
    return {"n": event["n"], "pid": os.getpid(), "calls": context.env["calls"], "keys": sorted(context.env)}
"#;

impl Fed {
    /// The workers that have imported the function, in their order.
    fn imports(&self) -> Vec<i64> {
        self.lines("imports").iter().map(|line| line["pid"].as_i64().unwrap()).collect()
    }
}

#[test]
fn a_standby_without_the_function_imports_it_once_per_worker_that_works() {
    let mut fed = Fed::python(COUNTING, "timeout = \"150ms\"");
    for n in 0..4 {
        // one that works, one that waits
        fed.wait_family(2);
        fed.send(&[json!({"n": format!("{n} ends"), "do": if n % 2 == 0 { "hang" } else { "die" }}), json!({"n": n})]);
        fed.result(&n.into());
        let workers: Vec<_> = fed.results().iter().map(|result| result["pid"].as_i64().unwrap()).collect();
        assert_eq!(fed.imports(), workers, "in those that have worked, once each");
    }
    fed.stop();
}

#[test]
fn a_standby_with_the_function_has_imported_it() {
    let mut fed = Fed::python(COUNTING, "standby = \"imported\"");
    let there = eventually(PATIENCE, || (fed.imports().len() == 2).then_some(()));
    assert!(there.is_some(), "{:?}", fed.imports());
    fed.wait_family(2);
    let standby = fed.imports()[1];
    fed.send(&[json!({"n": "ends", "do": "die"}), json!({"n": 1})]);
    assert_eq!(fed.result(&1.into())["pid"], standby, "it takes over");
    let there = eventually(PATIENCE, || (fed.imports().len() == 3).then_some(()));
    assert!(there.is_some(), "and has a successor: {:?}", fed.imports());
    fed.stop();
}

#[test]
fn new_code_is_never_run_by_a_standby_that_imported_the_old() {
    for standby in ["imported", "interpreter", "none"] {
        let mut fed = Fed::python(COUNTING, &format!("standby = \"{standby}\""));
        if standby != "none" {
            fed.wait_family(2);
        }
        fed.replace(&COUNTING.replace("\"pid\": os.getpid()", "\"new\": 1"));
        fed.wait_count("reloads_total", "outcome=\"ok\"", 1);
        for n in 0..2 {
            fed.send(&[json!({"n": "ends", "do": "die"}), json!({"n": n})]);
            assert_eq!(fed.result(&n.into())["new"], 1, "{standby}");
        }
        fed.stop();
    }
}

#[test]
fn without_a_standby_there_is_one_process() {
    let mut fed = Fed::python(COUNTING, "standby = \"none\"");
    fed.wait_family(1);
    fed.send(&[json!({"n": "ends", "do": "die"}), json!({"n": 1})]);
    fed.result(&1.into());
    fed.wait_family(1);
    assert_eq!(fed.imports().len(), 2);
    fed.stop();
}

/// So many replacements, each found by what `event` gives, over which the count goes on.
fn replaced(options: &str, what: &str, reason: &str, least: usize) -> Fed {
    let mut fed = Fed::python(COUNTING, options);
    let (mut n, mut workers) = (1, vec![fed.results()[0]["pid"].clone()]);
    while workers.len() < least + 1 {
        n += 1;
        let result = fed.ask(json!({"n": n, "do": what}));
        assert_eq!(result["calls"], n, "{options}\n{}", fed.vm.running.written());
        if workers.last() != Some(&result["pid"]) {
            assert!(!workers.contains(&result["pid"]));
            workers.push(result["pid"].clone());
        }
        assert!(n < 10_000, "{options}\n{}", fed.vm.running.written());
    }
    // one more may be due by now
    let said = || fed.vm.lines(&["INFO", "its worker was replaced: ", reason]) >= least;
    assert!(eventually(PATIENCE, || said().then_some(())).is_some(), "{}", fed.vm.running.written());
    assert_eq!(fed.vm.lines(&["WARN"]) + fed.vm.lines(&["ERROR"]), 0, "{}", fed.vm.running.written());
    fed.wait_count("invocations_total", "outcome=\"ok\"", n);
    fed
}

#[test]
fn workers_are_replaced_after_so_many_events_and_the_state_goes_on() {
    let mut fed = replaced("max_events = 7", "count", "it was called with 7 events", 5);
    // each has imported the function once, and has had its seven
    let calls = fed.calls();
    for chunk in calls.chunks(7) {
        assert!(chunk.iter().all(|call| call["pid"] == chunk[0]["pid"]), "{chunk:?}");
    }
    fed.wait_family(2);
    let restarts = fed.imports().len() - 1;
    fed.wait_count("worker_restarts_total", "function=\"vm\"", restarts);
    fed.wait_count("worker_kills_total", "function=\"vm\"", 0);
    fed.stop();
}

#[test]
fn workers_are_replaced_at_an_age() {
    replaced("max_age = \"300ms\"", "pause", " s old", 5).stop();
}

#[test]
fn workers_are_replaced_when_they_have_grown() {
    replaced("max_resident = \"120MiB\"\nstandby = \"imported\"", "grow", "it holds 1", 2).stop();
}

#[test]
fn what_cannot_be_carried_to_the_next_worker_is_named() {
    let mut fed = Fed::python(COUNTING, "max_events = 3");
    fed.ask(json!({"n": 1, "do": "lock"}));
    fed.ask(json!({"n": 2}));
    let result = fed.ask(json!({"n": 3}));
    assert_eq!((&result["calls"], &result["keys"]), (&json!(4), &json!(["calls"])));
    fed.vm.wait_lines(&["WARN", "replacing the worker lost ", "a lock"], 1);
    for n in 4..=12 {
        assert_eq!(fed.ask(json!({"n": n}))["calls"], n + 1);
    }
    assert_eq!(fed.vm.lines(&["WARN"]), 1, "{}", fed.vm.running.written());
    fed.stop();
}
