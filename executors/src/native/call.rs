//! The prepared function: one job for its own thread for each batch, and for each look at its state.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runtime_core::Fault;
use runtime_core::contract::{Call, Env, Event, Function, Legacy, Outcome};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::host::Described;
use super::instance::Instance;
use super::library::Exported;
use super::state::Told;
use crate::forked;

/// As a process's first thread has it on Linux.
const STACK: usize = 8 << 20;

/// How long either side looks for the other before it sleeps: waking a thread on an idle processor takes as long, and
/// a call takes a hundredth of it. Both give way to whoever else wants to run.
const LOOK: Duration = Duration::from_micros(50);

/// What `probe` finds within that time.
fn soon<T>(mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        for _ in 0..32 {
            if let Some(found) = probe() {
                return Some(found);
            }
            std::hint::spin_loop();
        }
        if start.elapsed() >= LOOK {
            return None;
        }
        thread::yield_now();
    }
}

/// What the library makes of it, in this process: a child that it has forked ends here.
fn at_home<T>(work: impl FnOnce() -> T) -> T {
    let made = work();
    forked::leave_if_child();
    made
}

enum Job {
    Invoke { events: Vec<Event>, call: Call, reply: oneshot::Sender<Answer> },
    Save { reply: oneshot::Sender<Result<Told, Fault>> },
    Load { env: Env, reply: oneshot::Sender<Result<(), Fault>> },
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
            let mut instance = at_home(|| Instance::open(exported, host));
            // an error means that nobody is left to ask: the next look tells
            while let Some(job) = soon(|| received.try_recv().ok()).or_else(|| received.recv().ok()) {
                // who does not wait any more is ending
                match job {
                    Job::Invoke { events, call, reply } => {
                        let _ = reply.send((at_home(|| instance.invoke(&events, &call)), events));
                    }
                    Job::Save { reply } => drop(reply.send(at_home(|| instance.hand_over()))),
                    Job::Load { env, reply } => drop(reply.send(at_home(|| instance.take_over(&env)))),
                    Job::Close { reply } => {
                        at_home(|| drop(instance));
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
        let (reply, mut answer) = oneshot::channel();
        self.jobs.send(job(reply)).map_err(|_| gone())?;
        match soon(|| answer.try_recv().ok()) {
            Some(answer) => Ok(answer),
            None => answer.await.map_err(|_| gone()),
        }
    }
}

#[async_trait]
impl Function for NativeFunction {
    async fn invoke(&mut self, events: &[Event], call: Call) -> Result<Vec<Outcome>, Fault> {
        let events = events.to_vec();
        let (outcomes, _events) = self.ask(|reply| Job::Invoke { events, call, reply }).await?;
        Ok(outcomes)
    }

    async fn hand_over(&mut self) -> Result<Legacy, Fault> {
        let Told { env, lost } = self.ask(|reply| Job::Save { reply }).await??;
        let lost = lost.iter().map(|(name, reason)| format!("{name} ({reason})")).collect();
        Ok(Legacy::Encoded { env, lost })
    }

    async fn take_over(&mut self, legacy: Option<Legacy>) -> Result<(), Fault> {
        match legacy {
            None => Ok(()),
            Some(Legacy::Encoded { env, .. }) => self.ask(|reply| Job::Load { env, reply }).await?,
            Some(Legacy::Live(_)) => {
                Err(Fault::internal("a native function was given the live objects of another executor"))
            }
        }
    }

    /// Nothing can end it but its process.
    async fn close(&mut self, within: Duration) -> Result<(), Fault> {
        timeout(within, self.ask(|reply| Job::Close { reply })).await.unwrap_or_else(|_| {
            Err(Fault::function(format!(
                "the library has not closed its instance within {:.1}s, and is left with it",
                within.as_secs_f64()
            )))
        })
    }
}
