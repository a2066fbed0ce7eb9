//! What can be seen from outside: the state of each function, kept by the engine, read by the admin endpoints.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::Serialize;

/// A supervisor whose last beat is older than this is no longer alive. Ten beats: a machine under load must not
/// make a healthy process look dead.
const SILENCE: Duration = Duration::from_secs(10);

/// How often the supervisor beats.
pub const BEAT: Duration = Duration::from_secs(1);

/// The state of one function.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Status {
    /// Whether the function is loaded and its loop runs.
    pub running: bool,
    /// Who runs it at the moment, where that is another process and this one stands by.
    pub standby: Option<String>,
    /// The content hash of its code.
    pub revision: Option<String>,
    /// Why newer code was not taken.
    pub refused: Option<String>,
    /// What its parts are, for people: `redis_key`, `python`, …
    pub parts: BTreeMap<&'static str, String>,
    /// What is wrong at the moment, by part: `source`, `sink result`.
    pub troubles: BTreeMap<String, String>,
    /// Calls by outcome since the start.
    pub calls: BTreeMap<&'static str, u64>,
    /// The newest failure, in one line.
    pub last_error: Option<String>,
    /// When the newest event was received.
    #[serde(skip)]
    pub last_input: Option<Instant>,
}

/// The states of all functions. Cheap to clone; all clones are one board.
#[derive(Debug, Clone)]
pub struct Board(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    functions: BTreeMap<String, Status>,
    beat: Instant,
    stopping: bool,
}

impl Default for Board {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner { functions: BTreeMap::new(), beat: Instant::now(), stopping: false })))
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // a panic between two plain assignments leaves nothing half done
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Changes what is known of a function, which is added if it is new.
    pub fn update(&self, function: &str, change: impl FnOnce(&mut Status)) {
        let mut inner = self.lock();
        match inner.functions.get_mut(function) {
            Some(status) => change(status),
            None => change(inner.functions.entry(function.to_owned()).or_default()),
        }
    }

    /// Notes or clears the trouble of one part.
    pub fn trouble(&self, function: &str, part: &str, trouble: Option<&str>) {
        self.update(function, |status| match trouble {
            Some(text) if status.troubles.get(part).is_none_or(|known| known != text) => {
                status.troubles.insert(part.to_owned(), text.to_owned());
            }
            Some(_) => {}
            None => {
                status.troubles.remove(part);
            }
        });
    }

    /// The content hash of a function's code.
    #[must_use]
    pub fn revision(&self, function: &str) -> Option<String> {
        self.lock().functions.get(function)?.revision.clone()
    }

    /// The supervisor is alive.
    pub fn beat(&self) {
        self.lock().beat = Instant::now();
    }

    /// From now on the process is not ready.
    pub fn stopping(&self) {
        self.lock().stopping = true;
    }

    /// Whether the supervisor is alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.lock().beat.elapsed() < SILENCE
    }

    /// Why the process is not ready: one sentence per reason, none if it is.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let inner = self.lock();
        let mut reasons = Vec::new();
        if inner.stopping {
            reasons.push("stopping".to_owned());
        }
        if inner.functions.is_empty() {
            reasons.push("no function is loaded yet".to_owned());
        }
        for (name, status) in &inner.functions {
            if !status.running {
                reasons.push(format!("function '{name}' is not running"));
            }
            reasons
                .extend(status.troubles.iter().map(|(part, trouble)| format!("function '{name}', {part}: {trouble}")));
        }
        reasons
    }

    /// A copy of all states.
    #[must_use]
    pub fn functions(&self) -> BTreeMap<String, Status> {
        self.lock().functions.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_running_without_trouble() {
        let board = Board::default();
        assert_eq!(board.reasons(), ["no function is loaded yet"]);
        board.update("vm", |status| status.running = true);
        board.trouble("vm", "source", Some("redis is away"));
        assert_eq!(board.reasons(), ["function 'vm', source: redis is away"]);
        board.trouble("vm", "source", None);
        assert!(board.reasons().is_empty() && board.is_alive());
        board.stopping();
        assert_eq!(board.reasons(), ["stopping"]);
    }
}
