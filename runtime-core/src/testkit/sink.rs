//! A sink that remembers, and a store that does not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::journal::Journal;
use crate::contract::{Fault, Found, Output, Saved, Sink, StateKey, StateStore, Versioned};

/// A sink that remembers, and that can be told to fail first. All clones are one sink.
///
/// In the journal, with the sink's name: `check result`, `write result 1 a, 2 b` with the event's id and the
/// payload of each output, also for a write that fails, and `close result`.
#[derive(Clone, Default)]
pub struct Recorder {
    name: &'static str,
    written: Arc<Mutex<Vec<String>>>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    failing_checks: Arc<Mutex<u32>>,
    journal: Journal,
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// Writes under this name into this journal.
    #[must_use]
    pub fn journal(mut self, name: &'static str, journal: &Journal) -> Self {
        self.name = name;
        self.journal = journal.clone();
        self
    }

    /// What was written so far, as text.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        lock(&self.written).clone()
    }

    /// So many writes fail with `retry`, after those that were told to fail before.
    pub fn fail(&self, writes: u32) {
        for _ in 0..writes {
            self.fail_with(Fault::backend("the recorder is told to fail"));
        }
    }

    /// One write fails with this fault, after those that were told to fail before.
    pub fn fail_with(&self, fault: Fault) {
        lock(&self.faults).push_back(fault);
    }

    /// So many of the next checks fail with `retry`.
    pub fn fail_checks(&self, checks: u32) {
        *lock(&self.failing_checks) = checks;
    }
}

#[async_trait]
impl Sink for Recorder {
    async fn write(&mut self, outputs: &[Output]) -> Result<(), Fault> {
        let text = |output: &Output| String::from_utf8_lossy(&output.payload).into_owned();
        let words = outputs.iter().map(|output| format!("{} {}", output.event_id, text(output)));
        self.journal.note(format!("write {} {}", self.name, words.collect::<Vec<_>>().join(", ")));
        if let Some(fault) = lock(&self.faults).pop_front() {
            return Err(fault);
        }
        lock(&self.written).extend(outputs.iter().map(text));
        Ok(())
    }

    async fn check(&mut self) -> Result<(), Fault> {
        self.journal.note(format!("check {}", self.name));
        let mut failing = lock(&self.failing_checks);
        if *failing > 0 {
            *failing -= 1;
            return Err(Fault::backend("the recorder cannot be opened"));
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), Fault> {
        self.journal.note(format!("close {}", self.name));
        Ok(())
    }
}

struct Discard;

#[async_trait]
impl StateStore for Discard {
    fn durable(&self) -> bool {
        false
    }

    async fn load(&self, keys: &[StateKey]) -> Result<Vec<Found>, Fault> {
        Ok(keys.iter().map(|_| Ok(None)).collect())
    }

    async fn save(&self, _states: &[(StateKey, Versioned)]) -> Result<Saved, Fault> {
        Ok(Saved::Done)
    }
}

/// A store that keeps nothing.
#[must_use]
pub fn discard_state() -> Box<dyn StateStore> {
    Box::new(Discard)
}
