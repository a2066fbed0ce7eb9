//! Sources, executors and sinks put together by `GAUGEFN__…`, alone or above the default deployment.

use super::{Bed, FUNCTION, PATIENCE};
use crate::support::gaugefn::{Gaugefn, Running};
use crate::support::wait::eventually;
use redis::Commands;
use rustix::process::Signal;
use serde_json::Value;
use std::time::Duration;

/// `gaugefn run` with options of the function `NAME`, each as `SOURCE__USE=host`.
fn composed(name: &str, options: &[(&str, &str)]) -> Gaugefn {
    let gaugefn = Gaugefn::command().args(["run"]);
    options
        .iter()
        .fold(gaugefn, |gaugefn, (path, value)| gaugefn.env(&format!("GAUGEFN__FUNCTIONS__{name}__{path}"), value))
}

/// The first lines of its standard output, each one object.
fn objects(running: &mut Running, count: usize) -> Vec<Value> {
    let lines = eventually(PATIENCE, || {
        let ended = running.exited().is_some();
        let text = running.stdout();
        let lines: Vec<String> =
            text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned).collect();
        (lines.len() >= count || ended).then_some(lines)
    });
    let lines = lines.filter(|lines| lines.len() >= count);
    let lines = lines.unwrap_or_else(|| panic!("no {count} lines\n{}", running.written()));
    lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

const PROCESSES: &str =
    "def handler(input, context):\n    print('called')\n    return {'processes': input['n_pids']}\n";

#[test]
fn this_machine_through_python_to_standard_output() {
    let bed = Bed::new();
    let path = bed.put("vm.py", PROCESSES).display().to_string();
    for name in ["VM", "DEFAULT", "my_vm"] {
        let mut running = composed(
            name,
            &[
                ("SOURCE__USE", "host"),
                ("SOURCE__PERIOD", "0.1"),
                ("LOADER__USE", "file"),
                ("LOADER__PATH", &path),
                ("SINKS__STDOUT__USE", "stdout"),
            ],
        )
        .spawn();
        for object in objects(&mut running, 3) {
            assert!(object["processes"].as_u64().unwrap() > 0, "{object}");
        }
        assert!(!running.stderr().contains(" WARN "), "{}", running.written());
        running.signal(Signal::TERM);
        assert_eq!(running.wait_exit(PATIENCE).code(), Some(0), "{}", running.written());
    }
}

/// What the default deployment says of a table is dropped where another component is named.
#[test]
fn above_the_default_deployments_variables() {
    let bed = Bed::new();
    let mut running = bed
        .gaugefn()
        .env("PYFILE", PROCESSES)
        .env("GAUGEFN__FUNCTIONS__DEFAULT__SOURCE__USE", "host")
        .env("GAUGEFN__FUNCTIONS__DEFAULT__SOURCE__PERIOD", "0.1")
        .env("GAUGEFN__FUNCTIONS__DEFAULT__SINKS__STDOUT__USE", "stdout")
        .spawn();
    let stored: Value = serde_json::from_str(&bed.stored(&mut running)).unwrap();
    assert!(stored["processes"].as_u64().unwrap() > 0);
    assert!(!objects(&mut running, 1).is_empty());
}

#[test]
fn a_metrics_producer() {
    let bed = Bed::new();
    let url = bed.server.url();
    let () = bed.redis().del("metrics").unwrap();
    let options = [
        ("SOURCE__USE", "host"),
        ("SOURCE__PERIOD", "100ms"),
        ("EXECUTOR__USE", "passthrough"),
        ("SINKS__REDIS_KEY__KEY", "metrics"),
    ];
    let mut producer = composed("METRICS", &options).env("REDIS_URL", &url).spawn();
    let metrics: Value = serde_json::from_str(&bed.stored_in("metrics", &mut producer)).unwrap();
    assert!(metrics["virtual_memory-total"].as_u64().unwrap() > 0, "{metrics}");
    assert!(metrics["cpu_percent-0"].is_f64() && metrics["timestamp"].is_string(), "{metrics}");

    // and a function fed by it
    let mut running = bed.gaugefn().env("PYFILE", PROCESSES).spawn();
    let result: Value = serde_json::from_str(&bed.stored(&mut running)).unwrap();
    assert!(result["processes"].as_u64().unwrap() > 0);

    // the same, without a name for the function
    let options = [("SOURCE__USE", "host"), ("EXECUTOR__USE", "passthrough"), ("SINKS__OUT__USE", "stdout")];
    let mut default = composed("DEFAULT", &options).env("ZIP_TARGET_PATH", "/no/such.zip").spawn();
    assert!(objects(&mut default, 1)[0]["n_pids"].is_u64());
}

#[test]
fn several_sinks_a_time_to_live_and_a_channel() {
    let bed = Bed::new();
    let mut channel = bed.redis();
    let mut channel = channel.as_pubsub();
    channel.subscribe("results").unwrap();
    channel.set_read_timeout(Some(PATIENCE)).unwrap();
    let file = bed.path("results.jsonl").display().to_string();
    let mut running = bed
        .gaugefn()
        .env("PYFILE", FUNCTION)
        .env("GAUGEFN__FUNCTIONS__DEFAULT__SINKS__RESULT__TTL", "1m")
        .env("GAUGEFN__FUNCTIONS__DEFAULT__SINKS__RESULT__PUBLISH", "results")
        .env("GAUGEFN__FUNCTIONS__DEFAULT__SINKS__COPY__USE", "redis_key")
        .env("GAUGEFN__FUNCTIONS__DEFAULT__SINKS__COPY__KEY", "copy")
        .env("GAUGEFN__FUNCTIONS__DEFAULT__SINKS__STDOUT__USE", "stdout")
        .env("GAUGEFN__FUNCTIONS__DEFAULT__SINKS__LINES__USE", "file")
        .env("GAUGEFN__FUNCTIONS__DEFAULT__SINKS__LINES__PATH", &file)
        .spawn();
    let expected = r#"{"n": 21}"#;
    assert_eq!(bed.stored(&mut running), expected);
    assert_eq!(bed.stored_in("copy", &mut running), expected);
    assert_eq!(objects(&mut running, 1), [serde_json::json!({"n": 21})]);
    let line = eventually(PATIENCE, || std::fs::read_to_string(&file).ok().filter(|text| !text.is_empty()));
    assert_eq!(line.unwrap(), format!("{expected}\n"));
    let message: String = channel.get_message().unwrap().get_payload().unwrap();
    assert_eq!(message, expected);
    let left: i64 = bed.redis().pttl("result").unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    let left: i64 = bed.redis().pttl("copy").unwrap();
    assert_eq!(left, -1, "for good");
}

#[test]
fn keys_with_placeholders() {
    let bed = Bed::new();
    let text = "def handler(input, context):\n    return {'n': input['n'] + 1, 'disk': {'name': 'sda'}, 'a/b': True}\n";
    // of the result, of the event, and what is none: a hash tag of Cluster
    let key = "{tag}:{/host}:{/n}:{/disk/name}:{/a~1b}";
    let mut running = bed.gaugefn().env("PYFILE", text).env("REDIS_OUTPUT_KEY", key).spawn();
    let stored = bed.stored_in("{tag}:node-1:21:sda:true", &mut running);
    assert_eq!(stored, r#"{"n": 21, "disk": {"name": "sda"}, "a/b": true}"#);

    // a result without that value is named, and the next one is stored
    let () = bed.redis().set("metrics", r#"{"n": 1}"#).unwrap();
    running.wait_for_log("neither result nor event has a value at '/host'", PATIENCE);
    let () = bed.redis().set("metrics", r#"{"n": 1, "host": "node-2"}"#).unwrap();
    bed.stored_in("{tag}:node-2:2:sda:true", &mut running);
}

#[test]
fn a_call_per_period() {
    let bed = Bed::new();
    let text = "calls = 0\ndef handler(input, context):\n    global calls\n    calls += 1\n    return calls\n";
    let mut running = bed
        .elsewhere("127.0.0.1")
        .env("PYFILE", text)
        .env("MONITOR_PERIOD", "0.05")
        .env("GAUGEFN__FUNCTIONS__DEFAULT__SOURCE__TRIGGER", "always")
        .spawn();
    bed.stored(&mut running);
    let start = std::time::Instant::now();
    let calls = eventually(PATIENCE, || {
        let calls: u64 = bed.redis().get("result").unwrap();
        (calls >= 20).then_some(calls)
    });
    assert!(calls.is_some(), "{}", running.written());
    assert!(start.elapsed() >= Duration::from_millis(50 * 15), "{:?}", start.elapsed());
}
