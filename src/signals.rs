//! SIGTERM and SIGINT: the first drains, the second leaves. SIGHUP drains where it says that whoever looked on has gone.

use std::fs::File;
use std::time::Duration;

use futures_util::FutureExt;
use runtime_core::contract::Fault;
use runtime_core::engine::Stopper;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Stopped before draining finished.
const NOT_DRAINED: u8 = 75;

/// Far below what two key strokes take, and more than a terminal takes to go.
const ONE_BREATH: Duration = Duration::from_millis(50);

/// What SIGHUP means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hangup {
    /// The command is for somebody who looks on: it stops.
    Stops,
    /// The command is a service: it goes on, unless the terminal that it was started on has gone.
    GoesOn,
}

/// Listens from now on; works for process 1 as well, for which the kernel has no default action.
///
/// # Errors
/// The handlers cannot be installed.
pub(crate) fn listen(stopper: Stopper, leave: fn(u8) -> !, hangup: Hangup) -> Result<(), Fault> {
    let install = |kind| signal(kind).map_err(|error| Fault::internal("signals cannot be handled").caused_by(error));
    let mut terminate = install(SignalKind::terminate())?;
    let mut interrupt = install(SignalKind::interrupt())?;
    // by `nohup`: whoever did that wants no end by it
    let mut hung_up = if is_ignored(libc::SIGHUP) { None } else { Some(install(SignalKind::hangup())?) };
    // a file that must not grow any more is a full disk, and no reason to die
    let full = install(SignalKind::from_raw(libc::SIGXFSZ))?;
    let terminal = has_terminal();
    tokio::spawn(async move {
        let _full = full;
        let name = tokio::select! {
            name = next(&mut terminate, &mut interrupt) => name,
            () = gone(&mut hung_up, hangup, terminal) => "SIGHUP",
        };
        // told first, as the process may end at once; the log holds nobody up, whatever becomes of it
        tracing::info!("{name}: stopping; what is in flight is finished, a second signal leaves at once");
        stopper.stop();
        // `timeout` and some supervisors signal the process and its group in one breath: that is one wish, not two
        tokio::time::sleep(ONE_BREATH).await;
        while let Some(Some(_)) = terminate.recv().now_or_never().or_else(|| interrupt.recv().now_or_never()) {}
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::warn!("{name} again: leaving at once");
        leave(NOT_DRAINED)
    });
    Ok(())
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// Resolves when a hang-up means the end.
async fn gone(hung_up: &mut Option<Signal>, hangup: Hangup, terminal: bool) {
    let mut said = false;
    while let Some(hung_up) = hung_up
        && hung_up.recv().await.is_some()
    {
        if hangup == Hangup::Stops {
            return;
        }
        if terminal {
            tokio::time::sleep(ONE_BREATH).await;
            if !has_terminal() {
                return;
            }
        }
        if !std::mem::replace(&mut said, true) {
            tracing::info!("SIGHUP: nothing is cut off, and nothing changes; for another configuration start anew");
        }
    }
    std::future::pending().await
}

/// Whether the process is on a terminal that is still there.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Whether this process was started with a signal ignored.
fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (number - 1)) != 0)
}
