//! The child's side: `gaugefn worker`, which runs one function and answers one frame after the other.
//!
//! User code has the process's first thread, as in any Python; the conversation lives there too, so a call needs no
//! other thread to wake. The next batch waits in the socket meanwhile.
//!
//! * `measures` - what the function measures, on its way to the parent
//! * `speech` - what it says, likewise

mod measures;
mod speech;

use std::io::Write;
use std::os::unix::net::UnixStream as BlockingSocket;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use runtime_core::config::Section;
use runtime_core::contract::{Call, Executor, Function, Legacy, Observer, Outcome};
use runtime_core::main_thread::{self, MainThread};
use runtime_core::{Fault, Registry, Site};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{SignalKind, signal};

use super::guardian::Guardian;
use super::protocol::outcome::encode_one;
use super::protocol::{
    Batch, FaultForm, HandedOver, Hello, Incoming, Kind, Outcomes, Outgoing, Prepare, ProtocolError, Rare, Ready,
    Refused, TakeOver, frame,
};
use super::shared::{Writer, slot_of};
use super::spawn::Inherited;

/// Runs the worker to its end; the exit code of the process. Has to be called before any thread is started.
#[must_use]
pub fn run() -> u8 {
    match begin() {
        Ok(()) => 0,
        Err(error) => {
            // a person who has typed the command, or a parent that reads this pipe
            let _ = writeln!(std::io::stderr(), "gaugefn worker: {error}");
            64
        }
    }
}

fn begin() -> std::io::Result<()> {
    let Inherited { socket, dump, lifeline, records, area, series } = Inherited::take()?;
    Guardian::start(lifeline)?;
    speech::begin(records);
    measures::begin();
    super::series::ask(series);
    let (main_thread, desk) = main_thread::pair();
    let guest = Guest {
        area: Arc::new(area),
        dump: Some(dump),
        main_thread: main_thread.clone(),
        executor: None,
        function: None,
    };
    main_thread.clone().post(move || {
        tokio::spawn(async move {
            if let Err(error) = guest.serve(socket).await {
                tracing::error!("worker: {error}");
            }
            main_thread.close();
        });
    });
    desk.serve()
}

/// One function and what it needs.
struct Guest {
    area: Arc<Writer>,
    /// Until an executor that can dump stacks has it.
    dump: Option<std::os::fd::OwnedFd>,
    main_thread: MainThread,
    executor: Option<(Box<dyn Executor>, Ready)>,
    function: Option<Box<dyn Function>>,
}

type Out = Outgoing<OwnedWriteHalf>;

impl Guest {
    async fn serve(mut self, socket: BlockingSocket) -> Result<(), ProtocolError> {
        // whoever hangs up all processes of this name means the parent; a handler ends with exec, and what the function
        // starts is as in any Python
        let _hung_up = signal(SignalKind::hangup())?;
        socket.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(socket)?.into_split();
        let (mut incoming, mut out): (Incoming<OwnedReadHalf>, Out) = (Incoming::new(read), Outgoing::new(write));
        out.send(|out| Hello::own().encode(out)).await?;
        while let Some(frame) = incoming.next_frame().await? {
            match frame.kind {
                Kind::Warm => {
                    let warmed = self.warm(&Prepare::decode(&frame.body)?).await;
                    answer(&mut out, warmed).await?;
                }
                Kind::Prepare => {
                    let prepared = self.prepare(Prepare::decode(&frame.body)?).await;
                    answer(&mut out, prepared).await?;
                }
                Kind::Batch => {
                    let batch = Batch::decode(frame.body)?;
                    self.call(batch, &mut out).await?;
                }
                Kind::HandOver => match self.hand_over().await {
                    Ok(handed) => out.send(|out| handed.encode(out)).await?,
                    Err(fault) => refuse(&mut out, &fault).await?,
                },
                Kind::TakeOver => {
                    let legacy = TakeOver::decode(frame.body)?.env.map(|env| Legacy::Encoded { env, lost: Vec::new() });
                    match self.function()?.take_over(legacy).await {
                        Ok(()) => bare(&mut out, Kind::TookOver).await?,
                        Err(fault) => refuse(&mut out, &fault).await?,
                    }
                }
                Kind::Close => {
                    if let Some(function) = &mut self.function
                        // the parent knows how long
                        && let Err(fault) = function.close(Duration::MAX).await
                    {
                        tracing::error!("function not closed cleanly: {}", fault.chain());
                    }
                    measured(&mut out).await?;
                    bare(&mut out, Kind::Closed).await?;
                    break;
                }
                // the parent's own answers never come from it
                _ => {}
            }
        }
        runtime_core::scratch::remove_all();
        Ok(())
    }

    fn function(&mut self) -> Result<&mut Box<dyn Function>, ProtocolError> {
        self.function.as_mut().ok_or(ProtocolError::Malformed("a frame for a function that is not loaded"))
    }

    /// Makes the executor, and has it do what every function of it needs.
    async fn warm(&mut self, wanted: &Prepare) -> Result<Ready, Fault> {
        if let Some((_, ready)) = &self.executor {
            return Ok(ready.clone());
        }
        let registry = Registry::<dyn Executor>::collect()?;
        let entry = registry.get(&wanted.executor).map_err(Fault::internal)?;
        let section = Section::from_wire(&wanted.options)
            .ok_or_else(|| Fault::internal("the options of the executor are damaged"))?;
        let stdout = std::io::stdout();
        let stdout = rustix::io::fcntl_dupfd_cloexec(&stdout, 3)
            .map_err(|error| Fault::internal("no descriptor is left").caused_by(error))?;
        let site = Site {
            function: &wanted.function,
            shared: &[],
            main_thread: self.main_thread.clone(),
            stdout: Arc::new(stdout.into()),
        };
        let executor = (entry.build)(&section, &site).await?;
        executor.warm().await?;
        let ready = Ready { dump_signal: self.arm(&wanted.executor).await? };
        self.executor = Some((executor, ready.clone()));
        Ok(ready)
    }

    /// Lets the stack of a stuck function be asked for, where its language can tell it.
    #[cfg_attr(not(feature = "python"), expect(clippy::unused_async, clippy::unused_self))]
    async fn arm(&mut self, executor: &str) -> Result<Option<i32>, Fault> {
        #[cfg(feature = "python")]
        if executor == "python"
            && let Some(dump) = self.dump.take()
        {
            let signal = super::dump::signal();
            crate::python::arm(&self.main_thread, dump, super::dump::PYTHON, signal).await?;
            return Ok(Some(signal));
        }
        let _ = executor;
        Ok(None)
    }

    async fn prepare(&mut self, wanted: Prepare) -> Result<Ready, Fault> {
        let ready = self.warm(&wanted).await?;
        let Some((executor, _)) = &self.executor else {
            return Err(Fault::internal("an executor that was just made has gone"));
        };
        let mut brief = wanted.brief();
        brief.apart = true;
        self.function = Some(executor.prepare(wanted.module.map(|module| module.module()), brief).await?);
        Ok(ready)
    }

    async fn call(&mut self, batch: Batch, out: &mut Out) -> Result<(), ProtocolError> {
        let slot = slot_of(batch.id);
        self.area.begin_batch(slot, batch.id);
        let progress = Arc::new(Progress { area: Arc::clone(&self.area), slot, rest: Mutex::default() });
        let call = Call {
            keep: batch.keep,
            states: batch.states,
            anew: batch.anew,
            forget: batch.forget,
            deadline: batch.limit.map(|limit| Instant::now() + limit),
            observer: Some(progress.clone()),
        };
        let called = self.function()?.invoke(&batch.events, call).await;
        measured(out).await?;
        if let Err(fault) = called {
            // no outcome is known any more
            return refuse(out, &fault).await;
        }
        let rest = std::mem::take(&mut *progress.rest.lock().unwrap_or_else(PoisonError::into_inner));
        let first = batch.events.len() - rest.len();
        let entries = self.function()?.entries();
        out.send(|out| Outcomes::encode(out, batch.id, first, entries, &rest)).await
    }

    async fn hand_over(&mut self) -> Result<HandedOver, Fault> {
        let function = self.function.as_mut().ok_or_else(|| Fault::internal("no function is loaded"))?;
        match function.hand_over().await? {
            Legacy::Encoded { env, lost } => Ok(HandedOver { env, lost }),
            Legacy::Live(_) => Err(Fault::internal("live objects cannot leave their process")),
        }
    }
}

/// Sends what was measured since the last time.
async fn measured(out: &mut Out) -> Result<(), ProtocolError> {
    match measures::take() {
        Some(measures) => out.send(|out| measures.encode(out)).await,
        None => Ok(()),
    }
}

async fn answer(out: &mut Out, answer: Result<Ready, Fault>) -> Result<(), ProtocolError> {
    match answer {
        Ok(ready) => out.send(|out| ready.encode(out)).await,
        Err(fault) => refuse(out, &fault).await,
    }
}

async fn refuse(out: &mut Out, fault: &Fault) -> Result<(), ProtocolError> {
    out.send(|out| Refused { fault: FaultForm::of(fault) }.encode(out)).await
}

async fn bare(out: &mut Out, kind: Kind) -> Result<(), ProtocolError> {
    out.send(|out| {
        frame::encode_bare(out, kind);
        Ok(())
    })
    .await
}

/// Writes into the shared area what becomes of each event, at the moment at which it is known.
#[derive(Debug)]
struct Progress {
    area: Arc<Writer>,
    slot: usize,
    /// Outcomes for which there was no room; they go by frame.
    rest: Mutex<Vec<Vec<u8>>>,
}

impl Observer for Progress {
    fn begins(&self, index: usize) {
        self.area.begin_event(self.slot, index);
    }

    fn ended(&self, _index: usize, outcome: &Outcome) {
        // one buffer for all would need a lock for as long as encoding takes
        let mut encoded = Vec::with_capacity(64);
        encode_one(&mut encoded, outcome);
        if !self.area.finish_event(self.slot, &encoded) {
            self.rest.lock().unwrap_or_else(PoisonError::into_inner).push(encoded);
        }
    }
}
