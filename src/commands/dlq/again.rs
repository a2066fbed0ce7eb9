//! Letters that this process gives to the function itself: with its code, its state and its sinks, and in the place of
//! its source one that gives the letters.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use runtime_core::config::Settings;
use runtime_core::config::settings::{ErrorOptions, FunctionSettings, Then};
use runtime_core::contract::{
    Batch, DeadLetters, Delivery, Facts, Fault, Filed, Lease, Pull, Receipt, Settle, Source, StateKey, StateStore,
    Tenure, Verdict,
};
use runtime_core::engine::{Board, End, assemble, run as run_function, stop};
use runtime_core::stdout;
use tokio::time::Instant;

use super::{NOT_ALL, Wanted, counted};
use crate::args::DlqChoice;
use crate::commands::{Context, local, refuse, say};
use crate::deployment;
use crate::signals::{self, Hangup};

/// Stopped before all were tried.
const STOPPED: u8 = 75;

/// How long a state may be somebody else's: a process that is just ending gives it back.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks at such a state.
const LOOK: Duration = Duration::from_millis(100);

pub(super) async fn run(
    context: &Context,
    settings: &Settings,
    function: &FunctionSettings,
    place: Box<dyn DeadLetters>,
    which: &DlqChoice,
) -> Result<u8, Fault> {
    let place: Arc<dyn DeadLetters> = place.into();
    let mut wanted = Wanted::new(&*place, which).await?;
    let asked = wanted.len();
    // nothing is loaded for nothing
    let Some(first) = wanted.next(&*place).await? else {
        context.print(&format!("nothing to try again in {}\n", place.describe()));
        return Ok(wanted.code());
    };
    let (stopper, stop) = stop();
    signals::listen(stopper, context.leave, Hangup::Stops)?;
    let around = context.surroundings(settings, deployment::facts(&*context.variables));
    let board = Board::default();
    let mut parts = tokio::select! {
        parts = assemble(function, &around, &board) => parts?,
        () = stop.requested() => (context.leave)(STOPPED),
    };
    let has_lease = parts.state.durable() && parts.state_key.is_none();
    let lease = has_lease.then(|| parts.state.lease()).flatten();
    let free = async {
        free(&*parts.state).await?;
        match &lease {
            Some(lease) => hold(&function.name, &**lease).await,
            None => Ok(()),
        }
    };
    if let Err(fault) = free.await {
        parts.function.close(parts.drain).await?;
        return Err(fault);
    }
    let tally = Arc::new(Tally::default());
    parts.source = Box::new(Letters {
        source: parts.source,
        place: Arc::clone(&place),
        wanted,
        page: first.into(),
        tally: Arc::clone(&tally),
        stdout: Arc::clone(&context.stdout),
    });
    // one that fails again is there already
    parts.dead_letters = None;
    parts.errors = ErrorOptions { retries: 0, then: Then::Skip, ..parts.errors };
    let end = run_function(parts, stop, board, true).await;
    let [done, failed, absent] = tally.counts();
    context.print(&format!("{} done, {failed} failed\n", counted(done)));
    let code = match end {
        End::Fault(fault) if local::reader_has_gone(&fault) => 0,
        End::Fault(fault) => refuse(&fault),
        End::NotDrained => (context.leave)(STOPPED),
        // a source of letters has no lease, and the policy of this run stops nothing
        End::Policy { .. } | End::Fenced => refuse(&Fault::internal("letters were given to somebody else")),
        End::Stopped | End::Exhausted => {
            let untried = asked - (done + failed + absent).min(asked);
            if untried > 0 {
                say(&format!("stopped: {} not tried", counted(untried)));
                return Ok(STOPPED);
            }
            0
        }
    };
    Ok(code.max(if failed + absent > 0 { NOT_ALL } else { 0 }))
}

/// Waits a moment for a state that another process has, and no longer: it may have it for good.
async fn free(state: &dyn StateStore) -> Result<(), Fault> {
    let end = Instant::now() + PATIENCE;
    loop {
        match state.load(&[StateKey(None)]).await {
            Ok(_) => return Ok(()),
            Err(fault) if fault.retry() && Instant::now() < end => tokio::time::sleep(LOOK).await,
            Err(fault) => return Err(fault),
        }
    }
}

/// Gets the lease of the state, with the same patience. The run, whose lease it is as well, would wait without end.
async fn hold(function: &str, lease: &dyn Lease) -> Result<(), Fault> {
    let end = Instant::now() + PATIENCE;
    loop {
        let fault = match lease.hold().await {
            Ok(Tenure::Mine { .. }) => return Ok(()),
            Ok(Tenure::Other { holder, left }) => Fault::backend(format!(
                "the state of function '{function}' is in use by process {holder}: stop that one first; one that ended \
                 without giving it back has it for another {:.0} s",
                left.as_secs_f64().ceil()
            )),
            Err(fault) if fault.retry() => fault,
            Err(fault) => return Err(fault),
        };
        if Instant::now() >= end {
            return Err(fault);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What became of the letters.
#[derive(Default)]
struct Tally {
    done: AtomicU64,
    failed: AtomicU64,
    absent: AtomicU64,
}

impl Tally {
    fn counts(&self) -> [u64; 3] {
        [&self.done, &self.failed, &self.absent].map(|count| count.load(Ordering::Relaxed))
    }
}

/// A source of letters: each a batch of its own, so that what is done is removed at once.
struct Letters {
    /// The one that they came from, which is not read: it knows what event a letter is, and the function's context is to
    /// look the same.
    source: Box<dyn Source>,
    place: Arc<dyn DeadLetters>,
    wanted: Wanted,
    page: VecDeque<Filed>,
    tally: Arc<Tally>,
    stdout: Arc<File>,
}

#[async_trait]
impl Source for Letters {
    fn delivery(&self) -> Delivery {
        Delivery::Queue
    }

    async fn next_batch(&mut self, _: usize) -> Result<Pull, Fault> {
        if self.page.is_empty() {
            self.page = self.wanted.next(&*self.place).await?.unwrap_or_default().into();
        }
        self.tally.absent.store(self.wanted.absent, Ordering::Relaxed);
        let Some(Filed { id, letter }) = self.page.pop_front() else { return Ok(Pull::Exhausted) };
        let tried = Tried {
            ids: vec![id],
            place: Arc::clone(&self.place),
            tally: Arc::clone(&self.tally),
            stdout: Arc::clone(&self.stdout),
        };
        let events = vec![self.source.event(&letter)];
        Ok(Pull::Batch(Batch { events, receipt: Receipt::new(tried), skipped: 0 }))
    }

    fn facts(&self) -> Facts {
        self.source.facts()
    }
}

/// Removes the letters that are done.
struct Tried {
    ids: Vec<String>,
    place: Arc<dyn DeadLetters>,
    tally: Arc<Tally>,
    stdout: Arc<File>,
}

#[async_trait]
impl Settle for Tried {
    async fn settle(&mut self, verdicts: &[Verdict]) -> Result<(), Fault> {
        let done = |verdict: &Verdict| matches!(verdict, Verdict::Done { .. });
        let ids: Vec<_> =
            self.ids.iter().zip(verdicts).filter(|(_, verdict)| done(verdict)).map(|(id, _)| id.clone()).collect();
        self.place.remove(&ids).await?;
        for (id, verdict) in self.ids.iter().zip(verdicts) {
            let (count, line) = match verdict {
                Verdict::Done { .. } => (&self.tally.done, format!("{id}  done\n")),
                Verdict::Failed { reason } => (&self.tally.failed, format!("{id}  failed: {reason}\n")),
            };
            count.fetch_add(1, Ordering::Relaxed);
            // a reader who has gone has had enough; the letters are tried all the same
            let _ = stdout::write(&self.stdout, line.as_bytes());
        }
        Ok(())
    }

    fn split(&mut self, places: &[usize]) -> Box<dyn Settle> {
        let mut number = 0;
        let split = |id: &mut String| {
            number += 1;
            places.contains(&(number - 1)).then(|| std::mem::take(id))
        };
        let ids = self.ids.iter_mut().filter_map(split).collect();
        self.ids.retain(|id| !id.is_empty());
        Box::new(Self {
            ids,
            place: Arc::clone(&self.place),
            tally: Arc::clone(&self.tally),
            stdout: Arc::clone(&self.stdout),
        })
    }
}
