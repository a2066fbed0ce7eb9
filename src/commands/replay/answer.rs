//! One of the two versions, in a process of its own: a line in, a frame out.
//!
//! A frame is a tag, the length of what follows in four bytes, lowest first, and that many bytes. The first frame says
//! that the function is loaded; every line that is not blank then gives one. Results of native functions may have line
//! breaks, so lines would not do.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

use runtime_core::config::settings::{Isolation, LogOptions};
use runtime_core::contract::{Call, Event, Fault, Function, Returned};
use runtime_core::engine::{Board, assemble};
use rustix::io::fcntl_dupfd_cloexec;

use super::super::{Context, invoke, local, refuse, refuse_all, say};
use crate::args::FunctionArgs;
use crate::{deployment, log};

/// What a version says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The function is loaded.
    Ready,
    /// The result as JSON text, `null` where there is none.
    Result(Vec<u8>),
    /// The call failed, for this reason.
    Failed(String),
    /// The process ends with this exit code, and has said why.
    Refused(u8),
}

impl Answer {
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (tag, bytes) = match self {
            Self::Ready => (b'R', &[][..]),
            Self::Refused(code) => (b'X', std::slice::from_ref(code)),
            Self::Result(text) => (b'=', text.as_slice()),
            Self::Failed(reason) => (b'!', reason.as_bytes()),
        };
        let length = u32::try_from(bytes.len()).map_err(|_| io::Error::other("a result of 4 GiB or more"))?;
        let mut frame = Vec::with_capacity(bytes.len() + 5);
        frame.push(tag);
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(bytes);
        // in one go: whatever has arrived in part was not answered
        to.write_all(&frame)
    }

    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 5];
        from.read_exact(&mut head)?;
        let [tag, length @ ..] = head;
        let length = u32::from_le_bytes(length);
        let mut bytes = Vec::new();
        // memory grows with what really arrives
        if from.take(length.into()).read_to_end(&mut bytes)? < length as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match tag {
            b'R' => Ok(Self::Ready),
            b'=' => Ok(Self::Result(bytes)),
            b'!' => Ok(Self::Failed(String::from_utf8_lossy(&bytes).into_owned())),
            b'X' if bytes.len() == 1 => Ok(Self::Refused(bytes[0])),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Answers every line of standard input. What ends without a clean end of its input says so last: the exit code alone may
/// be the function's.
pub(super) async fn answer(context: &Context, function: &FunctionArgs, facts: &[String]) -> u8 {
    let code = answers(context, function, facts).await;
    if code != 0 {
        // the other side may have ended first
        let _ = Answer::Refused(code).write(&mut &*context.stdout);
    }
    code
}

async fn answers(context: &Context, function: &FunctionArgs, facts: &[String]) -> u8 {
    let facts = match invoke::read_facts(facts, deployment::facts(&*context.variables)) {
        Ok(facts) => facts,
        Err(message) => {
            say(&format!("gaugefn: {message}"));
            return crate::USAGE;
        }
    };
    let settings = match local::settings(function, &*context.variables, "1s", Isolation::Inline) {
        Ok(settings) => settings,
        Err(problems) => return refuse_all(&problems),
    };
    log::start(&LogOptions::default());
    let lines = match claim_stdin() {
        Ok(stdin) => BufReader::new(stdin),
        Err(error) => return refuse(&Fault::internal("standard input cannot be used").caused_by(error)),
    };
    let around = context.surroundings(&settings, facts);
    let [function] = settings.functions.as_slice() else {
        return refuse(&Fault::internal("not exactly one function"));
    };
    let (mut function, drain) = match assemble(function, &around, &Board::default()).await {
        Ok(parts) => (parts.function, parts.drain),
        Err(fault) => return refuse(&fault),
    };
    let result = all(context, &mut *function, lines).await;
    match result.and(function.close(drain).await) {
        Ok(()) => 0,
        // the other side has ended, and whatever there is to say it says
        Err(fault) if local::reader_has_gone(&fault) => 0,
        Err(fault) => refuse(&fault),
    }
}

/// Takes descriptor 0 for events alone: what the function starts would read it otherwise.
fn claim_stdin() -> io::Result<File> {
    let stdin = fcntl_dupfd_cloexec(io::stdin(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(File::from(stdin))
}

/// One event at a time: a process that a call has ended must have answered all events before.
async fn all(context: &Context, function: &mut dyn Function, mut lines: BufReader<File>) -> Result<(), Fault> {
    let gone = |error: io::Error| Fault::internal("answers cannot be written").caused_by(error);
    Answer::Ready.write(&mut &*context.stdout).map_err(gone)?;
    let mut number: u64 = 0;
    loop {
        let (line, rest) = tokio::task::spawn_blocking(move || {
            let mut line = Vec::new();
            (lines.read_until(b'\n', &mut line).map(|length| (length > 0).then_some(line)), lines)
        })
        .await
        .map_err(|error| Fault::internal("reading events was interrupted").caused_by(error))?;
        lines = rest;
        let Some(line) = line.map_err(|error| Fault::file("the events cannot be read").caused_by(error))? else {
            return Ok(());
        };
        number += 1;
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let event = Event::new(number.to_string(), text.to_vec());
        for outcome in function.invoke(&[event], Call::default()).await? {
            let answer = match outcome.returned {
                Returned::Output(payload) => Answer::Result(payload.to_vec()),
                Returned::Empty => Answer::Result(b"null".to_vec()),
                Returned::Failed(fault) => Answer::Failed(fault.chain()),
                Returned::NotCalled => return Err(Fault::internal("the function was not called with an event")),
            };
            answer.write(&mut &*context.stdout).map_err(gone)?;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn answers_arrive_as_they_were_given() {
        let answers = [
            Answer::Ready,
            Answer::Result(b"{\n\"a\": 1}".to_vec()),
            Answer::Failed("no luck".to_owned()),
            Answer::Refused(65),
            Answer::Result(Vec::new()),
        ];
        let mut wire = Vec::new();
        for answer in &answers {
            answer.write(&mut wire).unwrap();
        }
        let mut from = wire.as_slice();
        for answer in &answers {
            assert_eq!(Answer::read(&mut from).unwrap(), *answer);
        }
        assert_eq!(Answer::read(&mut from).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(Answer::read(&mut &wire[5..12]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(Answer::read(&mut &b"x\0\0\0\0"[..]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
