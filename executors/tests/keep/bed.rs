//! A function, and a small engine that keeps its states.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use config::{Value, ValueKind};
use executors::worker::host::Processes;
use runtime_core::config::section::Section;
use runtime_core::config::settings::Standby;
use runtime_core::contract::{
    Brief, Call, Env, Event, Executor, Function, Module, Outcome, Returned, Revision, StateKey,
};
use runtime_core::isolation::{Isolate, Recycle, Restarts, Workers};
use runtime_core::main_thread::MainThread;
use runtime_core::{Registry, Site};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// What is said of a function.
#[derive(Clone)]
pub(crate) struct Bed {
    pub(crate) executor: &'static str,
    pub(crate) file: PathBuf,
    pub(crate) key: Option<&'static str>,
    /// How many workers; none is this process.
    pub(crate) workers: u32,
}

impl Bed {
    pub(crate) async fn open(&self, main_thread: &MainThread) -> Box<dyn Function> {
        let section =
            Section::new("functions.vm.executor", Value::new(None, ValueKind::Table(Default::default())), None);
        let executor: Box<dyn Executor> = if self.workers == 0 {
            let registry = Registry::<dyn Executor>::collect().unwrap();
            let stdout = Arc::new(std::fs::File::create("/dev/null").unwrap());
            let site = Site { function: "vm", shared: &[], main_thread: main_thread.clone(), stdout };
            (registry.get(self.executor).unwrap().build)(&section, &site).await.unwrap()
        } else {
            let workers = Workers {
                function: "vm".into(),
                executor: self.executor,
                section,
                timeout: Some(Duration::from_millis(1500)),
                count: self.workers,
                standby: Standby::Interpreter,
                memory_limit: None,
                recycle: Recycle::default(),
                farewell: Duration::from_secs(10),
                restarts: Restarts::default(),
            };
            Processes::new().executor(workers).unwrap()
        };
        let module = Module {
            root: self.file.parent().unwrap().to_owned(),
            entry: self.file.clone(),
            revision: Revision::new("0"),
            modified: SystemTime::now(),
            keep: None,
        };
        let brief = Brief {
            function: "vm".into(),
            handler: "handler".into(),
            state_key: self.key.map(Into::into),
            apart: true,
            ..Brief::default()
        };
        executor.prepare(Some(module), brief).await.unwrap_or_else(|fault| panic!("{}", fault.chain()))
    }
}

/// A Python function with this text.
pub(crate) fn python(folder: &Path, text: &str) -> Bed {
    let file = folder.join("usermodule.py");
    std::fs::write(&file, text).unwrap();
    Bed { executor: "python", file, key: None, workers: 0 }
}

/// `[key, text]`; no key without one.
pub(crate) fn event(id: usize, key: Option<&str>, payload: String) -> Event {
    Event { key: key.map(|key| format!("\"{key}\"").into()), ..Event::new(format!("e{id}"), payload) }
}

/// What became of an event in the end.
pub(crate) fn shown(outcome: &Outcome) -> String {
    match &outcome.returned {
        Returned::Empty => "empty".to_owned(),
        Returned::Output(text) => String::from_utf8(text.to_vec()).unwrap(),
        Returned::Failed(_) => "failed".to_owned(),
        Returned::NotCalled => "not called".to_owned(),
    }
}

pub(crate) fn keep() -> Call {
    Call { keep: true, ..Call::default() }
}

/// Entries as texts.
pub(crate) fn entries(env: &Env) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    env.0.iter().map(|(key, value)| (text(key), text(value))).collect()
}

/// Whoever keeps the states.
#[derive(Default)]
pub(crate) struct Keeper {
    pub(crate) states: HashMap<StateKey, Env>,
    /// Batches that were given.
    pub(crate) given: usize,
}

impl Keeper {
    /// Takes outcomes that are final.
    pub(crate) fn take(&mut self, outcomes: &[Outcome]) {
        for (key, env) in outcomes.iter().flat_map(|outcome| &outcome.states) {
            self.states.insert(key.clone(), env.clone());
        }
    }

    pub(crate) fn state(&self, key: Option<&str>) -> BTreeMap<String, String> {
        let key = StateKey(key.map(|key| format!("\"{key}\"")));
        self.states.get(&key).map(entries).unwrap_or_default()
    }

    /// All states, for a function that knows nothing.
    pub(crate) fn anew(&self) -> Call {
        let states = self.states.iter().map(|(key, env)| (key.clone(), env.clone())).collect();
        Call { keep: true, anew: true, states, ..Call::default() }
    }

    /// Has every event called to its end, whatever becomes of workers. What was not called is given again.
    pub(crate) async fn drive(&mut self, function: &mut dyn Function, events: &[Event]) -> Vec<String> {
        let mut results = vec![String::new(); events.len()];
        let mut left: Vec<usize> = (0..events.len()).collect();
        let mut call = keep();
        while !left.is_empty() {
            self.given += 1;
            let batch: Vec<Event> = left.iter().map(|index| events[*index].clone()).collect();
            let outcomes = function.invoke(&batch, call).await.unwrap();
            assert_eq!(outcomes.len(), batch.len());
            let mut again = Vec::new();
            for (index, outcome) in left.into_iter().zip(outcomes) {
                results[index] = shown(&outcome);
                if matches!(outcome.returned, Returned::NotCalled) {
                    assert!(outcome.states.is_empty());
                    again.push(index);
                }
                self.take(&[outcome]);
            }
            left = again;
            call = self.anew();
            assert!(self.given < 100, "no end");
        }
        results
    }
}

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Collects warnings from now on.
pub(crate) fn listen() {
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Collect)).unwrap();
}

/// The warnings since the last look.
pub(crate) fn warnings() -> Vec<String> {
    std::mem::take(&mut LINES.lock().unwrap())
}

struct Collect;

impl<S: tracing::Subscriber> Layer<S> for Collect {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::WARN {
            let mut text = Text(String::new());
            event.record(&mut text);
            LINES.lock().unwrap().push(text.0);
        }
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
