//! A source and a function that do what a script says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::journal::Journal;
use crate::change::{Fingerprint, fingerprint};
use crate::contract::{
    Batch, Call, Delivery, Event, Fault, Function, Outcome, Pull, Receipt, Returned, Settle, Source, Verdict,
};

/// One answer of a [`ScriptedSource`].
pub enum Script {
    /// A batch of one event for each text.
    Events(Vec<&'static str>),
    /// Nothing for so long.
    Again(Duration),
    /// The backend is away.
    Trouble(&'static str),
    /// The source is beyond repair.
    Broken(&'static str),
    /// The complaint from now on; nothing for a second.
    Complain(Option<&'static str>),
    /// No answer, ever: the answer after it is never given.
    Wait,
}

/// A source that answers by a script and is exhausted at its end.
///
/// Its events are called `1`, `2`, …. In the journal: `check`, `pull`, `settle 1 done, 2 failed`, `undelivered 1, 2`
/// for a receipt that was dropped, and `close source`.
pub struct ScriptedSource {
    /// What it claims to be.
    pub delivery: Delivery,
    /// What it answers.
    pub script: VecDeque<Script>,
    /// Events given so far.
    pub given: usize,
    /// Whether its events have fingerprints, as those of a source that compares its values.
    pub compares: bool,
    /// Events with this text are unusable.
    pub flawed: Option<&'static str>,
    /// How many of the next checks fail with `retry`.
    pub failing_checks: u32,
    /// How many of the next receipts fail with `retry` when they are settled.
    pub failing_receipts: Arc<AtomicU32>,
    complaint: Option<&'static str>,
    journal: Journal,
}

impl ScriptedSource {
    /// A source of this kind with these answers.
    pub fn new(delivery: Delivery, script: impl IntoIterator<Item = Script>) -> Self {
        Self {
            delivery,
            script: script.into_iter().collect(),
            given: 0,
            compares: false,
            flawed: None,
            failing_checks: 0,
            failing_receipts: Arc::default(),
            complaint: None,
            journal: Journal::default(),
        }
    }

    /// Writes into this journal.
    #[must_use]
    pub fn journal(mut self, journal: &Journal) -> Self {
        self.journal = journal.clone();
        self
    }

    fn batch(&mut self, texts: &[&'static str]) -> Option<Batch> {
        let events: Vec<_> = texts
            .iter()
            .map(|text| {
                self.given += 1;
                let fingerprint = self.compares.then(|| fingerprint(text.as_bytes()).ok()).flatten();
                let flaw = (self.flawed == Some(*text)).then(|| "its field is missing".into());
                Event { fingerprint, flaw, ..Event::new(self.given.to_string(), *text) }
            })
            .collect();
        let receipt = ScriptedReceipt {
            events: events.iter().map(|event| event.id.clone()).collect(),
            failing: Arc::clone(&self.failing_receipts),
            settled: false,
            journal: self.journal.clone(),
        };
        (!events.is_empty()).then(|| Batch { events, receipt: Receipt::new(receipt), skipped: 0 })
    }
}

#[async_trait]
impl Source for ScriptedSource {
    fn delivery(&self) -> Delivery {
        self.delivery
    }

    async fn next_batch(&mut self, _max: usize) -> Result<Pull, Fault> {
        self.journal.note("pull");
        Ok(match self.script.pop_front() {
            None => Pull::Exhausted,
            Some(Script::Again(after)) => Pull::Again(after),
            Some(Script::Trouble(text)) => return Err(Fault::backend(text)),
            Some(Script::Broken(text)) => return Err(Fault::backend(text).permanent()),
            Some(Script::Wait) => std::future::pending().await,
            Some(Script::Complain(complaint)) => {
                self.complaint = complaint;
                Pull::Again(Duration::from_secs(1))
            }
            Some(Script::Events(texts)) => self.batch(&texts).map_or(Pull::Again(Duration::ZERO), Pull::Batch),
        })
    }

    async fn check(&mut self) -> Result<(), Fault> {
        self.journal.note("check");
        if self.failing_checks > 0 {
            self.failing_checks -= 1;
            return Err(Fault::backend("the source cannot be opened"));
        }
        Ok(())
    }

    fn resume(&mut self, fingerprint: Fingerprint) {
        self.journal.note(format!("resume {fingerprint}"));
    }

    fn complaint(&self) -> Option<String> {
        self.complaint.map(str::to_owned)
    }

    async fn close(&mut self) -> Result<(), Fault> {
        self.journal.note("close source");
        Ok(())
    }
}

struct ScriptedReceipt {
    events: Vec<String>,
    failing: Arc<AtomicU32>,
    settled: bool,
    journal: Journal,
}

#[async_trait]
impl Settle for ScriptedReceipt {
    async fn settle(&mut self, verdicts: &[Verdict]) -> Result<(), Fault> {
        assert_eq!(verdicts.len(), self.events.len(), "one verdict for each event");
        let words = self.events.iter().zip(verdicts).map(|(event, verdict)| match verdict {
            Verdict::Done { reply: Some(reply) } => format!("{event} done {}", String::from_utf8_lossy(reply)),
            Verdict::Done { reply: None } => format!("{event} done"),
            Verdict::Failed { reason } => format!("{event} failed: {reason}"),
        });
        self.journal.note(format!("settle {}", words.collect::<Vec<_>>().join(", ")));
        let failed = self.failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if failed.is_ok() {
            return Err(Fault::backend("the receipt is told to fail"));
        }
        self.settled = true;
        Ok(())
    }

    fn split(&mut self, places: &[usize]) -> Box<dyn Settle> {
        let mut taken = Vec::new();
        let mut left = Vec::new();
        for (place, event) in std::mem::take(&mut self.events).into_iter().enumerate() {
            if places.contains(&place) { taken.push(event) } else { left.push(event) }
        }
        self.events = left;
        self.settled = self.events.is_empty();
        let (failing, journal) = (Arc::clone(&self.failing), self.journal.clone());
        Box::new(Self { events: taken, failing, settled: false, journal })
    }
}

impl Drop for ScriptedReceipt {
    fn drop(&mut self) {
        if !self.settled {
            self.journal.note(format!("undelivered {}", self.events.join(", ")));
        }
    }
}

/// A function made of a Rust closure that sees event and payload text.
///
/// In the journal: `call 1#1 a` with id, attempt and payload for each event, `answer` after each batch, and
/// `close function`.
pub struct ScriptedFunction<F> {
    answer: F,
    takes: Duration,
    journal: Journal,
}

impl<F: FnMut(&Event, &str) -> Returned + Send> ScriptedFunction<F> {
    /// A function that answers at once.
    pub fn new(answer: F) -> Self {
        Self { answer, takes: Duration::ZERO, journal: Journal::default() }
    }

    /// Lets each batch take so long.
    #[must_use]
    pub fn taking(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }

    /// Writes into this journal.
    #[must_use]
    pub fn journal(mut self, journal: &Journal) -> Self {
        self.journal = journal.clone();
        self
    }
}

#[async_trait]
impl<F: FnMut(&Event, &str) -> Returned + Send> Function for ScriptedFunction<F> {
    async fn invoke(&mut self, events: &[Event], _call: Call) -> Result<Vec<Outcome>, Fault> {
        let mut outcomes = Vec::new();
        for event in events {
            let text = String::from_utf8_lossy(&event.payload);
            self.journal.note(format!("call {}#{} {text}", event.id, event.attempt));
            outcomes.push((self.answer)(event, &text).into());
        }
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        self.journal.note("answer");
        Ok(outcomes)
    }

    async fn close(&mut self, _within: Duration) -> Result<(), Fault> {
        self.journal.note("close function");
        Ok(())
    }
}
