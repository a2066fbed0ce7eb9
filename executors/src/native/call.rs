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
    Invoke { events: Vec<Event>, deadline: Option<Instant>, reply: oneshot::Sender<Vec<Outcome>> },
    Close { reply: oneshot::Sender<()> },
}

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
                        let _ = reply.send(instance.call(&events, deadline));
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
        self.ask(|reply| Job::Invoke { events, deadline, reply }).await
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
        let returned = outcomes.iter().map(|outcome| unsafe { read(outcome) }.into()).collect();
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

/// # Safety
/// The slices of the outcome are valid.
unsafe fn read(outcome: &abi::Outcome) -> Returned {
    // SAFETY: by the caller's promise
    let (value, report) = unsafe { (outcome.value.bytes(), outcome.report.text()) };
    let line = || String::from_utf8_lossy(value).into_owned();
    let fault = match outcome.status {
        abi::EMPTY => return Returned::Empty,
        // what the handlers of the sdk do with `null` is right for the others too
        abi::OUTPUT if value.trim_ascii() == b"null" => return Returned::Empty,
        abi::OUTPUT => return Returned::Output(Bytes::copy_from_slice(value)),
        abi::FAILED => Fault::function(line()),
        abi::UNUSABLE => Fault::event(line()),
        abi::UNSET => Fault::function("the library gave this event no outcome: its call must fill in every one"),
        other => Fault::function(format!("the library gave an outcome of the unknown status {other}")),
    };
    Returned::Failed(match report {
        Some(report) => fault.with_report(report),
        None => fault,
    })
}
