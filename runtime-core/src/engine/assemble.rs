//! Builds the chosen components of a function and loads its code.

use std::sync::Arc;
use std::time::Duration;

use super::board::Board;
use crate::config::Section;
use crate::config::settings::{ErrorOptions, FunctionSettings};
use crate::contract::{Brief, Facts, Fault, Function, Sink, Source, StateStore};
use crate::main_thread::MainThread;
use crate::registry::Site;

/// A function with everything it needs, ready to run.
pub struct Parts {
    /// Its label.
    pub name: Arc<str>,
    /// Where events come from.
    pub source: Box<dyn Source>,
    /// The loaded code.
    pub function: Box<dyn Function>,
    /// What keeps its state.
    pub state: Box<dyn StateStore>,
    /// Where results go, by label.
    pub sinks: Vec<(String, Box<dyn Sink>)>,
    /// What happens when a call fails.
    pub errors: ErrorOptions,
    /// How long a stop waits for events in flight.
    pub drain: Duration,
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
}

/// Builds one function. Nothing is contacted; the function's code is loaded.
///
/// # Errors
/// A component refuses its options, or the function cannot be loaded.
pub async fn assemble(settings: &FunctionSettings, around: &Surroundings<'_>, board: &Board) -> Result<Parts, Fault> {
    let site = Site {
        function: &settings.name,
        shared: around.shared,
        main_thread: around.main_thread.clone(),
        stdout: Arc::clone(&around.stdout),
    };
    let source = (settings.source.entry.build)(&settings.source.section, &site).await?;
    let state = (settings.state.entry.build)(&settings.state.section, &site).await?;
    let mut sinks = Vec::new();
    for (label, choice) in &settings.sinks {
        sinks.push((label.clone(), (choice.entry.build)(&choice.section, &site).await?));
    }
    let executor = (settings.executor.entry.build)(&settings.executor.section, &site).await?;
    let module = match &settings.loader {
        Some(choice) if settings.executor.entry.needs_module => {
            // of `module.name`, the loader looks for the name
            let handler = settings.options.handler.rsplit('.').next().unwrap_or_default();
            Some((choice.entry.build)(&choice.section, &site).await?.load(handler).await?)
        }
        _ => None,
    };
    let revision = module.as_ref().map(|module| module.revision.to_string());
    let facts = sinks.iter().fold(source.facts(), |facts, (_, sink)| facts.or(sink.facts()));
    let name: Arc<str> = settings.name.as_str().into();
    let brief = Brief {
        function: Arc::clone(&name),
        handler: settings.options.handler.clone(),
        facts: facts.or(around.facts.clone()),
    };
    let function = executor.prepare(module, brief).await?;

    board.update(&name, |status| {
        status.revision = revision.clone();
        status.parts.insert("source", settings.source.entry.name.to_owned());
        status.parts.insert("executor", settings.executor.entry.name.to_owned());
        status.parts.insert("state", settings.state.entry.name.to_owned());
        let sinks: Vec<_> = settings.sinks.iter().map(|(_, choice)| choice.entry.name).collect();
        status.parts.insert("sinks", sinks.join(", "));
    });
    let hash = revision.unwrap_or_else(|| "none".to_owned());
    metrics::gauge!("gaugefn_function_info", "function" => name.to_string(), "hash" => hash).set(1.0);
    Ok(Parts { name, source, function, state, sinks, errors: settings.errors.clone(), drain: settings.options.drain.0 })
}
