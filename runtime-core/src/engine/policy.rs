//! What becomes of the events of a batch, by their outcomes and the error policy: committed, tried again, given up.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::backoff::{longest_wait, retry_wait};
use super::board::Board;
use super::in_flight::{InFlightBatch, Retry};
use super::judge::Judge;
use super::meters::Meters;
use super::outcome::{is_over_delivered, is_retryable, places};
use crate::config::settings::{ErrorOptions, Then};
use crate::contract::{Commit, Event, Fault, Letter, Outcome, Output, Returned, Verdict};
use crate::options::Span;

/// The error policy of one function, with what it counts and what it tells.
pub(super) struct Policy<'a> {
    pub(super) name: &'a str,
    pub(super) errors: &'a ErrorOptions,
    pub(super) board: &'a Board,
    pub(super) meters: &'a Meters,
    pub(super) judge: &'a Judge,
    /// For dead letters: what the source is and reads.
    pub(super) origin: Arc<str>,
}

impl Policy<'_> {
    /// Whether another attempt can help and is left.
    pub(super) fn may_retry(&self, event: &Event, outcome: &Outcome) -> bool {
        is_retryable(outcome) && event.attempt <= self.errors.retries
    }

    /// Makes this its next attempt, which is due then.
    pub(super) fn next_attempt(&self, event: &mut Event) -> Instant {
        let wait = retry_wait(self.errors.backoff.0, event.attempt);
        event.attempt += 1;
        Instant::now() + wait
    }

    /// This event for its next attempt; the batch is left without any.
    pub(super) fn retry(&self, batch: &mut InFlightBatch) -> Retry {
        let mut batch = batch.take();
        let due = batch.events.iter_mut().map(|event| self.next_attempt(event)).max();
        Retry { batch, due: due.unwrap_or_else(Instant::now) }
    }

    /// Takes the failed events out of a batch of a queue that shall be tried again, each as a batch of its own, so that
    /// they hold up no others.
    pub(super) fn take_retries(&self, batch: &mut InFlightBatch, outcomes: &mut Vec<Outcome>) -> Vec<Retry> {
        let failed: Vec<usize> = batch
            .batch
            .events
            .iter()
            .zip(&*outcomes)
            .enumerate()
            .filter(|(_, (event, outcome))| self.may_retry(event, outcome))
            .map(|(place, _)| place)
            .collect();
        // from behind, as each one moves those behind it
        let retries: Vec<Retry> = failed
            .iter()
            .rev()
            .map(|place| {
                outcomes.remove(*place);
                self.retry(&mut batch.split(&[*place]))
            })
            .collect();
        retries.into_iter().rev().collect()
    }

    /// Events that are not to be called, out of a batch: they go the way of failed ones.
    pub(super) fn over_delivered(&self, batch: &mut InFlightBatch) -> Option<(InFlightBatch, Vec<Outcome>)> {
        let places = places(&batch.batch.events, is_over_delivered);
        if places.is_empty() {
            return None;
        }
        let failed = batch.split(&places);
        let outcomes = failed.batch.events.iter().map(|event| self.outcome_of_over_delivered(event)).collect();
        Some((failed, outcomes))
    }

    /// What becomes of an event that is not to be called, counted and told.
    pub(super) fn outcome_of_over_delivered(&self, event: &Event) -> Outcome {
        if let Some(flaw) = &event.flaw {
            let outcome = Returned::Failed(Fault::event(&**flaw)).into();
            self.counted(std::slice::from_ref(event), std::slice::from_ref(&outcome), 0.0);
            return outcome;
        }
        let fault = Fault::event(format!(
            "the event was delivered {} times and was never finished: working on it seems to end the process",
            event.deliveries
        ));
        let outcome: Outcome = Returned::Failed(fault).into();
        if let Returned::Failed(fault) = &outcome.returned {
            tracing::error!(function = self.name, event = %event.id, "{fault}; {}", self.next(event, &outcome));
        }
        outcome
    }

    /// Everything that a batch leaves behind; each outcome is final.
    pub(super) fn commit_of(&self, batch: &mut InFlightBatch, outcomes: Vec<Outcome>) -> Commit {
        let batch = &mut batch.batch;
        let mut commit = Commit { receipt: std::mem::take(&mut batch.receipt), ..Commit::default() };
        for (event, outcome) in batch.events.iter().zip(outcomes) {
            let verdict = match outcome.returned {
                Returned::Empty => Verdict::Done { reply: None },
                Returned::Output(payload) => {
                    let output =
                        Output { event_id: event.id.clone(), event: event.payload.clone(), payload: payload.clone() };
                    commit.outputs.push(output);
                    Verdict::Done { reply: Some(payload) }
                }
                Returned::Failed(fault) => {
                    if self.errors.then == Then::DeadLetter {
                        commit.letters.push(self.letter(event, &fault));
                    }
                    Verdict::Failed { reason: fault.to_string() }
                }
                Returned::NotCalled => Verdict::Failed { reason: "not called".to_owned() },
            };
            commit.verdicts.push(verdict);
        }
        commit
    }

    fn letter(&self, event: &Event, fault: &Fault) -> Letter {
        Letter {
            event: event.id.clone(),
            payload: event.payload.clone(),
            original: event.original.as_ref().map(|original| original.text()),
            error: fault.chain(),
            report: fault.report().map(|report| report.trim_end().to_owned()),
            revision: self.board.revision(self.name),
            attempts: event.attempt,
            origin: self.origin.to_string(),
            failed_at: SystemTime::now(),
        }
    }

    /// Counts, times and logs what became of calls; `each` is how long one took, in seconds.
    pub(super) fn counted(&self, events: &[Event], outcomes: &[Outcome], each: f64) {
        for (event, outcome) in events.iter().zip(outcomes) {
            if matches!(outcome.returned, Returned::NotCalled) {
                continue;
            }
            self.meters.duration.record(each);
            let label = self.meters.count(&outcome.returned);
            self.board.update(self.name, |status| {
                *status.calls.entry(label).or_default() += 1;
                if let Returned::Failed(fault) = &outcome.returned {
                    status.last_error = Some(fault.chain());
                }
            });
            if let Returned::Failed(fault) = &outcome.returned {
                let report = fault.report().map(|report| format!("\n{}", report.trim_end())).unwrap_or_default();
                let next = self.next(event, outcome);
                tracing::error!(function = self.name, event = %event.id, attempt = event.attempt, "call failed: {}; {next}{report}", fault.chain());
            }
        }
    }

    /// What comes next for a failed event, for the log.
    fn next(&self, event: &Event, outcome: &Outcome) -> String {
        if self.may_retry(event, outcome) {
            let wait = Span(longest_wait(self.errors.backoff.0, event.attempt));
            let (attempt, attempts) = (event.attempt + 1, self.errors.retries.saturating_add(1));
            return format!("tried again in about {wait} (attempt {attempt} of {attempts})");
        }
        self.at_last().to_owned()
    }

    /// What becomes of an event that has no attempts left, for the log.
    pub(super) const fn at_last(&self) -> &'static str {
        match self.errors.then {
            Then::DeadLetter => "kept as a dead letter",
            Then::Skip => "skipped",
            Then::Stop => "the function stops, as errors.then says",
        }
    }

    /// One outcome for each event, or the function has broken its promise. Counts further attempts, as these are the ones
    /// that were made: a newer value or the end may come before one that is due.
    pub(super) fn complete(&self, events: &[Event], outcomes: Vec<Outcome>) -> Result<Vec<Outcome>, Fault> {
        if outcomes.len() == events.len() {
            let called = |outcome: &Outcome| !matches!(outcome.returned, Returned::NotCalled);
            let further = events.iter().zip(&outcomes).filter(|(event, outcome)| event.attempt > 1 && called(outcome));
            self.meters.retries.increment(further.count() as u64);
            return Ok(outcomes);
        }
        let message = format!("function '{}' gave {} outcomes for {} events", self.name, outcomes.len(), events.len());
        Err(Fault::internal(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_what_comes_next() {
        let (board, meters, judge) = (Board::default(), Meters::of("vm"), Judge::default());
        let next = |then: Then, attempt: u32, fault: Fault| {
            let errors = ErrorOptions { retries: 3, backoff: Span::millis(200), then };
            let policy = Policy {
                name: "vm",
                errors: &errors,
                board: &board,
                meters: &meters,
                judge: &judge,
                origin: "script".into(),
            };
            policy.next(&Event { attempt, ..Event::new("1", "{}") }, &Returned::Failed(fault).into())
        };
        let boom = || Fault::function("boom");
        for then in [Then::Skip, Then::DeadLetter, Then::Stop] {
            assert_eq!(next(then, 1, boom()), "tried again in about 200ms (attempt 2 of 4)");
            assert_eq!(next(then, 3, boom()), "tried again in about 800ms (attempt 4 of 4)");
        }
        let last = [
            (Then::Skip, "skipped"),
            (Then::DeadLetter, "kept as a dead letter"),
            (Then::Stop, "the function stops, as errors.then says"),
        ];
        for (then, words) in last {
            assert_eq!(next(then, 4, boom()), words);
            assert_eq!(next(then, 1, Fault::event("the payload is no JSON")), words);
        }
    }
}
