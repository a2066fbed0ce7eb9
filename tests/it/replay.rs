//! `replay`: two versions of a function over the same events.

use std::fs::{File, read_to_string, write};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::gaugefn::{Gaugefn, Output};
use crate::support::libraries::rust;
use crate::support::project;
use crate::support::tier::scale;
use crate::support::wait::eventually;

/// Far above what any of these takes, on a machine that runs every test at once.
const PATIENCE: Duration = Duration::from_secs(20);

const EVENTS: &str = "tests/data/metrics.jsonl";
const YARDSTICK: &str = "benches/peers/handler_vm.py";

/// A folder with versions of a function, and events.
struct Yard {
    top: TempDir,
}

impl Yard {
    fn with(files: &[(&str, &str)]) -> Self {
        let yard = Self { top: tempfile::tempdir().unwrap() };
        for (name, text) in files {
            write(yard.path(name), text).unwrap();
        }
        yard
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// `gaugefn replay` and these arguments, inside the folder.
    fn command(&self, args: &str) -> Gaugefn {
        Gaugefn::command().current_dir(self.top.path()).args(["replay"]).args(args.split_whitespace())
    }

    fn replay(&self, args: &str) -> Output {
        self.command(args).output(PATIENCE)
    }
}

/// Exit code, standard output, standard error.
fn said(output: &Output) -> (Option<i32>, &str, &str) {
    (output.status.code(), &output.stdout, &output.stderr)
}

const MEAN: &str = "
def handler(event, context):
    seen = context.env.setdefault('seen', [])
    seen.append(event['n'])
    return {'mean': sum(seen) / len(seen), 'n': event['n']}
";

#[test]
fn equal_versions_have_nothing_to_say() {
    let other = MEAN.replace(
        "{'mean': sum(seen) / len(seen), 'n': event['n']}",
        "{'n': event['n'] * 1.0, 'mean': sum(seen) / len(seen)}",
    );
    let yard = Yard::with(&[("a.py", MEAN), ("b.py", &other), ("events", "{\"n\": 1}\n\n{\"n\": 4}\nno json\n")]);
    let equal = (Some(0), "", "3 events, 0 differ, 1 failed in both\n");
    assert_eq!(said(&yard.replay("a.py --against b.py --event events")), equal);
    assert_eq!(said(&yard.replay("a.py --against a.py --event events --format json")), equal);
    write(yard.path("none"), "\n").unwrap();
    assert_eq!(said(&yard.replay("a.py --against b.py --event none")), (Some(0), "", "0 events, 0 differ\n"));
}

#[test]
fn a_difference_is_named_by_line_and_place() {
    let other = MEAN
        .replace("'n': event['n']", "'cpu-0': [event['n'], float('nan')]")
        .replace("append(event['n'])", "append(event['n'] or 9)");
    // without a line break at the end, and with a blank line
    let events = "{\"n\": 1}\n \n{\"n\": 0}";
    let yard = Yard::with(&[("a.py", MEAN), ("b.py", &other), ("events", events)]);
    let output = yard.replay("a.py --against b.py --event events");
    let expected = "\
event 1
  $[\"cpu-0\"]: absent against [1, NaN]
  $.n: 1 against absent
event 3
  $[\"cpu-0\"]: absent against [0, NaN]
  $.mean: 0.5 against 5.0
  $.n: 0 against absent
";
    assert_eq!(said(&output), (Some(1), expected, "2 events, 2 differ\n"));
    let output = yard.command("a.py --against b.py --event - --format json").stdin(events).output(PATIENCE);
    assert_eq!((output.status.code(), output.stderr.as_str()), (Some(1), "2 events, 2 differ\n"));
    let lines: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [first, second] = &lines[..] else { panic!("{output:?}") };
    assert_eq!(
        *first,
        json!({ "event": 1, "more": 0, "differences": [
            { "path": "$[\"cpu-0\"]", "against": [1, "NaN"] },
            { "path": "$.n", "result": 1 },
        ]})
    );
    assert_eq!(second["event"], 3);
    assert_eq!(second["differences"][1], json!({ "path": "$.mean", "result": 0.5, "against": 5.0 }));
}

#[test]
fn many_places_are_counted() {
    let yard = Yard::with(&[
        ("a.py", "def handler(event, context): return list(range(30))\n"),
        ("b.py", "def handler(event, context): return list(range(2, 32))\n"),
        ("events", "1\n"),
    ]);
    let output = yard.replay("a.py --against b.py --event events");
    assert!(output.stdout.starts_with("event 1\n  $[0]: 0 against 2\n"), "{output:?}");
    assert!(output.stdout.ends_with("\n  $[9]: 9 against 11\n  and 20 more\n"), "{output:?}");
    assert_eq!(output.stdout.lines().count(), 12);
}

#[test]
fn a_failure_in_one_version_is_a_difference() {
    let fails = "def handler(event, context):\n    return {'half': 4 / event}\n";
    let catches = "def handler(event, context):\n    return {'half': 4 / event} if event else None\n";
    let yard = Yard::with(&[("a.py", fails), ("b.py", catches), ("events", "2\n0\n4\n")]);
    let output = yard.replay("a.py --against b.py --event events");
    let error = format!("ZeroDivisionError: division by zero ({}:2 in handler)", yard.path("a.py").display());
    let expected = format!("event 2\n  $: failed ({error}) against null\n");
    assert_eq!(said(&output), (Some(1), expected.as_str(), "3 events, 1 differs\n"));
    let output = yard.replay("b.py --against a.py --event events --format json");
    let line: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(line["differences"], json!([{ "path": "$", "result": null, "against_error": error }]));
}

#[test]
fn versions_may_be_of_different_kinds() {
    let (library, events) = (rust("typed"), project(EVENTS));
    let replay = |path: &Path, against: &Path| {
        Gaugefn::command()
            .args(["replay".as_ref(), path.as_os_str(), "--against".as_ref(), against.as_os_str()])
            .args(["--event".as_ref(), events.as_os_str()])
            .output(PATIENCE)
    };
    let yardstick = project(YARDSTICK);
    assert_eq!(said(&replay(&yardstick, &library)), (Some(0), "", "500 events, 0 differ\n"));
    // a folder against a library, which count different things
    let output = replay(&project("examples/zip"), &library);
    assert_eq!((output.status.code(), output.stderr.as_str()), (Some(1), "500 events, 500 differ\n"));
}

#[test]
fn the_entry_is_that_of_the_folder() {
    let yard = Yard::with(&[("a.py", "def go(event, context): return event\n"), ("events", "7\n")]);
    std::fs::create_dir_all(yard.path("app/inner")).unwrap();
    write(yard.path("app/inner/b.py"), "def go(event, context): return event + 1\n").unwrap();
    let expected = (Some(1), "event 1\n  $: 7 against 8\n", "1 event, 1 differs\n");
    let args = "--against app --entry inner/b.py --handler go --event events";
    assert_eq!(said(&yard.replay(&format!("a.py {args}"))), expected);
}

#[test]
fn context_and_environment_reach_both() {
    let facts = "def handler(event, context): return [context.host, context.input_key, context.event_id]\n";
    let yard =
        Yard::with(&[("a.py", facts), ("b.py", "def handler(event, context): return None\n"), ("events", "\n1\n")]);
    let output = yard
        .command("a.py --against b.py --event events --context input_key=k=v")
        .env("REDIS_HOST", "h")
        .output(PATIENCE);
    assert_eq!(output.stdout, "event 2\n  $: [\"h\", \"k=v\", \"2\"] against null\n", "{output:?}");
}

#[test]
fn what_a_function_prints_or_reads_is_no_answer() {
    let noisy = "
import os, subprocess, sys

def handler(event, context):
    print('printed')
    os.write(1, b'written\\n')
    subprocess.run(['echo', 'from a subprocess'], check=True)
    return [event, subprocess.run(['cat'], capture_output=True).stdout.decode(), sys.stdin.read()]
";
    let quiet = "def handler(event, context): return [event, '', '']\n";
    let yard = Yard::with(&[("a.py", noisy), ("b.py", quiet)]);
    let output = yard.command("a.py --against b.py --event -").stdin("1\n2\n3\n").output(PATIENCE);
    assert_eq!((output.status.code(), output.stdout.as_str()), (Some(0), ""), "{output:?}");
    for words in ["printed", "written", "from a subprocess"] {
        assert_eq!(output.stderr.matches(words).count(), 3, "{output:?}");
    }
    assert!(output.stderr.ends_with("3 events, 0 differ\n"), "{output:?}");
}

#[test]
fn a_version_that_cannot_be_loaded_ends_it() {
    let good = "def handler(event, context): return 1\n";
    let yard = Yard::with(&[("a.py", good), ("broken.py", "def handler(\n"), ("events", "1\n"), ("empty.so", "")]);
    for (args, exit, words) in [
        ("a.py --against gone.py --event events", 66, "gone.py"),
        ("gone.zip --against a.py --event events", 66, "gone.zip"),
        ("a.py --against broken.py --event events", 65, "SyntaxError"),
        ("a.py --against empty.so --event events", 65, "empty.so"),
        ("a.py --against a.py --event events --handler nothing", 65, "nothing"),
        ("a.py --against a.py --event gone.jsonl", 66, "event file 'gone.jsonl' cannot be opened"),
        ("a.py --against a.py --event events --entry b.py", 78, "entry"),
        ("a.py --against a.py --event events --context x=1", 64, "--context 'x' is unknown"),
        ("a.py --against a.py", 64, "--event <FILE>"),
        ("a.py --event events", 64, "--against <OTHER>"),
    ] {
        let output = yard.replay(args);
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(exit), ""), "{args}: {output:?}");
        assert!(output.stderr.contains(words) && !output.stderr.contains(" differ"), "{args}: {output:?}");
    }
}

#[test]
fn a_version_that_ends_is_named_with_the_event() {
    let counts = "def handler(event, context): return event\n";
    let leaves = "
import os, signal, time

def handler(event, context):
    if event == 'leave':
        os._exit(3)
    if event == 'crash':
        if os.fork() == 0:
            # whoever was forked keeps all pipes open
            time.sleep(5)
        os.kill(os.getpid(), signal.SIGKILL)
    return event + 1
";
    let yard = Yard::with(&[("a.py", counts), ("b.py", leaves)]);
    for (word, how) in [("leave", "with exit code 3"), ("crash", "by signal 9")] {
        let events = format!("1\n\"{word}\"\n{}", "2\n".repeat(1000));
        let output = yard.command("a.py --against b.py --event -").stdin(events).output(PATIENCE);
        let wanted = format!("gaugefn: 'b.py' ended {how} while it was called with event 2\n1 event, 1 differs\n");
        let first = "event 1\n  $: 1 against 2\n";
        assert_eq!(said(&output), (Some(65), first, wanted.as_str()));
    }
}

#[test]
fn differences_are_said_while_events_arrive() {
    let yard = Yard::with(&[
        ("a.py", "def handler(event, context): return event\n"),
        ("b.py", "def handler(event, context): return event * 2\n"),
    ]);
    let pipe = yard.path("events");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut running = yard.command("a.py --against b.py --event events").spawn();
    let mut events = File::options().write(true).open(&pipe).unwrap();
    for n in 1..4 {
        writeln!(events, "{n}").unwrap();
        running.wait_for_log(&format!("event {n}\n  $: {n} against {}\n", n * 2), PATIENCE);
    }
    drop(events);
    assert_eq!(running.wait_exit(PATIENCE).code(), Some(1));
    assert_eq!(running.stderr(), "3 events, 3 differ\n");
}

#[test]
fn many_large_events_need_little_memory() {
    const PEAK: &str = "
import resource

def handler(event, context):
    return event['text'] if event['n'] else None
";
    let yard = Yard::with(&[("a.py", PEAK), ("b.py", &PEAK.replace("None", "'x'"))]);
    let mut file = File::create(yard.path("events")).unwrap();
    let (count, text) = (scale(20_000, 2_000), "x".repeat(20_000));
    for n in (0..count).rev() {
        writeln!(file, "{{\"n\": {n}, \"text\": \"{text}\"}}").unwrap();
    }
    drop(file);
    let mut running = yard.command("a.py --against b.py --event events").spawn();
    let status = format!("/proc/{}/status", running.pid());
    let mut peak = 0;
    let ended = eventually(PATIENCE * 6, || {
        let text = read_to_string(&status).unwrap_or_default();
        let high = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(high.unwrap_or(0_u64));
        running.exited()
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(1), "{}", running.written());
    assert_eq!(running.stderr(), format!("{count} events, 1 differs\n"));
    assert!(peak > 0 && peak < 64 << 10, "{peak} KiB");
}

#[test]
fn a_signal_ends_both_versions() {
    let hangs = "
import os, time

def handler(event, context):
    print('pid', os.getpid(), flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
";
    let yard = Yard::with(&[("a.py", hangs), ("b.py", hangs)]);
    let mut running = yard.command("a.py --against b.py --event -").stdin("1\n").spawn();
    let pids = eventually(PATIENCE, || {
        let text = running.stderr();
        let pids: Vec<String> =
            text.split("pid ").skip(1).filter_map(|rest| Some(rest.split_whitespace().next()?.to_owned())).collect();
        (pids.len() == 2).then_some(pids)
    });
    let pids = pids.unwrap_or_else(|| panic!("{}", running.written()));
    running.signal(Signal::TERM);
    assert_eq!(running.wait_exit(PATIENCE).code(), Some(75), "{}", running.written());
    let gone = eventually(PATIENCE, || pids.iter().all(|pid| !Path::new("/proc").join(pid).exists()).then_some(()));
    assert!(gone.is_some(), "{pids:?} still run");
}

#[test]
fn whoever_reads_the_differences_may_have_had_enough() {
    let yard = Yard::with(&[
        ("a.py", "def handler(event, context): return event\n"),
        ("b.py", "def handler(event, context): return event * 2\n"),
        ("events", &"1\n".repeat(3000)),
    ]);
    let output = Command::new("bash")
        .args(["-c", "\"$0\" replay a.py --against b.py --event events | head -n 1; echo ${PIPESTATUS[0]}"])
        .arg(env!("CARGO_BIN_EXE_gaugefn"))
        .current_dir(yard.top.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "event 1\n1\n", "{output:?}");
}
