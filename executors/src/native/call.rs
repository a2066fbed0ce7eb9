//! The prepared function: one job for its own thread, and one crossing of the border, for each batch.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use gaugefn_sdk::abi::{self, Slice};
use runtime_core::Fault;
use runtime_core::contract::{Call, Event, Function, Outcome, Returned};
use tokio::sync::oneshot;

use super::host::Described;
use super::library::Exported;

/// As a process's first thread has it on Linux.
const STACK: usize = 8 << 20;

enum Job {
    Invoke { events: Vec<Event>, deadline: Option<Instant>, reply: oneshot::Sender<Answer> },
    Close { reply: oneshot::Sender<()> },
}

/// The outcomes, and the events on their way home: memory is freed where it was allocated, which is cheaper.
type Answer = (Vec<Outcome>, Vec<Event>);

/// A function whose calls may block, and may rely on being on one thread.
pub(super) struct NativeFunction {
    jobs: mpsc::Sender<Job>,
}

impl NativeFunction {
    /// Starts the thread and opens the function there.
    pub(super) fn start(exported: Exported, host: Described) -> Result<Self, Fault> {
        let (jobs, received) = mpsc::channel();
        let work = move || {
            let instance = Instance::open(exported, host);
            for job in received {
                // who does not wait any more is ending
                match job {
                    Job::Invoke { events, deadline, reply } => {
                        let _ = reply.send((instance.call(&events, deadline), events));
                    }
                    Job::Close { reply } => {
                        drop(instance);
                        let _ = reply.send(());
                        return;
                    }
                }
            }
        };
        thread::Builder::new()
            .name("native".to_owned())
            .stack_size(STACK)
            .spawn(work)
            .map_err(|error| Fault::internal("no thread for a native function").caused_by(error))?;
        Ok(Self { jobs })
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, Fault> {
        let gone = || Fault::internal("the thread of the native function has ended");
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

#[async_trait]
impl Function for NativeFunction {
    async fn invoke(&mut self, events: &[Event], call: Call) -> Result<Vec<Outcome>, Fault> {
        if call.env.is_some() {
            return Err(Fault::config("durable state of a native function is not available in this version"));
        }
        let (events, deadline) = (events.to_vec(), call.deadline);
        let (outcomes, _events) = self.ask(|reply| Job::Invoke { events, deadline, reply }).await?;
        Ok(outcomes)
    }

    async fn close(&mut self) -> Result<(), Fault> {
        self.ask(|reply| Job::Close { reply }).await
    }
}

/// A function between `open` and `close`, on its thread.
struct Instance {
    function: abi::Function,
    pointer: *mut c_void,
}

impl Instance {
    fn open(exported: Exported, host: Described) -> Self {
        let function = exported.function;
        // SAFETY: the host lives as long as the process
        let pointer = function.open.map_or(null_mut(), |open| unsafe { open(host.0) });
        Self { function, pointer }
    }

    fn call(&self, events: &[Event], deadline: Option<Instant>) -> Vec<Outcome> {
        let Some(call) = self.function.call else { return Vec::new() };
        let handed: Vec<_> = events
            .iter()
            .map(|event| abi::Event {
                id: Slice::of(event.id.as_bytes()),
                payload: Slice::of(&event.payload),
                attempt: event.attempt,
            })
            .collect();
        let mut outcomes = vec![abi::Outcome::UNSET; events.len()];
        // each event has as long as the first one
        let left = deadline.map(|end| end.saturating_duration_since(Instant::now()).as_nanos());
        let batch = abi::Call {
            size: size_of::<abi::Call>(),
            count: events.len(),
            events: handed.as_ptr().cast(),
            event_size: size_of::<abi::Event>(),
            outcomes: outcomes.as_mut_ptr().cast(),
            outcome_size: size_of::<abi::Outcome>(),
            remaining: left.map_or(abi::NO_LIMIT, |left| i64::try_from(left).unwrap_or(i64::MAX)),
        };
        // SAFETY: everything in the batch lives until after `release`; this thread is the only one that calls
        unsafe { call(self.pointer, &raw const batch) };
        // SAFETY: what outcomes point to is the library's until `release`, and is copied before
        let returned = unsafe { read(&outcomes) };
        if let Some(release) = self.function.release {
            // SAFETY: as for `call`
            unsafe { release(self.pointer, &raw const batch) };
        }
        returned
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(close) = self.function.close {
            // SAFETY: nothing is called after this
            unsafe { close(self.pointer) };
        }
    }
}

/// All results are copied into one buffer that they share.
///
/// # Safety
/// The slices of the outcomes are valid.
unsafe fn read(outcomes: &[abi::Outcome]) -> Vec<Outcome> {
    let results = outcomes.iter().filter(|outcome| outcome.status == abi::OUTPUT);
    let mut buffer = Vec::new();
    // SAFETY: by the caller's promise
    results.for_each(|outcome| buffer.extend_from_slice(unsafe { outcome.value.bytes() }));
    let mut left = Bytes::from(buffer);
    let returned = outcomes.iter().map(|outcome| {
        if outcome.status == abi::OUTPUT {
            // as many as were copied: null has none, whatever its length says
            let length = if outcome.value.data.is_null() { 0 } else { outcome.value.len };
            let result = left.split_to(length);
            // what the handlers of the sdk do with `null` is right for the others too
            return if result.trim_ascii() == b"null" { Returned::Empty } else { Returned::Output(result) };
        }
        // SAFETY: as above
        unsafe { other(outcome) }
    });
    returned.map(Outcome::from).collect()
}

/// # Safety
/// The slices of the outcome are valid.
unsafe fn other(outcome: &abi::Outcome) -> Returned {
    // SAFETY: by the caller's promise
    let (line, report) = unsafe { (outcome.value.text().unwrap_or_default(), outcome.report.text()) };
    let fault = match outcome.status {
        abi::EMPTY => return Returned::Empty,
        abi::FAILED => Fault::function(line),
        abi::UNUSABLE => Fault::event(line),
        abi::UNSET => Fault::function("the library gave this event no outcome: its call must fill in every one"),
        status => Fault::function(format!("the library gave an outcome of the unknown status {status}")),
    };
    Returned::Failed(match report {
        Some(report) => fault.with_report(report),
        None => fault,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u32, value: &'static str) -> abi::Outcome {
        abi::Outcome { status, value: Slice::of(value.as_bytes()), report: Slice::NONE }
    }

    #[test]
    fn outcomes_keep_their_order_and_their_bytes() {
        let outcomes = [
            outcome(abi::OUTPUT, "{\"a\": 1}"),
            outcome(abi::EMPTY, "not looked at"),
            outcome(abi::OUTPUT, " null\n"),
            abi::Outcome { status: abi::OUTPUT, value: Slice { data: std::ptr::null(), len: 7 }, report: Slice::NONE },
            outcome(abi::UNUSABLE, "no object"),
            abi::Outcome { report: Slice::of(b"line\nline"), ..outcome(abi::FAILED, "line") },
            abi::Outcome::UNSET,
            outcome(9, ""),
            outcome(abi::OUTPUT, "[2]"),
        ];
        // SAFETY: they point to literals, or to nothing
        let read = unsafe { read(&outcomes) };
        let texts: Vec<_> = read
            .iter()
            .map(|outcome| match &outcome.returned {
                Returned::Empty => "empty".to_owned(),
                Returned::Output(text) => String::from_utf8_lossy(text).into_owned(),
                Returned::Failed(fault) => {
                    format!("{}: {fault}: {}", fault.blame().as_str(), fault.report().unwrap_or("no report"))
                }
            })
            .collect();
        let expected = [
            "{\"a\": 1}",
            "empty",
            "empty",
            "",
            "event: no object: no report",
            "function: line: line\nline",
            "function: the library gave this event no outcome: its call must fill in every one: no report",
            "function: the library gave an outcome of the unknown status 9: no report",
            "[2]",
        ];
        assert_eq!(texts, expected);
    }
}
