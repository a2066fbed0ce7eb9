//! What becomes of a batch whose commit has ended.

use std::collections::BTreeMap;

use super::Processor;
use super::queues::PendingCommit;
use crate::config::settings::Then;
use crate::contract::{Commit, Fault, Returned};
use crate::engine::commit::{CommitOutcome, without};
use crate::engine::end::End;
use crate::engine::in_flight::InFlightBatch;
use crate::engine::outcome::places;

impl Processor<'_> {
    pub(super) fn landed(&mut self, mut pending: PendingCommit, outcome: CommitOutcome) -> Result<(), End> {
        match outcome {
            CommitOutcome::Done => {
                if let Some(states) = &mut self.states {
                    states.landed(&pending.saves);
                }
            }
            CommitOutcome::Lost(lost) => {
                lost.tell(self.policy.name, self.policy.meters);
                without(&mut pending.commit, &mut pending.batch.batch.events, &lost.events);
                if !pending.saves.is_empty() {
                    self.queues.roll_back(Some(pending));
                } else if !pending.batch.is_empty() {
                    // nothing of it was made of the others
                    self.queues.ready.push_front(pending);
                }
            }
            CommitOutcome::Stale => {
                tracing::debug!(
                    function = self.policy.name,
                    "the state was changed by another process: called again with the newer one"
                );
                self.queues.roll_back(Some(pending));
            }
            CommitOutcome::Fenced => {
                self.policy.meters.fenced.increment(pending.batch.batch.events.len() as u64);
                return Err(End::Fenced);
            }
            CommitOutcome::Refused(fault) if self.states.is_some() => return self.call_again(pending, fault),
            CommitOutcome::Refused(fault) => return self.split_up(pending, fault),
            CommitOutcome::Unstored(refused) if self.states.is_some() => {
                return self.call_unstored_again(pending, refused);
            }
            CommitOutcome::Unstored(refused) => return self.take_unstored_out(pending, refused),
        }
        Ok(())
    }

    /// Results of some events can never be stored: those are called again alone, as the states have the others' calls.
    fn call_unstored_again(
        &mut self,
        mut pending: PendingCommit,
        mut refused: BTreeMap<String, Fault>,
    ) -> Result<(), End> {
        let events = &pending.batch.batch.events;
        if let [event] = &events[..]
            && let Some(fault) = refused.remove(&event.id)
        {
            return self.call_again(pending, fault);
        }
        let places = places(events, |event| refused.contains_key(&event.id));
        pending.batch.batch.receipt = std::mem::take(&mut pending.commit.receipt);
        let rollback = self.queues.roll_back(None);
        for piece in pending.batch.split_at(&places).into_iter().rev() {
            rollback.batches.push_front(piece);
        }
        Ok(())
    }

    /// Results or states that can never be stored: the event that they came from fails, once it is called alone.
    fn call_again(&mut self, mut pending: PendingCommit, fault: Fault) -> Result<(), End> {
        pending.batch.batch.receipt = std::mem::take(&mut pending.commit.receipt);
        let batch = pending.batch;
        let rollback = self.queues.roll_back(None);
        if let [_] = &batch.batch.events[..] {
            let outcomes = vec![Returned::Failed(Fault::function(fault.chain())).into()];
            self.policy.counted(&batch.batch.events, &outcomes, 0.0);
            return self.give_up(batch, outcomes);
        }
        let all: Vec<usize> = (0..batch.batch.events.len()).collect();
        for piece in batch.split_at(&all).into_iter().rev() {
            rollback.batches.push_front(piece);
        }
        Ok(())
    }

    /// The same where the function has its state itself, so that nothing is called again: each event's part is committed by
    /// itself, and the one that cannot be has failed.
    fn split_up(&mut self, mut pending: PendingCommit, fault: Fault) -> Result<(), End> {
        let ids: Vec<String> = pending.batch.batch.events.iter().map(|event| event.id.clone()).collect();
        if ids.len() <= 1 {
            let failed = self.unstorable(pending, fault)?;
            self.queues.ready.push_front(failed);
            return Ok(());
        }
        let parts: Vec<_> = ids.iter().filter_map(|id| take_out(&mut pending, id)).collect();
        for part in parts.into_iter().rev() {
            self.queues.ready.push_front(part);
        }
        Ok(())
    }

    /// Results of some events can never be stored: those have failed, and the rest of the commit goes on.
    fn take_unstored_out(&mut self, mut pending: PendingCommit, refused: BTreeMap<String, Fault>) -> Result<(), End> {
        let mut failed = Vec::new();
        for (id, fault) in refused {
            if let Some(one) = take_out(&mut pending, &id) {
                failed.push(self.unstorable(one, fault)?);
            }
        }
        if !pending.batch.is_empty() {
            self.queues.ready.push_front(pending);
        }
        self.queues.ready.extend(failed);
        Ok(())
    }

    /// An event whose result can never be stored has failed: another call would give the same result.
    fn unstorable(&self, mut pending: PendingCommit, fault: Fault) -> Result<PendingCommit, End> {
        pending.batch.batch.receipt = std::mem::take(&mut pending.commit.receipt);
        let event = pending.batch.batch.events.first().map(|event| event.id.clone()).unwrap_or_default();
        let (name, next) = (self.policy.name, self.policy.at_last());
        tracing::error!(function = name, %event, "its result cannot be stored: {}; {next}", fault.chain());
        let failed = Returned::Failed(fault);
        self.policy.meters.count(&failed);
        if self.policy.errors.then == Then::Stop {
            return Err(End::Policy { event });
        }
        let commit = self.policy.commit_of(&mut pending.batch, vec![failed.into()]);
        Ok(PendingCommit { commit, ..pending })
    }
}

/// One event with its part of the commit, out of its batch.
fn take_out(pending: &mut PendingCommit, id: &str) -> Option<PendingCommit> {
    let PendingCommit { batch, commit, .. } = pending;
    let place = batch.batch.events.iter().position(|event| event.id == id)?;
    batch.batch.receipt = std::mem::take(&mut commit.receipt);
    let mut one: InFlightBatch = batch.split(&[place]);
    commit.receipt = std::mem::take(&mut batch.batch.receipt);
    let part = Commit {
        outputs: commit.outputs.extract_if(.., |output| output.event_id == id).collect(),
        letters: commit.letters.extract_if(.., |letter| letter.event == id).collect(),
        verdicts: vec![commit.verdicts.remove(place)],
        receipt: std::mem::take(&mut one.batch.receipt),
        states: Vec::new(),
    };
    Some(PendingCommit { batch: one, commit: part, saves: Vec::new(), is_final: true })
}
