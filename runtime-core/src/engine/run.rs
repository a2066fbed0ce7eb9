//! The three stages of a function: pull, call, commit.
//!
//! They are futures of one task, not tasks of their own: a latest-value event passes all three without waking
//! another thread, and a queue's stages overlap wherever one of them waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use super::assemble::Parts;
use super::board::Board;
use super::call::Caller;
use super::commit::Committer;
use super::meters::Meters;
use super::pull::Puller;
use super::reload::Reloader;
use super::stop::Stop;
use crate::contract::{Batch, Commit, Delivery, Fault, Function, Receipt, Source};

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
pub(super) struct Journey {
    pub(super) batch: Batch,
    _permit: OwnedSemaphorePermit,
    _in_flight: InFlight,
}

impl Journey {
    pub(super) fn new(batch: Batch, permit: OwnedSemaphorePermit, meters: &Meters) -> Self {
        let in_flight = InFlight { gauge: meters.in_flight.clone(), events: batch.events.len() as f64 };
        in_flight.gauge.increment(in_flight.events);
        Self { batch, _permit: permit, _in_flight: in_flight }
    }

    /// Takes the batch out, as it goes another way.
    pub(super) fn take(&mut self) -> Batch {
        std::mem::replace(&mut self.batch, Batch { events: Vec::new(), receipt: Receipt::none(), skipped: 0 })
    }
}

/// Events between the source and the end of their commit, on the gauge as long as this lives.
struct InFlight {
    gauge: metrics::Gauge,
    events: f64,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.decrement(self.events);
    }
}

/// A failed event of a latest-value source that waits for its next attempt.
pub(super) struct Again {
    pub(super) batch: Batch,
    pub(super) due: Instant,
}

/// Runs a function until it ends. Backends that are away are waited for; with `require_backend` a source or sink
/// that cannot be opened at the start is the end.
pub async fn run(parts: Parts, stop: Stop, board: Board, require_backend: bool) -> End {
    let Parts { name, mut source, mut function, state, sinks, errors, drain, reload } = parts;
    let mut committer = Committer::new(Arc::clone(&name), sinks, state, board.clone());
    let opened = tokio::select! {
        biased;
        () = stop.requested() => Some(End::Stopped),
        opened = open(&mut committer, &mut *source, require_backend) => opened.err().map(End::Fault),
    };
    if let Some(end) = opened {
        close(&name, &mut function, &mut committer, &mut *source).await;
        return end;
    }
    // until the first check has succeeded; its faults take this one's place
    board.trouble(&name, "source", Some("not opened yet"));
    board.update(&name, |status| status.running = true);

    let latest = source.delivery() == Delivery::Latest;
    let at_hand = usize::from(function.pipeline().is_some());
    let permits = Arc::new(Semaphore::new(if latest { 1 } else { QUEUE_IN_FLIGHT + at_hand }));
    let (to_call, calls) = mpsc::channel(1);
    let (to_commit, commits) = mpsc::channel(2);
    let (give_back, given_back) = mpsc::unbounded_channel();
    // one waits for its turn, and no other is made meanwhile
    let (to_take_over, successors) = mpsc::channel(1);
    let meters = Meters::of(&name);
    let pull = Puller {
        name: &name,
        source: &mut *source,
        stop: &stop,
        board: &board,
        permits,
        to_call,
        given_back,
        meters: &meters,
    };
    let caller = Caller {
        name: &name,
        function: &mut function,
        board: &board,
        errors: &errors,
        latest,
        to_commit,
        give_back,
        meters: &meters,
    };
    let in_flight = async {
        let (pulled, called, committed) =
            tokio::join!(pull.run(), caller.run(calls, successors), commit(&mut committer, commits));
        committed.or(called).or(pulled).unwrap_or(End::Stopped)
    };
    let out_of_time = async {
        stop.requested().await;
        sleep(drain).await;
    };
    let reloading = async {
        match reload {
            Some(reload) => Reloader::new(&name, &board, reload, to_take_over).run().await,
            None => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        end = in_flight => end,
        never = reloading => match never {},
        () = out_of_time => End::NotDrained,
    };
    board.update(&name, |status| status.running = false);
    if matches!(end, End::NotDrained) {
        return end;
    }
    close(&name, &mut function, &mut committer, &mut *source).await;
    end
}

/// Opens the sinks once, and what is required now. Sinks that are away are left to the third stage otherwise, the
/// source to the first.
async fn open(committer: &mut Committer, source: &mut dyn Source, require_backend: bool) -> Result<(), Fault> {
    committer.check().await?;
    if require_backend {
        source.check().await?;
        if let Some(trouble) = committer.trouble() {
            return Err(Fault::backend(trouble));
        }
    }
    Ok(())
}

async fn close(name: &str, function: &mut Box<dyn Function>, committer: &mut Committer, source: &mut dyn Source) {
    if let Err(fault) = function.close().await {
        tracing::error!(function = name, "function not closed cleanly: {}", fault.chain());
    }
    committer.close().await;
    if let Err(fault) = source.close().await {
        tracing::error!(function = name, "source not closed cleanly: {}", fault.chain());
    }
}

/// The third stage. Sinks in trouble are tried again also while there is nothing to write.
async fn commit(committer: &mut Committer, mut commits: mpsc::Receiver<(Journey, Commit)>) -> Option<End> {
    /// How often a sink in trouble is tried again.
    const RECHECK: Duration = Duration::from_secs(1);
    loop {
        let received = if committer.trouble().is_some() {
            let recheck = async {
                sleep(RECHECK).await;
                committer.recheck().await;
            };
            // a sink that does not answer must not hold up the end
            tokio::select! {
                biased;
                received = commits.recv() => received,
                () = recheck => continue,
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
