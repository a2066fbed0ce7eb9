//! Functions in processes of their own: who makes them, and by which rules.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Section;
use crate::config::settings::{FunctionOptions, Standby};
use crate::contract::{Executor, Fault};

/// One function's workers, as they are configured.
#[derive(Debug, Clone)]
pub struct Workers {
    /// The function's label.
    pub function: Arc<str>,
    /// The executor that runs inside each worker.
    pub executor: &'static str,
    /// Its options.
    pub section: Section,
    /// How long one call may take; none for ever.
    pub timeout: Option<Duration>,
    /// How many there are.
    pub count: u32,
    /// What is kept ready beside them.
    pub standby: Standby,
    /// Resident memory in bytes at which one is killed.
    pub memory_limit: Option<u64>,
    /// When one is replaced by plan.
    pub recycle: Recycle,
    /// How long one that was replaced may take to end.
    pub farewell: Duration,
    /// How soon there is another one after one that has ended.
    pub restarts: Restarts,
}

/// How soon there is another worker where one ends after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Restarts {
    /// Later each time, however long that lasts: whoever runs a service mends it meanwhile.
    #[default]
    Later,
    /// At once, when it is needed; where none can be started, the events of its batch fail: a command has an end.
    AtOnce,
}

/// When a worker is replaced by plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recycle {
    /// After so many events.
    pub events: Option<u64>,
    /// At so much resident memory, in bytes.
    pub resident: Option<u64>,
    /// At this age.
    pub age: Option<Duration>,
}

impl Workers {
    /// From a function's options.
    #[must_use]
    pub fn of(function: Arc<str>, executor: &'static str, section: Section, options: &FunctionOptions) -> Self {
        Self {
            function,
            executor,
            section,
            timeout: Some(options.timeout.0).filter(|timeout| !timeout.is_zero()),
            count: options.workers,
            standby: options.standby,
            memory_limit: options.memory_limit.map(|size| size.0),
            recycle: Recycle {
                events: options.max_events,
                resident: options.max_resident.map(|size| size.0),
                age: options.max_age.map(|span| span.0),
            },
            farewell: options.farewell(),
            restarts: Restarts::default(),
        }
    }
}

/// Makes executors whose functions live in worker processes.
pub trait Isolate: Send + Sync {
    /// An executor that has its functions run by the named one, elsewhere.
    ///
    /// # Errors
    /// Workers cannot be started here at all.
    fn executor(&self, workers: Workers) -> Result<Box<dyn Executor>, Fault>;
}
