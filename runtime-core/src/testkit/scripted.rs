//! Scripted components for tests of the engine.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use crate::contract::{
    Batch, Call, Delivery, Event, Fault, Function, Outcome, Output, Pull, Returned, Sink, Source, StateKey, StateStore,
    Versioned,
};

/// One answer of a [`ScriptedSource`].
pub enum Script {
    /// A batch of one event for each text.
    Events(Vec<&'static str>),
    /// Nothing for so long.
    Again(Duration),
    /// The backend is away.
    Trouble(&'static str),
}

/// A source that answers by a script and is exhausted at its end.
pub struct ScriptedSource {
    /// What it claims to be.
    pub delivery: Delivery,
    /// What it answers.
    pub script: VecDeque<Script>,
    /// Events given so far.
    pub given: usize,
}

impl ScriptedSource {
    /// A source of this kind with these answers.
    pub fn new(delivery: Delivery, script: impl IntoIterator<Item = Script>) -> Self {
        Self { delivery, script: script.into_iter().collect(), given: 0 }
    }
}

#[async_trait]
impl Source for ScriptedSource {
    fn delivery(&self) -> Delivery {
        self.delivery
    }

    async fn next_batch(&mut self, _max: usize) -> Result<Pull, Fault> {
        Ok(match self.script.pop_front() {
            None => Pull::Exhausted,
            Some(Script::Again(after)) => Pull::Again(after),
            Some(Script::Trouble(text)) => return Err(Fault::backend(text)),
            Some(Script::Events(texts)) => {
                let mut batch: Option<Batch> = None;
                for text in texts {
                    self.given += 1;
                    let event = Event::new(self.given.to_string(), text);
                    match &mut batch {
                        Some(batch) => batch.events.push(event),
                        None => batch = Some(Batch::one(event)),
                    }
                }
                batch.map_or(Pull::Again(Duration::ZERO), Pull::Batch)
            }
        })
    }
}

/// A function made of a Rust closure that sees event and payload text.
pub struct ScriptedFunction<F>(pub F);

#[async_trait]
impl<F: FnMut(&Event, &str) -> Returned + Send> Function for ScriptedFunction<F> {
    async fn invoke(&mut self, events: &[Event], _call: Call) -> Result<Vec<Outcome>, Fault> {
        Ok(events.iter().map(|event| (self.0)(event, &String::from_utf8_lossy(&event.payload)).into()).collect())
    }
}

/// A sink that remembers, and that can be told to fail first.
#[derive(Clone, Default)]
pub struct Recorder {
    /// What was written, as text.
    pub written: Arc<Mutex<Vec<String>>>,
    /// How many of the next writes fail with `retry`.
    pub failures: Arc<Mutex<u32>>,
}

impl Recorder {
    /// What was written so far.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.written.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Sink for Recorder {
    async fn write(&mut self, outputs: &[Output]) -> Result<(), Fault> {
        let mut failures = self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *failures > 0 {
            *failures -= 1;
            return Err(Fault::backend("the recorder is told to fail"));
        }
        let texts = outputs.iter().map(|output| String::from_utf8_lossy(&output.payload).into_owned());
        self.written.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(texts);
        Ok(())
    }
}

struct Discard;

#[async_trait]
impl StateStore for Discard {
    fn durable(&self) -> bool {
        false
    }

    async fn load(&self, keys: &[StateKey]) -> Result<Vec<Option<Versioned>>, Fault> {
        Ok(keys.iter().map(|_| None).collect())
    }

    async fn save(&self, _states: &[(StateKey, Versioned)]) -> Result<(), Fault> {
        Ok(())
    }
}

/// A store that keeps nothing.
#[must_use]
pub fn discard_state() -> Box<dyn StateStore> {
    Box::new(Discard)
}
