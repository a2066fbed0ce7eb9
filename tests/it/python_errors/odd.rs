//! Failures with anything in them: the text, the place and the traceback are there wherever one looks.

use super::*;
use crate::support::bed::{Bed, PATIENCE as LONG};
use crate::support::redis::RedisServer;
use crate::support::wait::eventually;
use redis::Commands;
use serde_json::Value;

/// Each event names a failure.
const ODD: &str = r#"
import types

class Silent(Exception):
    def __str__(self):
        raise SystemExit("not even this")

class Number(Exception):
    def __str__(self):
        return 5

class Endless(Exception):
    def __str__(self):
        return f"again: {self}"
    __repr__ = __str__

class Cause(Exception):
    @property
    def __cause__(self):
        raise RuntimeError("asked")

class Named(type):
    @property
    def __name__(cls):
        raise RuntimeError("asked")

class Nameless(Exception, metaclass=Named):
    pass

def surrogate():
    raise FileNotFoundError(2, "No such file", b"caf\xe9.txt".decode("utf-8", "surrogateescape"))

def lone():
    raise ValueError("\ud800 alone")

def returns():
    raise ValueError("boom\rTraceback\r\nat last")

def steers():
    raise ValueError("\x00nul \x1b[2J \x07 \x9b1m")

def large():
    raise ValueError("begin " + "\u00e9" * 3_000_000 + " end")

def many_lines():
    raise ValueError("begin\n" + "x\n" * 3_000_000 + "end")

def silent():
    raise Silent

def number():
    raise Number("seen by nobody")

def endless():
    raise Endless

def cause():
    raise Cause("with a cause")

def nameless():
    raise Nameless("a text")

def group():
    raise ExceptionGroup("several", [ValueError("\udcff"), ExceptionGroup("inner", [KeyError("deep\r")])])

def notes():
    error = ValueError("noted")
    error.add_note("a note \ud800\ron one line")
    error.__notes__.append(7)
    raise error

def chain():
    last = None
    for n in range(5000):
        link = ValueError(f"link {n}")
        link.__cause__, last = last, link
    raise last

def circle():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    raise one

def syntax():
    compile("\n1 +* 2\n", "\ud800.py", "exec")

def strange_syntax():
    error = SyntaxError("strange")
    error.filename, error.lineno, error.offset, error.text = b"file", "first", [], 3
    raise error

def no_source():
    exec(compile("def inner():\n    raise ValueError('inner')\n", "/nowhere/\ud800.py", "exec"), globals())
    inner()

def deep():
    return deep()

def key():
    return {"\ud800\x1b": {1, 2}}

WANTED = {
    "surrogate": "FileNotFoundError: [Errno 2] No such file: 'caf\\udce9.txt'",
    "lone": "ValueError: \\ud800 alone",
    "returns": "ValueError: boom Traceback at last",
    "steers": "ValueError: \\x00nul \\x1b[2J \\x07 \\x9b1m",
    "large": "ValueError: begin \u00e9",
    "many_lines": "ValueError: begin x x",
    "silent": "Silent: <exception str() failed>",
    "number": "Number: <exception str() failed>",
    "endless": "Endless: <exception str() failed>",
    "cause": "Cause: with a cause",
    "nameless": "Nameless: a text",
    "group": "ExceptionGroup: several (2 sub-exceptions)",
    "notes": "ValueError: noted a note \\ud800 on one line",
    "chain": "ValueError: link 4999",
    "circle": "ValueError: one",
    "syntax": "SyntaxError: invalid syntax",
    "strange_syntax": "SyntaxError: strange",
    "no_source": "ValueError: inner",
    "deep": "RecursionError: maximum recursion depth exceeded",
    "key": "the result is not json: $[\"\\ud800\\x1b\"]: set",
}

def handler(event, context):
    if event == "names":
        return WANTED
    return globals()[event]()
"#;

/// Names of the failures, each with the begin of its line.
fn wanted(yard: &Yard) -> Vec<(String, String)> {
    yard.file("one", "\"names\"\n");
    let output = yard.invoke("fn.py", &["--event", &yard.shown("one")]);
    let names: serde_json::Map<String, Value> = serde_json::from_str(&output.stdout).unwrap();
    names.into_iter().map(|(name, line)| (name, line.as_str().unwrap().to_owned())).collect()
}

/// Without the module that Python names before a class of the function's own.
fn unprefixed(line: &str) -> &str {
    line.strip_prefix("fn.").or_else(|| line.strip_prefix("usermodule.")).unwrap_or(line)
}

/// A failure's line, and the report.
fn assert_told(name: &str, wanted: &str, line: &str, report: &str) {
    assert!(unprefixed(line).starts_with(wanted), "{name}: {line:.300} is not {wanted}");
    assert!(line.len() < 4000 && report.len() < 300_000, "{name}: {} and {} bytes", line.len(), report.len());
    if name != "key" {
        assert!(report.contains(&format!("in {name}\n")) || name == "chain", "{name}: {report:.2000}");
        assert!(line.ends_with(&format!(" in {name})")), "{name}: {line:.3000}");
    }
    assert!(!line.chars().chain(report.chars()).any(|letter| letter.is_control() && letter != '\n'), "{name}: {line}");
    for (failure, words) in [
        ("surrogate", "\nFileNotFoundError: [Errno 2] No such file: 'caf\\udce9.txt'"),
        ("returns", "\nValueError: boom\\rTraceback\nat last"),
        ("large", " letters are left out …\n"),
        ("large", "é end"),
        ("many_lines", "\nend"),
        ("group", "ValueError: \\udcff"),
        ("group", "KeyError: 'deep\\r'"),
        ("notes", "a note \\ud800\\ron one line"),
        ("chain", "ValueError: link 0\n"),
        ("chain", "ValueError: link 4999"),
        ("circle", "ValueError: other"),
        ("syntax", "1 +* 2"),
        ("no_source", "File \"/nowhere/\\ud800.py\", line 2, in inner"),
        ("deep", "[Previous line repeated "),
    ] {
        assert!(failure != name || report.contains(words), "{name} without {words:?}: {report:.3000}");
    }
    let counted = name != "large" || line.contains(" letters are left out … ") && line.contains("é end (");
    assert!(counted, "{line}");
}

#[test]
fn whatever_is_in_a_failure_its_text_and_traceback_stay() {
    let yard = Yard::with("fn.py", ODD);
    for (name, wanted) in wanted(&yard) {
        yard.file("one", &format!("\"{name}\"\n"));
        let output = yard.invoke("fn.py", &["--event", &yard.shown("one")]);
        assert_eq!(
            (output.status.code(), output.stdout.as_str()),
            (Some(1), "null\n"),
            "{name}: {:.3000}",
            output.stderr
        );
        let said = output.stderr.strip_prefix("event 1: ").unwrap_or_else(|| panic!("{name}: {:.3000}", output.stderr));
        let (line, report) = said.split_once('\n').unwrap();
        assert_told(&name, &wanted, line, report);
    }
}

#[test]
fn letters_and_the_log_have_it_as_well() {
    let yard = Yard::with("fn.py", ODD);
    let all = wanted(&yard);
    let server = RedisServer::start();
    let mut redis = server.connection();
    for kept in ["redis", "file"] {
        let letters = if kept == "file" { "dead_letters = { use = \"file\", path = \"dead\" }\n" } else { "" };
        let bed = Bed::bare(ODD).more(&format!(
            "log.format = \"json\"\n[redis]\nurl = \"{}\"\n[functions.vm]\nerrors.retries = 0\n{letters}\
             loader = {{ use = \"file\", path = \"usermodule.py\" }}\n\
             source = {{ use = \"redis_stream\", stream = \"{kept}\", field = \"data\" }}\n\
             sinks.result = {{ use = \"redis_stream\", stream = \"out\" }}\nexecutor = {{ use = \"python\" }}\n",
            server.url()
        ));
        for (name, _) in &all {
            let _: String = redis.xadd(kept, "*", &[("data", format!("\"{name}\""))]).unwrap();
        }
        let vm = bed.start();
        let folder = vm.folder.path().to_owned();
        let dlq = |args: &[&str]| {
            let command = Gaugefn::command().args(["dlq"]).args(args).args(["--config", "gaugefn.toml"]);
            command.current_dir(&folder).output(PATIENCE)
        };
        let mut found: Vec<Value> = Vec::new();
        let complete = eventually(LONG, || {
            let listed = dlq(&["ls", "vm", "--format", "json"]).stdout;
            found = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (found.len() == all.len()).then_some(())
        });
        assert!(complete.is_some(), "{} letters of {}\n{:.3000}", found.len(), all.len(), vm.running.written());
        for (name, wanted) in &all {
            let letter = found.iter().find(|letter| letter["payload"] == format!("\"{name}\"")).unwrap();
            let report = letter["traceback"].as_str().unwrap();
            assert_told(name, wanted, letter["error"].as_str().unwrap(), report);
            let shown = dlq(&["show", "vm", letter["id"].as_str().unwrap()]).stdout;
            let last = report.trim_end().lines().last().unwrap();
            assert!(shown.contains(wanted) && shown.contains(last), "{name}: {shown:.3000}");
        }
        // a record of the log is one line of json, which has the report
        for (name, wanted) in &all {
            let logged = |line: &str| {
                let record: Value = serde_json::from_str(line).unwrap();
                let message = record["message"].as_str().unwrap_or_default();
                message
                    .strip_prefix("call failed: ")
                    .is_some_and(|said| unprefixed(said).starts_with(wanted))
                    .then(|| message.to_owned())
            };
            let message = eventually(LONG, || vm.running.stderr().lines().find_map(logged));
            let message = message.unwrap_or_else(|| panic!("{name} is not in the log"));
            let last = found.iter().find(|letter| letter["payload"] == format!("\"{name}\"")).unwrap();
            assert!(message.contains(last["traceback"].as_str().unwrap().trim_end()), "{name}: {message:.3000}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_loaded_says_why_whatever_is_in_it() {
    let yard = Yard::with("fn.py", "raise ValueError('\\ud800 boom\\rover \\x1b[2J')\n");
    contains(&yard.refused("fn.py", 65), &["ValueError: \\ud800 boom over \\x1b[2J", "fn.py:1 in <module>"]);
    yard.file("large.py", "raise ValueError('begin ' + 'x' * 5_000_000 + ' end')\n");
    let said = yard.refused("large.py", 65);
    contains(&said, &["ValueError: begin x", " letters are left out … ", "x end (", "large.py:1 in <module>"]);
    assert!(said.len() < 3000);
}
