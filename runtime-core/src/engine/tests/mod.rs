//! The engine against scripted parts, on tokio's paused clock.

mod ahead;
mod faults;
mod keep;
mod lease;
mod order;
mod policy;
mod receipts;
mod reload;
mod retries;
mod start;
mod states;
mod stopping;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Board, End, Parts, Stop, Stopper, run, stop};
use crate::config::Taken;
use crate::config::settings::{ErrorOptions, Then};
use crate::contract::{DeadLetters, Delivery, Event, Fault, Function, Returned, Sink, StateStore};
use crate::options::Span;
use crate::testkit::{Journal, Recorder, Script, ScriptedFunction, ScriptedSource, discard_state};

/// A function between scripted parts that all write into one journal.
struct Bench {
    journal: Journal,
    board: Board,
    source: ScriptedSource,
    function: Box<dyn Function>,
    sinks: Vec<(String, Recorder)>,
    errors: ErrorOptions,
    drain: Duration,
    /// What keeps the state, where something does.
    state: Option<Arc<dyn StateStore>>,
    state_key: Option<String>,
    letters: Option<Box<dyn DeadLetters>>,
}

/// What stops the run, and its end.
type Running = (Stopper, tokio::task::JoinHandle<End>);

impl Bench {
    /// One sink, a function that answers at once with what it was given, no retries.
    fn new(delivery: Delivery, script: impl IntoIterator<Item = Script>) -> Self {
        let journal = Journal::default();
        Self {
            board: Board::default(),
            source: ScriptedSource::new(delivery, script).journal(&journal),
            function: Box::new(ScriptedFunction::new(echo).journal(&journal)),
            sinks: vec![("result".to_owned(), Recorder::default().journal("result", &journal))],
            errors: ErrorOptions::default(),
            drain: Duration::from_secs(25),
            state: None,
            state_key: None,
            letters: None,
            journal,
        }
    }

    fn answering(mut self, answer: impl FnMut(&Event, &str) -> Returned + Send + 'static) -> Self {
        self.function = Box::new(ScriptedFunction::new(answer).journal(&self.journal));
        self
    }

    /// A function that answers with what it was given, after this time.
    fn taking(mut self, takes: Duration) -> Self {
        self.function = Box::new(ScriptedFunction::new(echo).taking(takes).journal(&self.journal));
        self
    }

    fn retrying(mut self, retries: u32, then: Then) -> Self {
        self.errors = ErrorOptions { retries, backoff: Span::millis(200), then };
        self
    }

    fn sink(&self) -> Recorder {
        self.sinks[0].1.clone()
    }

    fn second_sink(&mut self) -> Recorder {
        let sink = Recorder::default().journal("copy", &self.journal);
        self.sinks.push(("copy".to_owned(), sink.clone()));
        sink
    }

    fn parts(self) -> (Parts, Board) {
        let boxed = |(label, sink): (String, Recorder)| (label, Box::new(sink) as Box<dyn Sink>);
        let parts = Parts {
            name: "vm".into(),
            source: Box::new(self.source),
            function: self.function,
            state: self.state.unwrap_or_else(|| discard_state().into()),
            state_key: self.state_key,
            dead_letters: self.letters,
            origin: "script".into(),
            sinks: self.sinks.into_iter().map(boxed).collect(),
            errors: self.errors,
            drain: self.drain,
            taken: Taken::default(),
            reload: None,
        };
        (parts, self.board)
    }

    /// Runs until it ends by itself.
    async fn run(self) -> End {
        let (_stopper, stop) = stop();
        self.run_with(stop, false).await
    }

    async fn run_with(self, stop: Stop, require_backend: bool) -> End {
        let (parts, board) = self.parts();
        // on the paused clock a run that hangs gets here at once
        let month = Duration::from_secs(30 * 86_400);
        tokio::time::timeout(month, run(parts, stop, board, require_backend)).await.expect("the run ends")
    }

    fn spawn(self) -> Running {
        let (stopper, stop) = stop();
        (stopper, tokio::spawn(self.run_with(stop, false)))
    }
}

fn echo(_: &Event, text: &str) -> Returned {
    Returned::Output(text.to_owned().into())
}

/// Fails for the events with this text, until they were called so often.
fn failing(text: &'static str, calls: usize) -> impl FnMut(&Event, &str) -> Returned + Send {
    let mut seen = BTreeMap::<String, usize>::new();
    move |event, given| {
        let seen = seen.entry(event.id.clone()).or_default();
        *seen += 1;
        if given == text && *seen <= calls { Returned::Failed(Fault::function("boom")) } else { echo(event, given) }
    }
}

/// Asserts that the end has this shape, with the end itself where it has not.
macro_rules! assert_end {
    ($end:expr, $($shape:tt)+) => {
        let end = $end;
        assert!(matches!(&end, $($shape)+), "{end:?}");
    };
}
use assert_end;
