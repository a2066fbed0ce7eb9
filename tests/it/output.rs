//! What user code says: all of it arrives, as records that tell where they come from, and it holds up nothing.

mod flood;

use crate::support::bed::{Bed, PATIENCE, Vm};
use crate::support::gaugefn::{Gaugefn, Output};
use crate::support::libraries;
use serde_json::Value;
use std::fs::{read_to_string, write};
use std::path::Path;

const SPEAKS: &str = include_str!("output/speaks.py");

/// Every way of `speaks.py` after which the process goes on.
const WAYS: [&str; 14] = [
    "prints",
    "c_library",
    "descriptors",
    "logs",
    "context_logs",
    "warns",
    "tracebacks",
    "garbage",
    "long_lines",
    "subprocesses",
    "stacks",
    "threads",
    "forks",
    "raises",
];

/// A line of the log of the function.
#[derive(Debug)]
struct Said {
    stream: String,
    event: String,
    worker: Option<u64>,
    level: String,
    message: String,
}

/// Every line of the log, which is JSON and nothing else.
fn records(log: &str) -> Vec<Value> {
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(value.is_object(), "{line}");
        value
    };
    assert!(log.is_empty() || log.ends_with('\n'), "the last line is cut: {:?}", log.lines().last());
    log.lines().map(line).collect()
}

/// What came from the function.
fn said(log: &str) -> Vec<Said> {
    let text = |record: &Value, key: &str| record[key].as_str().unwrap_or_else(|| panic!("{record}")).to_owned();
    let all = records(log).into_iter().filter(|record| record["target"] == "function").map(|record| {
        assert_eq!(record["function"], "vm", "{record}");
        Said {
            stream: text(&record, "stream"),
            event: text(&record, "event"),
            worker: record["worker"].as_u64(),
            level: text(&record, "level"),
            message: text(&record, "message"),
        }
    });
    all.collect()
}

/// Runs `vm` over these events to the end of its source.
fn run(folder: &Path, events: &[&str], loader: &str, executor: &str, options: &str) -> Output {
    let lines: String = events.iter().map(|event| format!("{event:?}\n")).collect();
    write(folder.join("events.jsonl"), lines).unwrap();
    let config = format!(
        "log.format = \"json\"\n[functions.vm]\n{options}\n\
         loader = {loader}\nexecutor = {{ use = \"{executor}\" }}\n\
         source = {{ use = \"file\", path = \"events.jsonl\" }}\n\
         sinks.file = {{ path = \"results.jsonl\" }}\nsinks.stdout = {{}}\n"
    );
    write(folder.join("gaugefn.toml"), config).unwrap();
    Gaugefn::command().current_dir(folder).args(["run", "--config", "gaugefn.toml"]).output(PATIENCE)
}

/// Runs these ways of `speaks.py`.
fn speak(ways: &[&str], isolation: &str) -> (tempfile::TempDir, Output) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("speaks.py"), SPEAKS).unwrap();
    let isolation = format!("isolation = \"{isolation}\"");
    let output = run(folder.path(), ways, "{ use = \"file\", path = \"speaks.py\" }", "python", &isolation);
    (folder, output)
}

/// The results, which each event that did not fail has exactly once.
fn results(folder: &Path, output: &Output) -> Vec<Value> {
    let text = read_to_string(folder.join("results.jsonl")).unwrap();
    assert_eq!(text, output.stdout, "results are all that standard output has");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn one<'a>(said: &'a [Said], message: &str) -> &'a Said {
    let found: Vec<_> = said.iter().filter(|said| said.message == message).collect();
    let [found] = found[..] else {
        let all: Vec<_> = said.iter().map(|said| said.message.chars().take(100).collect::<String>()).collect();
        panic!("{message:?} is there {} times: {all:#?}", found.len())
    };
    found
}

/// Where a message has to come from; `@` in it stands for its event's name.
const EXPECTED: [(&str, &str, &str, &str); 22] = [
    ("prints", "stdout", "INFO", "printed <@>"),
    ("prints", "stderr", "WARN", "printed in pieces <@>"),
    ("prints", "stdout", "INFO", "without a break <@>"),
    ("c_library", "stdout", "INFO", "printf <@>"),
    ("c_library", "stdout", "INFO", "puts <@>"),
    ("c_library", "stderr", "WARN", "dprintf <@>"),
    ("c_library", "stderr", "WARN", "write <@>"),
    ("descriptors", "stdout", "INFO", "descriptor 1 <@>"),
    ("descriptors", "stderr", "WARN", "descriptor 2 <@>"),
    ("logs", "a.b", "WARN", "logged <@>\non two lines"),
    ("logs", "other", "ERROR", "critical <@>"),
    ("context_logs", "vm", "INFO", "by the context <@>"),
    ("tracebacks", "stderr", "WARN", "ValueError: caught <@>"),
    ("garbage", "stdout", "INFO", "\\ud800 lone, \u{1b}[31m red, {\"not\": \"json\" <@>"),
    ("subprocesses", "stdout", "INFO", "a child <@>"),
    ("subprocesses", "stderr", "WARN", "an error of a child <@>"),
    ("subprocesses", "stdout", "INFO", "python child <@>"),
    ("subprocesses", "stderr", "WARN", "its end <@>"),
    ("threads", "stdout", "INFO", "a thread <@>"),
    ("threads", "stderr", "WARN", "RuntimeError: a thread's end <@>"),
    ("forks", "stdout", "INFO", "a forked child <@>"),
    ("forks", "stderr", "WARN", "a forked child's descriptor <@>"),
];

/// Written where Python has no part in it.
const RAW: [&str; 5] = ["c_library", "descriptors", "garbage", "subprocesses", "forks"];

fn all_is_said_and_all_is_json(isolation: &str) {
    let (folder, output) = speak(&WAYS, isolation);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let ways: Vec<_> = results(folder.path(), &output).iter().map(|result| result["way"].clone()).collect();
    assert_eq!(ways, WAYS[..WAYS.len() - 1]);
    let said = said(&output.stderr);
    let apart = isolation == "process";
    assert!(said.iter().all(|said| said.worker.is_some() == apart), "{said:?}");
    for (way, stream, level, message) in EXPECTED {
        let event = format!("events.jsonl:{}", 1 + WAYS.iter().position(|known| *known == way).unwrap());
        let found = one(&said, &message.replace('@', &event));
        assert_eq!((found.stream.as_str(), found.level.as_str()), (stream, level), "{found:?}");
        // of what passes nobody who knows, only the parent of a worker can tell
        if apart || !RAW.contains(&way) {
            assert_eq!(found.event, event, "{found:?}");
        }
    }
    for (stream, message) in [("stdout", "imported"), ("stdout", "imported raw")] {
        let found = one(&said, message);
        assert_eq!((found.stream.as_str(), found.event.as_str()), (stream, ""), "{found:?}");
    }
    for start in ["Current thread 0x", "Traceback (most recent call last):"] {
        assert!(said.iter().any(|said| said.stream == "stderr" && said.message.starts_with(start)), "no {start}");
    }
    assert!(said.iter().any(|said| said.message.contains("UserWarning: warned <")), "{said:?}");
    // a long line may come in pieces, of which none is lost
    for (letter, stream) in [('p', "stdout"), ('w', "stdout"), ('l', "long")] {
        let own = said.iter().filter(|said| said.stream == stream && ["events.jsonl:9", ""].contains(&&*said.event));
        let length: usize = own.map(|said| said.message.matches(letter).count()).sum();
        assert!((1 << 20..(1 << 20) + 60).contains(&length), "{length} {letter}");
    }
    let failed: Vec<_> = records(&output.stderr).into_iter().filter(|record| record["level"] == "ERROR").collect();
    let failed = failed.iter().find(|record| record["target"] != "function").unwrap();
    assert!(failed["message"].as_str().unwrap().contains("LookupError: raised <events.jsonl:14>\n{"), "{failed}");
}

#[test]
fn workers_say_everything_as_json() {
    all_is_said_and_all_is_json("process");
}

#[test]
fn a_function_in_this_process_says_everything_as_json() {
    all_is_said_and_all_is_json("inline");
}

#[test]
fn last_words_belong_to_the_event_that_crashed() {
    let (folder, output) = speak(&["prints", "last_words", "prints"], "process");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(results(folder.path(), &output).len(), 2);
    let said = said(&output.stderr);
    let last = one(&said, "no break before the end <events.jsonl:2>");
    assert_eq!((last.event.as_str(), last.stream.as_str()), ("events.jsonl:2", "stderr"));
    let after = one(&said, "printed <events.jsonl:3>");
    assert_ne!(last.worker, after.worker);
    let log = records(&output.stderr);
    let failed = log.iter().find(|record| record["level"] == "ERROR").unwrap();
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("SIGABRT") && message.contains("speaks.py"), "{message}");
}

#[test]
fn libraries_say_everything_as_json() {
    for isolation in ["process", "inline"] {
        let folder = tempfile::tempdir().unwrap();
        let (several, printing) = (libraries::several(), folder.path().join("libprints.so"));
        libraries::cc("tests/libraries/prints.c", &printing, &[]);
        for (library, handler, streams, text) in [
            (several.as_path(), "speaks", &["stdout"][..], "printed by a library"),
            (printing.as_path(), "handler", &["stdout", "stderr"], "said by C"),
        ] {
            let loader = format!("{{ use = \"native\", path = {:?} }}", library.display().to_string());
            let options = format!("handler = \"{handler}\"\nisolation = \"{isolation}\"");
            let output = run(folder.path(), &["a", "b"], &loader, "native", &options);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let said = said(&output.stderr);
            for stream in streams {
                let found: Vec<_> = said.iter().filter(|said| said.stream == *stream && said.message == text).collect();
                assert_eq!(found.len(), 2, "{isolation} {stream}: {said:?}");
            }
        }
    }
}

/// Text before a carriage return is text, unless it is a state of something that goes on.
#[test]
fn what_is_written_over_is_said_unless_it_is_progress() {
    for isolation in ["process", "inline"] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path().join("returns.py"), include_str!("output/returns.py")).unwrap();
        let isolation = format!("isolation = \"{isolation}\"");
        let output = run(folder.path(), &["go"], "{ use = \"file\", path = \"returns.py\" }", "python", &isolation);
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(0), "\"done\"\n"), "{output:?}");
        let said = said(&output.stderr);
        let of = |stream: &str| -> Vec<&str> {
            said.iter().filter(|said| said.stream == stream).map(|said| said.message.as_str()).collect()
        };
        let (stdout, stderr) = (of("stdout"), of("stderr"));
        let own: Vec<_> = stdout.iter().filter(|text| !text.starts_with("child")).copied().collect();
        let expected = [
            "boom",
            "Traceback",
            "ValueError: x",
            "step 1 done",
            "step 2 done",
            "step 3 done",
            "before",
            "after",
            "at 1999",
            "loading a.csv",
            "1999 lines",
            "bytes",
            "in one write",
            "unfinished",
            "last",
        ];
        let own: Vec<_> = own.into_iter().filter(|text| !text.is_empty()).collect();
        assert_eq!(own, expected, "{isolation}");
        let child: Vec<_> = stdout.into_iter().filter(|text| text.starts_with("child")).collect();
        assert_eq!(child, ["child 2000 of 2000", "child's first", "child's second"], "{isolation}");
        assert_eq!(stderr[0], format!("100%|{}| 2000/2000 [00:00<00:00, 285.71it/s]", "#".repeat(10)));
        for text in ["ValueError: in del \\ud800", "ValueError: in a thread \\ud800", "over"] {
            assert_eq!(stderr.iter().filter(|said| **said == text).count(), 1, "{text}: {stderr:#?}");
        }
        assert_eq!(of("odd"), ["logged \\ud800\rand more"], "{isolation}");
    }
}

/// `vm` under `run` with an admin endpoint and these events; its last call lasts until the file `go` is there.
fn held_open(code: &str, events: usize, options: &str) -> Vm {
    let bed = Bed::bare(code);
    let folder = bed.folder.path().to_path_buf();
    let lines: String = (0..events).map(|n| format!("{n}\n")).collect();
    write(folder.join("events.jsonl"), lines).unwrap();
    let config = format!(
        "log.format = \"json\"\n[functions.vm]\n{options}\n\
         loader = {{ use = \"file\", path = \"usermodule.py\" }}\nexecutor = {{ use = \"python\" }}\n\
         source = {{ use = \"file\", path = \"events.jsonl\" }}\nsinks.file = {{ path = \"results.jsonl\" }}\n"
    );
    bed.more(&config).spawn()
}
