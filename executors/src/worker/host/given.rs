//! A batch that a slot has, and has not answered yet.

use std::sync::Arc;

use runtime_core::Fault;
use runtime_core::contract::{Call, Event, Outcome, Returned};

/// A batch on its way through a worker, or through several.
pub(super) struct Given {
    pub(super) events: Arc<[Event]>,
    pub(super) call: Call,
    /// Of the first events.
    pub(super) outcomes: Vec<Outcome>,
    /// Its number with the present worker, once that has got what is left of it.
    pub(super) batch: Option<u64>,
    /// Workers that ended with it before any event was running.
    pub(super) fruitless: u32,
}

impl Given {
    pub(super) const fn new(events: Arc<[Event]>, call: Call) -> Self {
        Self { events, call, outcomes: Vec::new(), batch: None, fruitless: 0 }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.outcomes.len() == self.events.len()
    }

    /// Whether it needs states that only a worker that has lasted has.
    pub(super) const fn builds_on_others(&self) -> bool {
        self.call.keep && !self.call.anew
    }

    /// The rest of its events fails, as there is no worker for it.
    pub(super) fn fail(&mut self, fault: &Fault) {
        let failed = || Fault::function(format!("no worker can be started for it: {}", fault.chain()));
        self.outcomes.resize_with(self.events.len(), || Returned::Failed(failed()).into());
    }

    /// The rest of its events is given again by whoever keeps the states.
    pub(super) fn hand_back(&mut self) {
        self.outcomes.resize_with(self.events.len(), || Returned::NotCalled.into());
    }
}

/// Notes that another worker has ended with these events before any of them was running. The first one is to blame, its
/// size say, where that was not the first time.
pub(super) fn often(fruitless: &mut Option<(String, u32)>, events: &[Event]) -> bool {
    let id = events.first().map_or("", |event| &event.id);
    match fruitless {
        Some((known, count)) if known == id => {
            *count += 1;
            *count > 1
        }
        other => {
            *other = Some((id.to_owned(), 1));
            false
        }
    }
}
