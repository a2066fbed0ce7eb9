//! Lines of events that are too long, or no text: they cost nobody else's event, and little memory.

use std::fs::{read_to_string, write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gaugefn::Gaugefn;

const PATIENCE: Duration = Duration::from_secs(60);

const FUNCTION: &str = "def handler(input, context):\n    return {'n': input['n']}\n";

/// A file of events with one line of so many bytes in the middle.
fn events(folder: &std::path::Path, length: usize) -> std::path::PathBuf {
    let path = folder.join("events.jsonl");
    let long = format!("{{\"n\":\"{}\"}}", "x".repeat(length - 8));
    write(&path, format!("{{\"n\":1}}\n{long}\r\n\n{{\"n\":4}}\n{{\"n\":5}}")).unwrap();
    path
}

#[test]
fn a_line_over_max_payload_fails_alone_and_is_kept_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("f.py"), FUNCTION).unwrap();
    events(folder.path(), 200_000);
    let config = folder.path().join("gaugefn.toml");
    write(
        &config,
        "[functions.vm]\nsource = { use = \"file\", path = \"events.jsonl\", max_payload = \"100KiB\" }\n\
         loader = { use = \"file\", path = \"f.py\" }\nexecutor = { use = \"python\" }\n\
         errors = { retries = 3, then = \"dead_letter\" }\n\
         dead_letters = { use = \"file\", path = \"letters\" }\nsinks.file = { path = \"results.jsonl\" }\n",
    )
    .unwrap();
    let gaugefn = || Gaugefn::command().current_dir(folder.path());
    let output = gaugefn().args(["run", "--config", "gaugefn.toml"]).output(PATIENCE);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let results = read_to_string(folder.path().join("results.jsonl")).unwrap();
    assert_eq!(results, "{\"n\": 1}\n{\"n\": 4}\n{\"n\": 5}\n");
    let letters = read_to_string(folder.path().join("letters")).unwrap();
    let letters: Vec<Value> = letters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [letter] = letters.as_slice() else { panic!("{} letters", letters.len()) };
    assert_eq!(letter["event"], json!("events.jsonl:2"), "{letter}");
    assert!(
        letter["error"].as_str().unwrap().contains(
            "events.jsonl: line 2 at byte 8 has 200002 bytes, more than max_payload (100KiB); write each event on a line"
        ),
        "{}",
        letter["error"]
    );
    assert_eq!(letter["payload"].as_str().unwrap().len(), 64 << 10);

    // the default lets it through
    let text = read_to_string(&config).unwrap().replace(", max_payload = \"100KiB\"", "");
    write(&config, text).unwrap();
    let output = gaugefn().args(["run", "--config", "gaugefn.toml"]).output(PATIENCE);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let results = read_to_string(folder.path().join("results.jsonl")).unwrap();
    assert_eq!(results.lines().count(), 7);
}

#[test]
fn invoke_and_replay_say_which_line_is_too_long_and_go_on() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("f.py"), FUNCTION).unwrap();
    let events = events(folder.path(), (64 << 20) + 1);
    let said = "event 2: line 2 at byte 8 has 67108867 bytes, more than max_payload (64MiB)";
    let invoke = || Gaugefn::command().current_dir(folder.path()).args(["invoke", "f.py", "--event"]);
    let of_stdin = std::fs::read(&events).unwrap();
    for output in [invoke().args([&events]).output(PATIENCE), invoke().args(["-"]).stdin(of_stdin).output(PATIENCE)] {
        assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
        assert_eq!(output.stdout, "{\"n\": 1}\nnull\n{\"n\": 4}\n{\"n\": 5}\n");
        assert!(output.stderr.contains(said), "{}", output.stderr);
    }
    let replay = Gaugefn::command().current_dir(folder.path()).args(["replay", "f.py", "--against", "f.py", "--event"]);
    let output = replay.args([&events]).output(PATIENCE);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert!(output.stderr.contains(said), "{}", output.stderr);
    assert!(output.stderr.ends_with("4 events, 0 differ, 1 failed in both\n"), "{}", output.stderr);
}

#[test]
fn odd_files_of_events() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("f.py"), FUNCTION).unwrap();
    let invoke = |bytes: &[u8]| {
        write(folder.path().join("events"), bytes).unwrap();
        let gaugefn = Gaugefn::command().current_dir(folder.path());
        gaugefn.args(["invoke", "f.py", "--event", "events"]).output(PATIENCE)
    };
    let output = invoke(b"\xef\xbb\xbf{\"n\":1}\r\n{\"n\":2}\r\n");
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), "{\"n\": 1}\n{\"n\": 2}\n"), "{output:?}");
    let output = invoke(b"{\"n\":1}\n{\"n\":\"\xff\"}\n{\"n\":\0}\n{\"n\":4}");
    assert_eq!(
        (output.status.code(), &*output.stdout),
        (Some(1), "{\"n\": 1}\nnull\nnull\n{\"n\": 4}\n"),
        "{output:?}"
    );
    for (bytes, what) in
        [(&b"\x1f\x8b\x08\0\n"[..], "it is gzip data; unpack it first"), (b"\xff\xfe1\0\n\0", "it is UTF-16 text")]
    {
        let output = invoke(bytes);
        assert_eq!((output.status.code(), &*output.stdout), (Some(66), ""), "{output:?}");
        assert!(output.stderr.contains(what), "{output:?}");
    }
}
