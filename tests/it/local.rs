//! `invoke` and `dev`: no Redis, no config file, and a standard output that holds results and nothing else.
//!
//! * `ends` - functions that end their process

mod ends;

use crate::support::gaugefn::{Gaugefn, Output, Running};
use crate::support::project;
use crate::support::tier::{scale, soak};
use crate::support::wait::eventually;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::{File, create_dir, read_to_string, write};
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Far above what any of these takes, on a machine that runs every test at once.
const PATIENCE: Duration = Duration::from_secs(20);

const SAMPLE_TIME: &str = "2024-05-01 12:00:00.123456";

/// A folder with one function.
struct Yard {
    top: TempDir,
}

impl Yard {
    fn with(function: &str) -> Self {
        let yard = Self { top: tempfile::tempdir().unwrap() };
        write(yard.path("fn.py"), function).unwrap();
        yard
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// `gaugefn invoke fn.py` and these arguments, inside the folder.
    fn invoke(&self, args: &[&str]) -> Gaugefn {
        Gaugefn::command().current_dir(self.top.path()).args(["invoke", "fn.py"]).args(args)
    }

    /// Same, with these lines on standard input.
    fn feed(&self, lines: &str) -> Output {
        self.invoke(&["--event", "-"]).stdin(lines).output(PATIENCE)
    }
}

/// Every line of standard output as JSON; none may be anything else.
fn results(output: &Output) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}\n{output:?}"));
    assert!(output.stdout.is_empty() || output.stdout.ends_with('\n'), "{output:?}");
    output.stdout.lines().map(parse).collect()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn pack(path: &Path, files: &[(&str, &str)]) {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    write(path, zip.finish().unwrap().into_inner()).unwrap();
}

/// Writes to standard output in each way that there is.
const NOISY: &str = r#"
import ctypes, logging, os, subprocess, sys
logging.basicConfig(level=logging.DEBUG)
print("printed at import")
libc = ctypes.CDLL(None)

def handler(input, context):
    print("printed", input["n"])
    print("no line end", end="")
    sys.stdout.write("written\nin two lines\n")
    sys.__stdout__.write("to the first stdout\n")
    os.write(1, b"os.write\n")
    libc.puts(b"puts")
    libc.printf(b"printf without a line end")
    libc.fflush(None)
    subprocess.run(["echo", "from a subprocess"], check=True)
    os.system("echo from a shell")
    logging.warning("logged")
    print("printed to stderr", file=sys.stderr)
    context.logger.info("by the context's logger")
    return {"n": input["n"]}
"#;

#[test]
fn the_example_gets_along_without_redis_and_without_a_config() {
    let folder = tempfile::tempdir().unwrap();
    let output = Gaugefn::command()
        .current_dir(folder.path())
        .args(["invoke".into(), project("examples/vm_metrics.py")])
        .output(PATIENCE);
    assert_eq!(code(&output), Some(0), "{output:?}");
    let [result] = results(&output).try_into().unwrap();
    assert_eq!(result["timestamp"], SAMPLE_TIME);
    assert!(result["avg-util-cpu0-60sec"].is_f64() && result["percent-memory-cache"].is_f64(), "{result}");
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "left behind in the working folder");
}

#[test]
fn the_example_of_several_modules_runs_as_a_folder_and_as_a_zip() {
    let folder = tempfile::tempdir().unwrap();
    let example = project("examples/zip");
    let zip = folder.path().join("meters.zip");
    let mut files: Vec<PathBuf> = example.join("meters").read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "py"));
    files.push(example.join("main.py"));
    let texts: Vec<_> = files
        .iter()
        .map(|path| (path.strip_prefix(&example).unwrap().to_str().unwrap(), std::fs::read_to_string(path).unwrap()))
        .collect();
    pack(&zip, &texts.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>());
    let run = |path: &Path| {
        let output = Gaugefn::command().args(["invoke".as_ref(), path.as_os_str()]).output(PATIENCE);
        assert_eq!(code(&output), Some(0), "{output:?}");
        results(&output)
    };
    let unpacked = run(&example);
    assert_eq!(unpacked.len(), 1);
    assert_eq!(unpacked[0]["timestamp"], SAMPLE_TIME);
    assert_eq!(run(&zip), unpacked);
}

#[test]
fn nothing_but_results_reaches_standard_output() {
    let yard = Yard::with(NOISY);
    let events: String = (0..5).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    write(yard.path("events.jsonl"), &events).unwrap();
    let piped = yard.feed(&events);
    let batch = yard.invoke(&["--event", "events.jsonl"]).output(PATIENCE);
    for output in [piped, batch] {
        assert_eq!(code(&output), Some(0), "{output:?}");
        assert_eq!(output.stdout, (0..5).map(|n| format!("{{\"n\": {n}}}\n")).collect::<String>());
        for (words, times) in [
            ("printed at import", 1),
            ("no line end", 5),
            ("in two lines", 5),
            ("to the first stdout", 5),
            ("os.write", 5),
            ("puts", 5),
            ("printf without a line end", 5),
            ("from a subprocess", 5),
            ("from a shell", 5),
            ("logged", 5),
            ("printed to stderr", 5),
            ("by the context's logger", 5),
        ] {
            assert_eq!(output.stderr.matches(words).count(), times, "{words}: {}", output.stderr);
        }
    }
}

/// `gaugefn invoke fn.py --event events` (two of them) in a shell, with these redirections.
fn redirected(yard: &Yard, redirections: &str) -> std::process::Output {
    write(yard.path("events"), "{\"n\": 1}\n{\"n\": 2}\n").unwrap();
    std::process::Command::new("sh")
        .args(["-c", &format!("\"$0\" invoke fn.py --event events {redirections}"), env!("CARGO_BIN_EXE_gaugefn")])
        .current_dir(yard.top.path())
        .output()
        .unwrap()
}

#[test]
fn results_go_to_a_file_as_to_a_pipe() {
    let yard = Yard::with(NOISY);
    let read = |name: &str| std::fs::read_to_string(yard.path(name)).unwrap();
    assert!(redirected(&yard, ">out 2>err").status.success());
    assert_eq!(read("out"), "{\"n\": 1}\n{\"n\": 2}\n");
    assert_eq!(read("err").matches("os.write").count(), 2);
    // with both in one file neither overwrites the other
    assert!(redirected(&yard, ">both 2>&1").status.success());
    for words in ["{\"n\": 1}\n", "{\"n\": 2}\n", "printed 1", "printed 2"] {
        assert_eq!(read("both").matches(words).count(), 1, "{}", read("both"));
    }
    // a service may be started without one or the other
    for closed in [">&-", "2>&-", "<&-", "<&- >&- 2>&-"] {
        let output = redirected(&yard, closed);
        assert!(output.status.success(), "{closed}: {output:?}");
    }
}

#[test]
fn a_result_that_could_not_be_written_is_no_success() {
    let yard = Yard::with(CPUS.replace("input['cpu_percent-0']", "0").as_str());
    write(yard.path("events"), "{\"n_pids\": 1}\n").unwrap();
    for command in ["invoke fn.py --event events", "dev fn.py --count 2 --every 100ms", "components"] {
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("\"$0\" {command} >/dev/full"), env!("CARGO_BIN_EXE_gaugefn")])
            .current_dir(yard.top.path())
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(70), "{command}: {words}");
        assert!(words.contains("standard output cannot be written: No space left"), "{command}: {words}");
    }
}

#[test]
fn no_result_is_null_and_a_failed_event_is_null_with_exit_1() {
    let yard = Yard::with(
        "def handler(input, context):\n    if input == 'raise':\n        raise ValueError('not this one')\n    return input\n",
    );
    for empty in ["null", "{}", "0", "[]", "\"\"", "false", "0.0"] {
        let output = yard.feed(empty);
        assert_eq!((code(&output), output.stdout.as_str()), (Some(0), "null\n"), "{empty}: {output:?}");
    }
    let events = "1\n\"raise\"\n2.0\n{\"a\": \n\n   \n[3]\nnot json\n\"é\"\n";
    let output = yard.feed(events);
    assert_eq!(code(&output), Some(1), "{output:?}");
    assert_eq!(output.stdout, "1\nnull\n2.0\nnull\n[3]\nnull\n\"\\u00e9\"\n");
    // ids are the numbers of lines, blank ones counted
    assert_eq!(output.stderr.matches("event 2: ValueError: not this one").count(), 1, "{output:?}");
    assert_eq!(output.stderr.matches("Traceback (most recent call last)").count(), 1, "{output:?}");
    assert!(output.stderr.contains("fn.py:3 in handler"), "{output:?}");
    for line in ["event 4: the event is not json", "event 8: the event is not json"] {
        assert!(output.stderr.contains(line), "{line}: {output:?}");
    }

    // from a file, where lines are called together
    write(yard.path("events.jsonl"), events.trim_end()).unwrap();
    let file = yard.invoke(&["--event", "events.jsonl"]).output(PATIENCE);
    assert_eq!((code(&file), &file.stdout), (Some(1), &output.stdout), "{file:?}");

    let none = yard.feed("");
    assert_eq!((code(&none), none.stdout.as_str()), (Some(0), ""), "{none:?}");
}

#[test]
fn more_lines_than_one_batch_keep_their_order() {
    let yard = Yard::with("def handler(input, context):\n    return {'n': input, 'id': context.event_id}\n");
    let events: String = (1..=250).map(|n| format!("{n}\n")).collect();
    write(yard.path("events.jsonl"), events).unwrap();
    let output = yard.invoke(&["--event", "events.jsonl"]).output(PATIENCE);
    let expected: Vec<_> = (1..=250).map(|n| json!({ "n": n, "id": n.to_string() })).collect();
    assert_eq!(results(&output), expected);
}

#[test]
fn a_line_is_answered_before_the_next_one_is_typed() {
    let yard = Yard::with("def handler(input, context):\n    return input\n");
    let pipe = yard.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // a named pipe on standard input, so that the test can write when it wants to
    let mut child = std::process::Command::new("sh")
        .args(["-c", "exec \"$0\" invoke fn.py --event - <pipe >out", env!("CARGO_BIN_EXE_gaugefn")])
        .current_dir(yard.top.path())
        .spawn()
        .unwrap();
    let mut typed = File::options().write(true).open(&pipe).unwrap();
    let written = |lines: usize| {
        eventually(PATIENCE, || {
            let text = std::fs::read_to_string(yard.path("out")).unwrap_or_default();
            (text.lines().count() == lines).then_some(text)
        })
    };
    typed.write_all(b"1\n").unwrap();
    assert_eq!(written(1).as_deref(), Some("1\n"));
    typed.write_all(b"2\n").unwrap();
    assert_eq!(written(2).as_deref(), Some("1\n2\n"));
    drop(typed);
    assert!(child.wait().unwrap().success());
}

#[test]
fn user_code_has_an_empty_standard_input() {
    let yard = Yard::with(
        r#"
import os, subprocess, sys

def handler(input_, context):
    try:
        input()
    except EOFError:
        typed = "EOFError"
    child = subprocess.run(["cat"], capture_output=True, timeout=5).stdout
    return [input_, typed, sys.stdin.read(), os.read(0, 10).decode(), child.decode()]
"#,
    );
    let output = yard.feed("1\n2\n3\n");
    let expected: Vec<_> = (1..=3).map(|n| json!([n, "EOFError", "", "", ""])).collect();
    assert_eq!(results(&output), expected, "{output:?}");
}

#[test]
fn of_the_environment_only_the_entry_and_the_handler_count() {
    let yard = Yard::with("def handler(i, c): return 'handler'\ndef other(i, c): return 'other'\n");
    create_dir(yard.path("folder")).unwrap();
    write(yard.path("folder/main.py"), "def handler(i, c): return 'main'\n").unwrap();
    write(yard.path("folder/second.py"), "def handler(i, c): return 'second'\n").unwrap();
    let run = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = Gaugefn::command().current_dir(yard.top.path()).args(["invoke"]).args(args);
        for (name, value) in env {
            command = command.env(name, value);
        }
        let output = command.output(PATIENCE);
        assert_eq!(code(&output), Some(0), "{output:?}");
        results(&output).remove(0)
    };
    assert_eq!(run(&["fn.py"], &[]), "handler");
    assert_eq!(run(&["fn.py"], &[("USER_HANDLER_NAME", "other")]), "other");
    assert_eq!(run(&["fn.py"], &[("USER_HANDLER_NAME", "")]), "handler");
    assert_eq!(run(&["fn.py", "--handler", "handler"], &[("USER_HANDLER_NAME", "other")]), "handler");
    assert_eq!(run(&["folder"], &[("ZIP_ENTRY_RELATIVE_FILE_PATH", "second.py")]), "second");
    assert_eq!(run(&["folder", "--entry", "main.py"], &[("ZIP_ENTRY_RELATIVE_FILE_PATH", "second.py")]), "main");
    // left over from the zip that a deployment runs; a single file has no entry
    assert_eq!(run(&["fn.py"], &[("ZIP_ENTRY_RELATIVE_FILE_PATH", "second.py")]), "handler");
    let others = [
        ("HANDLER_FUNCTION_NAME", "other"),
        ("USER_MODULE_PATH", "/nowhere.py"),
        ("ZIP_TARGET_PATH", "/nowhere.zip"),
        ("ZIP_URL", "http://nowhere/f.zip"),
        ("REDIS_MONITOR_PERIOD", "soon"),
        ("GAUGEFN_CONFIG", "/nowhere.toml"),
        ("GAUGEFN__FUNCTIONS__DEFAULT__HANDLER", "other"),
        ("GAUGEFN__NONSENSE", "1"),
    ];
    assert_eq!(run(&["fn.py"], &others), "handler");
}

#[test]
fn facts_of_the_context_come_from_the_environment_and_the_command_line() {
    let yard =
        Yard::with("def handler(i, c):\n    return [c.host, c.port, c.input_key, c.output_key, c.function_name]\n");
    let plain = yard.invoke(&[]).env("REDIS_HOST", "h").env("REDIS_PORT", "7").env("REDIS_OUTPUT_KEY", "o");
    let output = plain.output(PATIENCE);
    let result = results(&output).remove(0);
    assert_eq!((&result[0], &result[1], &result[3]), (&json!("h"), &json!(7), &json!("o")), "{output:?}");
    let context =
        ["--context", "host=me", "--context", "port=1", "--context", "input_key=a=b", "--context", "output_key=c"];
    let output = yard.invoke(&context).env("REDIS_HOST", "h").output(PATIENCE);
    assert_eq!(results(&output), [json!(["me", 1, "a=b", "c", "default"])], "{output:?}");
    for (pair, words) in [
        ("host", "--context 'host' is not of the form K=V"),
        ("port=x", "--context port: 'x' is no port number"),
        ("colour=red", "--context 'colour' is unknown; known are host, port, input_key, output_key"),
    ] {
        let output = yard.invoke(&["--context", pair]).output(PATIENCE);
        assert_eq!(code(&output), Some(64), "{output:?}");
        assert_eq!((output.stdout.as_str(), output.stderr.trim()), ("", format!("gaugefn: {words}").as_str()));
    }
}

#[test]
fn a_state_file_is_read_at_the_start_and_written_at_the_end() {
    let yard = Yard::with(
        "import collections, threading\n\
         def handler(i, c):\n    \
             c.env['n'] = c.env.get('n', 0) + 1\n    \
             c.env.setdefault('window', collections.deque(maxlen=2)).append((i, c.env['n']))\n    \
             c.env['lock'] = threading.Lock()\n    \
             return {'n': c.env['n'], 'window': list(c.env['window'])}\n",
    );
    // as mktemp makes it
    write(yard.path("state.json"), "").unwrap();
    for (run, expected) in
        [r#"{"n": 2, "window": [[1, 1], [2, 2]]}"#, r#"{"n": 4, "window": [[1, 3], [2, 4]]}"#].into_iter().enumerate()
    {
        let args = ["invoke", "fn.py", "--state", "state.json", "--event", "-"];
        let output = Gaugefn::command().current_dir(yard.top.path()).args(args).stdin("1\n2\n").output(PATIENCE);
        assert_eq!((code(&output), output.stdout.lines().last()), (Some(0), Some(expected)), "{output:?}");
        assert!(output.stderr.contains("not in the state file: 'lock' (a _thread.lock)"), "{output:?}");
        let state = read_to_string(yard.path("state.json")).unwrap();
        assert!(state.contains(&format!("\"version\":{}", run + 1)), "{state}");
        assert!(state.contains("[\"window\",{\"$deque\":{\"maxlen\":2,\"items\":["), "{state}");
    }
}

#[test]
fn what_cannot_be_invoked_says_why() {
    let yard = Yard::with("def handler(i, c): return 1\n");
    write(yard.path("fn.so"), "").unwrap();
    let refused = |args: &[&str], exit: i32, words: &str| {
        let output = Gaugefn::command().current_dir(yard.top.path()).args(args).output(PATIENCE);
        assert_eq!((code(&output), output.stdout.as_str()), (Some(exit), ""), "{args:?}: {output:?}");
        assert!(output.stderr.contains(words), "{args:?} without {words:?}: {}", output.stderr);
    };
    for command in ["invoke", "dev"] {
        refused(&[command, "gone.py"], 66, "gone.py");
        refused(&[command, "gone.zip"], 66, "gone.zip");
        refused(&[command, "gone/gone"], 66, "gone/gone");
        refused(&[command, "fn.so"], 65, "library ");
        refused(&[command, "gone.so"], 66, "gone.so");
        refused(&[command, "fn.py", "--frobnicate"], 64, "unexpected argument '--frobnicate'");
        refused(&[command], 64, "<PATH>");
    }
    refused(&["invoke", "fn.py", "--event", "gone.jsonl"], 66, "event file 'gone.jsonl' cannot be opened");
    refused(&["invoke", "fn.py", "--event", "."], 66, "event file '.' cannot be opened");
    refused(&["invoke", "fn.py", "--state", "no/state.json"], 66, "'no' is no folder; make it, or name another file");
    write(yard.path("torn.json"), "{\"gaugefn_state\":1,\"function\":\"default\",").unwrap();
    refused(&["invoke", "fn.py", "--state", "torn.json"], 66, "the state file 'torn.json' is damaged, or no state");
    refused(&["dev", "fn.py", "--every", "soon"], 64, "soon");
    refused(&["dev", "fn.py", "--every", "0"], 78, "period");
    refused(&["dev", "fn.py", "--count", "many"], 64, "--count");
    refused(&["dlq", "ls", "vm"], 78, "unknown function 'vm', there is default");
    refused(&["worker"], 64, "worker processes are started by gaugefn itself");
    refused(&["frobnicate"], 64, "frobnicate");
    refused(&["--frobnicate"], 64, "--frobnicate");
    refused(&[], 64, "Usage");
}

fn dev(yard: &Yard, args: &[&str]) -> Gaugefn {
    Gaugefn::command().current_dir(yard.top.path()).args(["dev", "fn.py"]).args(args)
}

const CPUS: &str =
    "def handler(input, context):\n    return {'n_pids': input['n_pids'], 'cpu': input['cpu_percent-0']}\n";

#[test]
fn dev_calls_the_function_with_live_metrics() {
    let yard = Yard::with(CPUS);
    let begin = Instant::now();
    let output = dev(&yard, &["--count", "3", "--every", "100ms"]).output(PATIENCE);
    assert_eq!(code(&output), Some(0), "{output:?}");
    let lines = results(&output);
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["n_pids"].is_u64() && line["cpu"].is_f64()), "{lines:?}");
    assert!(begin.elapsed() >= Duration::from_millis(200), "three calls are two pauses: {:?}", begin.elapsed());
}

#[test]
fn dev_runs_on_after_a_call_that_raises() {
    let yard = Yard::with(
        "calls = []\ndef handler(input, context):\n    calls.append(1)\n    print('noise')\n    if len(calls) == 2:\n        raise ValueError('the second')\n    return len(calls)\n",
    );
    let output = dev(&yard, &["--count", "3", "--every", "0.1"]).output(PATIENCE);
    assert_eq!((code(&output), output.stdout.as_str()), (Some(0), "1\n3\n"), "{output:?}");
    assert_eq!(output.stderr.matches("ValueError: the second\n").count(), 1, "{output:?}");
}

/// A pool of `multiprocessing` ends its workers by SIGTERM, and hangs where they do not hear it.
#[test]
fn forked_children_take_signals_as_in_any_python() {
    let function = r#"
import os, signal, time

def handler(input, context):
    ends = []
    for number in (signal.SIGTERM, signal.SIGINT):
        pid = os.fork()
        if pid == 0:
            try:
                time.sleep(20)
                os._exit(7)
            except KeyboardInterrupt:
                os._exit(8)
        time.sleep(0.05)
        os.kill(pid, number)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return {"ends": ends}
"#;
    let output = dev(&Yard::with(function), &["--count", "1"]).output(PATIENCE);
    assert_eq!(code(&output), Some(0), "{output:?}");
    assert_eq!(results(&output), [json!({ "ends": [-15, 8] })]);
}

#[test]
fn dev_ends_when_its_reader_goes() {
    let yard = Yard::with(CPUS);
    let begin = Instant::now();
    let output = std::process::Command::new("sh")
        .args(["-c", "\"$0\" dev fn.py --every 100ms | head -n 1", env!("CARGO_BIN_EXE_gaugefn")])
        .current_dir(yard.top.path())
        .output()
        .unwrap();
    // the shell waits for every process of the pipe
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1, "{output:?}");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!words.contains("panic") && !words.contains("Broken pipe"), "{words}");
}

#[test]
fn invoke_ends_quietly_when_its_reader_goes() {
    let yard = Yard::with("def handler(input, context):\n    return 'x' * 1000\n");
    write(yard.path("events.jsonl"), "1\n".repeat(5000)).unwrap();
    let output = std::process::Command::new("bash")
        .args([
            "-c",
            "\"$0\" invoke fn.py --event events.jsonl | head -n 1; exit ${PIPESTATUS[0]}",
            env!("CARGO_BIN_EXE_gaugefn"),
        ])
        .current_dir(yard.top.path())
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stderr.is_empty()), (Some(0), true), "{output:?}");
}

#[test]
fn dev_ends_at_once_on_a_signal() {
    let yard = Yard::with(CPUS);
    for signal in [Signal::INT, Signal::TERM] {
        let mut running: Running = dev(&yard, &["--every", "1h"]).spawn();
        running.wait_for_log("n_pids", PATIENCE);
        let begin = Instant::now();
        running.signal(signal);
        let status = running.wait_exit(PATIENCE);
        assert_eq!(status.code(), Some(0), "{}", running.written());
        assert!(begin.elapsed() < Duration::from_millis(scale(500, 2500) as u64), "{:?}", begin.elapsed());
        assert!(!running.stderr().contains("Traceback"), "{}", running.written());
    }
}

#[test]
fn invoke_ends_on_an_interrupt() {
    let yard =
        Yard::with("import time\ndef handler(input, context):\n    print('sleeps', flush=True)\n    time.sleep(600)\n");
    let mut running = yard.invoke(&[]).spawn();
    running.wait_for_log("sleeps", PATIENCE);
    running.signal(Signal::INT);
    let status = running.wait_exit(PATIENCE);
    assert!(!status.success(), "{}", running.written());
    assert_eq!(running.stdout(), "");
}

#[test]
fn help_texts_have_examples() {
    let help = |args: &[&str]| {
        let output = Gaugefn::command().args(args).args(["--help"]).output(PATIENCE);
        assert_eq!((code(&output), output.stderr.as_str()), (Some(0), ""), "{output:?}");
        output.stdout
    };
    let whole = help(&[]);
    for (command, examples) in [
        ("run", &["gaugefn run --config gaugefn.toml", "REDIS_OUTPUT_KEY", "REDIS_MONITOR_PERIOD"][..]),
        ("dev", &["gaugefn dev fn.py", "--every 250ms --count 3"]),
        ("invoke", &["gaugefn invoke fn.py --event events.jsonl", "--event -"]),
        ("check", &["gaugefn check --config gaugefn.toml --connect"]),
        ("config", &["gaugefn config --config gaugefn.toml --explain"]),
        ("components", &["gaugefn components --format json"]),
        ("schema", &["gaugefn schema > gaugefn.schema.json"]),
        ("health", &["gaugefn health --ready", "HEALTHCHECK"]),
        ("dlq", &["gaugefn dlq replay vm --config gaugefn.toml"]),
    ] {
        assert!(whole.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))), "{command}: {whole}");
        let text = help(&[command]);
        for example in examples {
            assert!(text.contains(example), "{command} --help without {example:?}:\n{text}");
        }
    }
    assert!(whole.contains("gaugefn dev examples/vm_metrics.py"), "{whole}");
    let version = Gaugefn::command().args(["--version"]).output(PATIENCE);
    assert_eq!(version.stdout, format!("gaugefn {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_example_configuration_is_sound() {
    let output = Gaugefn::command()
        .current_dir(project(""))
        .args(["check", "--config", "examples/gaugefn.toml"])
        .output(PATIENCE);
    assert_eq!((code(&output), output.stderr.as_str()), (Some(0), ""), "{output:?}");
    assert_eq!(output.stdout, "the configuration is sound: function 'vm'\n");
}

mod timing {
    use super::*;

    /// From the start of the process to its end, with the example's answer in between.
    #[test]
    fn the_example_answers_within_300_ms() {
        let bound = Duration::from_millis(if soak() { 300 } else { 1500 });
        let mut times: Vec<Duration> = (0..scale(50, 5))
            .map(|_| {
                let begin = Instant::now();
                let output =
                    Gaugefn::command().args(["invoke".into(), project("examples/vm_metrics.py")]).output(PATIENCE);
                let time = begin.elapsed();
                assert_eq!(results(&output).len(), 1, "{output:?}");
                time
            })
            .collect();
        times.sort();
        let median = times[times.len() / 2];
        assert!(median <= bound, "median {median:?}, all {times:?}");
    }
}
