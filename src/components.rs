//! Names every component crate once, so that they are linked: a crate that nothing names is left out silently.

use {executors as _, loaders as _, sinks as _, sources as _, stores as _};

use redis_link::Settings;
use runtime_core::Shared;
use runtime_core::config::{Problem, Section};

// redis-link knows nothing of the registry, so its table is registered here
inventory::submit!(Shared { check: redis, ..Shared::of::<Settings>("redis") });

fn redis(section: &Section) -> Vec<Problem> {
    let (settings, mut problems) = section.read::<Settings>(&[]);
    let complaints = settings.map(|settings| settings.complaints(None)).unwrap_or_default();
    problems.extend(complaints.into_iter().map(|(option, sentence)| section.problem(&option, sentence)));
    problems
}
