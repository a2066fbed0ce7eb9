//! Dead letters come after exactly as many attempts as are allowed, hold nothing up, and are worked through once.

use std::fs::{rename, write};

use super::*;
use crate::support::gaugefn::{Gaugefn, Output};

/// Cannot stand what is poison.
const PICKY: &str = "\
def handler(event, context):
    context.env['n'] = context.env.get('n', 0) + 1
    if event.get('poison'):
        raise ValueError('cannot stand it')
    return {'i': event['i'], 'n': context.env['n']}
";

const TOLERANT: &str = "\
def handler(event, context):
    context.env['n'] = context.env.get('n', 0) + 1
    return {'i': event['i'], 'n': context.env['n']}
";

/// One in a hundred.
fn some(range: std::ops::Range<u64>) -> Vec<Value> {
    range.map(|i| if i % 100 == 50 { json!({"i": i, "poison": true}) } else { json!({"i": i}) }).collect()
}

fn replay(vm: &Vm) -> Output {
    let command = Gaugefn::command().args(["dlq", "replay", "vm", "--all", "--config", "gaugefn.toml"]);
    command.current_dir(vm.folder.path()).output(PATIENCE)
}

#[test]
fn of_poison_are_replayed_once_when_the_code_is_mended() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let bed = of_stream(&server, "errors.retries = 2");
    write(bed.folder.path().join("usermodule.py"), PICKY).unwrap();
    let mut vm = bed.start();
    let all = some(0..300);
    all.chunks(30).for_each(|some| add(&mut redis, some));
    wait_done(&mut redis, &vm);
    assert_eq!(left(&mut redis).outputs.len(), 297);
    let letters = dead(&mut redis);
    let mut told: Vec<_> = letters.iter().map(|letter| (&*letter["event"], &*letter["attempts"])).collect();
    told.sort_unstable();
    assert_eq!(told, [("1-150", "3"), ("1-250", "3"), ("1-50", "3")]);
    wait_counts(&mut vm, &[("invocations_total", "outcome=\"failed\"", 9), ("dead_letters_total", "", 3)]);

    let module = vm.folder.path().join("usermodule.py");
    write(vm.folder.path().join("new"), TOLERANT).unwrap();
    rename(vm.folder.path().join("new"), &module).unwrap();
    wait_counts(&mut vm, &[("reloads_total", "outcome=\"ok\"", 1)]);
    let replayed = replay(&vm);
    assert_eq!(replayed.status.code(), Some(0), "{replayed:?}");
    let back = eventually(PATIENCE, || (left(&mut redis).outputs.len() >= 300).then_some(()));
    assert!(back.is_some(), "{}", vm.running.written());
    wait_done(&mut redis, &vm);
    assert_eq!(dead(&mut redis), []);
    let outputs = left(&mut redis).outputs;
    let mut counts: Vec<_> = outputs.iter().map(|(_, result)| result["n"].as_u64().unwrap()).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=300).collect::<Vec<_>>(), "each of them once, and none of the failed calls");
    let last: BTreeSet<_> = outputs[297..].iter().map(|(_, result)| result["i"].as_u64().unwrap()).collect();
    assert_eq!(last, BTreeSet::from([50, 150, 250]));
    // a second time there is nothing left to do
    let again = replay(&vm);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    let () = redis::cmd("XADD").arg(&["in", "*", "data", r#"{"i": 300}"#]).query(&mut redis).unwrap();
    wait_done(&mut redis, &vm);
    assert_eq!(left(&mut redis).outputs.last().unwrap().1, json!({"i": 300, "n": 301}));
}

#[test]
fn of_what_is_malformed_come_at_once() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let mut vm = of_stream(&server, "errors.retries = 5\nerrors.backoff = \"1h\"").start();
    let texts = ["{", "[1, 2", "{\"i\": NaN", "\"caf\u{0}\"", ""];
    for (n, text) in texts.iter().enumerate() {
        let id = format!("1-{}", n + 1);
        let () = redis::cmd("XADD").arg(&["in", &id, "data", text]).query(&mut redis).unwrap();
    }
    add(&mut redis, &[json!({"i": 9})]);
    wait_done(&mut redis, &vm);
    let letters = dead(&mut redis);
    let told: Vec<_> = letters.iter().map(|letter| (letter["payload"].as_str(), letter["attempts"].as_str())).collect();
    assert_eq!(told, texts.map(|text| (text, "1")));
    assert_eq!(state(&mut redis), Some((1, json!([9]))));
    wait_counts(&mut vm, &[("invocations_total", "outcome=\"bad_input\"", 5), ("retries_total", "", 0)]);
}

/// One of many keys holds something else: its result is kept with its event, and holds up no others.
#[test]
fn of_results_that_their_own_key_cannot_take() {
    for (store, attempts) in [("memory", "1"), ("redis", "2")] {
        let server = RedisServer::start();
        let mut redis = server.connection();
        let () = redis.set("out:2", "text").unwrap();
        add(&mut redis, &[event(1, ""), event(2, ""), event(3, "")]);
        let parts = "source.use = \"redis_stream\"\nsource.stream = \"in\"\nsource.field = \"data\"\n\
                     sinks.result.use = \"redis_stream\"\nsinks.result.stream = \"out:{/i}\"";
        let mut vm = bed(&server, parts, &format!("state.use = \"{store}\"\nerrors.retries = 1")).start();
        vm.wait_lines(&["commit: atomic (redis)"], 1);
        wait_done(&mut redis, &vm);
        let lengths = ["out:1", "out:3"].map(|stream| entries(&mut redis, stream).len());
        assert_eq!(lengths, [1, 1], "{store}");
        let letters = dead(&mut redis);
        assert_eq!(letters.len(), 1, "{store}: {letters:?}");
        let letter = &letters[0];
        assert_eq!((letter["event"].as_str(), letter["attempts"].as_str()), ("1-2", attempts), "{letter:?}");
        assert!(letter["error"].contains("holds no stream under 'out:2' (WRONGTYPE)"), "{letter:?}");
        assert!(vm.admin.get("/readyz").unwrap().0 == 200, "{:?}", vm.admin.get("/readyz"));
    }
}

/// A state that cannot be used is the trouble of the events that need it.
#[test]
fn of_values_whose_state_is_none() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let wrong = "gaugefn:state:{vm}:2";
    let () = redis.set(wrong, "text").unwrap();
    let () = redis.hset_multiple("gaugefn:state:{vm}:4", &[("v", "3"), ("format", "9")]).unwrap();
    add(&mut redis, &(1..6).map(|i| event(i, "")).collect::<Vec<_>>());
    let vm = of_stream(&server, "state.key = \"/i\"\nerrors.retries = 1").start();
    wait_done(&mut redis, &vm);
    let done: Vec<_> = entries(&mut redis, "out").iter().map(|entry| entry["id"].clone()).collect();
    assert_eq!(done, ["1-1", "1-3", "1-5"]);
    let letters = dead(&mut redis);
    let told: Vec<_> = letters.iter().map(|letter| (&*letter["event"], &*letter["attempts"])).collect();
    assert_eq!(told, [("1-2", "2"), ("1-4", "2")]);
    assert!(letters[0]["error"].contains(&format!("holds no hash under '{wrong}'")), "{letters:?}");
    assert!(letters[1]["error"].contains("key 'gaugefn:state:{vm}:4' holds a state of format 9"), "{letters:?}");
    assert!(calls(&vm, 2).is_empty() && calls(&vm, 4).is_empty(), "nothing is called without its state");

    let () = redis.del(&[wrong, "gaugefn:state:{vm}:4"]).unwrap();
    let replayed = replay(&vm);
    assert_eq!(replayed.status.code(), Some(0), "{replayed:?}");
    let back = eventually(PATIENCE, || (entries(&mut redis, "out").len() == 5).then_some(()));
    assert!(back.is_some(), "{}", vm.running.written());
    assert_eq!(dead(&mut redis), []);
}
