//! When each state in memory was last used, where those that nobody uses are to go.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use runtime_core::contract::StateKey;

/// The ages of all states of a function.
pub(super) struct Ages {
    ttl: Duration,
    of: Mutex<Uses>,
}

#[derive(Default)]
struct Uses {
    last: HashMap<StateKey, Instant>,
    /// Each key once, by a use that was its last one then: only who comes first is looked at.
    queue: VecDeque<(Instant, StateKey)>,
}

impl Ages {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, of: Mutex::default() }
    }

    /// The states that are over at this time, that of `key`, which is about to be used, among them. They are told once.
    pub(super) fn over(&self, key: &StateKey, now: Instant) -> Vec<StateKey> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let Uses { last, queue } = &mut *of;
        let is_over = |since: Instant| now.saturating_duration_since(since) >= self.ttl;
        let mut over = Vec::new();
        // stays known, as it is used now
        if last.get(key).is_some_and(|since| is_over(*since)) {
            over.push(key.clone());
            last.insert(key.clone(), now);
        }
        while queue.front().is_some_and(|(since, _)| is_over(*since))
            && let Some((_, key)) = queue.pop_front()
        {
            match last.get(&key) {
                Some(since) if is_over(*since) => {
                    last.remove(&key);
                    over.push(key);
                }
                Some(since) => queue.push_back((*since, key)),
                None => {}
            }
        }
        over
    }

    /// This state was used.
    pub(super) fn used(&self, key: StateKey, now: Instant) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.last.insert(key.clone(), now).is_none() {
            of.queue.push_back((now, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> StateKey {
        StateKey(Some(name.to_owned()))
    }

    #[test]
    fn a_state_is_over_once_it_was_not_used_for_so_long() {
        let (ages, begin) = (Ages::new(Duration::from_secs(10)), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        for name in ["a", "b", "c"] {
            assert_eq!(ages.over(&key(name), at(0)), []);
            ages.used(key(name), at(0));
        }
        ages.used(key("a"), at(6));
        assert_eq!(ages.over(&key("a"), at(9)), []);
        // the one that is used, and one that nobody uses; each once
        assert_eq!(ages.over(&key("b"), at(10)), [key("b"), key("c")]);
        ages.used(key("b"), at(10));
        assert_eq!(ages.over(&key("b"), at(15)), []);
        assert_eq!(ages.over(&key("x"), at(25)), [key("a"), key("b")]);
        assert!(ages.over(&key("x"), at(60)).is_empty());
        let uses = ages.of.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(uses.last.is_empty() && uses.queue.is_empty());
    }
}
