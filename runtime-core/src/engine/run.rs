//! A function's run: its two halves, `pull` and `process`, from the first batch to the end.
//!
//! They are futures of one task, not tasks of their own: a latest-value event passes both without waking another thread,
//! and a queue's stages overlap wherever one of them waits.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::assemble::Parts;
use super::board::Board;
use super::bond::{Bond, keys_of, lease_of};
use super::commit::Committer;
use super::end::End;
use super::judge::Judge;
use super::meters::Meters;
use super::policy::Policy;
use super::process::Processor;
use super::pull::Puller;
use super::reload::Reloader;
use super::states::States;
use super::stop::{Stop, stop};
use super::tenure;
use crate::config::settings::ErrorOptions;
use crate::contract::{Delivery, Fault, Function, Lease, Source, StateKey, StateStore};

/// Batches of a queue between the source and the end of the commit: one in each stage.
const QUEUE_IN_FLIGHT: usize = 3;

/// Runs a function until it ends. Backends that are away are waited for; with `require_backend` one that
/// cannot be opened at the start is the end. Where one process of several runs it, this one waits for its turn.
pub async fn run(parts: Parts, stop: Stop, board: Board, require_backend: bool) -> End {
    let (bond, keys, judge) = (Bond::of(&parts), keys_of(&parts), Judge::of(&parts));
    let lease: Option<Arc<dyn Lease>> = lease_of(&parts).map(Arc::from);
    // of the source's own lease: that of a state is guarded by the state's versions
    let guard = parts.source.lease().and_then(|_| parts.source.transaction());
    let Parts {
        name,
        mut source,
        mut function,
        state,
        state_key,
        sinks,
        dead_letters,
        origin,
        errors,
        drain,
        reload,
        ..
    } = parts;
    let meters = Meters::of(&name);
    let mut committer = Committer::new(
        Arc::clone(&name),
        sinks,
        Arc::clone(&state),
        dead_letters,
        bond,
        keys,
        lease.clone(),
        guard,
        board.clone(),
        meters.clone(),
    );
    let opened = tokio::select! {
        biased;
        () = stop.requested() => Some(End::Stopped),
        opened = open(&mut committer, &mut *source, &*state, require_backend) => opened.err().map(End::Fault),
    };
    if let Some(end) = opened {
        close(&name, &mut function, &mut committer, &mut *source, lease.as_deref(), left(&stop, drain)).await;
        return end;
    }
    let durable = state.durable();
    let mut run = Run {
        name: &name,
        source: &mut source,
        function: &mut function,
        committer: &mut committer,
        states: durable.then_some((state, state_key)),
        origin: &origin,
        errors: &errors,
        judge: &judge,
        drain,
        stop: &stop,
        board: &board,
        meters: &meters,
        reloader: reload.map(|reload| Reloader::new(&name, &board, reload)),
    };
    let end = match &lease {
        None => run.once(None).await,
        Some(lease) => run.in_turn(lease).await,
    };
    board.update(&name, |status| status.running = false);
    if matches!(end, End::NotDrained) {
        return end;
    }
    close(&name, &mut function, &mut committer, &mut *source, lease.as_deref(), left(&stop, drain)).await;
    end
}

/// How long the function may take to end, so that there is time for what comes after it.
fn left(stop: &Stop, drain: Duration) -> Duration {
    /// For sinks, source and lease.
    const RESERVE: Duration = Duration::from_secs(1);
    let left = stop.since().map_or(drain, |since| drain.saturating_sub(since.elapsed()));
    left.saturating_sub(RESERVE).max(left / 2)
}

/// What a run needs, from its first batch to its last.
struct Run<'a> {
    name: &'a Arc<str>,
    source: &'a mut Box<dyn Source>,
    function: &'a mut Box<dyn Function>,
    committer: &'a mut Committer,
    /// The store and the place of the key, where states are kept.
    states: Option<(Arc<dyn StateStore>, Option<String>)>,
    origin: &'a Arc<str>,
    errors: &'a ErrorOptions,
    judge: &'a Judge,
    drain: Duration,
    stop: &'a Stop,
    board: &'a Board,
    meters: &'a Meters,
    reloader: Option<Reloader<'a>>,
}

impl Run<'_> {
    /// Whenever this process has the lease, until it is stopped.
    async fn in_turn(&mut self, lease: &Arc<dyn Lease>) -> End {
        loop {
            let tenure = tokio::select! {
                biased;
                () = self.stop.requested() => return End::Stopped,
                tenure = tenure::stand_by(self.name, &**lease, self.board) => tenure,
                // a standby must tell the truth, too
                never = self.committer.keep_checking() => match never {},
            };
            let since = match tenure {
                Ok((fingerprint, since)) => {
                    if let Some(fingerprint) = fingerprint {
                        self.source.resume(fingerprint);
                    }
                    since
                }
                Err(fault) => return End::Fault(fault),
            };
            match self.once(Some((lease, since))).await {
                End::Fenced => {
                    tracing::warn!(function = %self.name, "the lease is lost, and what was in work with it; this process stands by until it has it again");
                    if let Err(fault) = self.source.close().await {
                        tracing::debug!(function = %self.name, "source not closed cleanly: {}", fault.chain());
                    }
                }
                end => return end,
            }
        }
    }

    /// From the first batch to the end, or to the loss of the lease.
    async fn once(&mut self, lease: Option<(&Arc<dyn Lease>, Instant)>) -> End {
        // what has to end when the lease is lost, ends as it does for a stop
        let (halter, halt) = stop();
        let name = self.name;
        // until the first check has succeeded; its faults take this one's place
        self.board.trouble(name, "source", Some("not opened yet"));
        self.board.update(name, |status| status.running = true);
        let policy = Policy {
            name,
            errors: self.errors,
            board: self.board,
            meters: self.meters,
            judge: self.judge,
            origin: Arc::clone(self.origin),
        };
        let mut states = self
            .states
            .as_ref()
            .map(|(store, key)| States::new(name, Arc::clone(store), key.as_deref(), self.board, self.meters));
        if let Some(states) = &mut states {
            let first = tokio::select! {
                biased;
                () = self.stop.requested() => return End::Stopped,
                first = states.fingerprint() => first,
            };
            match first {
                Ok(Some(fingerprint)) => self.source.resume(fingerprint),
                Ok(None) => {}
                Err(fault) => return End::Fault(fault),
            }
        }
        let latest = self.source.delivery() == Delivery::Latest;
        let ahead = usize::from(self.function.pipeline().is_some());
        let max_in_flight = if latest { 1 } else { QUEUE_IN_FLIGHT + ahead };
        let (pulled, batches) = mpsc::channel(1);
        let (give_back, retries) = mpsc::unbounded_channel();
        let fence = self.committer.fence();
        fence.store(false, Ordering::Relaxed);
        let puller = Puller {
            name,
            source: &mut **self.source,
            stop: &halt,
            board: self.board,
            meters: self.meters,
            max_in_flight: u32::try_from(max_in_flight).unwrap_or(u32::MAX),
            batches: pulled,
            retries,
        };
        let (to_take_over, successors) = mpsc::channel(1);
        let processor = Processor::new(policy, states, latest, give_back);
        let (function, committer) = (&mut *self.function, &mut *self.committer);
        let working = async {
            let (pulled, processed) =
                tokio::join!(puller.run(), processor.run(function, committer, batches, successors));
            processed.or(pulled)
        };
        let out_of_time = async {
            self.stop.requested().await;
            halter.stop();
            sleep(self.drain).await;
        };
        let reloading = async {
            match &mut self.reloader {
                Some(reloader) => reloader.run(to_take_over).await,
                None => std::future::pending().await,
            }
        };
        let losing = async {
            if let Some((lease, since)) = lease {
                tenure::keep(name, &**lease, since).await;
                fence.store(true, Ordering::Relaxed);
                halter.stop();
            }
            std::future::pending::<Infallible>().await
        };
        let end = tokio::select! {
            end = working => end.unwrap_or(End::Stopped),
            never = reloading => match never {},
            never = losing => match never {},
            () = out_of_time => End::NotDrained,
        };
        match end {
            End::Stopped if fence.load(Ordering::Relaxed) && !self.stop.is_requested() => End::Fenced,
            end => end,
        }
    }
}

/// Opens the sinks once, and what is required now. Sinks that are away are left to the third stage otherwise, the
/// source to the first.
async fn open(
    committer: &mut Committer,
    source: &mut dyn Source,
    state: &dyn StateStore,
    require_backend: bool,
) -> Result<(), Fault> {
    committer.check().await?;
    if require_backend {
        source.check().await?;
        if let Some(trouble) = committer.trouble() {
            return Err(Fault::backend(trouble));
        }
        // A lease lives beside the state. What is no server is never away: a file in use is waited for.
        if state.domain().is_some() {
            // which states there are and whether they can be used shows when they are needed
            let _ = state.load(&[StateKey::default()]).await?;
        }
    }
    Ok(())
}

async fn close(
    name: &str,
    function: &mut Box<dyn Function>,
    committer: &mut Committer,
    source: &mut dyn Source,
    lease: Option<&dyn Lease>,
    within: Duration,
) {
    if let Err(fault) = function.close(within).await {
        let report = fault.report().map(|report| format!("\n{}", report.trim_end())).unwrap_or_default();
        tracing::error!(function = name, "function not closed cleanly: {}{report}", fault.chain());
    }
    committer.close().await;
    if let Err(fault) = source.close().await {
        tracing::error!(function = name, "source not closed cleanly: {}", fault.chain());
    }
    if let Some(lease) = lease
        && let Err(fault) = lease.release().await
    {
        tracing::debug!(function = name, "the lease was not given back: {}", fault.chain());
    }
}
