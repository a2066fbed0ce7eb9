//! A function in a temporary folder, called like the engine calls it.

use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use config::{Map, Value, ValueKind};
use runtime_core::config::section::Section;
use runtime_core::contract::{Brief, Call, Event, Executor, Facts, Function, Module, Outcome, Returned, Revision};
use runtime_core::main_thread::{self, MainThread};
use runtime_core::{Fault, Registry, Site};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Files of a function, and a thread that plays the process's first.
pub(crate) struct Bed {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) options: Vec<(&'static str, Value)>,
    pub(crate) facts: Facts,
    pub(crate) label: &'static str,
    main_thread: MainThread,
}

impl Bed {
    pub(crate) fn new() -> Self {
        #[allow(clippy::disallowed_methods, reason = "it says how this very process was started")]
        let one_process_each = std::env::var_os("NEXTEST").is_some();
        assert!(one_process_each, "these tests need a process each: run them with `cargo nextest run`");
        let layer = tracing_subscriber::registry().with(Collect);
        tracing::subscriber::set_global_default(layer).unwrap();
        let (main_thread, desk) = main_thread::pair();
        std::thread::spawn(|| desk.serve());
        Self {
            folder: tempfile::tempdir().unwrap(),
            options: Vec::new(),
            facts: Facts::default(),
            label: "vm",
            main_thread,
        }
    }

    /// One file in the folder.
    pub(crate) fn with(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn option(mut self, name: &'static str, value: impl Into<ValueKind>) -> Self {
        self.options.push((name, Value::new(None, value)));
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    async fn executor(&self) -> Result<Box<dyn Executor>, Fault> {
        let table: Map<_, _> = self.options.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let section = Section::new("functions.vm.executor", Value::new(None, ValueKind::Table(table)), None);
        let registry = Registry::<dyn Executor>::collect()?;
        let site = Site {
            function: "vm",
            shared: &[],
            main_thread: self.main_thread.clone(),
            stdout: Arc::new(fs::File::create("/dev/null").unwrap()),
        };
        (registry.get("python").unwrap().build)(&section, &site).await
    }

    pub(crate) async fn load(&self, entry: &str, handler: &str) -> Result<Running, Fault> {
        let module = Module {
            root: self.path().to_owned(),
            entry: self.path().join(entry),
            revision: Revision::new("0"),
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            keep: None,
        };
        let brief = Brief {
            function: self.label.into(),
            handler: handler.to_owned(),
            facts: self.facts.clone(),
            ..Brief::default()
        };
        let function = self.executor().await?.prepare(Some(module), brief).await?;
        Ok(Running { function, calls: 0 })
    }

    /// What refuses the function.
    pub(crate) async fn refusal(&self, entry: &str, handler: &str) -> Fault {
        match self.load(entry, handler).await {
            Ok(_) => panic!("it was loaded"),
            Err(fault) => fault,
        }
    }
}

/// A single-file function with this text.
pub(crate) async fn running(text: &str) -> (Bed, Running) {
    let bed = Bed::new().with("usermodule.py", text);
    let running = bed
        .load("usermodule.py", "handler")
        .await
        .unwrap_or_else(|fault| panic!("{} {}", fault.chain(), fault.report().unwrap_or_default()));
    (bed, running)
}

/// A loaded function.
pub(crate) struct Running {
    pub(crate) function: Box<dyn Function>,
    calls: u32,
}

impl Running {
    pub(crate) async fn call_with(&mut self, event: &str, call: Call) -> Returned {
        self.calls += 1;
        let event = Event::new(format!("e{}", self.calls), event.as_bytes().to_vec());
        let mut outcomes = self.function.invoke(&[event], call).await.unwrap();
        assert_eq!(outcomes.len(), 1);
        let Outcome { returned, states } = outcomes.remove(0);
        assert!(states.is_empty());
        returned
    }

    pub(crate) async fn call(&mut self, event: &str) -> Returned {
        self.call_with(event, Call::default()).await
    }

    /// The text of the result.
    pub(crate) async fn output(&mut self, event: &str) -> String {
        match self.call(event).await {
            Returned::Output(payload) => String::from_utf8(payload.to_vec()).unwrap(),
            other => panic!("{}", shown(&other)),
        }
    }

    pub(crate) async fn empty(&mut self, event: &str) {
        let returned = self.call(event).await;
        assert!(matches!(returned, Returned::Empty), "{}", shown(&returned));
    }

    pub(crate) async fn failed(&mut self, event: &str) -> Fault {
        match self.call(event).await {
            Returned::Failed(fault) => fault,
            other => panic!("{other:?}"),
        }
    }
}

fn shown(returned: &Returned) -> String {
    match returned {
        Returned::Failed(fault) => format!("{} {}", fault.chain(), fault.report().unwrap_or_default()),
        other => format!("{other:?}"),
    }
}

/// One record of user code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) level: String,
    pub(crate) function: String,
    pub(crate) event: String,
    pub(crate) stream: String,
    pub(crate) text: String,
}

impl Line {
    /// Level, event, stream and text in one string.
    pub(crate) fn brief(&self) -> String {
        assert_eq!(self.function, "vm");
        format!("{} {} {}: {}", self.level, self.event, self.stream, self.text)
    }
}

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

/// What user code has printed and logged so far.
pub(crate) fn lines() -> Vec<String> {
    LINES.lock().unwrap().iter().map(Line::brief).collect()
}

struct Collect;

impl<S: tracing::Subscriber> Layer<S> for Collect {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target() == "function" {
            let mut line = Line { level: event.metadata().level().to_string(), ..Line::default() };
            event.record(&mut line);
            LINES.lock().unwrap().push(line);
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.text = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let place = match field.name() {
            "function" => &mut self.function,
            "event" => &mut self.event,
            "stream" => &mut self.stream,
            _ => return,
        };
        value.clone_into(place);
    }
}
