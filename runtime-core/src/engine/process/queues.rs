//! What is on its way between the first stage and the end of its commit.

use std::collections::VecDeque;
use std::time::Instant;

use crate::contract::{Commit, Fault};
use crate::engine::commit::{CommitOutcome, Committer};
use crate::engine::in_flight::InFlightBatch;
use crate::engine::states::Save;
use crate::registry::BoxFuture;

/// A batch that the function has, and has not answered. Its events are with the call.
pub(super) struct Submitted {
    pub(super) batch: InFlightBatch,
    pub(super) since: Instant,
}

/// A batch on its way to the sinks and into the store.
pub(super) struct PendingCommit {
    pub(super) batch: InFlightBatch,
    pub(super) commit: Commit,
    pub(super) saves: Vec<Save>,
    /// What became of its events does not depend on any state.
    pub(super) is_final: bool,
}

/// One that is being written, with who writes it.
pub(super) type RunningCommit<'a> = BoxFuture<'a, (&'a mut Committer, PendingCommit, Result<CommitOutcome, Fault>)>;

/// Batches on their way, in order.
#[derive(Default)]
pub(super) struct Queues {
    pub(super) todo: VecDeque<InFlightBatch>,
    /// The first one of `todo` has failed and waits until then.
    pub(super) not_before: Option<tokio::time::Instant>,
    pub(super) submitted: VecDeque<Submitted>,
    pub(super) ready: VecDeque<PendingCommit>,
    pub(super) rollback: Option<Rollback>,
}

/// What has to be called again, in its order, as soon as nothing is submitted any more.
#[derive(Default)]
pub(super) struct Rollback {
    pub(super) batches: VecDeque<InFlightBatch>,
    /// Whether the states at hand are what the store will have.
    pub(super) states_hold: bool,
}

impl Queues {
    pub(super) fn are_empty(&self) -> bool {
        self.todo.is_empty() && self.submitted.is_empty() && self.ready.is_empty() && self.rollback.is_none()
    }

    /// Discards what was called after a commit that has failed, and that one with it.
    pub(super) fn roll_back(&mut self, first: Option<PendingCommit>) -> &mut Rollback {
        let mut batches = VecDeque::new();
        let mut stay = VecDeque::new();
        for mut pending in first.into_iter().chain(self.ready.drain(..)) {
            if pending.is_final {
                stay.push_back(pending);
                continue;
            }
            pending.batch.batch.receipt = std::mem::take(&mut pending.commit.receipt);
            if !pending.batch.is_empty() {
                batches.push_back(pending.batch);
            }
        }
        self.ready = stay;
        batches.extend(self.rollback.take().into_iter().flat_map(|rollback| rollback.batches));
        self.rollback.insert(Rollback { batches, states_hold: false })
    }

    /// The policy `stop`: what came before the failed event is called without the rest, then that one alone, with so many
    /// more attempts behind it.
    pub(super) fn isolate(&mut self, batch: InFlightBatch, failed: usize, attempts: u32) {
        let mut before = batch;
        let behind: Vec<usize> = (failed + 1..before.batch.events.len()).collect();
        let behind = before.split(&behind);
        let mut alone = before.split(&[failed]);
        alone.batch.events.iter_mut().for_each(|event| event.attempt += attempts);
        let batches = [before, alone, behind].into_iter().filter(|batch| !batch.is_empty()).collect();
        self.rollback = Some(Rollback { batches, states_hold: true });
    }
}
