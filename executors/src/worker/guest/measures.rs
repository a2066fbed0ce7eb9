//! What the function measures: kept here and sent with the outcomes of each batch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

use super::super::protocol::measures::{Measure, Measures, Name};

/// What has happened since the last batch.
static SINCE: Mutex<Option<Since>> = Mutex::new(None);

#[derive(Default)]
struct Since {
    counts: HashMap<Name, u64>,
    /// Where a gauge stands: what it was before is of no use to anybody.
    gauges: HashMap<Name, f64>,
    /// In their order.
    rest: Vec<Measure>,
    /// Of those there was no room for more, and that was said.
    full: bool,
}

/// More would be a function that measures in a loop of its own while nothing is called.
const MOST: usize = 100_000;

/// From now on this process measures for its parent.
pub(super) fn begin() {
    // nothing else is going to take the place
    let _ = metrics::set_global_recorder(Forward);
}

/// What was measured since the last time, if anything was.
pub(super) fn take() -> Option<Measures> {
    let since = SINCE.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    let counts = since.counts.into_iter().map(|(name, value)| Measure::Count { name, value });
    let gauges = since.gauges.into_iter().map(|(name, value)| Measure::Set { name, value });
    Some(Measures { measures: counts.chain(since.rest).chain(gauges).collect() })
}

fn note(with: impl FnOnce(&mut Since)) {
    let mut since = SINCE.lock().unwrap_or_else(PoisonError::into_inner);
    with(since.get_or_insert_default());
}

fn push(measure: Measure) {
    let mut is_first = false;
    note(|since| {
        if since.rest.len() < MOST {
            since.rest.push(measure);
        } else {
            is_first = !std::mem::replace(&mut since.full, true);
        }
    });
    if is_first {
        tracing::warn!("more than {MOST} observations in one batch: the further ones are not recorded");
    }
}

struct Forward;

impl Recorder for Forward {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Named::of(key)))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Named::of(key)))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Named::of(key)))
    }
}

struct Named(Name);

impl Named {
    fn of(key: &Key) -> Self {
        let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
        Self(Name { name: key.name().to_owned(), labels })
    }
}

impl CounterFn for Named {
    fn increment(&self, value: u64) {
        note(|since| match since.counts.get_mut(&self.0) {
            Some(count) => *count = count.saturating_add(value),
            None => drop(since.counts.insert(self.0.clone(), value)),
        });
    }

    fn absolute(&self, value: u64) {
        push(Measure::CountAt { name: self.0.clone(), value });
    }
}

impl GaugeFn for Named {
    fn increment(&self, value: f64) {
        let mut is_set = false;
        note(|since| {
            if let Some(gauge) = since.gauges.get_mut(&self.0) {
                *gauge += value;
                is_set = true;
            }
        });
        if !is_set {
            push(Measure::Raise { name: self.0.clone(), value });
        }
    }

    fn decrement(&self, value: f64) {
        GaugeFn::increment(self, -value);
    }

    fn set(&self, value: f64) {
        note(|since| {
            since.gauges.insert(self.0.clone(), value);
        });
    }
}

impl HistogramFn for Named {
    fn record(&self, value: f64) {
        push(Measure::Observe { name: self.0.clone(), value });
    }
}
