//! Builds the chosen components of a function and loads its code.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::board::Board;
use super::reload::{Reload, announce, wanted};
use crate::config::pairing::mismatch;
use crate::config::settings::{ErrorOptions, FunctionSettings, Isolation};
use crate::config::{Section, Taken};
use crate::contract::{
    Brief, DeadLetters, EntryFile, Executor, Facts, Fault, Function, Health, Loader, Module, Sink, Source, StateStore,
};
use crate::isolation::{Isolate, Restarts, Workers};
use crate::main_thread::MainThread;
use crate::registry::{Entry, Site};

/// A function with everything it needs, ready to run.
pub struct Parts {
    /// Its label.
    pub name: Arc<str>,
    /// Where events come from.
    pub source: Box<dyn Source>,
    /// The loaded code.
    pub function: Box<dyn Function>,
    /// What keeps its state.
    pub state: Arc<dyn StateStore>,
    /// Where in an event the key of its state stands; without it there is one state.
    pub state_key: Option<String>,
    /// Where results go, by label.
    pub sinks: Vec<(String, Box<dyn Sink>)>,
    /// Where events go that failed for good, where the policy wants it.
    pub dead_letters: Option<Box<dyn DeadLetters>>,
    /// For dead letters: what the source is and reads.
    pub origin: Arc<str>,
    /// What happens when a call fails.
    pub errors: ErrorOptions,
    /// How long a stop waits for events in flight.
    pub drain: Duration,
    /// Where no result may go, whatever its text says.
    pub taken: Taken,
    /// How newer code gets in, where there is any.
    pub reload: Option<Reload>,
}

/// What all functions of the process share.
pub struct Surroundings<'a> {
    /// The tables that components share.
    pub shared: &'a [Section],
    /// The process's first thread.
    pub main_thread: MainThread,
    /// The real standard output.
    pub stdout: Arc<std::fs::File>,
    /// Facts for the context that no component knows.
    pub facts: Facts,
    /// Whether states will be asked for as bytes, also of functions in this process.
    pub encoded_state: bool,
    /// How soon a worker that has ended is replaced.
    pub restarts: Restarts,
    /// Makes worker processes.
    pub isolate: Option<Arc<dyn Isolate>>,
}

/// A function that cannot be called makes the process unready.
fn health(board: &Board, name: &Arc<str>) -> Health {
    let (board, name) = (board.clone(), Arc::clone(name));
    Health::new(move |trouble| board.trouble(&name, "worker", trouble))
}

/// The components around a function's code, as far as they were not refused.
pub struct Built {
    /// Where events come from.
    pub source: Option<Box<dyn Source>>,
    /// What keeps its state.
    pub state: Option<Box<dyn StateStore>>,
    /// Where results go, by label.
    pub sinks: Vec<(String, Box<dyn Sink>)>,
    /// Where events go that failed for good, where the policy wants it.
    pub dead_letters: Option<Box<dyn DeadLetters>>,
}

impl Built {
    /// Builds them, and what was refused, by its part. Nothing is contacted.
    pub async fn of(settings: &FunctionSettings, around: &Surroundings<'_>) -> (Self, Vec<(String, Fault)>) {
        let site = site(settings, around);
        let mut refused = Vec::new();
        let source = (settings.source.entry.build)(&settings.source.section, &site).await;
        let source = source.map_err(|fault| refused.push((".source".to_owned(), fault))).ok();
        let state = (settings.state.entry.build)(&settings.state.section, &site).await;
        let state = state.map_err(|fault| refused.push((".state".to_owned(), fault))).ok();
        let mut sinks = Vec::new();
        for (label, choice) in &settings.sinks {
            match (choice.entry.build)(&choice.section, &site).await {
                Ok(sink) => sinks.push((label.clone(), sink)),
                Err(fault) => refused.push((format!(".sinks.{label}"), fault)),
            }
        }
        let mut dead_letters = None;
        if let Some(choice) = &settings.dead_letters {
            let built = (choice.entry.build)(&choice.section, &site).await;
            dead_letters = built.map_err(|fault| refused.push((".dead_letters".to_owned(), fault))).ok();
        }
        (Self { source, state, sinks, dead_letters }, refused)
    }

    /// What they tell the function.
    #[must_use]
    pub fn told(&self) -> Told {
        let facts = self.source.as_ref().map(|source| source.facts()).unwrap_or_default();
        let facts = self.sinks.iter().fold(facts, |facts, (_, sink)| facts.or(sink.facts()));
        // what a store keeps it lets go itself
        let state_ttl = self.state.as_ref().filter(|state| !state.durable()).and_then(|state| state.ttl());
        Told { facts, state_ttl }
    }
}

/// What the components around it tell a function.
pub struct Told {
    facts: Facts,
    state_ttl: Option<Duration>,
}

fn site<'a>(settings: &'a FunctionSettings, around: &Surroundings<'a>) -> Site<'a> {
    Site {
        function: &settings.name,
        shared: around.shared,
        main_thread: around.main_thread.clone(),
        stdout: Arc::clone(&around.stdout),
    }
}

/// An executor that is given no module of which it can be told that it cannot run it. What is loaded may be another
/// thing than what was there when the executor was chosen: a file that came later, or a newer version.
struct Suited {
    inner: Box<dyn Executor>,
    executor: &'static Entry<dyn Executor>,
    loader: &'static Entry<dyn Loader>,
}

#[async_trait]
impl Executor for Suited {
    async fn warm(&self) -> Result<(), Fault> {
        self.inner.warm().await
    }

    async fn prepare(&self, module: Option<Module>, brief: Brief) -> Result<Box<dyn Function>, Fault> {
        let file = module.as_ref().map(|module| EntryFile::at(&module.entry));
        match file.and_then(|file| mismatch(self.executor, self.loader, &file)) {
            Some(why) => Err(Fault::config(why)),
            None => self.inner.prepare(module, brief).await,
        }
    }
}

/// A function's code, loaded.
pub struct Code {
    /// To be called.
    pub function: Box<dyn Function>,
    reload: Option<Reload>,
}

impl Code {
    /// Loads it. It is also told the facts of its surroundings.
    ///
    /// # Errors
    /// The function cannot be loaded.
    pub async fn load(
        settings: &FunctionSettings,
        around: &Surroundings<'_>,
        told: Told,
        board: &Board,
    ) -> Result<Self, Fault> {
        let site = site(settings, around);
        let apart = settings.options.isolation == Isolation::Process;
        let executor = if apart {
            let (executor, section) = (settings.executor.entry.name, settings.executor.section.clone());
            let isolate = around.isolate.as_ref().ok_or_else(|| {
                Fault::config(format!(
                    "functions.{}.isolation: 'process' is not available in this build; set it to 'inline'",
                    settings.name
                ))
            })?;
            let workers = Workers::of(settings.name.as_str().into(), executor, section, &settings.options);
            isolate.executor(Workers { restarts: around.restarts, ..workers })?
        } else {
            (settings.executor.entry.build)(&settings.executor.section, &site).await?
        };
        let name: Arc<str> = settings.name.as_str().into();
        let brief = Brief {
            function: Arc::clone(&name),
            handler: settings.options.handler.clone(),
            facts: told.facts.or(around.facts.clone()),
            state_key: settings.state_options.key.as_deref().map(Arc::from),
            state_ttl: told.state_ttl,
            apart: apart || around.encoded_state,
            health: health(board, &name),
        };
        let (function, reload) = match &settings.loader {
            Some(choice) if settings.executor.entry.needs_module => {
                let loader = (choice.entry.build)(&choice.section, &site).await?;
                let executor: Box<dyn Executor> =
                    Box::new(Suited { inner: executor, executor: settings.executor.entry, loader: choice.entry });
                let module = loader.load(wanted(&brief)).await?;
                let serving = module.revision.clone();
                let function = executor.prepare(Some(module), brief.clone()).await?;
                let (options, farewell) = (settings.reload, settings.options.farewell());
                (function, Some(Reload { loader, executor, brief, serving, options, farewell }))
            }
            _ => (executor.prepare(None, brief).await?, None),
        };
        Ok(Self { function, reload })
    }
}

/// Builds one function. Nothing is contacted; the function's code is loaded.
///
/// # Errors
/// A component refuses its options, or the function cannot be loaded.
pub async fn assemble(settings: &FunctionSettings, around: &Surroundings<'_>, board: &Board) -> Result<Parts, Fault> {
    let (built, refused) = Built::of(settings, around).await;
    if let Some((_, fault)) = refused.into_iter().next() {
        return Err(fault);
    }
    let code = Code::load(settings, around, built.told(), board).await?;
    join(settings, built, code, board).ok_or_else(|| Fault::internal("a part is missing that nobody refused"))
}

/// A function with everything around it; none where its source or its state was refused.
pub fn join(settings: &FunctionSettings, built: Built, code: Code, board: &Board) -> Option<Parts> {
    let Code { function, reload } = code;
    let (source, state) = (built.source?, built.state?);
    let reads = source.facts().input_key;
    let origin =
        [Some(settings.source.entry.name.to_owned()), reads].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let name: Arc<str> = settings.name.as_str().into();
    board.update(&name, |status| {
        status.parts.insert("source", settings.source.entry.name.to_owned());
        status.parts.insert("executor", settings.executor.entry.name.to_owned());
        status.parts.insert("state", settings.state.entry.name.to_owned());
        let sinks: Vec<_> = settings.sinks.iter().map(|(_, choice)| choice.entry.name).collect();
        status.parts.insert("sinks", sinks.join(", "));
    });
    if let Some(reload) = &reload {
        announce(board, &name, None, &reload.serving);
    }
    Some(Parts {
        name,
        source,
        function,
        state: state.into(),
        state_key: settings.state_options.key.clone(),
        sinks: built.sinks,
        dead_letters: built.dead_letters,
        origin: origin.into(),
        errors: settings.errors.clone(),
        drain: settings.options.drain.0,
        taken: settings.taken.clone(),
        reload,
    })
}
