//! When the function is called, and when not.

use crate::support::bed::{Bed, PATIENCE, RECORDING, Vm, bound, looks, wait_looks};
use crate::support::redis::RedisServer;
use crate::support::tier::scale;
use crate::support::wait::eventually;
use redis::Commands;
use rustix::process::Signal;
use serde_json::json;
use std::time::Duration;

/// Looks at the key far more often than anything here changes.
const POLLING: &str = "period = \"2ms\"\nwatch = \"poll\"";

/// Sets the key to something new and waits for its call: whatever should not have led to a call has had its chance.
fn calls_after_a_last_one(vm: &mut Vm, redis: &mut redis::Connection) -> u64 {
    let () = redis.set("metrics", r#""the last one""#).unwrap();
    vm.wait_result(redis, r#"{"got": "the last one"}"#, PATIENCE);
    vm.calls() - 1
}

fn same_value(server: &RedisServer, source: &str) {
    let mut redis = server.connection();
    let mut vm = Bed::new(server, source, RECORDING).start();
    for _ in 0..scale(1000, 100) {
        let before = looks(&mut redis);
        let () = redis.set("metrics", r#"{"cpu": 1.5}"#).unwrap();
        assert!(eventually(PATIENCE, || (looks(&mut redis) > before).then_some(())).is_some(), "nobody looks");
    }
    assert_eq!(calls_after_a_last_one(&mut vm, &mut redis), 1);
}

#[test]
fn the_same_value_again_is_no_call_when_polled() {
    same_value(&RedisServer::start(), POLLING);
}

#[test]
fn the_same_value_again_is_no_call_when_announced() {
    same_value(&RedisServer::start_with(&["--notify-keyspace-events", "KA"]), "period = \"1h\"");
}

#[test]
fn timing_always_is_a_call_per_period() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let () = redis.set("metrics", "1").unwrap();
    let mut vm = Bed::new(&server, "period = \"50ms\"\ntrigger = \"always\"", RECORDING).start();
    let calls = scale(200, 40);
    vm.wait_calls(calls as u64);
    let times: Vec<f64> = vm.recorded().iter().map(|(time, _)| *time).collect();
    let elapsed = times[calls - 1] - times[0];
    let periods = (calls - 1) as f64;
    // a period is counted from the answer, so each takes a little longer
    let most = 0.05 * periods + bound(Duration::from_millis(10)).as_secs_f64() * periods;
    assert!((0.05 * periods - 0.02..most).contains(&elapsed), "{calls} calls in {elapsed} s");
}

#[test]
fn the_same_json_in_other_words_is_no_call() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let mut vm = Bed::new(&server, POLLING, RECORDING).start();
    for text in [
        r#"{"a": 1, "b": [1.5, {"c": null, "d": "é"}]}"#,
        r#"{"b":[1.5,{"c":null,"d":"é"}],"a":1}"#,
        "\n{ \"a\" :\t1,\r\n \"b\" : [ 1.50 , {\"d\": \"\\u00e9\", \"c\": null} ] }\n",
        r#"{"b": [15e-1, {"d": "é", "c": null}], "a": 0, "a": 1}"#,
    ] {
        let () = redis.set("metrics", text).unwrap();
        wait_looks(&mut redis, 3);
    }
    assert_eq!(calls_after_a_last_one(&mut vm, &mut redis), 1);
}

#[test]
fn another_number_is_a_call_however_near() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let mut vm = Bed::new(&server, POLLING, RECORDING).start();
    let texts = [
        r#"{"n": 1}"#,
        r#"{"n": 1.0}"#,
        r#"{"n": 18446744073709551616}"#,
        r#"{"n": 18446744073709551617}"#,
        r#"{"n": 18446744073709551616.0}"#,
        r#"{"n": 0.1}"#,
        r#"{"n": 0.10000000000000000001}"#,
        r#"{"n": true}"#,
        r#"{"n": "1"}"#,
    ];
    for (before, text) in texts.iter().enumerate() {
        let () = redis.set("metrics", text).unwrap();
        vm.wait_calls(before as u64 + 1);
        wait_looks(&mut redis, 3);
    }
    assert_eq!(calls_after_a_last_one(&mut vm, &mut redis), texts.len() as u64);
}

#[test]
fn a_function_that_alters_its_input_gets_no_extra_call() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let code = "def handler(input, context):\n    input['cpu'] = 99\n    input.setdefault('seen', []).append(1)\n    \
                return {'got': input if len(input) > 3 else input.pop('last', 'no')}\n";
    let mut vm = Bed::new(&server, POLLING, code).start();
    for (number, text) in [r#"{"cpu": 1}"#, r#"{"cpu": 99, "seen": [1]}"#, r#"{"cpu": 1}"#].iter().enumerate() {
        let () = redis.set("metrics", text).unwrap();
        vm.wait_calls(number as u64 + 1);
        wait_looks(&mut redis, 20);
        assert_eq!(vm.calls(), number as u64 + 1);
    }
}

#[test]
fn missing_empty_and_malformed_values_neither_call_nor_reset() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let mut vm = Bed::new(&server, POLLING, RECORDING).start();
    wait_looks(&mut redis, 3);
    let () = redis.set("metrics", "[1]").unwrap();
    vm.wait_calls(1);
    for text in ["", "{\"cpu\": 1", "{'cpu': 1}", "{\"cpu\": 1", "{'cpu': 1}", "[1] 2"] {
        let () = redis.set("metrics", text).unwrap();
        wait_looks(&mut redis, 3);
        let () = redis.set("metrics", "[1]").unwrap();
        wait_looks(&mut redis, 3);
    }
    let () = redis.del("metrics").unwrap();
    wait_looks(&mut redis, 3);
    let () = redis.set("metrics", "[1]").unwrap();
    wait_looks(&mut redis, 3);
    assert_eq!(calls_after_a_last_one(&mut vm, &mut redis), 1);
    // once for each of the three texts, though each was looked at several times
    vm.wait_lines(&["WARN", "key 'metrics' is left alone until it changes: not json at byte"], 3);
    vm.wait_lines(&["WARN"], 3);
}

#[test]
fn a_value_that_made_the_function_raise_waits_for_a_change() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let code = "def handler(input, context):\n    if input != 'the last one':\n        raise ValueError(input)\n    \
                return {'got': input}\n";
    let mut vm = Bed::new(&server, POLLING, code).start();
    for (number, text) in ["1", "2", "1"].iter().enumerate() {
        let () = redis.set("metrics", text).unwrap();
        vm.wait_calls(number as u64 + 1);
        wait_looks(&mut redis, 20);
    }
    assert_eq!(calls_after_a_last_one(&mut vm, &mut redis), 3);
    vm.wait_lines(&["ERROR", "function=vm event=metrics:", "call failed: "], 3);
    assert_eq!(vm.lines(&["ValueError: 1"]), vm.lines(&["ValueError: 2"]) * 2);
}

/// Records its input and raises for everything that is no string.
fn raising() -> String {
    RECORDING.replace("    return", "    if not isinstance(input, str):\n        raise ValueError(input)\n    return")
}

#[test]
fn a_failed_event_is_tried_again_as_often_as_configured() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let errors = "[functions.vm.errors]\nretries = 3\nbackoff = \"10ms\"";
    let mut vm = Bed::new(&server, POLLING, &raising()).more(errors).start();
    let () = redis.set("metrics", "1").unwrap();
    vm.wait_calls(4);
    wait_looks(&mut redis, 50);
    assert_eq!(calls_after_a_last_one(&mut vm, &mut redis), 4);
    assert_eq!(vm.admin.metric("retries_total", "vm").unwrap(), Some(3.0));
    for attempt in 1..=4 {
        vm.wait_lines(&["call failed", &format!("attempt={attempt}")], 1);
    }
}

#[test]
fn a_newer_value_ends_the_retries_of_the_last_one() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let errors = "[functions.vm.errors]\nretries = 1000000\nbackoff = \"2ms\"";
    let mut vm = Bed::new(&server, POLLING, &raising()).more(errors).start();
    let () = redis.set("metrics", "1").unwrap();
    vm.wait_calls(3);
    let () = redis.set("metrics", r#""good""#).unwrap();
    vm.wait_result(&mut redis, r#"{"got": "good"}"#, PATIENCE);
    wait_looks(&mut redis, 100);
    calls_after_a_last_one(&mut vm, &mut redis);
    let inputs: Vec<_> = vm.recorded().into_iter().map(|(_, input)| input).collect();
    let tries = inputs.iter().take_while(|input| **input == json!(1)).count();
    assert!(tries >= 3);
    assert_eq!(inputs[tries..], [json!("good"), json!("the last one")]);
}

#[test]
fn a_key_of_another_type_is_named_and_waited_for() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let () = redis.lpush("metrics", 1).unwrap();
    let mut vm = Bed::new(&server, POLLING, RECORDING).spawn();
    for (calls, value) in ["1", "2"].iter().enumerate() {
        let place = format!("redis at 127.0.0.1:{} holds no string under 'metrics', as GET expects", server.port());
        vm.wait_unready(&place, PATIENCE);
        wait_looks(&mut redis, 5);
        vm.wait_lines(&["WARN", "(WRONGTYPE)"], calls + 1);
        let () = redis.del("metrics").unwrap();
        let () = redis.set("metrics", value).unwrap();
        vm.wait_calls(calls as u64 + 1);
        vm.wait_ready(PATIENCE);
        let () = redis.del("metrics").unwrap();
        let () = redis.hset("metrics", "cpu", 1).unwrap();
    }
}

#[test]
fn a_restart_leads_to_one_call() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let () = redis.set("metrics", "[1]").unwrap();
    for _ in 0..2 {
        let mut vm = Bed::new(&server, POLLING, RECORDING).start();
        vm.wait_calls(1);
        wait_looks(&mut redis, 20);
        assert_eq!(vm.calls(), 1);
        vm.running.signal(Signal::TERM);
        assert_eq!(vm.running.wait_exit(PATIENCE).code(), Some(0));
    }
}
