//! The function's states for whoever keeps them.

use pyo3::prelude::*;
use runtime_core::Fault;
use runtime_core::contract::{Blame, Env, Event, Returned, StateKey};

use super::call::Parts;
use super::memory::{Key, Memory};
use super::state;
use crate::kept::{Called, Live, Mark, Saved};

/// A function whose states somebody else keeps, during a batch.
pub(super) struct Keeping<'a, 'py> {
    pub(super) py: Python<'py>,
    pub(super) parts: &'a Parts,
    pub(super) memory: &'a Memory,
    /// How long each event has.
    pub(super) seconds: Option<f64>,
}

impl Live for Keeping<'_, '_> {
    fn key(&self, event: &Event) -> StateKey {
        StateKey(event.key.as_deref().filter(|_| self.memory.is_keyed()).map(str::to_owned))
    }

    fn call(&mut self, event: &Event) -> Called {
        let key = self.key(event);
        let returned = self.parts.outcome(self.py, self.memory, event, &Key::Known(&key), self.seconds);
        // such a fault is of an event that python cannot parse
        let reached = !matches!(&returned, Returned::Failed(fault) if fault.blame() == Blame::Event);
        Called { returned, reached }
    }

    fn save(&mut self, key: &StateKey) -> Saved {
        let env = match self.memory.get(self.py, key) {
            Ok(Some(env)) => env,
            Ok(None) => return Saved::default(),
            Err(error) => {
                let lost = vec![("context.env".to_owned(), format!("context.env ({error})"))];
                return Saved { mark: Mark { odd: true, ..Mark::default() }, lost };
            }
        };
        let encoded = state::encode(self.py, &env);
        let lost = encoded.lost.into_iter().map(|left| (left.name, left.words)).collect();
        Saved { mark: Mark { env: encoded.env, odd: encoded.opaque || encoded.bare }, lost }
    }

    fn give(&mut self, key: &StateKey, env: &Env) -> Result<(), Fault> {
        let given = state::decode(self.py, env).and_then(|env| self.memory.put(self.py, key, env.into_bound(self.py)));
        given.map_err(|error| self.parts.fault(self.py, error))
    }

    fn restore(&mut self, key: &StateKey, mark: &Mark) -> Result<(), Fault> {
        self.memory.restore(self.py, key, mark).map_err(|error| self.parts.fault(self.py, error))
    }

    fn forget(&mut self, key: &StateKey) {
        // what has just become an attribute, or an entry, can be replaced
        let _ = self.memory.forget(self.py, key);
    }
}
