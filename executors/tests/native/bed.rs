//! A function of a library, called like the engine calls it.

use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use config::{Value, ValueKind};
use runtime_core::config::section::Section;
use runtime_core::contract::{
    Brief, Call, Env, Event, Executor, Function, Legacy, Module, Outcome, Returned, Revision,
};
use runtime_core::{Registry, Site, main_thread};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// The function `handler` of the library.
pub(crate) async fn open(library: &Path, handler: &str) -> Box<dyn Function> {
    let section = Section::new("functions.vm.executor", Value::new(None, ValueKind::Table(Default::default())), None);
    let registry = Registry::<dyn Executor>::collect().unwrap();
    let (main_thread, _desk) = main_thread::pair();
    let stdout = Arc::new(std::fs::File::create("/dev/null").unwrap());
    let site = Site { function: "vm", shared: &[], main_thread, stdout };
    let executor = (registry.get("native").unwrap().build)(&section, &site).await.unwrap();
    let module = Module {
        root: library.parent().unwrap().to_owned(),
        entry: library.to_owned(),
        revision: Revision::new("0"),
        modified: SystemTime::now(),
        keep: None,
    };
    let brief = Brief { function: "vm".into(), handler: handler.to_owned(), ..Brief::default() };
    executor.prepare(Some(module), brief).await.unwrap()
}

pub(crate) fn events(payloads: &[&str]) -> Vec<Event> {
    payloads.iter().enumerate().map(|(n, text)| Event::new(format!("e{n}"), text.as_bytes().to_vec())).collect()
}

pub(crate) fn shown(outcome: &Outcome) -> String {
    match &outcome.returned {
        Returned::Empty => "empty".to_owned(),
        Returned::Output(text) => String::from_utf8(text.to_vec()).unwrap(),
        Returned::Failed(fault) => format!("{}: {fault}", fault.blame().as_str()),
        Returned::NotCalled => "not called".to_owned(),
    }
}

/// Calls it with one batch; results and failures as texts.
pub(crate) async fn call(function: &mut Box<dyn Function>, payloads: &[&str]) -> Vec<String> {
    let outcomes = function.invoke(&events(payloads), Call::default()).await.unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.states.is_empty()));
    outcomes.iter().map(shown).collect()
}

/// The entries of a state as texts.
pub(crate) fn entries(env: &Env) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    env.0.iter().map(|(key, value)| (text(key), text(value))).collect()
}

/// What a function hands over: its entries, and what is lost.
pub(crate) async fn handed_over(function: &mut Box<dyn Function>) -> (Env, Vec<String>) {
    match function.hand_over().await.unwrap() {
        Legacy::Encoded { env, lost } => (env, lost),
        Legacy::Live(_) => panic!("live objects of a library"),
    }
}

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Collects what is logged from now on.
pub(crate) fn listen() {
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Collect)).unwrap();
}

/// Level and text of the lines so far.
pub(crate) fn lines() -> Vec<String> {
    LINES.lock().unwrap().clone()
}

struct Collect;

impl<S: tracing::Subscriber> Layer<S> for Collect {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        LINES.lock().unwrap().push(format!("{} {}", event.metadata().level(), text.0));
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
