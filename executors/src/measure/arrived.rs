//! Measurements that a worker has sent. It has asked about each, unless it could not be answered in time.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::registry::admit;
use super::{Kind, PREFIX, Series};

/// Refusals that are told; there may be ever new ones.
const TOLD: usize = 100;

/// Whether a measurement of this name and these labels, in the form in which they were recorded, goes to the page.
pub(crate) fn arrived(kind: Kind, name: &str, labels: &[(String, String)]) -> bool {
    static DONE: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
    let (Some(name), Some(((_, function), labels))) = (name.strip_prefix(PREFIX), labels.split_first()) else {
        return true;
    };
    let Err(reason) = admit(&Series { function, kind, name, labels }) else { return true };
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if done.len() < TOLD && done.insert(format!("{function} {name}")) {
        tracing::warn!(function, "metric '{name}' is not recorded: {reason}");
    }
    false
}
