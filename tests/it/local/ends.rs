//! Functions that end their process, or what is left of it: every event has its answer all the same.

use super::*;
use crate::support::libraries::cc;

const ENDING: &str = r#"
import ctypes, os, signal, sys, threading

WAYS = {
    "exit": lambda: os._exit(0),
    "exit 7": lambda: os._exit(7),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "abort": os.abort,
    "null": lambda: ctypes.string_at(0),
    "from a thread": lambda: [threading.Thread(target=os._exit, args=[0]).start(), threading.Event().wait()],
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "quit": lambda: quit(),
    "sys.exit": lambda: sys.exit(0),
}

def handler(event, context):
    context.env["n"] = context.env.get("n", 0) + 1
    way = WAYS.get(event)
    if way is None:
        return {"event": event, "n": context.env["n"]}
    way()
"#;

const ENDS: [(&str, &str); 9] = [
    ("exit", "the worker exited with 0"),
    ("exit 7", "the worker exited with 7"),
    ("kill", "the worker was killed by SIGKILL"),
    ("abort", "the worker was killed by SIGABRT"),
    ("null", "the worker was killed by SIGSEGV"),
    ("from a thread", "the worker exited with 0"),
    ("exec", "the worker exited with 0"),
    ("quit", "SystemExit: None ("),
    ("sys.exit", "SystemExit: 0 ("),
];

/// A good event before each of these, and one behind the last.
fn between(ways: &[(&str, &str)]) -> String {
    let lines = ways.iter().map(|(way, _)| format!("\"fine\"\n{}\n", json!(way)));
    lines.chain(["\"fine\"\n".to_owned()]).collect()
}

/// Whether the result of every second line is missing, and said why, and all the others are there.
fn assert_answered(output: &Output, ways: &[(&str, &str)]) {
    assert_eq!(code(output), Some(1), "{output:?}");
    let results = results(output);
    assert_eq!(results.len(), 2 * ways.len() + 1, "{output:?}");
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result.is_null(), n % 2 == 1, "{n}: {output:?}");
    }
    for (n, (way, words)) in ways.iter().enumerate() {
        let line = format!("event {}: {words}", 2 * n + 2);
        let said = output.stderr.lines().filter(|said| said.starts_with(&line));
        assert_eq!(said.count(), 1, "{way}: {}", output.stderr);
    }
}

#[test]
fn every_event_is_answered_whatever_a_call_does_to_its_process() {
    let yard = Yard::with(ENDING);
    let events = between(&ENDS);
    write(yard.path("events.jsonl"), &events).unwrap();
    assert_answered(&yard.feed(&events), &ENDS);
    // lines of a file are called together
    assert_answered(&yard.invoke(&["--event", "events.jsonl"]).output(PATIENCE), &ENDS);
}

#[test]
fn a_process_that_goes_on_as_another_program_is_no_answer() {
    let yard = Yard::with(
        "import os\ndef handler(i, c):\n    if i == 2: os.execv('/bin/sleep', ['sleep', '600'])\n    return i\n",
    );
    let output = yard.feed("1\n2\n3\n");
    assert_eq!((code(&output), output.stdout.as_str()), (Some(1), "1\nnull\n3\n"), "{output:?}");
    assert!(output.stderr.contains("event 2: the worker ran on without its connection to gaugefn"), "{output:?}");
}

#[test]
fn many_events_in_a_row_may_end_their_process() {
    let yard = Yard::with("import os\ndef handler(i, c):\n    if i % 10: os._exit(i)\n    return [i]\n");
    write(yard.path("events.jsonl"), (0..=10).map(|n| format!("{n}\n")).collect::<String>()).unwrap();
    let output = yard.invoke(&["--event", "events.jsonl"]).output(PATIENCE);
    let expected: Vec<_> = (0..=10).map(|n| if n % 10 == 0 { json!([n]) } else { Value::Null }).collect();
    assert_eq!((code(&output), results(&output)), (Some(1), expected), "{output:?}");
    for n in 1..10 {
        assert!(output.stderr.contains(&format!("event {}: the worker exited with {n}\n", n + 1)), "{output:?}");
    }
}

#[test]
fn a_file_that_cannot_be_imported_a_second_time_fails_the_rest() {
    let yard = Yard::with(
        "import os\nos.open('lock', os.O_CREAT | os.O_EXCL)\n\
         def handler(i, c):\n    if i == 2: os._exit(0)\n    return i\n",
    );
    let output = yard.feed("1\n2\n3\n4\n");
    assert_eq!((code(&output), output.stdout.as_str()), (Some(1), "1\nnull\nnull\nnull\n"), "{output:?}");
    for event in [3, 4] {
        let words = format!("event {event}: no worker can be started for it: importing ");
        assert!(output.stderr.contains(&words) && output.stderr.contains("FileExistsError"), "{output:?}");
    }
}

#[test]
fn libraries_end_their_process_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libfalls.so");
    cc("tests/libraries/falls.c", &library, &["-Wno-infinite-recursion"]);
    let ways = [
        ("null", "the worker was killed by SIGSEGV"),
        ("abort", "the worker was killed by SIGABRT"),
        ("overflow", "the worker was killed by SIGABRT"),
        ("exit", "the worker exited with 0"),
    ];
    let events = folder.path().join("events.jsonl");
    write(&events, between(&ways)).unwrap();
    let output =
        Gaugefn::command().args(["invoke".as_ref(), library.as_os_str(), "--event".as_ref(), events.as_os_str()]);
    assert_answered(&output.output(PATIENCE), &ways);
}

#[test]
fn a_state_file_holds_what_the_calls_left_that_came_back() {
    let yard = Yard::with(ENDING);
    let ways = [("exit", ""), ("null", ""), ("sys.exit", "")];
    let events = between(&ways);
    write(yard.path("events.jsonl"), &events).unwrap();
    let counted = |output: &Output| -> Vec<u64> {
        assert_eq!(code(output), Some(1), "{output:?}");
        results(output).iter().filter_map(|result| result["n"].as_u64()).collect()
    };
    // neither an end nor an exception leaves a trace in it
    let first = yard.invoke(&["--event", "events.jsonl", "--state", "state"]).output(PATIENCE);
    assert_eq!(counted(&first), [1, 2, 3, 4]);
    let second = yard.invoke(&["--event", "-", "--state", "state"]).stdin(events).output(PATIENCE);
    assert_eq!(counted(&second), [5, 6, 7, 8]);
    // also where nothing comes after the end
    let third = yard.invoke(&["--event", "-", "--state", "state"]).stdin("\"fine\"\n\"exit\"\n").output(PATIENCE);
    assert_eq!(counted(&third), [9]);
    assert!(read_to_string(yard.path("state")).unwrap().contains("[\"n\",9]"));
    // without a file it begins anew
    assert_eq!(counted(&yard.feed("\"fine\"\n\"fine\"\n\"exit\"\n\"fine\"\n")), [1, 2, 1]);
}

#[test]
fn a_file_whose_import_ends_the_process_cannot_be_loaded() {
    for (end, words) in [
        ("os._exit(0)", "exited with 0"),
        ("os._exit(3)", "exited with 3"),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("os.execv('/bin/true', ['true'])", "exited with 0"),
    ] {
        let yard = Yard::with(&format!("import os\n{end}\ndef handler(i, c): return 1\n"));
        write(yard.path("good.py"), "def handler(i, c): return 1\n").unwrap();
        write(yard.path("events"), "1\n").unwrap();
        let config = |isolation: &str| {
            format!(
                "[functions.vm]\nisolation = \"{isolation}\"\nloader = {{ use = \"file\", path = \"fn.py\" }}\n\
                 source = {{ use = \"file\", path = \"events\" }}\nsinks.stdout = {{}}\n"
            )
        };
        write(yard.path("process.toml"), config("process")).unwrap();
        write(yard.path("inline.toml"), config("inline")).unwrap();
        for (args, of_workers) in [
            ("invoke fn.py", true),
            ("dev fn.py --count 1", true),
            ("check --connect --config process.toml", true),
            ("check --connect --config inline.toml", true),
            ("replay fn.py --against good.py --event events", false),
            ("replay good.py --against fn.py --event events", false),
        ] {
            let output = Gaugefn::command().current_dir(yard.top.path()).args(args.split(' ')).output(PATIENCE);
            assert_eq!((code(&output), output.stdout.as_str()), (Some(65), ""), "{end} {args}: {output:?}");
            if of_workers {
                let words = format!("the worker process {words} while loading the function");
                assert!(output.stderr.contains(&words), "{args}: {output:?}");
            } else {
                assert!(
                    output.stderr.contains("'fn.py' ended ") && output.stderr.contains(" while it was loaded"),
                    "{output:?}"
                );
            }
        }
    }
}

#[test]
fn dev_goes_on_after_a_call_that_ends_the_process() {
    let yard = Yard::with(
        "import os\ndef handler(input, context):\n    \
             if os.path.exists('left'): return 'back'\n    \
             open('left', 'w').close()\n    os._exit(0)\n",
    );
    let output = dev(&yard, &["--count", "2", "--every", "100ms"]).output(PATIENCE);
    assert_eq!((code(&output), output.stdout.as_str()), (Some(0), "\"back\"\n"), "{output:?}");
    assert_eq!(output.stderr.matches("call failed: the worker exited with 0").count(), 1, "{output:?}");
}

/// A worker is in the background of the terminal, where reading it stops a process that does not know better.
#[test]
fn reading_the_terminal_is_an_error_and_no_stop() {
    let yard = Yard::with("def handler(i, c):\n    return open('/dev/tty').read(1)\n");
    let script = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let output = yard.invoke(&[]).under(&[crate::support::python::interpreter(), "-c", script]).output(PATIENCE);
    assert_eq!(code(&output), Some(1), "{output:?}");
    assert!(output.stdout.contains("event 1: OSError: [Errno 5]"), "{output:?}");
}

#[test]
fn an_interrupt_of_the_terminal_leaves_no_process_behind() {
    let yard = Yard::with("import os, time\ndef handler(i, c):\n    print('pid', os.getpid())\n    time.sleep(600)\n");
    let mut running = yard.invoke(&[]).spawn();
    running.wait_for_log("pid ", PATIENCE);
    let written = running.stderr();
    let pid = written.split("pid ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    running.signal(Signal::INT);
    assert!(!running.wait_exit(PATIENCE).success(), "{}", running.written());
    let gone = eventually(PATIENCE, || {
        let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
    assert!(gone.is_some(), "worker {pid} lives on");
}
