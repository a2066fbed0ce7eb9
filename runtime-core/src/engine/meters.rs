//! The engine's own metrics of one function, looked up once: a call of 10 µs should not spend one on its counters.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::contract::{Blame, Returned};

/// Handles of one function's metrics. Made after the recorder is installed, so that all of them show from the start.
#[derive(Clone)]
pub(super) struct Meters {
    ok: Counter,
    empty: Counter,
    failed: Counter,
    bad_input: Counter,
    pub(super) duration: Histogram,
    pub(super) in_flight: Gauge,
    pub(super) retries: Counter,
    pub(super) skipped: Counter,
    pub(super) dead_letters: Counter,
    pub(super) fenced: Counter,
    pub(super) state_bytes: Gauge,
}

/// Counters that others increment, by their label beside the function: one that shows with its first event only is no
/// use to who wants to know how often that has happened.
const OF_OTHERS: &[(&str, Option<(&str, &str)>)] = &[
    ("gaugefn_worker_kills_total", Some(("reason", "timeout"))),
    ("gaugefn_worker_kills_total", Some(("reason", "memory"))),
    ("gaugefn_worker_restarts_total", None),
    ("gaugefn_log_lines_dropped_total", None),
    ("gaugefn_reloads_total", Some(("outcome", "ok"))),
    ("gaugefn_reloads_total", Some(("outcome", "failed"))),
];

impl Meters {
    pub(super) fn of(function: &str) -> Self {
        let function = function.to_owned();
        for (name, label) in OF_OTHERS {
            let labels = std::iter::once(("function", function.clone()));
            let labels: Vec<_> = labels.chain(label.map(|(key, value)| (key, value.to_owned()))).collect();
            counter!(*name, &labels).increment(0);
        }
        // nothing of it is unsaved yet; what there is shows with the first calls
        gauge!("gaugefn_state_unsaved_keys", "function" => function.clone()).set(0.0);
        let calls = |outcome: &'static str| counter!("gaugefn_invocations_total", "function" => function.clone(), "outcome" => outcome);
        Self {
            ok: calls("ok"),
            empty: calls("empty"),
            failed: calls("failed"),
            bad_input: calls("bad_input"),
            duration: histogram!("gaugefn_invocation_duration_seconds", "function" => function.clone()),
            in_flight: gauge!("gaugefn_in_flight", "function" => function.clone()),
            retries: counter!("gaugefn_retries_total", "function" => function.clone()),
            skipped: counter!("gaugefn_skipped_updates_total", "function" => function.clone()),
            dead_letters: counter!("gaugefn_dead_letters_total", "function" => function.clone()),
            fenced: counter!("gaugefn_fenced_total", "function" => function.clone()),
            state_bytes: gauge!("gaugefn_state_bytes", "function" => function.clone()),
        }
    }

    /// Counts a call; the name of its outcome.
    pub(super) fn count(&self, returned: &Returned) -> &'static str {
        let (name, counter) = match returned {
            Returned::Output(_) => ("ok", &self.ok),
            Returned::Empty => ("empty", &self.empty),
            Returned::Failed(fault) if fault.blame() == Blame::Event => ("bad_input", &self.bad_input),
            Returned::Failed(_) | Returned::NotCalled => ("failed", &self.failed),
        };
        counter.increment(1);
        name
    }
}
