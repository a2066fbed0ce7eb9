//! SIGTERM and SIGINT: the first drains, the second leaves.

use std::time::Duration;

use futures_util::FutureExt;
use runtime_core::contract::Fault;
use runtime_core::engine::Stopper;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from now on; works for process 1 as well, for which the kernel has no default action.
///
/// # Errors
/// The handlers cannot be installed.
pub(crate) fn listen(stopper: Stopper, leave: fn(u8) -> !) -> Result<(), Fault> {
    /// Stopped before draining finished.
    const NOT_DRAINED: u8 = 75;
    /// Far below what two key strokes take.
    const ONE_BREATH: Duration = Duration::from_millis(50);
    let install = |kind| signal(kind).map_err(|error| Fault::internal("signals cannot be handled").caused_by(error));
    let mut terminate = install(SignalKind::terminate())?;
    let mut interrupt = install(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let name = next(&mut terminate, &mut interrupt).await;
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
