//! Functions in worker processes: what hangs is killed in time, what crashes costs one event, and nothing is left behind.
//!
//! * `deadlines` - calls that take longer than they may
//! * `crashes` - workers that end by themselves, or at a limit of memory
//! * `ends` - what does not end, and what is finished at an end
//! * `forks` - children that come back to the runtime
//! * `standby` - what is kept ready, and planned replacements
//! * `orphans` - the parent ends, by whatever cause

mod crashes;
mod deadlines;
mod ends;
mod forks;
mod orphans;
mod standby;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, create_dir, read, read_dir, read_to_string, rename, write};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::support::bed::{Bed, PATIENCE, Vm};
use crate::support::libraries::cc;
use crate::support::wait::eventually;

/// What stands before the code of every Python function here: each call is noted in the file `calls`, before anything
/// can happen to it.
const NOTING: &str = r#"
import json, os, time


def note(file="calls", **what):
    line = {"pid": os.getpid(), "worker": os.environ["GAUGEFN_WORKER"], "at": time.monotonic(), **what}
    with open(file, "a") as file:
        file.write(json.dumps(line) + "\n")

"#;

/// What was measured is worth knowing, also where it is good.
#[allow(clippy::print_stderr, reason = "shown with the output of the test")]
fn measured(figures: std::fmt::Arguments<'_>) {
    eprintln!("{figures}");
}

/// The clock of `time.monotonic()`.
fn now() -> f64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Whether a process runs; one that has ended and was not waited for does not.
fn alive(pid: i32) -> bool {
    let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !"ZXx".contains(state))
}

/// The living processes with this `NAME=value` in their environment, or one that begins so where it ends with `-`.
fn carrying(variable: &str) -> Vec<i32> {
    let is_it = |entry: &[u8]| {
        entry == variable.as_bytes() || variable.ends_with('-') && entry.starts_with(variable.as_bytes())
    };
    let entries = read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environ = read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(is_it) && alive(*pid)
    })
    .collect()
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> u64 {
    const PAGE: u64 = 4096;
    let statm = read_to_string(format!("/proc/{pid}/statm")).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * PAGE
}

/// How many descriptors a process has.
fn descriptors(pid: u32) -> usize {
    read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The number of the line with this text.
fn line_of(code: &str, text: &str) -> usize {
    code.lines().position(|line| line.contains(text)).unwrap_or_else(|| panic!("no line with {text:?}")) + 1
}

/// The lines of JSON of a file that grows. Each is parsed once: tests of time must not be busy themselves.
#[derive(Default)]
struct Growing {
    read: u64,
    lines: Vec<Value>,
}

impl Growing {
    fn look(&mut self, path: &Path) -> &[Value] {
        let mut text = String::new();
        // it may not be there yet
        if let Ok(mut file) = File::open(path) {
            file.seek(SeekFrom::Start(self.read)).unwrap();
            file.read_to_string(&mut text).unwrap();
        }
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            self.read += line.len() as u64;
            self.lines.push(serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}")));
        }
        &self.lines
    }
}

/// `tests/libraries/falls.c`, compiled.
fn falls(folder: &Path) -> PathBuf {
    let library = folder.join("libfalls.so");
    cc("tests/libraries/falls.c", &library, &["-Wno-infinite-recursion"]);
    library
}

/// A function that is fed through a pipe, and appends its results to a file.
struct Fed {
    vm: Vm,
    feed: File,
    /// What it and its workers write, by name.
    files: RefCell<HashMap<&'static str, Growing>>,
}

impl Fed {
    /// A Python function, after [`NOTING`]; `options` are lines of the function's table.
    fn python(code: &str, options: &str) -> Self {
        Self::ready(Self::place(Bed::bare(""), code, options))
    }

    /// Same, and something more about the process.
    fn place(bed: Bed, code: &str, options: &str) -> (Bed, File) {
        let folder = bed.folder.path().join("function");
        create_dir(&folder).unwrap();
        let module = folder.join("usermodule.py");
        write(&module, format!("{NOTING}{code}")).unwrap();
        Self::of(bed, &module, "file", "python", options)
    }

    /// A library.
    fn native(library: &Path, options: &str) -> Self {
        Self::ready(Self::of(Bed::bare(""), library, "native", "native", options))
    }

    fn of(bed: Bed, path: &Path, loader: &str, executor: &str, options: &str) -> (Bed, File) {
        let events = bed.folder.path().join("events");
        mkfifoat(CWD, &events, Mode::RWXU).unwrap();
        // for reading as well, or it would wait for a reader here
        let feed = File::options().read(true).write(true).open(&events).unwrap();
        let config = format!(
            "[functions.vm]\nisolation = \"process\"\n{options}\n\
             loader = {{ use = \"{loader}\", path = \"{}\" }}\nexecutor = {{ use = \"{executor}\" }}\n\
             source = {{ use = \"file\", path = \"events\" }}\n\
             sinks.result = {{ use = \"file\", path = \"results.jsonl\" }}\n",
            path.display()
        );
        (bed.more(&config), feed)
    }

    fn ready((bed, feed): (Bed, File)) -> Self {
        let mut fed = Self { vm: bed.start(), feed, files: RefCell::default() };
        fed.ask(json!({"n": "first"}));
        fed
    }

    /// Gives it these events, in one batch where it is idle.
    fn send(&mut self, events: &[Value]) {
        let text: String = events.iter().map(|event| format!("{event}\n")).collect();
        // more than this would be written piece by piece
        assert!(text.len() <= 4096);
        self.feed.write_all(text.as_bytes()).unwrap();
    }

    /// Gives it one event and waits for the result with the same `n`.
    fn ask(&mut self, event: Value) -> Value {
        self.send(std::slice::from_ref(&event));
        self.result(&event["n"])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.vm.folder.path().join(name)
    }

    fn results(&self) -> Vec<Value> {
        self.lines("results.jsonl")
    }

    fn calls(&self) -> Vec<Value> {
        self.lines("calls")
    }

    fn lines(&self, file: &'static str) -> Vec<Value> {
        let path = self.path(file);
        self.files.borrow_mut().entry(file).or_default().look(&path).to_vec()
    }

    /// The newest line of a file that has this `n`, if it is there yet.
    fn find(&self, file: &'static str, n: &Value) -> Option<Value> {
        let path = self.path(file);
        let mut files = self.files.borrow_mut();
        files.entry(file).or_default().look(&path).iter().rev().find(|line| line["n"] == *n).cloned()
    }

    fn wait(&self, file: &'static str, n: &Value) -> Value {
        let found = eventually(PATIENCE, || self.find(file, n));
        found.unwrap_or_else(|| panic!("no {n} in {file}\n{}", self.vm.running.written()))
    }

    /// Waits for the result of an event.
    fn result(&self, n: &Value) -> Value {
        self.wait("results.jsonl", n)
    }

    /// Waits for the note of a call.
    fn call(&self, n: &Value) -> Value {
        self.wait("calls", n)
    }

    /// The end of its log, which may be long.
    fn last_words(&self) -> String {
        let log = self.vm.running.stderr();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// The metric with this label, given as `name="value"`.
    fn count(&mut self, metric: &str, label: &str) -> usize {
        let (_, body) = self.vm.admin.get("/metrics").unwrap();
        let start = format!("gaugefn_{metric}{{");
        let line = body.lines().find(|line| line.starts_with(&start) && line.contains(label));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Waits until a count has this value, and no more.
    fn wait_count(&mut self, metric: &str, label: &str, wanted: usize) {
        let mut last = 0;
        let arrived = eventually(PATIENCE, || {
            last = self.count(metric, label);
            (last >= wanted).then_some(())
        });
        assert!(
            arrived.is_some() && last == wanted,
            "{metric} {label} is {last}, not {wanted}\n{}",
            self.vm.running.written()
        );
    }

    /// The workers of this process, with all that they have started.
    fn family(&self) -> Vec<i32> {
        carrying(&format!("GAUGEFN_WORKER={}-", self.vm.running.pid()))
    }

    /// Waits until there are so many processes: those that work and those that are kept ready.
    fn wait_family(&self, size: usize) {
        let mut last = Vec::new();
        let arrived = eventually(PATIENCE, || {
            last = self.family();
            (last.len() == size).then_some(())
        });
        assert!(arrived.is_some(), "{last:?} are not {size} processes\n{}", self.vm.running.written());
    }

    /// Puts other code in place, as a whole.
    fn replace(&self, code: &str) {
        let folder = self.path("function");
        write(folder.join("tmp"), format!("{NOTING}{code}")).unwrap();
        rename(folder.join("tmp"), folder.join("usermodule.py")).unwrap();
    }

    /// Ends it by SIGTERM, with code 0 and nothing left.
    fn stop(mut self) {
        let (pid, folder) = (self.vm.running.pid(), self.vm.folder.path().to_path_buf());
        self.vm.running.signal(rustix::process::Signal::TERM);
        let status = self.vm.running.wait_exit(PATIENCE);
        assert_eq!(status.code(), Some(0), "{}", self.vm.running.written());
        assert_gone(&format!("GAUGEFN_WORKER={pid}-"), Duration::ZERO, &self.vm);
        assert!(folder.exists());
    }
}

/// No process with this variable is left after so long.
fn assert_gone(variable: &str, after: Duration, vm: &Vm) {
    let mut last = Vec::new();
    let gone = eventually(after, || {
        last = carrying(variable);
        last.is_empty().then_some(())
    });
    assert!(gone.is_some(), "{last:?} are left after {after:?}\n{}", vm.running.written());
}
