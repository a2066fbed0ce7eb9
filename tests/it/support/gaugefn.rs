//! The binary under test, in an environment that holds only what the test puts there.

use super::wait::eventually;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is kept of the caller's environment: without it subprocesses and temporary files do not work.
const KEPT: [&str; 3] = ["PATH", "HOME", "TMPDIR"];

/// A command line of `gaugefn` being put together.
pub(crate) struct Gaugefn {
    command: Command,
    input: Option<Vec<u8>>,
}

impl Gaugefn {
    /// `gaugefn` without arguments, its standard input empty.
    pub(crate) fn command() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gaugefn"));
        command.env_clear().env("LANG", "C.UTF-8");
        for name in KEPT {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        Self { command, input: None }
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs the same command line by another program, whose first arguments these are.
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Self {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(self.command.get_program()).args(self.command.get_args()).env_clear();
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        self.command = command;
        self
    }

    /// What the process reads from its standard input, which ends there.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// In the second run of the suite, functions that say nothing of their isolation run inside gaugefn's own process.
    fn isolated(mut self) -> Self {
        if !super::tier::inline() || self.command.get_args().next().is_none_or(|command| command != "run") {
            return self;
        }
        let config = self.command.get_args().skip_while(|arg| *arg != "--config").nth(1).map(PathBuf::from);
        let text = config.and_then(|path| {
            let folder = self.command.get_current_dir().unwrap_or(Path::new("."));
            std::fs::read_to_string(folder.join(path)).ok()
        });
        // what it sets itself about workers stays
        let about_workers =
            ["isolation", "timeout", "workers", "standby", "memory_limit", "max_events", "max_resident", "max_age"];
        let text = text.unwrap_or_default();
        let said = text.lines().any(|line| about_workers.iter().any(|word| line.trim_start().starts_with(word)));
        let mut labels: Vec<_> = text
            .split("[functions.")
            .skip(1)
            .filter_map(|rest| rest.split(['.', ']']).next())
            .map(str::to_owned)
            .collect();
        let of_variables =
            self.command.get_envs().filter_map(|(name, _)| name.to_str()?.strip_prefix("GAUGEFN__FUNCTIONS__"));
        labels.extend(of_variables.filter_map(|rest| rest.split("__").next()).map(str::to_owned));
        if labels.is_empty() {
            labels.push("default".to_owned());
        }
        // a second Python function needs a process of its own
        labels.sort();
        labels.dedup();
        if let ([label], false) = (labels.as_slice(), said) {
            self.command.env(format!("GAUGEFN__FUNCTIONS__{}__ISOLATION", label.to_uppercase()), "inline");
        }
        self
    }

    /// Starts it, keeping what it writes.
    pub(crate) fn spawn(self) -> Running {
        let mut this = self.isolated();
        let input = if this.input.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = this.command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let (Some(bytes), Some(mut pipe)) = (this.input, child.stdin.take()) {
            // a thread of its own: a process that writes much before it reads would block us
            std::thread::spawn(move || {
                // a process that ends before it has read everything is the test's business
                let _ = pipe.write_all(&bytes);
            });
        }
        let stdout = Captured::of(child.stdout.take().unwrap());
        let stderr = Captured::of(child.stderr.take().unwrap());
        Running { child, stdout, stderr }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it has not ended after `timeout`, with what it wrote.
    pub(crate) fn output(self, timeout: Duration) -> Output {
        let mut running = self.spawn();
        let status = running.wait_exit(timeout);
        Output { status, stdout: running.stdout(), stderr: running.stderr() }
    }
}

/// How a process ended and what it wrote. Bytes that are not UTF-8 are replaced.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A started process. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    stdout: Captured,
    stderr: Captured,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// From now on nobody reads its standard error, or somebody does again. What is being read is still taken.
    pub(crate) fn hold_stderr(&self, held: bool) {
        self.stderr.set(if held { Reader::Waits } else { Reader::Reads });
    }

    /// From now on its standard error is a pipe without a reader, as behind `2>&1 | head`. What is being read is still
    /// taken.
    pub(crate) fn close_stderr(&self) {
        self.stderr.set(Reader::Goes);
    }

    /// Both streams, for the message of a failed test.
    pub(crate) fn written(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", self.stdout(), self.stderr())
    }

    /// Waits until either stream contains `needle`.
    ///
    /// # Panics
    /// When it does not within `timeout`, or the process ended without, with what it wrote.
    pub(crate) fn wait_for_log(&mut self, needle: &str, timeout: Duration) {
        let found = eventually(timeout, || {
            // in this order: what it wrote last before it ended still counts
            let ended = self.exited();
            if self.stdout().contains(needle) || self.stderr().contains(needle) {
                return Some(true);
            }
            ended.map(|_| false)
        });
        assert!(
            found == Some(true),
            "no {needle:?} within {timeout:?} or before the end of the process\n{}",
            self.written()
        );
    }

    /// Sends a signal to the process itself, not to its children.
    ///
    /// # Panics
    /// When it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        // its number may belong to somebody else once it has been waited for
        assert!(self.exited().is_none(), "the process has ended\n{}", self.written());
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Whether it has ended, and how.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().unwrap()?;
        // a grandchild may keep the pipes open for as long as it likes
        let _ = eventually(Duration::from_secs(2), || (self.stdout.complete() && self.stderr.complete()).then_some(()));
        Some(status)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it has not ended after `timeout`, with what it wrote.
    pub(crate) fn wait_exit(&mut self, timeout: Duration) -> ExitStatus {
        eventually(timeout, || self.exited())
            .unwrap_or_else(|| panic!("still running after {timeout:?}\n{}", self.written()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // it may have ended before; neither result matters any more
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One stream of the process, read by a thread into a buffer that the test looks at.
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
    wish: Arc<(Mutex<Reader>, Condvar)>,
}

/// What the reader of a stream is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Reads,
    /// Leaves everything in the pipe.
    Waits,
    /// Closes the pipe.
    Goes,
}

impl Captured {
    fn of(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let wish = Arc::new((Mutex::new(Reader::Reads), Condvar::new()));
        let gate = Arc::clone(&wish);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(length @ 1..) = stream.read(&mut chunk) {
                shared.lock().unwrap().extend_from_slice(&chunk[..length]);
                let wish = gate.1.wait_while(gate.0.lock().unwrap(), |wish| *wish == Reader::Waits).unwrap();
                if *wish == Reader::Goes {
                    break;
                }
            }
        });
        Self { bytes, reader, wish }
    }

    fn set(&self, wish: Reader) {
        *self.wish.0.lock().unwrap() = wish;
        self.wish.1.notify_all();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn complete(&self) -> bool {
        self.reader.is_finished()
    }
}
