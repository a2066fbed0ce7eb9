//! Names every component crate once, so that they are linked: a crate that nothing names is left out silently.

use {executors as _, loaders as _, sinks as _, sources as _, stores as _};

use std::sync::Arc;

use redis_link::Settings;
use runtime_core::Shared;
use runtime_core::config::{Problem, Section};
use runtime_core::isolation::Isolate;

// redis-link knows nothing of the registry, so its table is registered here
inventory::submit!(Shared { check: redis, ..Shared::of::<Settings>("redis") });

/// What makes worker processes, where this build can.
pub(crate) fn isolate() -> Option<Arc<dyn Isolate>> {
    #[cfg(feature = "worker")]
    return Some(Arc::new(executors::worker::host::Processes::new()));
    #[cfg(not(feature = "worker"))]
    None
}

/// The command `worker`, to its exit code.
pub(crate) fn worker() -> u8 {
    #[cfg(feature = "worker")]
    return executors::worker::guest::run();
    #[cfg(not(feature = "worker"))]
    crate::USAGE
}

/// Workers get this limit of file descriptors, whatever this process has.
pub(crate) fn worker_descriptors(limit: u64) {
    #[cfg(feature = "worker")]
    executors::worker::spawn::limit_descriptors(limit);
    #[cfg(not(feature = "worker"))]
    let _ = limit;
}

fn redis(section: &Section) -> Vec<Problem> {
    let (settings, mut problems) = section.read::<Settings>(&[]);
    let complaints = settings.map(|settings| settings.complaints(None)).unwrap_or_default();
    problems.extend(complaints.into_iter().map(|(option, sentence)| section.problem(&option, sentence)));
    problems
}
