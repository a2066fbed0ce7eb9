//! What has to go on while the engine does not ask: all of its permits are out, and one call takes minutes.
//!
//! A task of its own, which ends with the source. Its troubles are not told: those of the source, on the same server,
//! are.

use std::sync::Arc;
use std::time::Duration;

use redis_link::group::Beat;
use redis_link::{Link, Member};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::held::Held;

/// An autoscaler asks every 15 to 30 seconds.
const FIGURES: Duration = Duration::from_secs(5);

/// A consumer that was silent for so many times `claim_idle` is gone: one that lives reads every few seconds.
const SILENT: u32 = 10;

/// Ends with this value.
pub(super) struct Keeper(JoinHandle<()>);

impl Keeper {
    pub(super) fn start(function: &str, member: Member, link: Link, held: Arc<Held>, claim_idle: Duration) -> Self {
        let function = function.to_owned();
        Self(tokio::spawn(async move {
            let every = |period: Duration| {
                let mut ticks = interval(period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ticks
            };
            let (mut beats, mut looks, mut sweeps) = (every(claim_idle / 3), every(FIGURES), every(claim_idle));
            loop {
                tokio::select! {
                    biased;
                    _ = beats.tick() => beat(&function, &member, &link, &held).await,
                    _ = looks.tick() => figures(&function, &member, &link).await,
                    _ = sweeps.tick() => sweep(&function, &member, &link, claim_idle * SILENT).await,
                }
            }
        }))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Also with nothing in flight: another process may have taken the name.
async fn beat(function: &str, member: &Member, link: &Link, held: &Held) {
    if held.is_replaced() {
        return;
    }
    let ids: Vec<String> = held.ids().into_iter().collect();
    match member.beat(link, &ids).await {
        Ok(Beat::Lost(lost)) if lost.is_empty() => {}
        // settled meanwhile, or claimed by others while this process did not run
        Ok(Beat::Lost(lost)) => tracing::debug!(function, entries = ?lost, "not this consumer's any more"),
        Ok(Beat::Replaced) => held.replace(),
        Err(error) => tracing::debug!(function, "no heartbeat: {error}"),
    }
}

async fn figures(function: &str, member: &Member, link: &Link) {
    let Ok(figures) = member.figures(link).await else { return };
    let gauge = |name: &'static str| metrics::gauge!(name, "function" => function.to_owned());
    #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
    {
        gauge("gaugefn_stream_pending").set(figures.pending as f64);
        if let Some(lag) = figures.lag {
            gauge("gaugefn_stream_lag").set(lag as f64);
        }
    }
}

async fn sweep(function: &str, member: &Member, link: &Link, idle: Duration) {
    if let Ok(gone) = member.sweep(link, idle).await
        && !gone.is_empty()
    {
        tracing::debug!(function, consumers = ?gone, "removed consumers that were idle and owned nothing");
    }
}
