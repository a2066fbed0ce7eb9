//! `state.key`: one `context.env` for each value found in the events.

use std::collections::BTreeMap;
use std::fs::{read_to_string, write};

use serde_json::{Value, json};

use crate::support::bed::{Bed, PATIENCE};
use crate::support::wait::eventually;

const COUNTING: &str = "import os\n\n\
    def handler(input, context):\n    \
        context.env['n'] = context.env.get('n', 0) + 1\n    \
        if input.get('fresh'):\n        \
            context.env = {'n': 100}\n    \
        return {'host': input.get('host'), 'n': context.env['n'], 'event': input['i'], 'pid': os.getpid()}\n";

/// Twenty hosts in a changing order, and every tenth event without one.
fn events(count: usize) -> Vec<Value> {
    let event = |i: usize| match i % 10 {
        9 => json!({ "i": i }),
        _ => json!({ "i": i, "host": format!("host-{}", (i * 7 + i / 13) % 20) }),
    };
    (0..count).map(event).collect()
}

fn run(options: &str, events: &[Value]) -> Vec<Value> {
    run_lines(options, &events.iter().map(|event| format!("{event}\n")).collect::<String>())
}

fn run_lines(options: &str, lines: &str) -> Vec<Value> {
    run_code(COUNTING, options, lines)
}

fn run_code(code: &str, options: &str, lines: &str) -> Vec<Value> {
    let bed = Bed::bare(code);
    write(bed.folder.path().join("events.jsonl"), lines).unwrap();
    let config = format!(
        "[functions.vm]\n{options}\nsource = {{ use = \"file\", path = \"events.jsonl\" }}\n\
         loader = {{ use = \"file\", path = \"usermodule.py\" }}\n\
         sinks.result = {{ use = \"file\", path = \"results.jsonl\" }}\n"
    );
    let mut vm = bed.more(&config).spawn();
    let status = vm.running.wait_exit(PATIENCE);
    assert_eq!(status.code(), Some(0), "{}", vm.running.written());
    let text = read_to_string(vm.folder.path().join("results.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Results in the order of the events, and each host's count without a gap; how many processes there were for each.
fn check(events: &[Value], results: &[Value]) -> BTreeMap<String, Vec<u64>> {
    assert_eq!(results.len(), events.len());
    let mut counts = BTreeMap::<String, u64>::new();
    let mut pids = BTreeMap::<String, Vec<u64>>::new();
    for (event, result) in events.iter().zip(results) {
        assert_eq!(event["i"], result["event"], "the order of the events");
        let host = result["host"].to_string();
        let count = counts.entry(host.clone()).or_default();
        *count += 1;
        assert_eq!(result["n"], *count, "{host} in {result}");
        let pids = pids.entry(host).or_default();
        let pid = result["pid"].as_u64().unwrap();
        if !pids.contains(&pid) {
            pids.push(pid);
        }
    }
    pids
}

#[test]
fn every_key_has_an_env_of_its_own_and_one_worker() {
    let events = events(3000);
    for (options, workers) in [
        ("state.key = \"/host\"", 1),
        ("state.key = \"/host\"\nisolation = \"inline\"", 1),
        ("state.key = \"/host\"\nworkers = 2", 2),
    ] {
        let pids = check(&events, &run(options, &events));
        assert!(pids.values().all(|pids| pids.len() == 1), "{options}: {pids:?}");
        let mut all: Vec<_> = pids.values().flatten().collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), workers, "{options}");
    }
}

/// Python reads and writes them, so that an event with one is as good as any, wherever its state is kept.
#[test]
fn what_python_alone_takes_for_json_does_not_hide_the_key() {
    let events = events(60);
    let odd = ["NaN", "[Infinity, -Infinity]", "\"\\ud800\""];
    let line =
        |(event, odd): (&Value, &&str)| event.to_string().replacen('{', &format!("{{\"odd\": {odd}, "), 1) + "\n";
    let lines: String = events.iter().zip(odd.iter().cycle()).map(line).collect();
    for options in [
        "state.key = \"/host\"",
        "state.key = \"/host\"\nworkers = 2",
        "state = { use = \"file\", path = \"states\", key = \"/host\" }",
    ] {
        let pids = check(&events, &run_lines(options, &lines));
        assert!(pids.values().all(|pids| pids.len() == 1), "{options}: {pids:?}");
    }
}

const NUMBERING: &str = "\
def handler(input, context):
    context.env['n'] = context.env.get('n', 0) + 1
    return context.env['n']
";

/// However they are spelled, and wherever their states are kept.
#[test]
fn values_that_are_one_for_python_have_one_env_and_others_have_others() {
    let groups: &[&[&str]] = &[
        &["1", "1.0", "true", "10e-1", "1"],
        &["\"1\"", "\"\\u0031\""],
        &["0", "-0.0", "-0", "false", "0e9"],
        &["123456789012345678901234567890"],
        &["123456789012345678901234567891"],
        &["Infinity", "1e400"],
        &["-Infinity", "-1e400"],
        &["null", "null"],
        &["\"true\""],
        &["{\"a\": 1, \"b\": [true]}", "{\"b\": [1.0], \"a\": 1}"],
    ];
    let (mut lines, mut wanted) = (String::new(), Vec::new());
    for group in groups {
        for (place, value) in group.iter().enumerate() {
            lines.push_str(&format!("{{\"i\": {}, \"host\": {value}}}\n", wanted.len()));
            wanted.push(place as u64 + 1);
        }
    }
    for options in [
        "state.key = \"/host\"",
        "state.key = \"/host\"\nisolation = \"inline\"",
        "state.key = \"/host\"\nworkers = 3",
        "state = { use = \"file\", path = \"states\", key = \"/host\" }",
        "workers = 3\nstate = { use = \"file\", path = \"states\", key = \"/host\" }",
    ] {
        let results = run_code(NUMBERING, options, &lines);
        assert_eq!(results, wanted, "{options}");
    }
}

/// Tells how often its host was counted, and whose state is gone.
const FORGETFUL: &str = "import time\n\ngone = []\n\n\n\
    class Mark:\n    \
        def __init__(self, host):\n        \
            self.host = host\n\n    \
        def __del__(self):\n        \
            gone.append(self.host)\n\n\n\
    def handler(input, context):\n    \
        host = input['host']\n    \
        context.env.setdefault('mark', Mark(host) if 'n' not in context.env else None)\n    \
        context.env['n'] = context.env.get('n', 0) + 1\n    \
        time.sleep(input.get('sleep', 0))\n    \
        return {'host': host, 'n': context.env['n'], 'gone': sorted(gone)}\n";

#[test]
fn a_state_in_memory_that_nobody_uses_is_let_go() {
    let event = |host: &str, sleep: f64| format!("{}\n", json!({ "host": host, "sleep": sleep }));
    let line = |result: &Value| (result["host"].as_str().unwrap().to_owned(), result["n"].as_u64().unwrap());
    let of = |all: &[(&str, u64)]| all.iter().map(|(host, n)| ((*host).to_owned(), *n)).collect::<Vec<_>>();
    let lines = [("a", 0.0), ("a", 0.0), ("b", 0.0), ("c", 2.5), ("c", 0.0), ("b", 0.0), ("b", 0.0)];
    let lines: String = lines.iter().map(|(host, sleep)| event(host, *sleep)).collect();
    for options in ["", "isolation = \"inline\"\n", "workers = 1\nmax_events = 3\n"] {
        let results = run_code(FORGETFUL, &format!("{options}state = {{ key = \"/host\", ttl = \"2s\" }}"), &lines);
        let counts: Vec<_> = results.iter().map(line).collect();
        assert_eq!(counts, of(&[("a", 1), ("a", 2), ("b", 1), ("c", 1), ("c", 2), ("b", 1), ("b", 2)]), "{options}");
        if !options.contains("max_events") {
            assert_eq!(results[3]["gone"], json!([]), "{options}");
            assert_eq!(results[4]["gone"], json!(["a", "b"]), "{options}: its memory is free");
        }
    }
    // one for all: it is used by each
    let results = run_code(FORGETFUL, "state = { ttl = \"2s\" }", &lines);
    let counts: Vec<_> = results.iter().map(|result| result["n"].as_u64().unwrap()).collect();
    assert_eq!(counts, [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn an_env_may_be_replaced_and_survives_planned_changes_of_worker() {
    let mut events = events(2000);
    for event in &mut events[1000..] {
        event["fresh"] = (event["i"] == 1500).into();
    }
    let results = run("state.key = \"/host\"\nmax_events = 150", &events);
    let fresh = results.iter().position(|result| result["event"] == 1500).unwrap();
    let host = &results[fresh]["host"];
    let next = results[fresh + 1..].iter().find(|result| result["host"] == *host).unwrap();
    assert_eq!((&results[fresh]["n"], &next["n"]), (&json!(100), &json!(101)));
    let others = |values: &[Value]| -> Vec<Value> {
        values
            .iter()
            .zip(&results)
            .filter(|(_, result)| result["host"] != *host)
            .map(|(value, _)| value.clone())
            .collect()
    };
    let pids = check(&others(&events), &others(&results));
    assert!(pids.values().any(|pids| pids.len() > 3), "the worker was replaced several times: {pids:?}");
}

#[test]
fn what_has_no_keys_says_so() {
    let bed = Bed::bare("");
    let config = "[functions.vm]\nstate.key = \"/host\"\nsource = { use = \"host\" }\nsinks.stdout = {}\n\
                  loader = { use = \"native\", path = \"lib.so\" }\nexecutor = { use = \"native\" }\n";
    write(bed.folder.path().join("lib.so"), "").unwrap();
    let mut vm = bed.more(config).spawn();
    let ended = eventually(PATIENCE, || vm.running.exited()).unwrap();
    assert_eq!(ended.code(), Some(78), "{}", vm.running.written());
    let said =
        "functions.vm.state.key: a state for each key is not available in this version with the executor 'native'";
    assert!(vm.running.stderr().contains(said), "{}", vm.running.written());
}
