//! The rows of "From a stream", each with its name. State, results, dead letters and stream are in one server.

use super::*;

/// One further attempt.
const TWICE: &str = "errors.retries = 1";

/// What there is after three events, the second of which has failed for good.
fn assert_only_the_second_failed(redis: &mut redis::Connection) {
    assert_eq!(state(redis), Some((2, json!([1, 3]))), "as if the second event had never been");
    let outputs = left(redis).outputs;
    let found: Vec<_> =
        outputs.iter().map(|(id, result)| (id.as_str(), result["i"].clone(), result["n"].clone())).collect();
    assert_eq!(found, [("1-1", json!(1), json!(1)), ("1-3", json!(3), json!(2))]);
}

/// Runs three events, the second of which does this in every attempt, and has two of them.
fn fails(what: &str, options: &str, error: &str) -> (Vm, redis::Connection, RedisServer) {
    let server = RedisServer::start();
    let mut redis = server.connection();
    add(&mut redis, &[event(1, ""), event(2, what), event(3, "")]);
    let mut vm = of_stream(&server, &format!("{TWICE}\n{options}")).start();
    wait_done(&mut redis, &vm);
    assert_only_the_second_failed(&mut redis);
    let letters = dead(&mut redis);
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = &letters[0];
    assert_eq!((letter["event"].as_str(), letter["attempts"].as_str()), ("1-2", "2"));
    assert!(letter["error"].starts_with(error), "{letter:?}");
    assert_eq!(serde_json::from_str::<Value>(&letter["payload"]).unwrap(), event(2, what));
    let attempts: Vec<_> = calls(&vm, 2).iter().map(|call| call["attempt"].clone()).collect();
    assert_eq!(attempts, [1, 2]);
    wait_counts(
        &mut vm,
        &[
            ("invocations_total", "outcome=\"failed\"", 2),
            ("invocations_total", "outcome=\"ok\"", 2),
            ("retries_total", "", 1),
            ("dead_letters_total", "", 1),
            ("fenced_total", "", 0),
        ],
    );
    (vm, redis, server)
}

#[test]
fn ok() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    add(&mut redis, &[event(1, ""), event(2, "nothing"), event(3, "")]);
    let mut vm = of_stream(&server, "").start();
    wait_done(&mut redis, &vm);
    assert_eq!(state(&mut redis), Some((3, json!([1, 2, 3]))));
    let outputs: Vec<_> = left(&mut redis).outputs.into_iter().map(|(id, result)| (id, result["n"].clone())).collect();
    assert_eq!(outputs, [("1-1".to_owned(), json!(1)), ("1-3".to_owned(), json!(3))], "nothing of an empty result");
    wait_counts(
        &mut vm,
        &[
            ("invocations_total", "outcome=\"ok\"", 2),
            ("invocations_total", "outcome=\"empty\"", 1),
            ("invocations_total", "outcome=\"failed\"", 0),
        ],
    );
    assert_eq!(dead(&mut redis), []);
    vm.wait_lines(&["commit: atomic (redis)"], 1);
}

#[test]
fn raise() {
    let (vm, mut redis, _server) = fails("raise", "", "ValueError: cannot stand it");
    let failed = "call failed: ValueError: cannot stand it (";
    for (attempt, next) in
        [("attempt=1", "; tried again in about 10ms (attempt 2 of 2)"), ("attempt=2", "; kept as a dead letter")]
    {
        vm.wait_lines(&["ERROR", "function=vm event=1-2", attempt, failed, next], 1);
    }
    let letter = &dead(&mut redis)[0];
    assert!(letter["traceback"].contains("in handler"), "{letter:?}");
    assert_eq!(letter["origin"], "redis_stream in");
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
    add(&mut redis, &[event(1, "")]);
    for (id, field, value) in [("1-2", "data", "{"), ("1-3", "other", "{}")] {
        let () = redis::cmd("XADD").arg(&["in", id, field, value]).query(&mut redis).unwrap();
    }
    add(&mut redis, &[event(4, "")]);
    let mut vm = of_stream(&server, TWICE).start();
    wait_done(&mut redis, &vm);
    assert_eq!(state(&mut redis), Some((2, json!([1, 4]))));
    assert_eq!(left(&mut redis).outputs.len(), 2);
    let letters: Vec<_> = dead(&mut redis)
        .into_iter()
        .map(|letter| (letter["event"].clone(), letter["payload"].clone(), letter["attempts"].clone()))
        .collect();
    let letter = |id: &str, payload: &str| (id.to_owned(), payload.to_owned(), "1".to_owned());
    // what is found to be no event before the call is given up before the call
    assert_eq!(letters, [letter("1-3", r#"{"other":"{}"}"#), letter("1-2", "{")]);
    let letter = &dead(&mut redis)[0];
    assert_eq!(letter["error"], "the entry has no field 'data'; it has 'other'");
    assert_eq!(letter["original"], r#"[["other","{}"]]"#);
    wait_counts(
        &mut vm,
        &[
            ("invocations_total", "outcome=\"bad_input\"", 2),
            ("invocations_total", "outcome=\"failed\"", 0),
            ("retries_total", "", 0),
            ("dead_letters_total", "", 2),
        ],
    );
}

#[test]
fn bad_output() {
    fails("object", "", "the result is not json: $.at.place: object");
}

/// Nothing of it is in the other sink either. Which event of a batch it was is seen before anything is written: the others
/// are called again without it.
#[test]
fn no_place_for_the_result() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    add(&mut redis, &[event(1, ""), event(2, "astray"), event(3, "")]);
    let sink = "sinks.astray = { use = \"redis_key\", key = \"by:{/n}\" }";
    let mut vm = of_stream(&server, &format!("{TWICE}\n{sink}")).start();
    wait_done(&mut redis, &vm);
    assert_only_the_second_failed(&mut redis);
    let letters = dead(&mut redis);
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((letters[0]["event"].as_str(), letters[0]["attempts"].as_str()), ("1-2", "2"));
    let error = "the result cannot be stored by sink 'astray': key 'by:{/n}': the value at '/n' is no text or number";
    assert_eq!(letters[0]["error"], error);
    let there: u64 = redis.exists(&["by:1", "by:2"]).unwrap();
    assert_eq!(there, 2);
    wait_counts(
        &mut vm,
        &[
            ("invocations_total", "outcome=\"failed\"", 2),
            ("write_failures_total", "sink=\"astray\"", 2),
            ("dead_letters_total", "", 1),
        ],
    );
}

#[test]
fn result_refused_by_the_server() {
    let server = RedisServer::start_with(&["--proto-max-bulk-len", "1048576"]);
    let mut redis = server.connection();
    add(&mut redis, &[event(1, ""), event(2, "bulk"), event(3, "")]);
    let mut vm = of_stream(&server, TWICE).start();
    wait_done(&mut redis, &vm);
    assert_only_the_second_failed(&mut redis);
    let letters = dead(&mut redis);
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((letters[0]["event"].as_str(), letters[0]["attempts"].as_str()), ("1-2", "2"));
    let end = "(proto-max-bulk-len 1048576): keep results smaller, or raise it";
    assert!(letters[0]["error"].ends_with(end), "{letters:?}");
    wait_counts(&mut vm, &[("invocations_total", "outcome=\"failed\"", 2), ("dead_letters_total", "", 1)]);
}

/// Which event of a batch made the state so is seen when they are called again, one by one.
#[test]
fn state_too_big() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    add(&mut redis, &[event(1, ""), event(2, "grow"), event(3, "")]);
    let mut vm = of_stream(&server, &format!("{TWICE}\nstate.max_bytes = \"1KiB\"")).start();
    wait_done(&mut redis, &vm);
    assert_only_the_second_failed(&mut redis);
    let letters = dead(&mut redis);
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((letters[0]["event"].as_str(), letters[0]["attempts"].as_str()), ("1-2", "2"));
    let error = &letters[0]["error"];
    let (begin, end) = (
        "the state of function 'vm' has 50",
        " bytes, more than max_bytes 1KiB, 5010 of them under the key \"window\": keep less in it, or raise state.max_bytes",
    );
    assert!(error.starts_with(begin) && error.ends_with(end), "{error}");
    let attempts: Vec<_> = calls(&vm, 2).iter().map(|call| call["attempt"].clone()).collect();
    assert_eq!(attempts, [1, 1, 2]);
    wait_counts(
        &mut vm,
        &[("invocations_total", "outcome=\"failed\"", 2), ("retries_total", "", 1), ("dead_letters_total", "", 1)],
    );
}

#[test]
fn backend_down() {
    let mut server = lasting();
    let mut redis = server.connection();
    add(&mut redis, &[event(1, ""), event(2, "sleep"), event(3, "")]);
    let bed = of_stream(&server, "");
    std::fs::write(bed.folder.path().join("sleep"), "").unwrap();
    let mut vm = bed.start();
    wait_call(&vm, 2, 1);
    server.kill9();
    std::fs::remove_file(vm.folder.path().join("sleep")).unwrap();
    vm.wait_unready("commit: redis at ", PATIENCE);
    assert_eq!(calls(&vm, 3).len(), 1, "all of them are called, and wait");
    server.restart();
    let mut redis = server.connection();
    wait_done(&mut redis, &vm);
    assert_eq!(state(&mut redis), Some((3, json!([1, 2, 3]))));
    assert_eq!(left(&mut redis).outputs.len(), 3);
    for i in 1..=3 {
        assert_eq!(calls(&vm, i).len(), 1, "{i}");
    }
    vm.wait_ready(PATIENCE);
    wait_counts(
        &mut vm,
        &[
            ("invocations_total", "outcome=\"ok\"", 3),
            ("invocations_total", "outcome=\"failed\"", 0),
            ("retries_total", "", 0),
            ("dead_letters_total", "", 0),
        ],
    );
}

#[test]
fn a_further_attempt_comes_after_those_behind() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let events: Vec<_> = (1..=20).map(|i| event(i, if i == 5 { "raise once" } else { "" })).collect();
    add(&mut redis, &events);
    let mut vm = of_stream(&server, "").start();
    wait_done(&mut redis, &vm);
    let order: Vec<_> = left(&mut redis).outputs.iter().map(|(_, result)| result["i"].as_u64().unwrap()).collect();
    let expected: Vec<u64> = (1..=20).filter(|i| *i != 5).chain([5]).collect();
    assert_eq!(order, expected);
    assert_eq!(state(&mut redis), Some((20, json!(expected))));
    wait_counts(&mut vm, &[("retries_total", "", 1), ("dead_letters_total", "", 0)]);
}

/// The policy `stop`: what came before is committed, nothing is called after it, and the successor goes on there.
#[test]
fn stop_leaves_everything_from_the_failed_event_on() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let events: Vec<_> = (1..=9).map(|i| event(i, if i == 5 { "raise" } else { "" })).collect();
    add(&mut redis, &events);
    let stop = "errors.then = \"stop\"\nerrors.retries = 2\nstate.lease = \"300ms\"";
    let mut vm = of_stream(&server, stop).spawn();
    assert_eq!(vm.running.wait_exit(PATIENCE).code(), Some(76), "{}", vm.running.written());
    assert_eq!(calls(&vm, 5).iter().map(|call| call["attempt"].clone()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(state(&mut redis), Some((4, json!([1, 2, 3, 4]))));
    assert_eq!(left(&mut redis).outputs.len(), 4);
    let next = of_stream(&server, "errors.then = \"skip\"\nerrors.retries = 0").start();
    wait_done(&mut redis, &next);
    assert_eq!(state(&mut redis), Some((8, json!([1, 2, 3, 4, 6, 7, 8, 9]))));
    assert_eq!(dead(&mut redis), []);
}

/// What ends the whole process, not only its worker, is given up in the end; the others of its batch are called.
#[test]
fn what_ends_gaugefn_itself_is_given_up() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    add(&mut redis, &[event(1, ""), event(2, "kill the parent"), event(3, "")]);
    let mut kills = 0;
    let mut vm = loop {
        let mut vm = of_stream(&server, "isolation = \"process\"\nstate.lease = \"100ms\"").spawn();
        let ended = eventually(PATIENCE, || {
            let done = open(&mut redis) == Some((0, 0));
            (vm.running.exited().is_some() || done).then_some(done)
        });
        match ended {
            Some(false) => kills += 1,
            Some(true) => break vm,
            None => panic!("neither killed nor done\n{}", vm.running.written()),
        }
    };
    assert_eq!(kills, 20);
    let letters = dead(&mut redis);
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0]["event"], "1-2");
    assert_eq!(
        letters[0]["error"],
        "the event was delivered 21 times and was never finished: working on it seems to end the process"
    );
    assert_eq!(state(&mut redis), Some((2, json!([1, 3]))));
    assert_eq!(left(&mut redis).outputs.len(), 2);
    wait_counts(&mut vm, &[("dead_letters_total", "", 1)]);
}

/// An entry is claimed by another consumer while its own is stopped in the middle of a call.
#[test]
fn ownership_lost() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let options = |consumer: &str| {
        format!("state.key = \"/host\"\nsource.claim_idle = \"300ms\"\nsource.consumer = \"{consumer}\"")
    };
    let slow = json!({"i": 1, "host": "a", "do": "sleep"});
    let bed = of_stream(&server, &options("first")).env("LIFE", "first");
    std::fs::write(bed.folder.path().join("sleep"), "").unwrap();
    let mut first = bed.start();
    add(&mut redis, &[slow]);
    wait_call(&first, 1, 1);
    halt(&mut first);
    std::fs::remove_file(first.folder.path().join("sleep")).unwrap();
    let mut second = of_stream(&server, &options("second")).env("LIFE", "second").start();
    wait_done(&mut redis, &second);
    let after = left(&mut redis);
    assert_eq!(after.outputs, [("1-1".to_owned(), json!({"i": 1, "n": 1, "life": "second"}))]);
    first.running.signal(Signal::CONT);
    wait_counts(&mut first, &[("fenced_total", "", 1), ("invocations_total", "outcome=\"ok\"", 1)]);
    first.wait_lines(&["WARN", "1 results come too late: others have claimed their events"], 1);
    assert_eq!(left(&mut redis), after, "the late result is nowhere");
    // whoever was late goes on from what the other one has made
    second.running.signal(Signal::TERM);
    second.running.wait_exit(PATIENCE);
    add(&mut redis, &[json!({"i": 2, "host": "a"})]);
    wait_done(&mut redis, &first);
    let last = left(&mut redis).outputs.pop().unwrap();
    assert_eq!(last, ("1-2".to_owned(), json!({"i": 2, "n": 2, "life": "first"})));
    assert_eq!(dead(&mut redis), []);
}

/// The group is deleted while a call of it is under way, and while another event waits for its next attempt.
#[test]
fn group_deleted() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let bed = of_stream(&server, "errors.backoff = \"300ms\"");
    std::fs::write(bed.folder.path().join("sleep"), "").unwrap();
    let mut vm = bed.start();
    add(&mut redis, &[event(1, "")]);
    wait_done(&mut redis, &vm);
    add(&mut redis, &[event(2, "raise once"), event(3, "sleep"), event(4, "")]);
    wait_call(&vm, 3, 1);
    let () = redis::cmd("XGROUP").arg(&["DESTROY", "in", "vm"]).query(&mut redis).unwrap();
    std::fs::remove_file(vm.folder.path().join("sleep")).unwrap();
    add(&mut redis, &[event(5, "")]);
    wait_done(&mut redis, &vm);
    let mut done: Vec<_> = left(&mut redis).outputs.iter().map(|(id, _)| id.clone()).collect();
    done.sort_unstable();
    assert_eq!(done, ["1-1", "1-2", "1-3", "1-4", "1-5"], "each of them once");
    assert_eq!(state(&mut redis).unwrap().0, 5);
    vm.wait_lines(&["WARN", "group 'vm' of stream 'in' was gone; a new one begins after 1-"], 1);
    assert_eq!(vm.lines(&["others have claimed"]), 0, "{}", vm.running.written());
    wait_counts(&mut vm, &[("fenced_total", "", 0), ("dead_letters_total", "", 0)]);
}

/// The consumer is deleted while a call of it is under way, while an event waits for its next attempt, and once more while
/// nothing is.
#[test]
fn consumer_deleted() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let bed = of_stream(&server, "errors.backoff = \"1s\"\nsource.consumer = \"a\"\nsource.claim_idle = \"300ms\"");
    std::fs::write(bed.folder.path().join("sleep"), "").unwrap();
    let mut vm = bed.start();
    add(&mut redis, &[event(1, "")]);
    wait_done(&mut redis, &vm);
    add(&mut redis, &[event(2, "raise once"), event(3, "sleep"), event(4, "")]);
    wait_call(&vm, 3, 1);
    let delete = |redis: &mut redis::Connection| -> u64 {
        redis::cmd("XGROUP").arg(&["DELCONSUMER", "in", "vm", "a"]).query(redis).unwrap()
    };
    assert_eq!(delete(&mut redis), 3);
    vm.wait_lines(&["WARN", "consumer 'a' was deleted from group 'vm' of stream 'in'; it goes on, with 3 entries"], 1);
    assert_eq!(open(&mut redis), Some((0, 3)), "whoever ends now has lost nothing");
    std::fs::remove_file(vm.folder.path().join("sleep")).unwrap();
    add(&mut redis, &[event(5, "")]);
    wait_done(&mut redis, &vm);
    assert_eq!(delete(&mut redis), 0);
    add(&mut redis, &[event(6, "")]);
    wait_done(&mut redis, &vm);
    let mut done: Vec<_> = left(&mut redis).outputs.iter().map(|(id, _)| id.clone()).collect();
    done.sort_unstable();
    assert_eq!(done, ["1-1", "1-2", "1-3", "1-4", "1-5", "1-6"], "each of them once");
    assert_eq!(state(&mut redis).unwrap().0, 6);
    vm.wait_lines(&["WARN"], 1);
    wait_counts(&mut vm, &[("fenced_total", "", 0), ("dead_letters_total", "", 0)]);
}

/// Its entries are gone, and others have their ids: what was in flight is not taken for one of them.
#[test]
fn stream_replaced() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let bed = of_stream(&server, "");
    std::fs::write(bed.folder.path().join("sleep"), "").unwrap();
    let mut vm = bed.start();
    add(&mut redis, &[event(1, ""), event(2, "sleep")]);
    wait_call(&vm, 2, 1);
    let mut together = redis::pipe();
    together.atomic().cmd("DEL").arg("in").ignore();
    for i in 1..=9 {
        let data = json!({ "i": i, "second": true }).to_string();
        together.cmd("XADD").arg(&["in", &format!("1-{i}"), "data", &data]).ignore();
    }
    let () = together.query(&mut redis).unwrap();
    vm.wait_lines(&["WARN", "the stream is another one, and is read from its first entry"], 1);
    std::fs::remove_file(vm.folder.path().join("sleep")).unwrap();
    wait_done(&mut redis, &vm);
    let mut done: Vec<_> = left(&mut redis).outputs.iter().map(|(id, _)| id.clone()).collect();
    done.sort_unstable();
    assert_eq!(done, (1..=9).map(|i| format!("1-{i}")).collect::<Vec<_>>());
    assert_eq!(state(&mut redis).unwrap().0, 9);
    vm.wait_lines(&["WARN", "results are not written: stream 'in' has not their entries any more"], 1);
    assert_eq!(vm.lines(&["others have claimed"]), 0, "{}", vm.running.written());
    wait_counts(&mut vm, &[("fenced_total", "", 0), ("dead_letters_total", "", 0)]);
}

/// The same where the other one has the stopped one's name.
#[test]
fn ownership_lost_to_a_namesake() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let options = "state.key = \"/host\"\nsource.claim_idle = \"300ms\"\nsource.consumer = \"a\"";
    let bed = of_stream(&server, options).env("LIFE", "first");
    std::fs::write(bed.folder.path().join("sleep"), "").unwrap();
    let mut first = bed.start();
    add(&mut redis, &[json!({"i": 1, "host": "a", "do": "sleep"})]);
    wait_call(&first, 1, 1);
    halt(&mut first);
    std::fs::remove_file(first.folder.path().join("sleep")).unwrap();
    let second = of_stream(&server, options).env("LIFE", "second").start();
    wait_done(&mut redis, &second);
    let after = left(&mut redis);
    assert_eq!(after.outputs, [("1-1".to_owned(), json!({"i": 1, "n": 1, "life": "second"}))]);
    first.running.signal(Signal::CONT);
    wait_counts(&mut first, &[("fenced_total", "", 1)]);
    assert_eq!(left(&mut redis), after, "the late result is nowhere");
    // under a name of its own it can do the work again
    let renamed = || first.lines(&["WARN", "consumer 'a'", "goes on as 'a-"]) == 1;
    let said = eventually(PATIENCE, || renamed().then_some(()));
    assert!(said.is_some(), "{}", first.running.written());
    drop(second);
    add(&mut redis, &[json!({"i": 2, "host": "a"})]);
    let done = eventually(PATIENCE, || (left(&mut redis).outputs.len() == 2).then_some(()));
    assert!(done.is_some(), "{}", first.running.written());
}
