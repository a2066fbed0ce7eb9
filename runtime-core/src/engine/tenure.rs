//! Waiting for a lease, and keeping it.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::board::Board;
use crate::change::Fingerprint;
use crate::contract::{Fault, Lease, Tenure};

/// The longest wait before the lease is asked for again: a holder that gives it back says so to nobody.
const LOOK: Duration = Duration::from_millis(500);

/// Waits until this process has the lease: the input of the last commit under it, and since when.
///
/// # Errors
/// The lease can never be had.
pub(super) async fn stand_by(
    name: &str,
    lease: &dyn Lease,
    board: &Board,
) -> Result<(Option<Fingerprint>, Instant), Fault> {
    let mut backoff = Backoff::new(name, "lease");
    let mut told: Option<String> = None;
    loop {
        let asked = Instant::now();
        match lease.hold().await {
            Ok(Tenure::Mine { fingerprint, .. }) => {
                backoff.succeeded();
                board.trouble(name, "lease", None);
                board.update(name, |status| status.standby = None);
                if told.is_some() {
                    tracing::info!(function = name, "this process runs it now");
                }
                return Ok((fingerprint, asked));
            }
            Ok(Tenure::Other { holder, left }) => {
                backoff.succeeded();
                board.trouble(name, "lease", None);
                if told.as_ref() != Some(&holder) {
                    tracing::info!(function = name, "stands by: {holder} runs it");
                    // a standby does its duty: it must not keep a rollout waiting
                    board.update(name, |status| (status.running, status.standby) = (true, Some(holder.clone())));
                    board.trouble(name, "source", None);
                    told = Some(holder);
                }
                // not longer than the rest, so that taking over takes hardly longer than the lease
                tokio::time::sleep(left.min(LOOK).max(Duration::from_millis(5))).await;
            }
            Err(fault) if fault.retry() => {
                let wait = backoff.failed(&fault);
                board.update(name, |status| status.running = true);
                board.trouble(name, "lease", backoff.trouble());
                tokio::time::sleep(wait).await;
            }
            Err(fault) => return Err(fault),
        }
    }
}

/// Keeps the lease that was had at `since`; returns when it is lost, or may be. Whoever was stopped for longer than the
/// term finds it lost, also where it could have it again: another process may have had it in between.
pub(super) async fn keep(name: &str, lease: &dyn Lease, mut since: Instant) {
    let term = lease.term();
    let mut wait = term / 3;
    loop {
        tokio::time::sleep(wait).await;
        wait = term / 3;
        let asked = Instant::now();
        let answer = match term.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) {
            Some(left) => tokio::time::timeout(left, lease.hold()).await.ok(),
            None => None,
        };
        // an answer that was there in time may be looked at too late
        if since.elapsed() >= term {
            tracing::warn!(
                function = name,
                "the lease may be lost: it could not be renewed within {} ms",
                term.as_millis()
            );
            return;
        }
        match answer {
            Some(Ok(Tenure::Mine { kept: true, .. })) => since = asked,
            // by a clock that stood still there was time left
            Some(Ok(Tenure::Mine { kept: false, .. })) => {
                tracing::warn!(function = name, "the lease was lost in between: it had to be taken anew");
                return;
            }
            Some(Ok(Tenure::Other { holder, .. })) => {
                tracing::warn!(function = name, "the lease is lost: {holder} has it");
                return;
            }
            Some(Err(fault)) => {
                tracing::debug!(function = name, "the lease was not renewed: {}", fault.chain());
                wait = Duration::from_millis(50).min(term / 10);
            }
            None => {}
        }
    }
}
