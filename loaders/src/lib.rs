//! Where a function's code comes from: a file, a folder, or a zip.
//!
//! ```text
//!   file, native ──────────────────────┐
//!   dir  ────────────── entry ─────────┼──> Module { root, entry, revision }
//!   zip  ── unpack ──── entry ─────────┘
//! ```
//!
//! * [`file`](mod@file) - one source file, or the source text itself
//! * [`native`] - one shared library
//! * [`dir`] - a folder with several modules
//! * [`zip`] - a zip, its base64 text, or a folder that holds exactly one
//! * [`unpack`] - zips from strangers, into a private folder
//! * `entry` - which file has the entry function
//! * `hash` - what a module is made of, as one number
//! * `include`, `tree` - which files of a folder are code
//! * `places` - where a change would show
//! * `regular` - opening what must be an ordinary file
//! * [`refusal`] - why something was not loaded

pub mod dir;
mod entry;
pub mod file;
mod hash;
mod include;
pub mod native;
mod places;
pub mod refusal;
mod regular;
mod tree;
pub mod unpack;
pub mod zip;

pub use places::mount_points;
pub use refusal::{Reason, Refusal};

use runtime_core::Fault;
use std::path::Path;

/// Whether a zip has a module of this dotted name; none where the zip cannot be read.
#[must_use]
pub fn zip_has_module(path: Option<&Path>, base64: Option<&str>, module: &str) -> Option<bool> {
    zip::names(path, base64).map(|names| entry::has_module(&names, module))
}

/// Runs blocking work where it holds up nobody.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Fault::from),
        Err(error) => Err(Fault::internal("loading was interrupted").caused_by(error)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use runtime_core::Registry;
    use runtime_core::config::Section;
    use runtime_core::contract::Loader;

    #[test]
    fn every_loader_is_registered_and_says_what_it_misses() {
        let registry = Registry::<dyn Loader>::collect().unwrap();
        let empty = Section::empty("functions.vm.loader");
        let problems: Vec<_> = registry
            .entries()
            .iter()
            .flat_map(|entry| (entry.check)(&empty).into_iter().map(|problem| format!("{}: {}", entry.name, problem)))
            .collect();
        assert_eq!(
            problems,
            [
                "dir: functions.vm.loader.path: missing; it has no default",
                "file: functions.vm.loader.path: missing; name the function's file, or give its text as source",
                "native: functions.vm.loader.path: missing; it has no default",
                "zip: functions.vm.loader.path: missing; name the zip, or give its text as base64",
            ]
        );
    }
}
