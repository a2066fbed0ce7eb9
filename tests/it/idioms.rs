//! The published functions' idioms: each function of `tests/functions` stores, event by event, the very text
//! that the reference loop stores, while it is given nothing but the replaced image's variables.

use crate::support::admin::Admin;
use crate::support::gaugefn::{Gaugefn, Running};
use crate::support::project;
use crate::support::python::{python, venv};
use crate::support::redis::RedisServer;
use crate::support::tier::scale;
use crate::support::wait::eventually;
use redis::Commands;
use std::fs::{read, read_dir, read_to_string, write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How many of the events every run feeds.
const FIRST: usize = 50;

/// For one event: far above the slowest call (a pool of processes), on a machine that runs every test at once.
const PATIENCE: Duration = Duration::from_secs(20);

const OUTPUT: &str = "result";

/// One test for each function, with the number of the first 50 events that change the stored text:
/// a function that failed alike in both runs would otherwise look like one that agrees.
macro_rules! functions {
    ($($name:ident: $changes:literal,)*) => {
        const FUNCTIONS: &[(&str, usize)] = &[$((stringify!($name), $changes)),*];
        $(#[test] fn $name() { agrees(stringify!($name), Form::Plain); })*
    };
}

functions! {
    async_handler: 43,
    callable_object: 50,
    context_attributes: 50,
    context_methods: 50,
    context_subscript: 50,
    dataclass_env: 50,
    decorated: 50,
    deque_window: 50,
    env_getattr: 50,
    env_reassigned: 50,
    extra_defaults: 50,
    huge_ints: 50,
    input_mutated: 50,
    int_keys: 50,
    keyboard_interrupt: 12,
    last_execution: 37,
    machine_facts: 50,
    main_guard: 50,
    module_globals: 50,
    multiprocess_pool: 50,
    nan_infinity: 50,
    non_ascii: 48,
    np_float64_result: 50,
    np_int64_refused: 16,
    numpy_array_result: 16,
    numpy_env: 50,
    other_parameter_names: 50,
    own_redis_read: 50,
    own_redis_write: 50,
    pandas_env: 50,
    prints_and_logging: 50,
    queue_window: 50,
    raises_always: 0,
    raises_sometimes: 29,
    refused_result: 17,
    scalar_results: 50,
    signal_handler: 50,
    star_args: 50,
    stores_nothing: 0,
    stores_sometimes: 10,
    strptime_timestamp: 50,
    subclass_results: 50,
    subprocess_python: 50,
    system_exit: 12,
    tuple_window: 50,
    types_survive: 50,
    whole_floats: 50,
}

#[test]
fn crlf_line_ends() {
    agrees("non_ascii", Form::Crlf);
    agrees("deque_window", Form::Crlf);
}

#[test]
fn byte_order_mark() {
    agrees("non_ascii", Form::ByteOrderMark);
    agrees("dataclass_env", Form::ByteOrderMark);
}

#[test]
fn file_without_ending() {
    agrees("main_guard", Form::NoEnding);
    agrees("dataclass_env", Form::NoEnding);
}

#[test]
fn every_function_has_its_test() {
    let mut files: Vec<String> = read_dir(project("tests/functions"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "py"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let mut listed: Vec<&str> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
    listed.sort_unstable();
    assert_eq!(files, listed);
    for file in &files {
        let text = read_to_string(source(file)).unwrap();
        assert!(text.starts_with("\"\"\"Idiom: "), "{file}.py does not open with its idiom");
    }
}

/// How the function's source lies in its file.
#[derive(Clone, Copy)]
enum Form {
    Plain,
    Crlf,
    ByteOrderMark,
    NoEnding,
}

impl Form {
    fn place(self, function: &str, folder: &Path) -> PathBuf {
        let text = read(source(function)).unwrap();
        let (name, text) = match self {
            Self::Plain => ("usermodule.py", text),
            Self::NoEnding => ("usermodule", text),
            Self::ByteOrderMark => ("usermodule.py", [b"\xef\xbb\xbf", &text[..]].concat()),
            Self::Crlf => {
                let text = String::from_utf8(text).unwrap().replace('\n', "\r\n");
                ("usermodule.py", text.into_bytes())
            }
        };
        let path = folder.join(name);
        write(&path, text).unwrap();
        path
    }
}

fn source(function: &str) -> PathBuf {
    project("tests/functions").join(format!("{function}.py"))
}

/// Both loops over the same events, compared after each of them.
fn agrees(function: &str, form: Form) {
    let all = read_to_string(project("tests/data/metrics.jsonl")).unwrap();
    let events: Vec<&str> = all.lines().take(scale(500, FIRST)).collect();
    let server = RedisServer::start();
    let variables = [
        ("REDIS_HOST", "127.0.0.1".to_owned()),
        ("REDIS_PORT", server.port().to_string()),
        ("REDIS_INPUT_KEY", "metrics".to_owned()),
        ("REDIS_OUTPUT_KEY", OUTPUT.to_owned()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let expected = reference(function, &events, folder.path(), &variables);
    let before = std::iter::once(&None).chain(&expected);
    let changes: Vec<bool> = expected.iter().zip(before).map(|(new, old)| new != old).collect();
    let wanted = FUNCTIONS.iter().find(|(name, _)| *name == function).unwrap().1;
    let changed = changes[..FIRST].iter().filter(|changed| **changed).count();
    assert_eq!(changed, wanted, "{function}: changes of the stored text in the reference loop");

    let mut admin = Admin::reserve();
    let path = form.place(function, folder.path());
    let mut gaugefn = variables
        .iter()
        .fold(Gaugefn::command().args(["run"]), |command, (name, value)| command.env(name, value))
        .env("USER_MODULE_PATH", path)
        // what the image does not know: a short period, the packages, and a way to see that a call is over
        .env("REDIS_MONITOR_PERIOD", "0.002")
        .env("VIRTUAL_ENV", venv())
        .env("GAUGEFN__ADMIN__LISTEN", admin.listen())
        .spawn();
    let mut redis = server.connection();
    for (index, event) in events.iter().enumerate() {
        let () = redis.set("metrics", event).unwrap();
        let found = if changes[index] {
            // the text alone tells; where it never comes, whatever is there then is the difference
            let _ = eventually(PATIENCE, || {
                let arrived = stored(&mut redis) == expected[index];
                (arrived || gaugefn.exited().is_some()).then_some(())
            });
            stored(&mut redis)
        } else {
            wait_for_call(&mut admin, &mut gaugefn, index + 1, function);
            stored(&mut redis)
        };
        assert_eq!(
            found,
            expected[index],
            "{function}, event {index}: found what stands left, the reference loop stores what stands right\n{}",
            gaugefn.written()
        );
    }
    wait_for_call(&mut admin, &mut gaugefn, events.len(), function);
    let calls = admin.metric("invocations_total", "default").unwrap();
    assert_eq!(calls, Some(events.len() as f64), "{function}: one call an event");
}

/// The texts under the output key after each event, as the reference loop leaves them.
fn reference(function: &str, events: &[&str], folder: &Path, variables: &[(&str, String)]) -> Vec<Option<String>> {
    let file = folder.join("events.jsonl");
    write(&file, events.join("\n")).unwrap();
    let done = Command::new(python())
        .arg(project("tests/reference/loop.py"))
        .args([&source(function), &file])
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(done.status.success(), "{function}: the reference loop failed:\n{}", String::from_utf8_lossy(&done.stderr));
    let texts: Vec<Option<String>> = String::from_utf8(done.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["stored"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(texts.len(), events.len());
    texts
}

fn stored(redis: &mut redis::Connection) -> Option<String> {
    redis.get(OUTPUT).unwrap()
}

/// Waits until that many calls have ended and the last one is committed.
fn wait_for_call(admin: &mut Admin, gaugefn: &mut Running, calls: usize, function: &str) {
    // two looks, one after the other: within one look the gauge may have been read before the call began
    let steps: [(&str, &dyn Fn(f64) -> bool); 2] =
        [("invocations_total", &|count| count >= calls as f64), ("in_flight", &|count| count == 0.0)];
    for (name, reached) in steps {
        let mut last = String::new();
        let waited = eventually(PATIENCE, || {
            let value = admin.metric(name, "default");
            last = format!("{value:?}");
            let arrived = matches!(value, Ok(Some(count)) if reached(count));
            (arrived || gaugefn.exited().is_some()).then_some(arrived)
        });
        assert!(waited == Some(true), "{function}: call {calls} does not end, {name} is {last}\n{}", gaugefn.written());
    }
}
