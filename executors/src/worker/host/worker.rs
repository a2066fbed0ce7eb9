//! One worker process: started, asked, and ended one way or another.
//!
//! * `end` - asked to end, or killed

mod end;

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use runtime_core::Fault;
use runtime_core::contract::{Brief, Call, Env, Event, Outcome};
use runtime_core::options::{Size, Span};
use tokio::net::unix::pipe::Receiver;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{sleep_until, timeout};

use super::super::dump;
use super::super::exit::Exit;
use super::super::memory;
use super::super::output::Output;
use super::super::protocol::measures::Measures;
use super::super::protocol::outcome::decode_one;
use super::super::protocol::{
    BatchRef, Frame, HandedOver, Hello, Incoming, Kind, Outcomes, Prepare, ProtocolError, Rare, Ready, Refused,
    TakeOver, frame,
};
use super::super::records::Records;
use super::super::series;
use super::super::shared::{Area, slot_of};
use super::super::spawn::{Lifeline, Process, Spawned, Start};
use super::Plan;
use super::ears::Ears;

/// A process that has not even said hello after this time never will.
const GREETING: Duration = Duration::from_secs(30);

/// How long a process that has closed its socket, or was killed, may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// A buffer that a large frame has stretched is given back above this size.
const KEPT: usize = 1 << 20;

/// How soon to look again at a batch in which no event seems to run, as one may begin any time.
const BETWEEN: Duration = Duration::from_millis(10);

/// How often the memory of a worker is looked at while it runs.
const SAMPLE: Duration = Duration::from_millis(200);

/// Why a worker does not answer.
#[derive(Debug)]
enum Gone {
    /// Its process has ended.
    Exit(Exit),
    /// It says what cannot be understood; its process may well live.
    Broken(ProtocolError),
}

impl From<ProtocolError> for Gone {
    fn from(error: ProtocolError) -> Self {
        Self::Broken(error)
    }
}

impl Gone {
    fn fault(self, doing: &str) -> Fault {
        match self {
            Self::Exit(exit) => Fault::function(format!("the worker process {} while {doing}", ended(exit))),
            Self::Broken(error) => error.into(),
        }
    }
}

/// "was killed by SIGSEGV", "exited with 3".
fn ended(exit: Exit) -> String {
    match exit {
        Exit::Code(_) => exit.to_string(),
        Exit::Signal { .. } => format!("was {exit}"),
    }
}

/// What became of a call.
pub(super) enum Called {
    /// An outcome for each event.
    Whole(Vec<Outcome>),
    /// The worker is no more.
    Broken {
        /// Of the events that were finished before. All of them or none where somebody keeps the states.
        done: Vec<Outcome>,
        /// The event that was running and is not among those, so that this is its end.
        culprit: Option<usize>,
        /// What happened.
        fault: Fault,
        /// Why it was killed, if it was.
        killed: Option<&'static str>,
    },
}

/// Why a worker was killed during a call.
#[derive(Debug)]
enum Kill {
    Timeout { index: usize, elapsed: Duration },
    Memory { resident: u64, limit: u64 },
}

/// A worker.
pub(super) struct Worker {
    process: Process,
    incoming: Incoming<OwnedReadHalf>,
    out: Unsent,
    /// The answer to the oldest batch, or why there is none, once it is known.
    news: Option<Result<Frame, End>>,
    /// When to look whether the oldest batch keeps to its limit.
    check: Option<Instant>,
    /// So many events were finished, and no other one had begun, since then.
    between: Option<(usize, Instant)>,
    area: Arc<Area>,
    dump: Receiver,
    dump_signal: Option<i32>,
    ears: Ears,
    batches: u64,
    /// Since when it runs.
    pub(super) started: Instant,
    /// With how many events it was called.
    pub(super) events: u64,
    sampled: Instant,
    /// Entries of its function's state.
    pub(super) entries: usize,
    /// When its memory was last looked at, in bytes.
    pub(super) resident: u64,
    /// Dropped last, and with it whatever of the process is left.
    _lifeline: Lifeline,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("pid", &self.process.pid()).finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts a process and hears its greeting.
    pub(super) async fn start(plan: &Plan, brief: &Brief) -> Result<Self, Fault> {
        let failed = |error: std::io::Error| Fault::internal("no worker process can be started").caused_by(error);
        let Spawned { process, socket, dump, records, stdout, stderr, area, series, lifeline } =
            Start::own().spawn().map_err(failed)?;
        let (read, write) = socket.into_split();
        let area = Arc::new(area);
        let pid = process.pid().cast_unsigned();
        let mut ears = Ears::open(&brief.function, pid, Records::new(records), Output::new(stdout, stderr), &area);
        ears.also(series::answer(Arc::clone(&brief.function), series));
        let mut worker = Self {
            process,
            incoming: Incoming::new(read),
            out: Unsent { to: write, bytes: Vec::new(), sent: 0 },
            news: None,
            check: None,
            between: None,
            area,
            dump,
            dump_signal: None,
            ears,
            batches: 0,
            started: Instant::now(),
            events: 0,
            sampled: Instant::now(),
            resident: 0,
            entries: 0,
            _lifeline: lifeline,
        };
        let greeting = timeout(GREETING, worker.frame()).await.map_err(|_| {
            Fault::internal(format!(
                "a worker process of '{}' says nothing: this machine is overloaded",
                plan.workers.function
            ))
        })?;
        let hello = match greeting {
            Ok(frame) => Hello::decode(&frame.expect(Kind::Hello)?)?,
            Err(gone) => return Err(worker.lost(gone, "starting").await),
        };
        hello.check()?;
        Ok(worker)
    }

    /// Has it make what every function of its executor needs.
    pub(super) async fn warm(&mut self, wanted: &Prepare) -> Result<(), Fault> {
        self.out.queue(|out| wanted.encode_as(Kind::Warm, out))?;
        self.ready("starting").await
    }

    /// Has it load the function.
    pub(super) async fn prepare(&mut self, wanted: &Prepare) -> Result<(), Fault> {
        // the interpreter first, so that it can be asked where an import is stuck
        self.warm(wanted).await?;
        self.out.queue(|out| wanted.encode(out))?;
        self.ready("loading the function").await
    }

    async fn ready(&mut self, doing: &str) -> Result<(), Fault> {
        let body = self.answer(Kind::Ready, doing).await?;
        self.dump_signal = Ready::decode(&body)?.dump_signal;
        Ok(())
    }

    /// The state of its function.
    pub(super) async fn hand_over(&mut self) -> Result<HandedOver, Fault> {
        self.out.queue(|out| bare(out, Kind::HandOver))?;
        let body = self.answer(Kind::HandedOver, "handing over its state").await?;
        Ok(HandedOver::decode(body)?)
    }

    /// Has its function begin with this state.
    pub(super) async fn take_over(&mut self, env: Option<Env>) -> Result<(), Fault> {
        self.out.queue(|out| TakeOver { env }.encode(out))?;
        self.answer(Kind::TookOver, "taking over a state").await.map(drop)
    }

    /// Whether its process runs.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.process.watch().exit(), Ok(None))
    }

    /// Looks at its memory, unless that was just done.
    pub(super) fn sample(&mut self) -> bool {
        let is_time = self.sampled.elapsed() >= SAMPLE || self.resident == 0;
        if is_time {
            self.sampled = Instant::now();
            self.resident = memory::resident(self.process.pid()).unwrap_or(self.resident);
        }
        is_time
    }

    /// Gives it events to call its function with; the batch's number. Returns at once: what the socket does not take
    /// now goes out while the answer is waited for.
    ///
    /// # Errors
    /// The batch is too large to be sent at all; nothing of it was.
    pub(super) fn give(&mut self, plan: &Plan, events: &[Event], call: &Call) -> Result<u64, ProtocolError> {
        let (id, limit) = (self.batches + 1, plan.workers.timeout);
        let Call { keep, states, anew, forget, .. } = call;
        let batch = BatchRef { id, limit, keep: *keep, states, anew: *anew, forget, events };
        self.out.queue(|out| batch.encode(out))?;
        self.batches = id;
        self.events += events.len() as u64;
        self.ears.current.lock().unwrap_or_else(PoisonError::into_inner).begin(id, events);
        Ok(id)
    }

    /// Resolves when it is known what became of the oldest batch. May be dropped at any time.
    pub(super) async fn answered(&mut self, plan: &Plan, id: u64) {
        let slot = slot_of(id);
        let (timeout, memory_limit) = (plan.workers.timeout, plan.workers.memory_limit);
        while self.news.is_none() {
            if self.check.is_none() {
                self.check = timeout.map(|timeout| Instant::now() + timeout);
            }
            let sample = memory_limit.map(|_| self.sampled + SAMPLE);
            let next = [self.check, sample].into_iter().flatten().min();
            let look = async {
                match next {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                frame = self.frame() => {
                    self.news = Some(frame.map_err(End::Gone));
                    break;
                }
                () = look => {}
            }
            let now = Instant::now();
            if let (Some(limit), true) = (memory_limit, sample.is_some_and(|at| at <= now)) {
                self.sample();
                if self.resident > limit {
                    self.news = Some(Err(End::Kill(Kill::Memory { resident: self.resident, limit })));
                }
            }
            if let (Some(limit), true) = (timeout, self.check.is_some_and(|at| at <= now)) {
                let running = self.area.progress(slot).filter(|progress| progress.batch == id);
                let finished = running.map_or(0, |progress| progress.finished);
                let event = running.and_then(|progress| progress.running);
                let (index, since) = match event {
                    Some(event) => event,
                    // before the first event or between two, where a process that was stopped would stay for ever
                    None => match self.between {
                        Some((index, since)) if index == finished => (index, since),
                        _ => *self.between.insert((finished, now)),
                    },
                };
                if since + limit <= now {
                    self.news = Some(Err(End::Kill(Kill::Timeout { index, elapsed: now - since })));
                } else {
                    let soon = if event.is_some() { limit } else { BETWEEN };
                    self.check = Some((since + limit).min(now + soon));
                }
            }
        }
    }

    /// What became of the oldest batch, which has so many events.
    pub(super) async fn take(&mut self, plan: &Plan, id: u64, count: usize, keep: bool) -> Called {
        self.answered(plan, id).await;
        let news = self.news.take();
        (self.check, self.between) = (None, None);
        let answered = match news {
            Some(Ok(Frame { kind: Kind::Outcomes, body, .. })) => self.read(slot_of(id), body, id, count),
            Some(Ok(Frame { kind: Kind::Refused, body, .. })) => match Refused::decode(&body) {
                Ok(refused) => Err(End::Refused(refused.fault.fault())),
                Err(error) => Err(Gone::from(error).into()),
            },
            Some(Ok(frame)) => {
                Err(Gone::from(ProtocolError::Unexpected { expected: Kind::Outcomes, got: frame.kind }).into())
            }
            Some(Err(end)) => Err(end),
            None => Err(Gone::from(ProtocolError::Cut).into()),
        };
        self.ears.current.lock().unwrap_or_else(PoisonError::into_inner).end(id);
        match answered {
            Ok(outcomes) => {
                // memory that only large outcomes needed
                let _ = self.area.trim(slot_of(id));
                Called::Whole(outcomes)
            }
            Err(end) => self.broken(id, count, end, plan.workers.timeout, keep).await,
        }
    }

    /// The outcomes of a whole batch: those in the shared area, then those of the frame.
    fn read(&mut self, slot: usize, body: Bytes, id: u64, count: usize) -> Result<Vec<Outcome>, End> {
        let framed = Outcomes::decode(body).map_err(Gone::from)?;
        let damaged = || End::from(Gone::from(ProtocolError::Malformed("outcomes of another batch")));
        if framed.batch != id {
            return Err(damaged());
        }
        let stored = self.area.outcomes(slot, count).into_iter().map(decode_one);
        let mut all = stored.collect::<Result<Vec<_>, _>>().map_err(Gone::from)?;
        if all.len() != framed.first || all.len() + framed.outcomes.len() != count {
            return Err(damaged());
        }
        self.entries = framed.entries;
        all.extend(framed.outcomes);
        Ok(all)
    }

    /// Ends a worker that did not finish its batch, and saves what it had finished.
    async fn broken(&mut self, id: u64, count: usize, end: End, limit: Option<Duration>, keep: bool) -> Called {
        let slot = slot_of(id);
        let mut report = String::new();
        let (mut expired, mut killed) = (None, None);
        if let End::Kill(kill) = &end {
            if let (Kill::Timeout { .. }, Some(_)) = (kill, self.dump_signal) {
                report = dump::ask(self.process.watch(), &self.dump).await;
            }
            killed = Some(match kill {
                Kill::Timeout { .. } => "timeout",
                Kill::Memory { .. } => "memory",
            });
            if let Kill::Timeout { index, .. } = kill {
                expired = Some(*index);
            }
        }
        let exit = self.bury().await;
        if report.is_empty() && killed.is_none() {
            report = dump::rest(&self.dump);
        }
        let progress = self.area.progress(slot).filter(|progress| progress.batch == id);
        let done = self.finished(id, count, keep);
        let running = progress.and_then(|progress| progress.running).map(|(index, _)| index);
        let fault = match end {
            End::Kill(Kill::Timeout { elapsed, .. }) => {
                let limit = limit.unwrap_or(elapsed);
                let place = dump::innermost(&report).map(|place| format!(", stuck at {place}")).unwrap_or_default();
                Fault::function(format!(
                    "no answer within {}: the worker was killed after {:.2}s{place}",
                    Span(limit),
                    elapsed.as_secs_f64()
                ))
            }
            End::Kill(Kill::Memory { resident, limit }) => Fault::function(format!(
                "the worker was killed at {:.0} MiB of resident memory; memory_limit is {}",
                resident as f64 / f64::from(1 << 20),
                Size(limit)
            )),
            End::Refused(fault) => fault,
            End::Gone(Gone::Broken(ProtocolError::Cut)) => Fault::function(
                "the worker ran on without its connection to gaugefn and was killed: the call must neither replace its \
                 process (os.exec) nor close what it has not opened",
            ),
            End::Gone(Gone::Broken(error)) => Fault::from(error),
            End::Gone(Gone::Exit(_)) => {
                let how = exit.map_or_else(|| "has ended".to_owned(), ended);
                Fault::function(format!("the worker {how}"))
            }
        };
        let fault = if report.is_empty() { fault } else { fault.with_report(report) };
        // also where it came to an end in the last moment: its time was over
        let culprit = expired.or(running);
        // calls may be repeated where somebody keeps the states, and nothing is done before all is
        let culprit = culprit.filter(|index| if keep { done.is_empty() } else { *index == done.len() });
        Called::Broken { done, culprit, fault, killed }
    }

    /// The outcomes of a batch of so many events that are known without its answer. A part of them is of no use where
    /// they bring states along.
    pub(super) fn finished(&self, id: u64, count: usize, keep: bool) -> Vec<Outcome> {
        let slot = slot_of(id);
        let begun = self.area.progress(slot).is_some_and(|progress| progress.batch == id);
        let known = if begun { self.area.outcomes(slot, count) } else { Vec::new() };
        let known: Vec<_> = known.into_iter().map_while(|bytes| decode_one(bytes).ok()).collect();
        if keep && known.len() < count { Vec::new() } else { known }
    }

    /// The body of the answer of this kind.
    async fn answer(&mut self, wanted: Kind, doing: &str) -> Result<Bytes, Fault> {
        match self.frame().await {
            Ok(frame) if frame.kind == Kind::Refused => Err(Refused::decode(&frame.body)?.fault.fault()),
            Ok(frame) => Ok(frame.expect(wanted)?),
            Err(gone) => Err(self.lost(gone, doing).await),
        }
    }

    /// The next frame that is an answer. Dropping the future loses nothing.
    async fn frame(&mut self) -> Result<Frame, Gone> {
        loop {
            let frame = tokio::select! {
                biased;
                frame = self.incoming.next_frame() => match frame {
                    Ok(Some(frame)) => frame,
                    // it closes its socket by ending, or user code has done so
                    Ok(None) | Err(ProtocolError::Io(_)) => match self.exited(FAREWELL).await {
                        Some(exit) => return Err(Gone::Exit(exit)),
                        None => return Err(Gone::Broken(ProtocolError::Cut)),
                    },
                    Err(error) => return Err(Gone::Broken(error)),
                },
                // a peer that cannot be written to has ended, which is heard as well
                _ = self.out.flush(), if self.out.is_waiting() => continue,
                exit = self.process.watch().ended() => {
                    // forked processes may hold the socket; what it said before it ended counts
                    match self.incoming.next_frame().now_or_never() {
                        Some(Ok(Some(frame))) => frame,
                        _ => return Err(exit.map_or_else(|error| Gone::Broken(error.into()), Gone::Exit)),
                    }
                }
            };
            if frame.kind == Kind::Measures {
                // a measurement that cannot be read is no reason to lose a result
                if let Ok(measures) = Measures::decode(&frame.body) {
                    measures.replay();
                }
                continue;
            }
            return Ok(frame);
        }
    }
}

/// Frames that the socket has not taken yet. Writing must not hold up reading, or two full sockets would wait for each
/// other.
struct Unsent {
    to: OwnedWriteHalf,
    bytes: Vec<u8>,
    sent: usize,
}

impl Unsent {
    fn queue(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), ProtocolError>) -> Result<(), ProtocolError> {
        encode(&mut self.bytes)?;
        // most frames go at once
        self.push();
        Ok(())
    }

    const fn is_waiting(&self) -> bool {
        self.sent < self.bytes.len()
    }

    /// Writes what the socket takes now.
    fn push(&mut self) {
        while self.is_waiting() {
            match self.to.try_write(&self.bytes[self.sent..]) {
                Ok(written @ 1..) => self.sent += written,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // nobody reads any more
                Ok(_) | Err(_) => self.sent = self.bytes.len(),
            }
        }
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.sent = 0;
    }

    /// Writes what was left, as soon as the socket takes it. May be dropped at any time.
    async fn flush(&mut self) {
        if self.to.writable().await.is_err() {
            self.sent = self.bytes.len();
        }
        self.push();
    }
}

/// Why a batch has no answer.
#[derive(Debug)]
enum End {
    Gone(Gone),
    Refused(Fault),
    Kill(Kill),
}

impl From<Gone> for End {
    fn from(gone: Gone) -> Self {
        Self::Gone(gone)
    }
}

fn bare(out: &mut Vec<u8>, kind: Kind) -> Result<(), ProtocolError> {
    frame::encode_bare(out, kind);
    Ok(())
}
