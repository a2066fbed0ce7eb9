//! `gaugefn replay`: two versions of a function over the same events, and where their results differ.
//!
//! ```text
//!             ┌─ line ─> version PATH ── answer ─┐
//!   events ───┤                                  ├──> compare ──> standard output
//!             └─ line ─> version OTHER ─ answer ─┘
//! ```
//!
//! Each version is a child process of this same binary: one process holds one Python function, and a version that
//! crashes is then seen as such. Both get every line from here, one after the other, so that the events are read once
//! and neither version gets far ahead.

use std::io::Write;
use std::path::Path;
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use runtime_core::config::settings::Isolation;
use runtime_core::contract::{Facts, Fault};
use runtime_core::engine::stop;

use self::answer::Answer;
use self::report::{Count, Report};
use self::version::{Children, Version};
use super::{Context, invoke, local, refuse, refuse_all, say};
use crate::args::{FunctionArgs, ReplayArgs};
use crate::signals::{self, Hangup};

mod answer;
mod difference;
mod json;
mod report;
mod version;

/// Results differ.
const DIFFERENT: u8 = 1;

/// Stopped before the last event.
const STOPPED: u8 = 75;

/// Events that the quicker version, or the reader, may be ahead: enough to hide hiccups, few enough to forget.
const AHEAD: usize = 64;

pub(super) async fn replay(context: &Context, args: &ReplayArgs) -> u8 {
    if args.answer {
        return answer::answer(context, &args.function, &args.context).await;
    }
    let (Some(against), Some(event)) = (&args.against, &args.event) else {
        return refuse(&Fault::internal("replay without --against or --event"));
    };
    if let Err(message) = invoke::read_facts(&args.context, Facts::default()) {
        say(&format!("gaugefn: {message}"));
        return crate::USAGE;
    }
    let versions = versions(&args.function, against);
    for version in &versions {
        if let Err(problems) = local::settings(version, &*context.variables, "1s", Isolation::Inline) {
            return refuse_all(&problems);
        }
    }
    let lines = match invoke::open(Some(event)) {
        Ok(lines) => lines,
        Err(fault) => return refuse(&fault),
    };
    let (stopper, stop) = stop();
    if let Err(fault) = signals::listen(stopper, context.leave, Hangup::Stops) {
        return refuse(&fault);
    }
    let children = Arc::new(Children::default());
    let report = Report::new(Arc::clone(&context.stdout), args.format);
    let comparing = {
        let (facts, children) = (args.context.clone(), Arc::clone(&children));
        tokio::task::spawn_blocking(move || compare(&versions, &facts, lines, report, &children))
    };
    let code = tokio::select! {
        compared = comparing => match compared {
            Ok(Ok(code)) => code,
            Ok(Err(fault)) => refuse(&fault),
            Err(error) => refuse(&Fault::internal("the comparison broke").caused_by(error)),
        },
        () = stop.requested() => {
            // either may be busy in a call for as long as it likes
            children.kill();
            (context.leave)(STOPPED)
        }
    };
    children.kill();
    code
}

/// PATH and OTHER, each with what `--handler` and `--entry` say of it.
fn versions(function: &FunctionArgs, against: &Path) -> [FunctionArgs; 2] {
    let paths = [function.path.as_path(), against];
    let has_entry = |path: &Path| path.is_dir() || path.extension().is_some_and(|ending| ending == "zip");
    // of a file and a folder, the folder alone has an entry to be named; of two files, saying so is a mistake
    let some_have = paths.into_iter().any(has_entry);
    paths.map(|path| FunctionArgs {
        path: path.to_owned(),
        handler: function.handler.clone(),
        entry: function.entry.clone().filter(|_| has_entry(path) || !some_have),
    })
}

/// Runs both versions over all lines; the exit code.
fn compare(
    versions: &[FunctionArgs; 2],
    facts: &[String],
    lines: invoke::Lines,
    mut report: Report,
    children: &Children,
) -> Result<u8, Fault> {
    let [first, second] = versions;
    let (mut first, first_input) = Version::start(first, facts, children)?;
    let (mut second, second_input) = Version::start(second, facts, children)?;
    // both, so that both have said what is wrong
    if let Some(code) = [first.ready(), second.ready()].into_iter().find_map(Result::err) {
        return Ok(code);
    }
    let (numbers, numbered) = sync_channel(AHEAD);
    // not waited for: it may be blocked by a standard input that nobody types into
    std::thread::spawn(move || feed(lines, [first_input, second_input], &numbers));
    let ended = answers(&numbered, &mut first, &mut second, &mut report)?;
    let count = report.count();
    let code = match ended {
        Some(code) => code,
        None => [first.end(), second.end()].into_iter().find_map(Result::err).unwrap_or(count.code()),
    };
    say(&count.to_string());
    Ok(code)
}

/// Compares until the last event, or until a version is gone, which is the exit code.
fn answers(
    numbered: &Receiver<Result<Fed, Fault>>,
    first: &mut Version,
    second: &mut Version,
    report: &mut Report,
) -> Result<Option<u8>, Fault> {
    for fed in numbered {
        let Fed { number, flaw } = fed?;
        let (one, other) = if let Some(flaw) = flaw {
            say(&format!("event {number}: {flaw}"));
            (Answer::Failed(flaw.clone()), Answer::Failed(flaw))
        } else {
            match (first.next(number), second.next(number)) {
                (Ok(one), Ok(other)) => (one, other),
                (Err(code), _) | (_, Err(code)) => return Ok(Some(code)),
            }
        };
        match report.event(number, &one, &other) {
            // whoever reads the differences has seen enough
            Err(fault) if local::reader_has_gone(&fault) => return Ok(Some(DIFFERENT)),
            said => said?,
        }
    }
    Ok(None)
}

/// An event that both versions have been given.
struct Fed {
    number: u64,
    /// Why they have not: it fails in both.
    flaw: Option<String>,
}

/// Gives every event to both versions, at the line that it has here. Ends where a version no longer reads.
fn feed(mut lines: invoke::Lines, mut inputs: [ChildStdin; 2], numbers: &SyncSender<Result<Fed, Fault>>) {
    let mut given = 0;
    loop {
        let line = match lines.read_line() {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(error) => {
                // nobody waits for it where the comparison has ended before
                let _ = numbers.send(Err(Fault::file("the events cannot be read").caused_by(error)));
                return;
            }
        };
        let is_event = line.flaw.is_none();
        if numbers.send(Ok(Fed { number: line.number, flaw: line.flaw })).is_err() {
            return;
        }
        if !is_event {
            continue;
        }
        for input in &mut inputs {
            let blank = (given + 1..line.number).try_for_each(|_| input.write_all(b"\n"));
            if blank.and_then(|()| input.write_all(&line.text)).and_then(|()| input.write_all(b"\n")).is_err() {
                return;
            }
        }
        given = line.number;
    }
}

impl Count {
    const fn code(self) -> u8 {
        if self.different == 0 { 0 } else { DIFFERENT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_for_folders_and_zips() {
        let entries = |path: &str, against: &str| {
            let function = FunctionArgs { path: path.into(), handler: None, entry: Some("app".into()) };
            versions(&function, Path::new(against)).map(|version| version.entry.is_some())
        };
        assert_eq!(entries("a.zip", "b.py"), [true, false]);
        assert_eq!(entries("a.so", env!("CARGO_MANIFEST_DIR")), [false, true]);
        assert_eq!(entries("a.zip", "b.zip"), [true, true]);
        assert_eq!(entries("a.py", "b.py"), [true, true]);
    }
}
