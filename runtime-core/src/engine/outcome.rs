//! Outcomes, sorted.

use std::collections::BTreeSet;

use crate::contract::{Blame, Event, Fault, Outcome, Returned};

/// An event that was delivered so often and is still not done has ended the processes that worked on it. Restarts and
/// interruptions of all sorts stay far below.
const MAX_DELIVERIES: u32 = 20;

/// Whether an event is not to be called, as its source says why it is unusable, or as it has been delivered too often.
pub(super) fn is_over_delivered(event: &Event) -> bool {
    event.flaw.is_some() || event.deliveries > MAX_DELIVERIES
}

/// Another attempt can only help where the call failed, not where the event itself is unusable.
pub(super) fn is_retryable(outcome: &Outcome) -> bool {
    matches!(&outcome.returned, Returned::Failed(fault) if fault.blame() != Blame::Event)
}

pub(super) fn has_failed(outcome: &Outcome) -> bool {
    matches!(outcome.returned, Returned::Failed(_))
}

/// Whether nothing is known of the event, as its call has not begun or its process has ended.
pub(super) fn was_not_run(outcome: &Outcome) -> bool {
    matches!(outcome.returned, Returned::NotCalled)
}

/// Why the function cannot be called with its state at all: it cannot be read, or the function can have none.
pub(super) fn unusable_state(outcomes: &mut [Outcome]) -> Option<Fault> {
    let is_unusable =
        |outcome: &&mut Outcome| matches!(&outcome.returned, Returned::Failed(fault) if fault.blame() == Blame::Config);
    let outcome = outcomes.iter_mut().find(is_unusable)?;
    match std::mem::replace(&mut outcome.returned, Returned::NotCalled) {
        Returned::Failed(fault) => Some(fault),
        _ => None,
    }
}

/// The places of those for which this holds, in ascending order.
pub(super) fn places<T>(all: &[T], which: impl Fn(&T) -> bool) -> Vec<usize> {
    all.iter().enumerate().filter(|(_, one)| which(one)).map(|(place, _)| place).collect()
}

/// Takes the outcomes at these places out, in their order.
pub(super) fn take(outcomes: &mut Vec<Outcome>, places: &[usize]) -> Vec<Outcome> {
    let places: BTreeSet<usize> = places.iter().copied().collect();
    let (taken, left): (Vec<_>, Vec<_>) =
        std::mem::take(outcomes).into_iter().enumerate().partition(|(place, _)| places.contains(place));
    *outcomes = left.into_iter().map(|(_, outcome)| outcome).collect();
    taken.into_iter().map(|(_, outcome)| outcome).collect()
}
