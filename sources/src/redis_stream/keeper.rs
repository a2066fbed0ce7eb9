//! What has to go on while the engine does not ask: all of its permits are out, and one call takes minutes.
//!
//! A task of its own, which ends with the source. Its troubles are not told: those of the source, on the same server,
//! are. Except where the user may not do what nobody but the heartbeat does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis_link::group::{Absent, Beat, Swept};
use redis_link::{Link, LinkError, Member, Trouble};
use runtime_core::engine::backoff::Backoff;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::held::Held;
use super::{fault, number};

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
            let mut missing = Missing::default();
            let mut denied = Backoff::new(&function, "heartbeat");
            loop {
                tokio::select! {
                    biased;
                    _ = beats.tick() => match beat(&function, &member, &link, &held).await {
                        Ok(()) => denied.succeeded(),
                        Err(error) if error.kind() == Trouble::Permission => drop(denied.failed(&fault(&error))),
                        Err(error) => tracing::debug!(function, "no heartbeat: {error}"),
                    },
                    _ = looks.tick() => figures(&function, &member, &link, &held).await,
                    _ = sweeps.tick() => sweep(&function, &member, &link, claim_idle * SILENT, &mut missing).await,
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
pub(super) async fn beat(function: &str, member: &Member, link: &Link, held: &Held) -> Result<(), LinkError> {
    if held.is_replaced() {
        return Ok(());
    }
    let ((given, open), let_go) = (held.all(), held.let_go());
    match member.beat(link, &held.mark(), &given, &open, &let_go).await? {
        Beat::Lost { others, nobodys } => {
            held.forget(&let_go);
            if !others.is_empty() {
                // claimed by others while this process did not run
                tracing::debug!(function, entries = ?others, "not this consumer's any more");
                held.lose(&others);
            }
            if !held.astray(nobodys.clone()).is_empty() {
                revive(function, member, link, held, nobodys).await;
            }
        }
        Beat::Regrouped => held.regroup(),
        Beat::Replaced => held.replace(&member.consumer),
    }
    Ok(())
}

/// Entries that are not done and that nobody has: somebody has deleted this consumer from its group. They must be pending
/// again before this process ends.
async fn revive(function: &str, member: &Member, link: &Link, held: &Held, nobodys: Vec<String>) {
    let _alone = held.pass().await;
    let astray = held.astray(nobodys);
    if astray.is_empty() {
        return;
    }
    match member.revive(link, &held.mark(), &astray).await {
        Ok(here) if here.is_empty() => {}
        Ok(here) => {
            let Member { stream, group, consumer, .. } = member;
            let count = if here.len() == 1 { "1 entry".to_owned() } else { format!("{} entries", here.len()) };
            tracing::warn!(
                function,
                "consumer '{consumer}' was deleted from group '{group}' of stream '{stream}'; it goes on, with {count} that \
                 it has not finished"
            );
        }
        Err(error) => tracing::debug!(function, "entries of a deleted consumer are not pending again: {error}"),
    }
}

async fn figures(function: &str, member: &Member, link: &Link, held: &Held) {
    let Ok(figures) = member.figures(link).await else { return };
    if figures.reached.is_some() {
        // the group is there, and so it is the stream that it was made for
        held.reach(figures.reached.as_deref().and_then(number));
        held.looked(member.look(link, &held.stream().1).await.ok().flatten());
    }
    let gauge = |name: &'static str| metrics::gauge!(name, "function" => function.to_owned());
    #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
    {
        gauge("gaugefn_stream_pending").set(figures.pending as f64);
        if let Some(lag) = figures.lag {
            gauge("gaugefn_stream_lag").set(lag as f64);
        }
    }
}

async fn sweep(function: &str, member: &Member, link: &Link, idle: Duration, missing: &mut Missing) {
    if let Ok(Swept { removed, absent }) = member.sweep(link, idle, &missing.dead(idle)).await {
        if !removed.is_empty() {
            tracing::debug!(function, consumers = ?removed, "removed consumers that were idle and owned nothing");
        }
        missing.note(absent);
    }
}

/// Consumers that are registered and that the group does not have, and since when. A group that was deleted takes its
/// consumers along, not the register. Whoever lives is back in the group with its next read, within seconds.
#[derive(Debug, Default)]
struct Missing(BTreeMap<Absent, Instant>);

impl Missing {
    /// Those that have been missing for that long.
    fn dead(&self, idle: Duration) -> Vec<Absent> {
        self.0.iter().filter(|(_, since)| since.elapsed() >= idle).map(|(absent, _)| absent.clone()).collect()
    }

    /// A consumer that was back in between, or has another incarnation, begins anew.
    fn note(&mut self, absent: Vec<Absent>) {
        let now = Instant::now();
        let before = std::mem::take(&mut self.0);
        self.0 = absent
            .into_iter()
            .map(|one| (before.get(&one).copied().unwrap_or(now), one))
            .map(|(at, one)| (one, at))
            .collect();
    }
}
