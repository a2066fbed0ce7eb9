//! Batches between the source and the end of their commit.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::meters::Meters;
use crate::contract::{Batch, Outcome, Receipt};

/// A batch on its way, with the permit that it occupies.
pub(super) struct InFlightBatch {
    pub(super) batch: Batch,
    /// Of its first events, where they are called one by one: those that have been called. Empty otherwise.
    pub(super) outcomes: Vec<Outcome>,
    permit: Arc<OwnedSemaphorePermit>,
    gauge: InFlightGauge,
}

impl InFlightBatch {
    pub(super) fn new(batch: Batch, permit: OwnedSemaphorePermit, meters: &Meters) -> Self {
        let gauge = InFlightGauge::new(meters.in_flight.clone(), batch.events.len());
        Self { batch, outcomes: Vec::new(), permit: Arc::new(permit), gauge }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.events.is_empty()
    }

    /// Takes the batch out, as it goes another way.
    pub(super) fn take(&mut self) -> Batch {
        std::mem::replace(&mut self.batch, Batch { events: Vec::new(), receipt: Receipt::none(), skipped: 0 })
    }

    /// Takes the events at these places, in ascending order, out as a batch of their own. Both occupy the one permit.
    pub(super) fn split(&mut self, places: &[usize]) -> Self {
        let receipt = if places.is_empty() { Receipt::none() } else { self.batch.receipt.split(places) };
        let mut taken = Vec::with_capacity(places.len());
        for place in places.iter().rev() {
            taken.push(self.batch.events.remove(*place));
        }
        taken.reverse();
        let gauge = InFlightGauge::new(self.gauge.gauge.clone(), taken.len());
        self.gauge.release(taken.len());
        Self {
            batch: Batch { events: taken, receipt, skipped: 0 },
            outcomes: Vec::new(),
            permit: Arc::clone(&self.permit),
            gauge,
        }
    }

    /// In pieces: the events at these places each alone, in their order with what stands between them.
    pub(super) fn split_at(mut self, alone: &[usize]) -> VecDeque<Self> {
        let mut pieces = VecDeque::new();
        for place in alone.iter().rev() {
            let behind: Vec<usize> = (place + 1..self.batch.events.len()).collect();
            pieces.push_front(self.split(&behind));
            pieces.push_front(self.split(&[*place]));
        }
        pieces.push_front(self);
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }
}

/// Events between the source and the end of their commit, on the gauge as long as this lives.
struct InFlightGauge {
    gauge: metrics::Gauge,
    events: f64,
}

impl InFlightGauge {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    fn new(gauge: metrics::Gauge, events: usize) -> Self {
        gauge.increment(events as f64);
        Self { gauge, events: events as f64 }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    fn release(&mut self, events: usize) {
        self.gauge.decrement(events as f64);
        self.events -= events as f64;
    }
}

impl Drop for InFlightGauge {
    fn drop(&mut self) {
        self.gauge.decrement(self.events);
    }
}

/// A failed event that waits for its next attempt.
pub(super) struct Retry {
    pub(super) batch: Batch,
    pub(super) due: Instant,
}
