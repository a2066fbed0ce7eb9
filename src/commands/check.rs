//! `gaugefn check`: all problems of the configuration at once.

use runtime_core::config::Settings;
use runtime_core::config::settings::{FunctionSettings, Isolation, LogOptions, Standby};
use runtime_core::contract::{Blame, Facts, Fault, StateKey};
use runtime_core::engine::assemble::{Built, Code, join};
use runtime_core::engine::{Board, Bond};

use super::{Context, say};
use crate::args::ConfigArgs;
use crate::log;

pub(super) async fn check(context: &Context, args: &ConfigArgs, connect: bool) -> u8 {
    let (layered, mut settings) = match context.configured(args) {
        Ok(configured) => configured,
        Err(code) => return code,
    };
    for warning in &layered.warnings {
        say(&format!("warning: {warning}"));
    }
    let names: Vec<_> = settings.functions.iter().map(|function| format!("'{}'", function.name)).collect();
    let functions = if names.len() == 1 { "function" } else { "functions" };
    if !connect {
        return context.print(&format!("the configuration is sound: {functions} {}\n", names.join(", ")));
    }
    log::start(&LogOptions { level: "warn".to_owned(), ..settings.log.clone() });
    if cfg!(feature = "worker") {
        settings.functions.iter_mut().for_each(load_apart);
    }
    let (faults, notes) = connect_all(context, &settings).await;
    for note in &notes {
        say(note);
    }
    for (name, fault) in &faults {
        say(&format!("functions.{name}: {}", fault.chain()));
        if let Some(report) = fault.report() {
            say(report.trim_end());
        }
    }
    let worst = faults.iter().map(|(_, fault)| fault.blame()).max_by_key(|blame| gravity(*blame));
    match worst {
        Some(blame) => blame.exit_code(),
        None => context.print(&format!(
            "the configuration is sound, every connection opens, every function loads: {functions} {}\n",
            names.join(", ")
        )),
    }
}

/// Whatever its import does to its process, there is an answer, and the next function's turn comes.
fn load_apart(function: &mut FunctionSettings) {
    if function.executor.entry.needs_module {
        (function.options.isolation, function.options.standby) = (Isolation::Process, Standby::None);
    }
}

/// Loads every function and opens every connection; all that fails, and what works in another way than one may expect.
async fn connect_all(context: &Context, settings: &Settings) -> (Vec<(String, Fault)>, Vec<String>) {
    let around = context.surroundings(settings, Facts::default());
    let board = Board::default();
    let (mut faults, mut notes) = (Vec::new(), Vec::new());
    for function in &settings.functions {
        let mut failed = |part: &str, fault: Fault| faults.push((format!("{}{part}", function.name), fault));
        let (mut built, refused) = Built::of(function, &around).await;
        let whole = refused.is_empty();
        let code = Code::load(function, &around, built.told(), &board).await;
        let code = code.map_err(|fault| failed("", context.with_elsewhere(settings, &function.name, fault))).ok();
        for (part, fault) in refused.into_iter().chain(open(&mut built).await) {
            failed(&part, fault);
        }
        let Some(mut parts) = code.and_then(|code| join(function, built, code, &board)) else { continue };
        if whole {
            let bond = Bond::of(&parts);
            match bond.obstacle(&parts).await {
                Ok(None) => {}
                Ok(Some(why)) => {
                    notes
                        .push(format!("functions.{}: commits are made in order (at least once): {why}", function.name));
                }
                // the source has said so already
                Err(fault) => tracing::debug!("{}", fault.chain()),
            }
        }
        if let Err(fault) = parts.function.close(function.options.drain.0).await {
            failed("", fault);
        }
    }
    (faults, notes)
}

/// Opens what is around a function's code; what cannot be, by its part.
async fn open(built: &mut Built) -> Vec<(String, Fault)> {
    let mut failed = Vec::new();
    if let Some(source) = &mut built.source
        && let Err(fault) = source.check().await
    {
        failed.push((".source".to_owned(), fault));
    }
    if let Some(state) = built.state.as_ref().filter(|state| state.durable())
        && let Err(fault) =
            state.load(&[StateKey::default()]).await.and_then(|found| found.into_iter().collect::<Result<Vec<_>, _>>())
    {
        failed.push((".state".to_owned(), fault));
    }
    if let Some(letters) = &built.dead_letters {
        let looked = match letters.check().await {
            Ok(()) => letters.list(None, 1).await.map(drop),
            unusable => unusable,
        };
        if let Err(fault) = looked {
            failed.push((".dead_letters".to_owned(), fault));
        }
    }
    for (label, sink) in &mut built.sinks {
        if let Err(fault) = sink.check().await {
            failed.push((format!(".sinks.{label}"), fault));
        }
    }
    failed
}

/// A wrong configuration is to be mended before anything else can be judged.
fn gravity(blame: Blame) -> u8 {
    match blame {
        Blame::Config => 4,
        Blame::File => 3,
        Blame::Function | Blame::Event => 2,
        Blame::Backend => 1,
        Blame::Internal => 5,
    }
}
