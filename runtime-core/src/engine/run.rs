//! The three stages of a function: pull, call, commit.
//!
//! They are futures of one task, not tasks of their own: a latest-value event passes all three without waking
//! another thread, and a queue's stages overlap wherever one of them waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::sleep;

use super::assemble::Parts;
use super::backoff::{Backoff, retry_wait};
use super::board::Board;
use super::commit::Committer;
use super::stop::Stop;
use crate::config::settings::{ErrorOptions, Then};
use crate::contract::{
    Batch, Blame, Call, Commit, Delivery, Event, Fault, Function, Outcome, Output, Pull, Returned, Source, Verdict,
};

/// The most events of one batch: enough to make every border crossing cheap, few enough that a batch of slow calls
/// does not hold results back for long.
const BATCH: usize = 100;

/// Batches of a queue between the source and the end of the commit: one in each stage.
const QUEUE_IN_FLIGHT: usize = 3;

/// Every way in which a function's run can end.
#[derive(Debug)]
pub enum End {
    /// It was asked to stop, and everything in flight is committed.
    Stopped,
    /// The source has nothing any more, and everything is committed.
    Exhausted,
    /// It was asked to stop, and something was still in flight when the time to drain was over.
    NotDrained,
    /// The error policy `stop`: this event failed.
    Policy {
        /// Its id.
        event: String,
    },
    /// A component is beyond repair.
    Fault(Fault),
}

/// A batch on its way, with the permit that it occupies.
struct Journey {
    batch: Batch,
    _permit: OwnedSemaphorePermit,
    _in_flight: InFlight,
}

/// Events between the source and the end of their commit, on the gauge as long as this lives.
struct InFlight {
    gauge: metrics::Gauge,
    events: f64,
}

impl InFlight {
    fn new(function: &str, events: usize) -> Self {
        let gauge = metrics::gauge!("gaugefn_in_flight", "function" => function.to_owned());
        gauge.increment(events as f64);
        Self { gauge, events: events as f64 }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.decrement(self.events);
    }
}

/// A failed event of a latest-value source that waits for its next attempt.
struct Again {
    batch: Batch,
    due: Instant,
}

/// Runs a function until it ends. Backends that are away are waited for; with `require_backend` a source or sink
/// that cannot be opened at the start is the end.
pub async fn run(parts: Parts, stop: Stop, board: Board, require_backend: bool) -> End {
    let Parts { name, mut source, mut function, state, sinks, errors, drain } = parts;
    let mut committer = Committer::new(Arc::clone(&name), sinks, state, board.clone());
    if let Err(fault) = committer.check().await {
        return End::Fault(fault);
    }
    if require_backend {
        if let Err(fault) = source.check().await {
            return End::Fault(fault);
        }
        if let Some(trouble) = committer.in_trouble().then(|| board.reasons().join("; ")) {
            return End::Fault(Fault::backend(trouble));
        }
    }
    board.update(&name, |status| status.running = true);

    let latest = source.delivery() == Delivery::Latest;
    let permits = Arc::new(Semaphore::new(if latest { 1 } else { QUEUE_IN_FLIGHT }));
    let (to_call, calls) = mpsc::channel(1);
    let (to_commit, commits) = mpsc::channel(2);
    let (give_back, given_back) = mpsc::unbounded_channel();
    let pull = Puller { name: &name, source: &mut *source, stop: &stop, board: &board, permits, to_call, given_back };
    let caller = Caller {
        name: &name,
        function: &mut *function,
        stop: &stop,
        board: &board,
        errors: &errors,
        latest,
        to_commit,
        give_back,
    };
    let in_flight = async {
        let (pulled, called, committed) = tokio::join!(pull.run(), caller.run(calls), commit(&mut committer, commits));
        committed.or(called).or(pulled).unwrap_or(End::Stopped)
    };
    let out_of_time = async {
        stop.requested().await;
        sleep(drain).await;
    };
    let end = tokio::select! {
        end = in_flight => end,
        () = out_of_time => End::NotDrained,
    };
    board.update(&name, |status| status.running = false);
    if matches!(end, End::NotDrained) {
        return end;
    }
    if let Err(fault) = function.close().await {
        tracing::error!(function = %name, "function not closed cleanly: {}", fault.chain());
    }
    committer.close().await;
    if let Err(fault) = source.close().await {
        tracing::error!(function = %name, "source not closed cleanly: {}", fault.chain());
    }
    end
}

/// The first stage.
struct Puller<'a> {
    name: &'a Arc<str>,
    source: &'a mut dyn Source,
    stop: &'a Stop,
    board: &'a Board,
    permits: Arc<Semaphore>,
    to_call: mpsc::Sender<Journey>,
    /// Failed events that shall be tried again, unless something newer comes.
    given_back: mpsc::UnboundedReceiver<Again>,
}

impl Puller<'_> {
    /// `None` where it was asked to stop, or where a later stage has ended.
    async fn run(mut self) -> Option<End> {
        let mut backoff = Backoff::new(self.name, "source");
        let opened = loop {
            let tried = tokio::select! {
                () = self.stop.requested() => return None,
                tried = self.source.check() => tried,
            };
            match tried {
                Ok(()) => break Ok(()),
                Err(fault) if fault.retry() => wait_out(self.name, self.stop, self.board, &mut backoff, &fault).await?,
                Err(fault) => break Err(fault),
            }
        };
        if let Err(fault) = opened {
            return Some(End::Fault(fault));
        }
        self.fine(&mut backoff);

        let mut again: Option<Again> = None;
        loop {
            let permit = tokio::select! {
                () = self.stop.requested() => return None,
                permit = Arc::clone(&self.permits).acquire_owned() => permit.ok()?,
            };
            again = self.given_back.try_recv().ok().or(again);
            let batch = loop {
                if again.as_ref().is_some_and(|again| again.due <= Instant::now()) {
                    break again.take()?.batch;
                }
                let pulled = tokio::select! {
                    () = self.stop.requested() => return None,
                    pulled = self.source.next_batch(BATCH) => pulled,
                };
                match pulled {
                    Ok(Pull::Batch(batch)) => {
                        self.fine(&mut backoff);
                        if again.take().is_some() {
                            tracing::debug!(function = %self.name, "a newer value ends the retries of the last one");
                        }
                        self.count(&batch);
                        break batch;
                    }
                    Ok(Pull::Again(after)) => {
                        self.fine(&mut backoff);
                        let due = again.as_ref().map(|again| again.due.saturating_duration_since(Instant::now()));
                        tokio::select! {
                            () = self.stop.requested() => return None,
                            () = sleep(after.min(due.unwrap_or(after))) => {}
                            () = self.source.woken() => {}
                        }
                    }
                    Ok(Pull::Exhausted) => match again.take() {
                        // the last event still has attempts left
                        Some(last) => {
                            sleep(last.due.saturating_duration_since(Instant::now())).await;
                            break last.batch;
                        }
                        None => return Some(End::Exhausted),
                    },
                    Err(fault) if fault.retry() => {
                        wait_out(self.name, self.stop, self.board, &mut backoff, &fault).await?
                    }
                    Err(fault) => return Some(End::Fault(fault)),
                }
            };
            let in_flight = InFlight::new(self.name, batch.events.len());
            self.to_call.send(Journey { batch, _permit: permit, _in_flight: in_flight }).await.ok()?;
        }
    }

    fn fine(&self, backoff: &mut Backoff) {
        backoff.succeeded();
        self.board.trouble(self.name, "source", self.source.complaint().as_deref());
    }

    fn count(&self, batch: &Batch) {
        if batch.skipped > 0 {
            metrics::counter!("gaugefn_skipped_updates_total", "function" => self.name.to_string())
                .increment(batch.skipped);
        }
        self.board.update(self.name, |status| status.last_input = batch.events.last().map(|event| event.received));
    }
}

/// Backs off from a source in trouble. `None` where it was asked to stop meanwhile.
async fn wait_out(name: &str, stop: &Stop, board: &Board, backoff: &mut Backoff, fault: &Fault) -> Option<()> {
    let wait = backoff.failed(fault);
    board.trouble(name, "source", backoff.trouble());
    tokio::select! {
        () = stop.requested() => None,
        () = sleep(wait) => Some(()),
    }
}

/// The second stage.
struct Caller<'a> {
    name: &'a Arc<str>,
    function: &'a mut dyn Function,
    stop: &'a Stop,
    board: &'a Board,
    errors: &'a ErrorOptions,
    latest: bool,
    to_commit: mpsc::Sender<(Journey, Commit)>,
    give_back: mpsc::UnboundedSender<Again>,
}

impl Caller<'_> {
    /// `None` where the first stage has ended.
    async fn run(mut self, mut calls: mpsc::Receiver<Journey>) -> Option<End> {
        while let Some(mut journey) = calls.recv().await {
            let mut outcomes = match self.call(&journey.batch.events).await {
                Ok(outcomes) => outcomes,
                Err(fault) => return Some(End::Fault(fault)),
            };
            if self.latest {
                if let (Some(event), Some(true)) =
                    (journey.batch.events.first_mut(), outcomes.first().map(is_retryable))
                {
                    if event.attempt <= self.errors.retries && !self.stop.is_requested() {
                        let due = Instant::now() + retry_wait(self.errors.backoff.0, event.attempt);
                        event.attempt += 1;
                        self.count_retry();
                        // the receiver lives as long as this stage's sender does
                        let _ = self.give_back.send(Again { batch: journey.batch, due });
                        continue;
                    }
                }
            } else if let Err(end) = self.retry_in_place(&mut journey.batch.events, &mut outcomes).await {
                return Some(end);
            }
            let failed = outcomes.iter().position(|outcome| matches!(outcome.returned, Returned::Failed(_)));
            let ends = failed.filter(|_| self.errors.then == Then::Stop);
            if let Some(at) = ends {
                // what came before is committed, the failed event and all after it stay undelivered
                let event = journey.batch.events[at].id.clone();
                outcomes.truncate(at);
                journey.batch.events.truncate(at);
                let _undelivered = std::mem::take(&mut journey.batch.receipt);
                let commit = self.commit_of(&mut journey.batch, outcomes);
                let _ = self.to_commit.send((journey, commit)).await;
                return Some(End::Policy { event });
            }
            let commit = self.commit_of(&mut journey.batch, outcomes);
            self.to_commit.send((journey, commit)).await.ok()?;
        }
        None
    }

    /// One call with all events; counted, timed, failures logged.
    async fn call(&mut self, events: &[Event]) -> Result<Vec<Outcome>, Fault> {
        let function = self.name.to_string();
        let start = Instant::now();
        let outcomes = self.function.invoke(events, Call::default()).await;
        let each = start.elapsed().as_secs_f64() / events.len().max(1) as f64;
        let outcomes = outcomes.and_then(|outcomes| {
            if outcomes.len() == events.len() {
                return Ok(outcomes);
            }
            Err(Fault::internal(format!("{} outcomes for {} events", outcomes.len(), events.len())))
        });
        let outcomes = outcomes?;
        let duration = metrics::histogram!("gaugefn_invocation_duration_seconds", "function" => function.clone());
        for (event, outcome) in events.iter().zip(&outcomes) {
            duration.record(each);
            let label = outcome_label(&outcome.returned);
            metrics::counter!("gaugefn_invocations_total", "function" => function.clone(), "outcome" => label)
                .increment(1);
            self.board.update(self.name, |status| {
                *status.calls.entry(label).or_default() += 1;
                if let Returned::Failed(fault) = &outcome.returned {
                    status.last_error = Some(fault.chain());
                }
            });
            if let Returned::Failed(fault) = &outcome.returned {
                let report = fault.report().map(|report| format!("\n{}", report.trim_end())).unwrap_or_default();
                tracing::error!(function = %self.name, event = %event.id, attempt = event.attempt, "call failed: {}{report}", fault.chain());
            }
        }
        Ok(outcomes)
    }

    /// The failed events of a queue, each alone until it succeeds or its attempts are used up.
    async fn retry_in_place(&mut self, events: &mut [Event], outcomes: &mut [Outcome]) -> Result<(), End> {
        for (event, outcome) in events.iter_mut().zip(outcomes) {
            while is_retryable(outcome) && event.attempt <= self.errors.retries {
                // also while stopping: what is not done when the time to drain is over stays undelivered
                sleep(retry_wait(self.errors.backoff.0, event.attempt)).await;
                event.attempt += 1;
                self.count_retry();
                let again = self.call(std::slice::from_ref(event)).await.map_err(End::Fault)?;
                if let Some(again) = again.into_iter().next() {
                    *outcome = again;
                }
            }
        }
        Ok(())
    }

    fn count_retry(&self) {
        metrics::counter!("gaugefn_retries_total", "function" => self.name.to_string()).increment(1);
    }

    fn commit_of(&self, batch: &mut Batch, outcomes: Vec<Outcome>) -> Commit {
        let mut outputs = Vec::new();
        let mut verdicts = Vec::new();
        for (event, outcome) in batch.events.iter().zip(outcomes) {
            verdicts.push(match outcome.returned {
                Returned::Empty => Verdict::Done { reply: None },
                Returned::Output(payload) => {
                    let output =
                        Output { event_id: event.id.clone(), event: event.payload.clone(), payload: payload.clone() };
                    outputs.push(output);
                    Verdict::Done { reply: Some(payload) }
                }
                Returned::Failed(fault) => Verdict::Failed { reason: fault.to_string() },
            });
        }
        Commit { outputs, states: Vec::new(), verdicts, receipt: std::mem::take(&mut batch.receipt) }
    }
}

/// Another attempt can only help where the call failed, not where the event itself is unusable.
fn is_retryable(outcome: &Outcome) -> bool {
    matches!(&outcome.returned, Returned::Failed(fault) if fault.blame() != Blame::Event)
}

fn outcome_label(returned: &Returned) -> &'static str {
    match returned {
        Returned::Output(_) => "ok",
        Returned::Empty => "empty",
        Returned::Failed(fault) if fault.blame() == Blame::Event => "bad_input",
        Returned::Failed(_) => "failed",
    }
}

/// The third stage. Sinks in trouble are tried again also while there is nothing to write.
async fn commit(committer: &mut Committer, mut commits: mpsc::Receiver<(Journey, Commit)>) -> Option<End> {
    /// How often a sink in trouble is tried again.
    const RECHECK: Duration = Duration::from_secs(1);
    loop {
        let received = if committer.in_trouble() {
            tokio::select! {
                received = commits.recv() => received,
                () = sleep(RECHECK) => {
                    committer.recheck().await;
                    continue;
                }
            }
        } else {
            commits.recv().await
        };
        let (journey, commit) = received?;
        if let Err(fault) = committer.commit(commit).await {
            return Some(End::Fault(fault));
        }
        drop(journey);
    }
}
