//! What can be seen from outside: health, readiness, metrics, the list of functions, and the log as JSON.

mod clients;
mod metrics;
mod own;

use crate::support::admin::Admin;
use crate::support::gaugefn::{Gaugefn, Output, Running};
use crate::support::redis::RedisServer;
use crate::support::tier::inline;
use crate::support::wait::eventually;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::write;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Far above what any of these takes, on a machine that runs every test at once.
const PATIENCE: Duration = Duration::from_secs(20);

const ECHO: &str =
    "def handler(input, context):\n    if input == 'raise':\n        raise ValueError('no')\n    return input\n";

/// A folder with one function.
struct Yard {
    top: TempDir,
}

impl Yard {
    fn with(function: &str) -> Self {
        let top = tempfile::tempdir().unwrap();
        write(top.path().join("fn.py"), function).unwrap();
        Self { top }
    }

    /// `gaugefn run` of the function inside the folder, on live metrics of this machine, with nothing remote.
    fn run(&self, listen: &str) -> Gaugefn {
        alone(self.top.path(), listen)
    }

    /// `gaugefn run` of the function on this server, every 100 ms.
    fn serve(&self, redis: &RedisServer, listen: &str) -> Gaugefn {
        Gaugefn::command()
            .args(["run"])
            .env("USER_MODULE_PATH", self.top.path().join("fn.py"))
            .env("REDIS_HOST", "127.0.0.1")
            .env("REDIS_PORT", redis.port().to_string())
            .env("REDIS_OUTPUT_KEY", "result")
            .env("REDIS_MONITOR_PERIOD", "0.1")
            .env("GAUGEFN__ADMIN__LISTEN", listen)
    }
}

fn alone(folder: &Path, listen: &str) -> Gaugefn {
    Gaugefn::command()
        .args(["run"])
        .env("USER_MODULE_PATH", folder.join("fn.py"))
        .env("GAUGEFN__FUNCTIONS__DEFAULT__SOURCE__USE", "host")
        .env("GAUGEFN__FUNCTIONS__DEFAULT__SOURCE__PERIOD", "100ms")
        .env("GAUGEFN__FUNCTIONS__DEFAULT__SINKS__STDOUT__USE", "stdout")
        .env("GAUGEFN__ADMIN__LISTEN", listen)
}

fn until<T>(what: &str, running: &Running, probe: impl FnMut() -> Option<T>) -> T {
    eventually(PATIENCE, probe).unwrap_or_else(|| panic!("{what}: not within {PATIENCE:?}\n{}", running.written()))
}

fn until_status(admin: &mut Admin, running: &Running, path: &str, status: u16) -> String {
    until(&format!("{path} {status}"), running, || {
        admin.get(path).ok().filter(|(found, _)| *found == status).map(|(_, body)| body)
    })
}

fn health(listen: &str, args: &[&str]) -> Output {
    Gaugefn::command().args(["health"]).args(args).env("GAUGEFN__ADMIN__LISTEN", listen).output(PATIENCE)
}

/// Any request: the status, the headers in lower case, the body.
fn ask(address: &str, method: &str, path: &str) -> (u16, BTreeMap<String, String>, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    (status, headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(), body.to_owned())
}

/// The exposition format, every line of it looked at.
#[derive(Debug, Default)]
struct Exposition {
    kinds: BTreeMap<String, String>,
    helped: BTreeSet<String>,
    /// Name and labels of each sample.
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Exposition {
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut all = Self::default();
        let mut seen = BTreeSet::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, words) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                assert!(!words.is_empty() && all.helped.insert(name.to_owned()), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
                assert!(all.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "a second type: {line}");
            } else {
                assert!(!line.starts_with('#'), "{line}");
                let (name, labels, value) = sample(line);
                assert!(all.kinds.contains_key(all.family(&name)), "before its type: {line}");
                assert!(seen.insert((name.clone(), labels.clone())), "twice: {line}");
                all.samples.push((name, labels, value));
            }
        }
        all.check_histograms();
        all
    }

    /// The name that the type stands under.
    fn family<'a>(&self, name: &'a str) -> &'a str {
        let histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|end| name.strip_suffix(end))
            .find(|name| self.kinds.get(*name).is_some_and(|kind| kind == "histogram"));
        histogram.unwrap_or(name)
    }

    fn check_histograms(&self) {
        for name in self.kinds.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
            let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
            for (_, labels, count) in self.of(&format!("{name}_bucket")) {
                let mut labels = labels.clone();
                let bound = labels.remove("le").unwrap();
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
                series.entry(labels).or_default().push((bound, *count));
            }
            for (labels, buckets) in series {
                assert!(
                    buckets.is_sorted() && buckets.iter().map(|(_, count)| count).is_sorted(),
                    "{name}: {buckets:?}"
                );
                let (last, all) = buckets[buckets.len() - 1];
                assert_eq!((last, Some(all)), (f64::INFINITY, self.value(&format!("{name}_count"), &labels)), "{name}");
                assert!(self.value(&format!("{name}_sum"), &labels).is_some(), "{name}");
            }
        }
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &(String, BTreeMap<String, String>, f64)> {
        self.samples.iter().filter(move |(other, _, _)| other == name)
    }

    fn value(&self, name: &str, labels: &BTreeMap<String, String>) -> Option<f64> {
        self.of(name).find(|(_, other, _)| other == labels).map(|(_, _, value)| *value)
    }

    /// The value of one of gaugefn's metrics, named without its prefix, with exactly these labels.
    fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.value(&format!("gaugefn_{name}"), &labels)
    }
}

/// `name{label="value",…} 1.5`
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let end = line.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != ':');
    let (name, mut rest) = line.split_at(end.unwrap_or_else(|| panic!("{line}")));
    assert!(name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_'), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(label.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_'), "{line}");
            let mut value = String::new();
            let mut letters = after.char_indices();
            let close = loop {
                match letters.next().unwrap_or_else(|| panic!("{line}")) {
                    (_, '\\') => match letters.next() {
                        Some((_, 'n')) => value.push('\n'),
                        Some((_, letter @ ('"' | '\\'))) => value.push(letter),
                        other => panic!("escape {other:?} in {line}"),
                    },
                    (at, '"') => break at,
                    (_, letter) => value.push(letter),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            rest = after[close + 1..].trim_start_matches(',');
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    (name.to_owned(), labels, value.parse().unwrap_or_else(|_| panic!("{line}")))
}

fn metrics(admin: &mut Admin) -> Exposition {
    let (status, body) = admin.get("/metrics").unwrap();
    assert_eq!(status, 200, "{body}");
    Exposition::parse(&body)
}

const FUNCTION: (&str, &str) = ("function", "default");

#[test]
fn readiness_gives_reasons_and_follows_redis() {
    let mut redis = RedisServer::start();
    redis.kill9();
    let yard = Yard::with(ECHO);
    let mut admin = Admin::reserve();
    let running = yard.serve(&redis, &admin.listen()).spawn();
    let port = redis.port().to_string();
    let not_ready = |admin: &mut Admin| {
        until("a reason with the port", &running, || {
            let (status, body) = admin.get("/readyz").ok()?;
            let answer: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(answer["ready"], status == 200, "{body}");
            let reasons: Vec<_> = answer["reasons"].as_array()?.iter().map(|reason| reason.as_str().unwrap()).collect();
            assert_eq!(reasons.is_empty(), status == 200, "{body}");
            let named = reasons.iter().any(|reason| reason.contains("function 'default'") && reason.contains(&port));
            (status == 503 && named).then_some(())
        });
    };
    not_ready(&mut admin);
    assert_eq!(admin.get("/healthz").unwrap().0, 200, "alive, though not ready");
    assert_eq!(metrics(&mut admin).get("redis_up", &[]), Some(0.0));
    assert_eq!(health(&admin.listen(), &[]).status.code(), Some(0));
    let refused = health(&admin.listen(), &["--ready"]);
    assert_eq!((refused.status.code(), refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.stderr.contains("/readyz answers 503") && refused.stderr.contains(&port), "{refused:?}");

    redis.restart();
    let body = until_status(&mut admin, &running, "/readyz", 200);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), json!({ "ready": true, "reasons": [] }));
    assert_eq!(metrics(&mut admin).get("redis_up", &[]), Some(1.0));
    let ready = health(&admin.listen(), &["--ready"]);
    assert_eq!((ready.status.code(), ready.stderr.as_str()), (Some(0), ""), "{ready:?}");

    let before = metrics(&mut admin).get("redis_reconnects_total", &[]).unwrap();
    redis.kill9();
    not_ready(&mut admin);
    redis.restart();
    until_status(&mut admin, &running, "/readyz", 200);
    assert!(metrics(&mut admin).get("redis_reconnects_total", &[]).unwrap() > before);
}

#[test]
fn answers_have_their_types_and_only_get_is_allowed() {
    let yard = Yard::with(ECHO);
    let mut admin = Admin::reserve();
    let running = yard.run(&admin.listen()).spawn();
    until_status(&mut admin, &running, "/readyz", 200);
    let address = admin.listen();
    for (path, kind) in [
        ("/healthz", "text/plain; charset=utf-8"),
        ("/readyz", "application/json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/api/functions", "application/json"),
    ] {
        let (status, headers, body) = ask(&address, "GET", path);
        assert_eq!((status, headers["content-type"].as_str()), (200, kind), "{path}");
        assert!(!body.is_empty(), "{path}");
        let (status, _, body) = ask(&address, "HEAD", path);
        assert_eq!((status, body.as_str()), (200, ""), "{path}");
        for method in ["POST", "PUT", "DELETE"] {
            let (status, headers, _) = ask(&address, method, path);
            assert_eq!((status, headers["allow"].as_str()), (405, "GET,HEAD"), "{method} {path}");
        }
    }
    assert_eq!(ask(&address, "GET", "/api/nothing").0, 404);
    assert_eq!(ask(&address, "GET", "/metrics/..").0, 404);
}

#[test]
fn metrics_of_the_function_appear_beside_ours() {
    let yard = Yard::with(
        r#"
def handler(input, context):
    context.metrics.count("rows")
    context.metrics.count("rows", 2, table='a "quoted\\ name\n')
    context.metrics.gauge("depth", -1.5)
    context.metrics.observe("size", 0.02, unit="mib")
    return 1
"#,
    );
    let mut admin = Admin::reserve();
    let running = yard.run(&admin.listen()).spawn();
    let found = until("a metric of the function", &running, || {
        let (_, body) = admin.get("/metrics").ok()?;
        let found = Exposition::parse(&body);
        found.get("function_size_count", &[FUNCTION, ("unit", "mib")]).map(|_| found)
    });
    let rows = found.get("function_rows", &[FUNCTION]).unwrap();
    assert!(rows >= 1.0);
    assert!(found.get("function_rows", &[FUNCTION, ("table", "a \"quoted\\ name\n")]).unwrap() >= 2.0);
    assert_eq!(found.get("function_depth", &[FUNCTION]), Some(-1.5));
    assert_eq!(found.kinds["gaugefn_function_rows"], "counter");
    assert_eq!(found.kinds["gaugefn_function_depth"], "gauge");
    assert_eq!(found.kinds["gaugefn_function_size"], "histogram");
}

#[test]
fn a_port_in_use_is_named_before_anything_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let yard = Yard::with("open('started', 'w')\ndef handler(i, c): return 1\n");
    let output = yard.run(&address).current_dir(yard.top.path()).output(PATIENCE);
    assert_eq!((output.status.code(), output.stdout.as_str()), (Some(78), ""), "{output:?}");
    let words = format!("admin.listen: '{address}' cannot be listened on; free it or name another");
    assert!(output.stderr.contains(&words) && output.stderr.contains("in use"), "{output:?}");
    assert!(!yard.top.path().join("started").exists());
}

#[test]
fn a_port_of_the_systems_choice_is_logged() {
    let yard = Yard::with(ECHO);
    for (listen, host) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "[::1]")] {
        let mut running = yard.run(listen).spawn();
        running.wait_for_log("admin endpoints on http://", PATIENCE);
        let log = running.stderr();
        let (_, after) = log.split_once("admin endpoints on http://").unwrap();
        let address = after.split_whitespace().next().unwrap().to_owned();
        assert!(address.starts_with(&format!("{host}:")) && !address.ends_with(":0"), "{address}");
        until("healthz", &running, || (ask(&address, "GET", "/healthz").0 == 200).then_some(()));
        assert_eq!(health(&address, &[]).status.code(), Some(0));
    }
}

#[test]
fn health_says_what_is_missing() {
    let nothing = Admin::reserve();
    for args in [&[][..], &["--ready"]] {
        let output = health(&nothing.listen(), args);
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(1), ""), "{output:?}");
        assert!(
            output.stderr.contains("cannot be reached") && output.stderr.contains("is gaugefn running"),
            "{output:?}"
        );
    }
    let off = Gaugefn::command().args(["health"]).output(PATIENCE);
    assert_eq!((off.status.code(), off.stdout.as_str()), (Some(1), ""), "{off:?}");
    assert!(off.stderr.contains("no admin endpoint is configured; set admin.listen"), "{off:?}");
    // there is no third answer
    for (wrong, said) in [(["GAUGEFN_CONFIG", "gone.toml"], "gone.toml"), (["REDIS_PORT", "many"], "REDIS_PORT")] {
        let output = Gaugefn::command().args(["health"]).env(wrong[0], wrong[1]).output(PATIENCE);
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(1), ""), "{output:?}");
        assert!(output.stderr.contains(said), "{output:?}");
    }
    // a listener that never answers is not healthy either, and somebody else's server is no gaugefn
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let begin = Instant::now();
    let output = health(&silent.local_addr().unwrap().to_string(), &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("does not answer within"), "{output:?}");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn health_finds_the_address_in_the_config_file() {
    let yard = Yard::with(ECHO);
    let mut admin = Admin::reserve();
    let config = format!(
        "[admin]\nlisten = \"{}\"\n[functions.vm]\nisolation = \"inline\"\n[functions.vm.source]\nuse = \"host\"\nperiod = \"100ms\"\n[functions.vm.loader]\nuse = \"file\"\npath = \"fn.py\"\n[functions.vm.sinks.stdout]\n",
        admin.listen()
    );
    write(yard.top.path().join("gaugefn.toml"), config).unwrap();
    let command = |name: &str| Gaugefn::command().current_dir(yard.top.path()).args([name, "--config", "gaugefn.toml"]);
    let before = command("health").output(PATIENCE);
    assert_eq!(before.status.code(), Some(1), "{before:?}");
    let mut running = command("run").spawn();
    until_status(&mut admin, &running, "/readyz", 200);
    let ready = command("health").args(["--ready"]).output(PATIENCE);
    assert_eq!((ready.status.code(), ready.stderr.as_str()), (Some(0), ""), "{ready:?}");
    running.signal(Signal::TERM);
    assert_eq!(running.wait_exit(PATIENCE).code(), Some(0), "{}", running.written());
    assert_eq!(command("health").output(PATIENCE).status.code(), Some(1));
}

#[test]
fn a_stuck_handler_leaves_the_endpoints_answering() {
    // holds the interpreter as well as the main thread
    let yard = Yard::with("def handler(input, context):\n    print('stuck')\n    while True: pass\n");
    let mut admin = Admin::reserve();
    let mut running = yard.run(&admin.listen()).spawn();
    running.wait_for_log("stuck", PATIENCE);
    // longer than the supervisor may be silent before it counts as dead
    let end = Instant::now() + Duration::from_secs(if crate::support::tier::soak() { 30 } else { 3 });
    let mut slowest = Duration::ZERO;
    while Instant::now() < end {
        let begin = Instant::now();
        assert_eq!(admin.get("/healthz").unwrap(), (200, "alive\n".to_owned()));
        slowest = slowest.max(begin.elapsed());
        assert_eq!(metrics(&mut admin).get("in_flight", &[FUNCTION]), Some(1.0));
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    running.signal(Signal::TERM);
    running.wait_for_log("SIGTERM", PATIENCE);
    let body = until_status(&mut admin, &running, "/readyz", 503);
    assert!(body.contains("stopping"), "{body}");
    // signals in one breath count as one, and nothing shows when that breath is over
    std::thread::sleep(Duration::from_millis(500));
    running.signal(Signal::TERM);
    assert_eq!(running.wait_exit(PATIENCE).code(), Some(75), "{}", running.written());
}

mod log_lines {
    use super::*;

    const TALKATIVE: &str = r#"
import logging, sys
print("at import")
logging.basicConfig(level=logging.INFO, format="formatted %(message)s")
n = 0
def handler(input, context):
    global n
    n += 1
    print('quotes " and \\ and\ttabs and \x1b[31mcolour', "é", n)
    print("to stderr", file=sys.stderr)
    logging.warning("two\nlines")
    logging.getLogger("quiet").debug("not shown")
    context.logger.info("by the context")
    if n == 2:
        raise ValueError('with "quotes"\nand a second line')
    return n
"#;

    fn run(format: &str) -> Output {
        let yard = Yard::with(TALKATIVE);
        write(yard.top.path().join("events.jsonl"), "1\n2\n3\n").unwrap();
        let command = yard.run("127.0.0.1:0").current_dir(yard.top.path());
        let output = command
            .env("GAUGEFN__FUNCTIONS__DEFAULT__SOURCE__USE", "file")
            .env("GAUGEFN__FUNCTIONS__DEFAULT__SOURCE__PERIOD", "10ms")
            .env("GAUGEFN__FUNCTIONS__DEFAULT__SOURCE__PATH", "events.jsonl")
            .env("GAUGEFN__LOG__FORMAT", format)
            .output(PATIENCE);
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(0), "1\n3\n"), "{output:?}");
        output
    }

    #[test]
    fn as_json_each_is_one_object() {
        let output = run("json");
        let lines: Vec<Value> = output
            .stderr
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        for line in &lines {
            for key in ["timestamp", "level", "target", "message"] {
                assert!(line[key].is_string(), "no {key} in {line}");
            }
        }
        let of = |message: &str| lines.iter().filter(|line| line["message"] == message).collect::<Vec<_>>();
        let [line] = of("at import")[..] else { panic!("{output:?}") };
        assert_eq!((&line["stream"], &line["target"]), (&json!("stdout"), &json!("function")));
        let [line] = of("quotes \" and \\ and\ttabs and \u{1b}[31mcolour é 2")[..] else { panic!("{output:?}") };
        assert_eq!((&line["function"], &line["event"]), (&json!("default"), &json!("events.jsonl:2")));
        assert_eq!(of("to stderr").len(), 3);
        assert!(of("to stderr").iter().all(|line| line["stream"] == "stderr"));
        // by the format that the function chose for its log, each once
        assert_eq!(of("formatted by the context").len(), 3);
        assert_eq!(of("formatted two\nlines").len(), 3);
        assert!(of("formatted two\nlines").iter().all(|line| line["level"] == "WARN" && line["stream"] == "root"));
        assert!(!output.stderr.contains("not shown"));
        let failed: Vec<_> =
            lines.iter().filter(|line| line["message"].as_str().unwrap().starts_with("call failed")).collect();
        let [failed] = failed[..] else { panic!("{output:?}") };
        assert_eq!((&failed["level"], &failed["event"]), (&json!("ERROR"), &json!("events.jsonl:2")));
        assert!(
            failed["message"].as_str().unwrap().ends_with("ValueError: with \"quotes\"\nand a second line"),
            "{failed}"
        );
    }

    #[test]
    fn as_text_the_fields_stand_before_the_message() {
        let output = run("text");
        let line = |words: &str| {
            let line = output.stderr.lines().find(|line| line.contains(words)).unwrap();
            // each process has its own number, and gaugefn's own says none
            match line.split_once(" worker=") {
                Some((start, rest)) => {
                    format!("{start}{}", rest.trim_start_matches(|digit: char| digit.is_ascii_digit()))
                }
                None if inline() => line.to_owned(),
                None => panic!("no worker in {line}"),
            }
        };
        assert!(line("é 2").ends_with(
            "INFO function function=default event=events.jsonl:2 stream=stdout: quotes \" and \\ and\ttabs and \\u{1b}[31mcolour é 2"
        ), "{}", line("é 2"));
        assert!(
            line("at import").ends_with("INFO function function=default stream=stdout: at import"),
            "{}",
            line("at import")
        );
        assert!(output.stderr.contains("\nValueError: with \"quotes\"\nand a second line\n"), "{}", output.stderr);
    }
}
