//! `gaugefn invoke`: events of a file through a function, one line of result each.
//!
//! The function is in a worker: what it does to its process, it does to that one, and every event has its answer.

use std::io::Read;
use std::path::Path;

use runtime_core::config::settings::{Isolation, LogOptions};
use runtime_core::contract::{Event, Facts, Fault, Returned};
use runtime_core::engine::{Board, assemble};
use runtime_core::isolation::Restarts;
use runtime_core::stdout;
use sources::lines::{self, MAX_PAYLOAD};

use super::kept::{Calls, Kept};
use super::{Context, local, refuse, refuse_all, say};
use crate::args::FunctionArgs;
use crate::{deployment, log};

/// One event of the published shape.
const SAMPLE: &str = include_str!("sample.json");

/// Lines of a file that are called together. Those of standard input are called one by one: somebody may be typing.
const BATCH: usize = 100;

pub(super) async fn invoke(
    context: &Context,
    function: &FunctionArgs,
    event: Option<&Path>,
    state: Option<&Path>,
    facts: &[String],
) -> u8 {
    let facts = match read_facts(facts, deployment::facts(&*context.variables)) {
        Ok(facts) => facts,
        Err(message) => {
            say(&format!("gaugefn: {message}"));
            return crate::USAGE;
        }
    };
    let settings = match local::settings(function, &*context.variables, "1s", Isolation::Process) {
        Ok(settings) => settings,
        Err(problems) => return refuse_all(&problems),
    };
    log::start(&LogOptions::default());
    let lines = match open(event) {
        Ok(lines) => lines,
        Err(fault) => return refuse(&fault),
    };
    let kept = match state.map(Kept::read).transpose() {
        Ok(kept) => kept,
        Err(fault) => return refuse(&fault),
    };
    let mut around = context.surroundings(&settings, facts);
    around.encoded_state = kept.is_some();
    around.restarts = Restarts::AtOnce;
    let [function] = settings.functions.as_slice() else {
        return refuse(&Fault::internal("not exactly one function"));
    };
    let (mut function, drain) = match assemble(function, &around, &Board::default()).await {
        Ok(parts) => (parts.function, parts.drain),
        Err(fault) => return refuse(&fault),
    };
    let batch = if event.is_some_and(|path| path != Path::new("-")) { BATCH } else { 1 };
    let mut calls = match Calls::begin(&mut *function, kept).await {
        Ok(calls) => calls,
        Err(fault) => return refuse(&fault),
    };
    let mut result = all(context, &mut calls, lines, batch).await;
    if let Err(fault) = calls.end(local::NAME).await {
        result = Err(fault);
    }
    if let Err(fault) = function.close(drain).await {
        return refuse(&fault);
    }
    match result {
        Ok(0) => 0,
        Ok(_) => 1,
        Err(fault) if local::reader_has_gone(&fault) => 0,
        Err(fault) => refuse(&fault),
    }
}

/// `key=value` pairs over what the environment says.
pub(super) fn read_facts(pairs: &[String], mut facts: Facts) -> Result<Facts, String> {
    for pair in pairs {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("--context '{pair}' is not of the form K=V"))?;
        let value = value.to_owned();
        match key {
            "host" => facts.host = Some(value),
            "port" => {
                facts.port = Some(value.parse().map_err(|_| format!("--context port: '{value}' is no port number"))?);
            }
            "input_key" => facts.input_key = Some(value),
            "output_key" => facts.output_key = Some(value),
            other => {
                return Err(format!("--context '{other}' is unknown; known are host, port, input_key, output_key"));
            }
        }
    }
    Ok(facts)
}

pub(super) type Lines = lines::Lines<Box<dyn Read + Send>>;

pub(super) fn open(event: Option<&Path>) -> Result<Lines, Fault> {
    input(event).map(|input| Lines::new(input, MAX_PAYLOAD))
}

fn input(event: Option<&Path>) -> Result<Box<dyn Read + Send>, Fault> {
    match event {
        None => Ok(Box::new(SAMPLE.as_bytes())),
        Some(path) if path == Path::new("-") => Ok(Box::new(std::io::stdin())),
        Some(path) => {
            let refused = |error: std::io::Error| {
                let text =
                    format!("event file '{}' cannot be opened; name a readable file of JSON lines", path.display());
                Fault::file(text).caused_by(error)
            };
            let file = std::fs::File::open(path).map_err(refused)?;
            // a folder opens, and only its first read fails
            if file.metadata().map_err(refused)?.is_dir() {
                return Err(refused(std::io::ErrorKind::IsADirectory.into()));
            }
            Ok(Box::new(file))
        }
    }
}

/// Calls the function with every line that is not blank; how many failed.
async fn all(context: &Context, calls: &mut Calls<'_>, mut lines: Lines, batch: usize) -> Result<usize, Fault> {
    let mut failed = 0;
    loop {
        let (events, rest) = tokio::task::spawn_blocking(move || (read(&mut lines, batch), lines))
            .await
            .map_err(|error| Fault::internal("reading events was interrupted").caused_by(error))?;
        lines = rest;
        let mut events = events?;
        if events.is_empty() {
            return Ok(failed);
        }
        let unusable = events.pop_if(|event| event.flaw.is_some());
        let all = if events.is_empty() { Vec::new() } else { calls.call(&events).await? };
        let mut text = Vec::new();
        for (event, returned) in events.iter().zip(all) {
            match returned {
                Returned::NotCalled => return Err(Fault::internal("the function was not called with an event")),
                Returned::Output(payload) => text.extend_from_slice(&payload),
                Returned::Empty => text.extend_from_slice(b"null"),
                Returned::Failed(fault) => {
                    failed += 1;
                    text.extend_from_slice(b"null");
                    say(&format!("event {}: {}", event.id, fault.chain()));
                    if let Some(report) = fault.report() {
                        say(report.trim_end());
                    }
                }
            }
            text.push(b'\n');
        }
        if let Some(Event { id, flaw: Some(flaw), .. }) = unusable {
            failed += 1;
            say(&format!("event {id}: {flaw}"));
            text.extend_from_slice(b"null\n");
        }
        // both may lead to one place, where what was said of an event stands before its result
        log::flush();
        stdout::write(&context.stdout, &text)
            .map_err(|unwritten| Fault::internal("standard output cannot be written").caused_by(unwritten.error))?;
    }
}

/// At most `batch` events; the id of each is its line's number. One that is too long ends the batch, as do so many bytes.
fn read(lines: &mut Lines, batch: usize) -> Result<Vec<Event>, Fault> {
    let mut events: Vec<Event> = Vec::new();
    let mut size = 0;
    while events.len() < batch && size < MAX_PAYLOAD {
        let line = lines.read_line().map_err(|error| Fault::file("the events cannot be read").caused_by(error))?;
        let Some(line) = line else { break };
        size += line.text.len() as u64;
        let (event, flaw) = (Event::new(line.number.to_string(), line.text.trim_ascii().to_vec()), line.flaw);
        if flaw.is_some() {
            events.push(Event { flaw: flaw.map(Into::into), ..event });
            break;
        }
        events.push(event);
    }
    Ok(events)
}
