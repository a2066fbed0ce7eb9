//! The rows of "From a key", each with its name. State and results are in the server of the key.

use super::*;
use crate::support::bed::wait_looks;

fn set(redis: &mut redis::Connection, event: &Value) {
    let () = redis.set("metrics", event.to_string()).unwrap();
}

fn result(redis: &mut redis::Connection) -> Option<Value> {
    let text: Option<String> = redis.get("result").unwrap();
    text.map(|text| serde_json::from_str(&text).unwrap())
}

/// Waits for the result of the event with this `i`.
fn wait_result(redis: &mut redis::Connection, vm: &Vm, i: u64) -> Value {
    let found = eventually(PATIENCE, || result(redis).filter(|result| result["i"] == i));
    found.unwrap_or_else(|| panic!("the result is {:?}, not that of {i}\n{}", result(redis), vm.running.written()))
}

/// A value that is fine, one that does this, and one that is fine; with one further attempt for the failed one, which no
/// newer value ends.
fn fails(what: &str, options: &str, error: &str) -> (Vm, redis::Connection, RedisServer) {
    let server = RedisServer::start();
    let mut redis = server.connection();
    set(&mut redis, &event(1, ""));
    let mut vm = of_key(&server, &format!("errors.retries = 1\n{options}")).start();
    wait_result(&mut redis, &vm, 1);
    set(&mut redis, &event(2, what));
    wait_counts(&mut vm, &[("invocations_total", "outcome=\"failed\"", 2), ("retries_total", "", 1)]);
    // it has had its calls, and is not called again
    wait_looks(&mut redis, 3);
    assert_eq!(result(&mut redis).unwrap()["i"], 1, "the old result stays");
    assert_eq!(state(&mut redis), Some((1, json!([1]))));
    set(&mut redis, &event(3, ""));
    assert_eq!(wait_result(&mut redis, &vm, 3)["n"], 2);
    assert_eq!(state(&mut redis), Some((2, json!([1, 3]))), "as if the second value had never been");
    let attempts: Vec<_> = calls(&vm, 2).iter().map(|call| call["attempt"].clone()).collect();
    assert_eq!(attempts, [1, 2]);
    vm.wait_lines(&["ERROR", "call failed: ", error], 2);
    wait_counts(
        &mut vm,
        &[
            ("invocations_total", "outcome=\"failed\"", 2),
            ("invocations_total", "outcome=\"ok\"", 2),
            ("dead_letters_total", "", 0),
        ],
    );
    assert_eq!(dead(&mut redis), []);
    (vm, redis, server)
}

#[test]
fn ok() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    set(&mut redis, &event(1, ""));
    let mut vm = of_key(&server, "state.lease = \"300ms\"").start();
    wait_result(&mut redis, &vm, 1);
    set(&mut redis, &event(2, "nothing"));
    wait_counts(&mut vm, &[("invocations_total", "outcome=\"empty\"", 1)]);
    let counted = eventually(PATIENCE, || (state(&mut redis)? == (2, json!([1, 2]))).then_some(()));
    assert!(counted.is_some(), "{:?}", state(&mut redis));
    assert_eq!(result(&mut redis).unwrap()["i"], 1, "the old result stays");
    wait_counts(&mut vm, &[("invocations_total", "outcome=\"ok\"", 1), ("invocations_total", "outcome=\"failed\"", 0)]);
    vm.wait_lines(&["commit: atomic (redis)"], 1);
    // the value that was seen is part of the state
    vm.running.signal(Signal::TERM);
    vm.running.wait_exit(PATIENCE);
    let vm = of_key(&server, "state.lease = \"300ms\"").start();
    wait_looks(&mut redis, 3);
    assert_eq!(calls(&vm, 2).len(), 0);
    set(&mut redis, &event(3, ""));
    assert_eq!(wait_result(&mut redis, &vm, 3)["n"], 3);
}

#[test]
fn raise() {
    fails("raise", "", "ValueError: cannot stand it");
}

#[test]
fn timeout() {
    let (mut vm, ..) = fails("hang", "timeout = \"300ms\"", "no answer within 300ms: the worker was killed after ");
    wait_counts(&mut vm, &[("worker_kills_total", "reason=\"timeout\"", 2), ("worker_restarts_total", "", 2)]);
}

#[test]
fn crash() {
    let (mut vm, ..) = fails("segv", "isolation = \"process\"", "the worker was killed by SIGSEGV");
    wait_counts(&mut vm, &[("worker_restarts_total", "", 2), ("worker_kills_total", "", 0)]);
}

#[test]
fn bad_input() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    set(&mut redis, &event(1, ""));
    let mut vm = of_key(&server, "").start();
    wait_result(&mut redis, &vm, 1);
    let () = redis.set("metrics", "{").unwrap();
    vm.wait_lines(&["WARN", "key 'metrics' is left alone until it changes"], 1);
    wait_looks(&mut redis, 3);
    // the value that was there before is no change
    set(&mut redis, &event(1, ""));
    wait_looks(&mut redis, 3);
    assert_eq!(calls(&vm, 1).len(), 1);
    assert_eq!((result(&mut redis).unwrap()["i"].clone(), state(&mut redis)), (json!(1), Some((1, json!([1])))));
    set(&mut redis, &event(2, ""));
    wait_result(&mut redis, &vm, 2);
    wait_counts(
        &mut vm,
        &[
            ("invocations_total", "outcome=\"ok\"", 2),
            ("invocations_total", "outcome=\"bad_input\"", 0),
            ("invocations_total", "outcome=\"failed\"", 0),
        ],
    );
}

#[test]
fn bad_output() {
    fails("object", "", "$.at.place");
}

#[test]
fn no_place_for_the_result() {
    let sink = "sinks.astray = { use = \"redis_key\", key = \"by:{/n}\" }";
    fails("astray", sink, "key 'by:{/n}': the value at '/n' is no text or number");
}

#[test]
fn result_refused_by_the_server() {
    let server = RedisServer::start_with(&["--proto-max-bulk-len", "1048576"]);
    let mut redis = server.connection();
    set(&mut redis, &event(1, ""));
    let mut vm = of_key(&server, "errors.retries = 1").start();
    wait_result(&mut redis, &vm, 1);
    set(&mut redis, &event(2, "bulk"));
    wait_counts(&mut vm, &[("invocations_total", "outcome=\"failed\"", 2), ("retries_total", "", 1)]);
    assert_eq!(result(&mut redis).unwrap()["i"], 1, "the old result stays");
    set(&mut redis, &event(3, ""));
    assert_eq!(wait_result(&mut redis, &vm, 3)["n"], 2);
    assert_eq!(state(&mut redis), Some((2, json!([1, 3]))), "as if the second value had never been");
    vm.wait_lines(&["call failed: ", "(proto-max-bulk-len 1048576): keep results smaller, or raise it"], 2);
    assert_eq!(vm.readiness().unwrap().0, 200);
}

#[test]
fn state_too_big() {
    fails(
        "grow",
        "state.max_bytes = \"1KiB\"",
        "more than max_bytes 1KiB, 5010 of them under the key \"window\": keep less in it, or raise state.max_bytes",
    );
}

#[test]
fn backend_down() {
    let mut server = lasting();
    let mut redis = server.connection();
    set(&mut redis, &event(1, "sleep"));
    let bed = of_key(&server, "");
    std::fs::write(bed.folder.path().join("sleep"), "").unwrap();
    let mut vm = bed.start();
    wait_call(&vm, 1, 1);
    server.kill9();
    std::fs::remove_file(vm.folder.path().join("sleep")).unwrap();
    vm.wait_unready("commit: redis at ", PATIENCE);
    server.restart();
    let mut redis = server.connection();
    assert_eq!(wait_result(&mut redis, &vm, 1)["n"], 1);
    assert_eq!(state(&mut redis), Some((1, json!([1]))));
    wait_looks(&mut redis, 3);
    assert_eq!(calls(&vm, 1).len(), 1, "the call is not repeated");
    vm.wait_ready(PATIENCE);
    wait_counts(&mut vm, &[("invocations_total", "outcome=\"ok\"", 1), ("invocations_total", "outcome=\"failed\"", 0)]);
}

/// Another process takes over while the one that has the lease is stopped in the middle of a call.
#[test]
fn ownership_lost() {
    taken_over("", "commit: atomic (redis)");
}

/// The same where the step is none.
#[test]
fn ownership_lost_in_order() {
    taken_over("sinks.log.use = \"stdout\"", "commit: in order (at least once)");
}

fn taken_over(options: &str, commit: &str) {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let bed = |life: &str| of_key(&server, &format!("state.lease = \"500ms\"\n{options}")).env("LIFE", life);
    set(&mut redis, &event(1, "sleep"));
    let first = bed("first");
    std::fs::write(first.folder.path().join("sleep"), "").unwrap();
    let mut first = first.start();
    wait_call(&first, 1, 1);
    first.wait_lines(&[commit], 1);
    let mut second = bed("second").start();
    second.wait_lines(&["INFO", "stands by: ", " runs it"], 1);
    halt(&mut first);
    std::fs::remove_file(first.folder.path().join("sleep")).unwrap();
    assert_eq!(wait_result(&mut redis, &second, 1)["life"], "second");
    first.running.signal(Signal::CONT);
    wait_counts(&mut first, &[("fenced_total", "", 1), ("invocations_total", "outcome=\"ok\"", 1)]);
    first.wait_lines(&["WARN", "the lease is lost, and what was in work with it"], 1);
    assert_eq!(
        (result(&mut redis).unwrap()["life"].clone(), state(&mut redis)),
        (json!("second"), Some((1, json!([1]))))
    );
    // and back again, with the other one's state, and without a call for what that one has seen
    second.running.signal(Signal::TERM);
    second.running.wait_exit(PATIENCE);
    first.wait_lines(&["INFO", "this process runs it now"], 1);
    set(&mut redis, &event(2, ""));
    let result = wait_result(&mut redis, &first, 2);
    assert_eq!((&result["life"], &result["n"]), (&json!("first"), &json!(2)));
    assert_eq!(calls(&first, 1).len(), 1);
}

/// Whether or not there was a good one before.
#[test]
fn a_failed_value_is_called_again_after_a_start() {
    for before in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("state.use = \"file\"\nstate.path = \"{}\"", folder.path().join("vm.json").display());
        let memory = "source.lease = \"200ms\"\nstate.use = \"memory\"";
        for store in ["state.lease = \"200ms\"", memory, &file] {
            let server = RedisServer::start();
            let mut redis = server.connection();
            let mut vm = of_key(&server, store).start();
            if before {
                set(&mut redis, &event(1, ""));
                wait_result(&mut redis, &vm, 1);
            }
            set(&mut redis, &event(2, "raise"));
            wait_counts(&mut vm, &[("invocations_total", "outcome=\"failed\"", 1)]);
            wait_looks(&mut redis, 3);
            vm.running.signal(Signal::TERM);
            vm.running.wait_exit(PATIENCE);
            assert_eq!(calls(&vm, 2).len(), 1, "{store}");
            let vm = of_key(&server, store).start();
            wait_looks(&mut redis, 3);
            wait_call(&vm, 2, 1);
        }
    }
}
