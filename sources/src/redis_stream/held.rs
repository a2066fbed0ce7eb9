//! The entries in flight, as the source, its receipts and its keeper see them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Ids of entries that were given out and whose receipt lives.
#[derive(Debug, Default)]
pub(super) struct Held {
    ids: Mutex<BTreeSet<String>>,
    replaced: AtomicBool,
}

impl Held {
    pub(super) fn add(&self, ids: &[String]) {
        self.lock().extend(ids.iter().cloned());
    }

    pub(super) fn remove(&self, ids: &[String]) {
        let mut held = self.lock();
        for id in ids {
            held.remove(id);
        }
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.lock().contains(id)
    }

    pub(super) fn ids(&self) -> BTreeSet<String> {
        self.lock().clone()
    }

    /// The consumer's name has gone to another incarnation.
    pub(super) fn replace(&self) {
        self.replaced.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
