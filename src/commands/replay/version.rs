//! One of the two versions, seen from outside: a child process, what it is given, and what it answers.

use std::ffi::OsString;
use std::io::{self, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use runtime_core::contract::{Blame, Fault};

use super::super::say;
use super::AHEAD;
use super::answer::Answer;
use crate::args::FunctionArgs;

/// How often a silent version is looked at: a process that it has forked may keep its pipe open after its end.
const LOOK: Duration = Duration::from_millis(100);

/// The processes of both versions, from their start to the end of the command.
#[derive(Default)]
pub(super) struct Children(Mutex<Vec<Child>>);

impl Children {
    fn with<T>(&self, what: impl FnOnce(&mut Vec<Child>) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ended(&self, index: usize) -> io::Result<Option<ExitStatus>> {
        self.with(|children| children[index].try_wait())
    }

    /// Ends those that still run.
    pub(super) fn kill(&self) {
        self.with(|children| {
            for child in children {
                // it may have ended by itself, which is as good
                let _ = child.kill();
                let _ = child.wait();
            }
        });
    }
}

/// One version.
pub(super) struct Version<'a> {
    /// The path as it was named.
    name: String,
    children: &'a Children,
    index: usize,
    answers: Receiver<Answer>,
}

impl<'a> Version<'a> {
    /// Starts the process that loads the function, and has its standard input.
    ///
    /// # Errors
    /// There is no process to be had.
    pub(super) fn start(
        function: &FunctionArgs,
        facts: &[String],
        children: &'a Children,
    ) -> Result<(Self, ChildStdin), Fault> {
        let name = function.path.display().to_string();
        let broken = |error: io::Error| Fault::internal(format!("no process for '{name}'")).caused_by(error);
        let mut command = Command::new(std::env::current_exe().map_err(broken)?);
        command.args(["replay", "--answer"]);
        command.args(function.handler.iter().map(|handler| format!("--handler={handler}")));
        if let Some(entry) = &function.entry {
            let mut option = OsString::from("--entry=");
            option.push(entry);
            command.arg(option);
        }
        command.args(facts.iter().map(|fact| format!("--context={fact}")));
        command.arg("--").arg(&function.path);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(broken)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Fault::internal(format!("no pipes to the process of '{name}'")));
        };
        let index = children.with(|children| {
            children.push(child);
            children.len() - 1
        });
        let (sender, answers) = sync_channel(AHEAD);
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            while let Ok(answer) = Answer::read(&mut output) {
                if sender.send(answer).is_err() {
                    return;
                }
            }
        });
        Ok((Self { name, children, index, answers }, input))
    }

    /// Waits until the function is loaded. Where it cannot be, its process has said why: its exit code.
    pub(super) fn ready(&mut self) -> Result<(), u8> {
        match self.answer() {
            Ok(Answer::Ready) => Ok(()),
            Ok(Answer::Refused(code)) => Err(code),
            Ok(_) => Err(self.out_of_step()),
            Err(status) => Err(self.gone("it was loaded", status)),
        }
    }

    /// The answer to an event; the exit code where the process ended instead.
    pub(super) fn next(&mut self, event: u64) -> Result<Answer, u8> {
        match self.answer() {
            Ok(Answer::Ready) => Err(self.out_of_step()),
            Ok(Answer::Refused(code)) => Err(code),
            Ok(answer) => Ok(answer),
            Err(status) => Err(self.gone(&format!("it was called with event {event}"), status)),
        }
    }

    /// Waits for the end that follows the end of its input; the exit code where that was no clean one.
    pub(super) fn end(&mut self) -> Result<(), u8> {
        match self.answer() {
            Ok(Answer::Refused(code)) => Err(code),
            Ok(_) => Err(self.out_of_step()),
            Err(status) if status.success() => Ok(()),
            Err(status) => Err(self.gone("it was ending", status)),
        }
    }

    /// The next answer, or how the process ended without one.
    fn answer(&mut self) -> Result<Answer, ExitStatus> {
        loop {
            match self.answers.recv_timeout(LOOK) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK / 50),
                Err(RecvTimeoutError::Timeout) => {}
            }
            match self.children.ended(self.index) {
                Ok(None) => {}
                // what it wrote before its end may still be on its way
                Ok(Some(status)) => return self.answers.recv_timeout(LOOK).map_err(|_| status),
                Err(_) => return Err(ExitStatus::default()),
            }
        }
    }

    fn gone(&self, when: &str, status: ExitStatus) -> u8 {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("with exit code {code}"),
            (None, Some(signal)) => format!("by signal {signal}"),
            (None, None) => "without a word".to_owned(),
        };
        say(&format!("gaugefn: '{}' ended {how} while {when}", self.name));
        Blame::Function.exit_code()
    }

    fn out_of_step(&self) -> u8 {
        say(&format!("gaugefn: '{}' answered what it was not asked", self.name));
        Blame::Internal.exit_code()
    }
}
