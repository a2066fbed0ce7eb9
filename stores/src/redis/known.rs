//! What the server is known to have.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use runtime_core::contract::{StateKey, Versioned};

/// With one state for each of very many values, those that are not remembered are written as a whole.
const MOST: usize = 10_000;

/// The last state of each key that was loaded or saved. Texts are shared with whoever else has them.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<StateKey, Versioned>>);

impl Known {
    pub(super) fn get(&self, key: &StateKey) -> Option<Versioned> {
        self.lock().get(key).cloned()
    }

    /// `None` where there is no state.
    pub(super) fn set(&self, key: &StateKey, state: Option<&Versioned>) {
        let mut known = self.lock();
        match state {
            Some(state) => {
                if known.len() >= MOST && !known.contains_key(key) {
                    known.clear();
                }
                known.insert(key.clone(), state.clone());
            }
            None => {
                known.remove(key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StateKey, Versioned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
