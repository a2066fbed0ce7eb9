//! Functions that cannot be loaded, or that fail: who reads the message knows the place and what to write there.
//!
//! * `odd` - failures with anything in them

mod odd;

use crate::support::gaugefn::{Gaugefn, Output};
use std::fs::{create_dir, read_to_string, write};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// Far above what any of these takes, on a machine that runs every test at once.
const PATIENCE: Duration = Duration::from_secs(20);

const WANTED: &str = "def handler(input, context)";

struct Yard {
    top: TempDir,
}

impl Yard {
    fn new() -> Self {
        Self { top: tempfile::tempdir().unwrap() }
    }

    fn with(name: &str, text: &str) -> Self {
        let yard = Self::new();
        yard.file(name, text);
        yard
    }

    fn file(&self, name: &str, text: &str) {
        write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// `gaugefn run` as the default deployment, with no server anywhere near.
    fn run(&self, module: &str) -> Output {
        Gaugefn::command()
            .args(["run"])
            .env("USER_MODULE_PATH", self.path(module))
            .env("REDIS_HOST", "127.0.0.1")
            .env("REDIS_PORT", "1")
            .output(PATIENCE)
    }

    fn invoke(&self, module: &str, args: &[&str]) -> Output {
        let path = self.shown(module);
        Gaugefn::command().args(["invoke", path.as_str()]).args(args).output(PATIENCE)
    }

    /// Refused in the same words by `run` and by `invoke`; the words are given back.
    fn refused(&self, module: &str, exit: i32) -> String {
        let (run, invoke) = (self.run(module), self.invoke(module, &[]));
        for output in [&run, &invoke] {
            assert_eq!((output.status.code(), output.stdout.as_str()), (Some(exit), ""), "{output:?}");
        }
        let said = invoke.stderr.lines().next().unwrap_or_default().strip_prefix("gaugefn: ").unwrap().to_owned();
        assert!(run.stderr.contains(&said), "{said}\n{}", run.stderr);
        // nothing was contacted on the way
        assert!(!run.stderr.contains("redis at"), "{}", run.stderr);
        said
    }
}

fn contains(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

#[test]
fn a_syntax_error() {
    let yard = Yard::with("fn.py", "import os\n\ndef handler(input, context)\n    return 1\n");
    let said = yard.refused("fn.py", 65);
    contains(&said, &[&format!("{}:3: SyntaxError: expected ':'", yard.shown("fn.py")), WANTED]);
    let shown = yard.invoke("fn.py", &[]).stderr;
    contains(&shown, &["    def handler(input, context)\n", "^"]);

    yard.file("tabs.py", "def handler(input, context):\n\tif input:\n        return 1\n");
    contains(&yard.refused("tabs.py", 65), &[&format!("{}:3: TabError", yard.shown("tabs.py")), WANTED]);
    yard.file("bytes.py", "");
    write(yard.path("bytes.py"), b"def handler(input, context):\n    return '\xff'\n").unwrap();
    contains(&yard.refused("bytes.py", 65), &["bytes.py", "SyntaxError", "utf-8", WANTED]);
}

#[test]
fn a_failing_import() {
    let yard = Yard::with("fn.py", "import json\nimport not_there.deeper\n\ndef handler(i, c): pass\n");
    let said = yard.refused("fn.py", 65);
    let place = format!("{}:2 in <module>", yard.shown("fn.py"));
    contains(&said, &["ModuleNotFoundError: No module named 'not_there'", &place, "install 'not_there'"]);

    yard.file("divides.py", "def helper():\n    return 1 / 0\n\nhelper()\n");
    let said = yard.refused("divides.py", 65);
    contains(&said, &["ZeroDivisionError: division by zero", &format!("{}:2 in helper", yard.shown("divides.py"))]);
    // the traceback has both places and none of ours
    let shown = yard.invoke("divides.py", &[]).stderr;
    assert_eq!(shown.matches("  File \"").count(), 2, "{shown}");
    contains(&shown, &["line 4, in <module>", "line 2, in helper"]);

    yard.file("exits.py", "import sys\nsys.exit(3)\n");
    contains(&yard.refused("exits.py", 65), &["SystemExit: 3", "if __name__ == \"__main__\""]);
}

#[test]
fn a_missing_entry_function() {
    let yard = Yard::with("fn.py", "def handle(input, context):\n    return 1\n\ndef other(a, b):\n    return 2\n");
    let said = yard.refused("fn.py", 65);
    contains(
        &said,
        &[&yard.shown("fn.py"), "has no function 'handler', only handle, other", "did you mean 'handle'?", WANTED],
    );
    yard.file("empty.py", "");
    contains(&yard.refused("empty.py", 65), &["has no function 'handler', and no other one", WANTED]);

    let named = yard.invoke("fn.py", &["--handler", "ohter"]);
    assert_eq!(named.status.code(), Some(65), "{named:?}");
    contains(&named.stderr, &["has no function 'ohter'", "did you mean 'other'?", "def ohter(input, context)"]);
}

#[test]
fn an_entry_that_cannot_be_called() {
    let yard = Yard::with("fn.py", "handler = {'a': 1}\n");
    contains(&yard.refused("fn.py", 65), &[&yard.shown("fn.py"), "dict and cannot be called", WANTED]);
}

#[test]
fn a_wrong_signature() {
    let yard = Yard::with("one.py", "\n\ndef handler(event):\n    return 1\n");
    contains(&yard.refused("one.py", 65), &[&format!("{}:3: 'handler(event)'", yard.shown("one.py")), WANTED]);
    yard.file("three.py", "def handler(a, b, c):\n    return 1\n");
    contains(&yard.refused("three.py", 65), &[&format!("{}:1: 'handler(a, b, c)'", yard.shown("three.py")), WANTED]);
    yard.file("keywords.py", "def handler(*, input, context):\n    return 1\n");
    contains(&yard.refused("keywords.py", 65), &["'handler(*, input, context)'", WANTED]);
}

#[test]
fn a_missing_file() {
    let yard = Yard::new();
    contains(&yard.refused("gone.py", 66), &[&yard.shown("gone.py"), "does not exist"]);
    contains(&yard.refused("gone/fn.py", 66), &[&yard.shown("gone/fn.py"), "does not exist"]);
}

#[test]
fn a_folder_where_the_file_should_be() {
    // what an absent optional ConfigMap leaves behind
    let yard = Yard::new();
    create_dir(yard.path("fn.py")).unwrap();
    let output = yard.run("fn.py");
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    contains(&output.stderr, &[&yard.shown("fn.py"), "is a folder, no regular file", "provide the file"]);
    // `invoke` takes a folder for a function of several modules
    let output = yard.invoke("fn.py", &[]);
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    contains(&output.stderr, &[&yard.shown("fn.py"), "main.py"]);
}

#[test]
fn an_unknown_encoding() {
    let yard = Yard::with("fn.py", "# -*- coding: klingon -*-\ndef handler(i, c): pass\n");
    contains(&yard.refused("fn.py", 65), &["fn.py", "klingon"]);
}

/// A config with JSON lines as the source and standard output as the sink.
fn config(yard: &Yard, functions: &[(&str, &str)]) -> Gaugefn {
    let mut text = "[log]\nformat = \"text\"\n".to_owned();
    for (name, rest) in functions {
        text.push_str(&format!(
            "[functions.{name}]\nisolation = \"inline\"\n[functions.{name}.source]\nuse = \"file\"\npath = \"events.jsonl\"\n{rest}\n"
        ));
    }
    yard.file("gaugefn.toml", &text);
    Gaugefn::command().current_dir(yard.top.path()).args(["run", "--config", "gaugefn.toml"])
}

fn python(name: &str, module: &str) -> String {
    format!(
        "[functions.{name}.loader]\nuse = \"file\"\npath = \"{module}\"\n[functions.{name}.executor]\nuse = \"python\"\n[functions.{name}.sinks.stdout]\n"
    )
}

#[test]
fn a_handler_that_raises_is_logged_once_for_each_event_with_its_id() {
    let yard = Yard::with(
        "fn.py",
        "def handler(input, context):\n    if input != 2:\n        return input\n    raise RuntimeError(f'no {input}')\n",
    );
    yard.file("events.jsonl", "1\n2\n3\nnot json\n5\n");
    let output = config(&yard, &[("vm", &python("vm", "fn.py"))]).output(PATIENCE);
    assert_eq!((output.status.code(), output.stdout.as_str()), (Some(0), "1\n3\n5\n"), "{output:?}");
    let log = &output.stderr;
    assert_eq!(log.matches("Traceback (most recent call last)").count(), 1, "{log}");
    assert_eq!(log.matches("\nRuntimeError: no 2\n").count(), 1, "{log}");
    let line = log.lines().find(|line| line.contains("call failed: RuntimeError: no 2")).unwrap();
    contains(line, &["ERROR", "event=events.jsonl:2", "function=vm", "fn.py:4 in handler"]);
    let line = log.lines().find(|line| line.contains("the event is not json")).unwrap();
    contains(line, &["ERROR", "event=events.jsonl:4", "function=vm"]);
}

#[test]
fn where_one_of_several_functions_cannot_be_loaded_nothing_starts() {
    let yard = Yard::with("bad.py", "def handler(input, context)\n");
    yard.file("events.jsonl", "1\n2\n");
    let copy = "[functions.copy.executor]\nuse = \"passthrough\"\n[functions.copy.sinks.file]\npath = \"copied\"\n";
    for functions in
        [[("copy", copy), ("vm", &python("vm", "bad.py"))], [("vm", &python("vm", "bad.py")), ("copy", copy)]]
    {
        let output = config(&yard, &functions).output(PATIENCE);
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(65), ""), "{output:?}");
        contains(&output.stderr, &["bad.py:1: SyntaxError", "function=vm"]);
        assert!(!yard.path("copied").exists(), "{:?}", read_to_string(yard.path("copied")));
    }
    // the same two with a good function: both run
    yard.file("bad.py", "def handler(input, context): return [input]\n");
    let output = config(&yard, &[("copy", copy), ("vm", &python("vm", "bad.py"))]).output(PATIENCE);
    assert_eq!((output.status.code(), output.stdout.as_str()), (Some(0), "[1]\n[2]\n"), "{output:?}");
    assert_eq!(read_to_string(yard.path("copied")).unwrap(), "1\n2\n");
}

#[test]
fn two_python_functions_in_one_process_are_refused() {
    let yard = Yard::with("fn.py", "def handler(input, context): return 1\n");
    yard.file("events.jsonl", "1\n");
    let functions = [("a", &*python("a", "fn.py")), ("b", &*python("b", "fn.py"))];
    let inline = |label: &str| format!("GAUGEFN__FUNCTIONS__{label}__ISOLATION");
    let output = config(&yard, &functions).env(&inline("A"), "inline").env(&inline("B"), "inline").output(PATIENCE);
    assert_eq!((output.status.code(), output.stdout.as_str()), (Some(78), ""), "{output:?}");
    contains(
        &output.stderr,
        &[
            "functions.b: a second function of the executor 'python' with isolation = \"inline\" beside 'a'",
            "use isolation = \"process\" for one of them",
        ],
    );
}
