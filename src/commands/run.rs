//! `gaugefn run`: the configured functions, until a signal or the end of their sources.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use runtime_core::config::Settings;
use runtime_core::config::settings::Isolation;
use runtime_core::contract::{Blame, Delivery, Facts, Fault};
use runtime_core::engine::board::BEAT;
use runtime_core::engine::{Board, Bond, End, Parts, Stop, Stopper, assemble, run as run_function, stop};
use tokio::task::JoinSet;

use super::Context;
use crate::args::ConfigArgs;
use crate::descriptors::Descriptors;
use crate::signals::{self, Hangup};
use crate::{admin, descriptors, log};

/// Stopped before draining finished.
const NOT_DRAINED: u8 = 75;

/// Stopped by the error policy.
const POLICY: u8 = 76;

pub(super) async fn run(context: &Context, args: &ConfigArgs, require_backend: bool) -> u8 {
    let (layered, settings) = match context.configured(args) {
        Ok(configured) => configured,
        Err(code) => return code,
    };
    log::start_for(&settings.log, inline(&settings));
    for warning in &layered.warnings {
        tracing::warn!("{warning}");
    }
    match serve(context, &settings, require_backend).await {
        Ok(code) => code,
        Err(fault) => {
            tracing::error!("{}", whole(&fault));
            fault.blame().exit_code()
        }
    }
}

/// The one function whose code runs in this process; an empty name if it is one of several.
fn inline(settings: &Settings) -> Option<&str> {
    let mut inside = settings
        .functions
        .iter()
        .filter(|function| function.options.isolation == Isolation::Inline && function.executor.entry.needs_module);
    let first = inside.next()?;
    Some(if inside.next().is_none() { &first.name } else { "" })
}

/// A fault with its causes and its report.
fn whole(fault: &Fault) -> String {
    let report = fault.report().map(|report| format!("\n{}", report.trim_end())).unwrap_or_default();
    format!("{}{report}", fault.chain())
}

async fn serve(context: &Context, settings: &Settings, require_backend: bool) -> Result<u8, Fault> {
    tracing::info!("gaugefn {} starts", env!("CARGO_PKG_VERSION"));
    // a function in this very process keeps the limit that it was given
    if inline(settings).is_none() {
        descriptors::raise();
    }
    let (stopper, stop) = stop();
    signals::listen(stopper.clone(), context.leave, Hangup::GoesOn)?;
    let board = Board::default();
    // the recorder must be there before anything is counted
    if let Some(address) = settings.admin.listen {
        admin::serve(address, board.clone()).await?;
    }
    tokio::spawn(supervise(board.clone(), stop.clone()));

    let around = context.surroundings(settings, Facts::default());
    let loading = async {
        let mut ready = Vec::new();
        for function in &settings.functions {
            ready.push(assemble(function, &around, &board).await.map_err(|fault| (function.name.as_str(), fault))?);
        }
        Ok(ready)
    };
    let ready = tokio::select! {
        ready = loading => match ready {
            Ok(ready) => ready,
            Err((function, fault)) => {
                let fault = context.with_elsewhere(settings, function, fault);
                tracing::error!(function, "{}", whole(&fault));
                return Ok(fault.blame().exit_code());
            }
        },
        // nothing has begun, so there is nothing to finish; an import may well go on for ever
        () = stop.requested() => (context.leave)(0),
    };
    for (parts, function) in ready.iter().zip(&settings.functions) {
        let loader = function.loader.as_ref().map_or("none", |choice| choice.entry.name);
        let sinks: Vec<_> = function.sinks.iter().map(|(_, choice)| choice.entry.name).collect();
        tracing::info!(
            function = %parts.name,
            "{} -> {loader}, {}, '{}' -> {}; commit: {}",
            function.source.entry.name,
            function.executor.entry.name,
            function.options.handler,
            if sinks.is_empty() { "log".to_owned() } else { sinks.join(", ") },
            Bond::of(parts).describe(),
        );
    }
    let drain = settings.functions.iter().map(|function| function.options.drain.0).max().unwrap_or_default();
    let worst = Arc::<AtomicU8>::default();
    let overdue = leave_when_overdue(stop.clone(), drain, board.clone(), Arc::clone(&worst), context.leave);
    let overdue = tokio::spawn(overdue);
    let code = run_all(context, settings, ready, (&stopper, &stop), &board, &worst, require_backend).await;
    overdue.abort();
    if code == NOT_DRAINED {
        // what is still in flight may never come back
        (context.leave)(code);
    }
    tracing::info!(code, "gaugefn ends");
    Ok(code)
}

/// Runs all functions; the exit code of the gravest end. One that fails stops the others.
async fn run_all(
    context: &Context,
    settings: &Settings,
    ready: Vec<Parts>,
    (stopper, stop): (&Stopper, &Stop),
    board: &Board,
    worst: &AtomicU8,
    require_backend: bool,
) -> u8 {
    let mut running = JoinSet::new();
    for (parts, function) in ready.into_iter().zip(&settings.functions) {
        // Nothing of a latest-value function in this process is in flight during its call, so its loop may live on the thread that its
        // calls need: three wake-ups less for each. The stages of a queue overlap, so that one lives elsewhere.
        let beside_its_calls = function.options.isolation == Isolation::Inline
            && function.executor.entry.one_per_process
            && parts.source.delivery() == Delivery::Latest;
        let name = Arc::clone(&parts.name);
        let task = run_function(parts, stop.clone(), board.clone(), require_backend);
        let task = if beside_its_calls { context.main_thread.spawn(task) } else { tokio::spawn(task) };
        running.spawn(async move { (name, task.await) });
    }
    while let Some(ended) = running.join_next().await {
        let code = match ended {
            Ok((name, Ok(end))) => code_of(&name, &end),
            Ok((_, Err(error))) | Err(error) => {
                tracing::error!("a function's loop broke: {error}");
                Blame::Internal.exit_code()
            }
        };
        if code != 0 {
            stopper.stop();
        }
        worst.fetch_max(code, Ordering::Relaxed);
    }
    worst.load(Ordering::Relaxed)
}

fn code_of(name: &str, end: &End) -> u8 {
    match end {
        End::Stopped | End::Fenced => 0,
        End::Exhausted => {
            tracing::info!(function = name, "the source is exhausted");
            0
        }
        End::NotDrained => {
            tracing::error!(function = name, "stopped before everything in flight was finished; see `drain`");
            NOT_DRAINED
        }
        End::Policy { event } => {
            tracing::error!(function = name, event, "the error policy is 'stop'");
            POLICY
        }
        End::Fault(fault) => {
            tracing::error!(function = name, "{}", fault.chain());
            fault.blame().exit_code()
        }
    }
}

/// Ends the process when the time to drain is over and user code still holds the thread that the engine would end on: a
/// call, or what it does at its end, which keeps nothing in flight.
async fn leave_when_overdue(stop: Stop, drain: Duration, board: Board, worst: Arc<AtomicU8>, leave: fn(u8) -> !) {
    /// The engine itself is the first to give up, where it can.
    const GRACE: Duration = Duration::from_millis(250);
    stop.requested().await;
    tokio::time::sleep(drain + GRACE).await;
    let in_flight = board.functions().values().any(|function| function.running);
    if !in_flight {
        leave(worst.load(Ordering::Relaxed));
    }
    tracing::error!("stopped before everything in flight was finished; see `drain`");
    leave(NOT_DRAINED)
}

/// Shows that the scheduler is alive, and that a stop has begun; looks after what the process has left.
async fn supervise(board: Board, stop: Stop) {
    let mut ticks = tokio::time::interval(BEAT);
    let mut descriptors = Descriptors::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                board.beat();
                descriptors.look();
            }
            () = stop.requested() => break,
        }
    }
    board.stopping();
    loop {
        ticks.tick().await;
        board.beat();
    }
}
