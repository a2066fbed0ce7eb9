//! The commands, one file each.

use std::fs::File;
use std::sync::Arc;

use runtime_core::config::layers::Variables;
use runtime_core::config::{Problem, Settings};
use runtime_core::contract::{Blame, Facts, Fault};
use runtime_core::engine::assemble::Surroundings;
use runtime_core::isolation::Restarts;
use runtime_core::main_thread::MainThread;
use runtime_core::stdout::{self, Unwritten};

use crate::args::{Command, ConfigArgs};
use crate::configuration::{self, Layered};
use crate::deployment;

mod check;
mod components;
mod dev;
mod dlq;
mod health;
mod init;
mod invoke;
mod kept;
mod local;
mod replay;
mod run;
mod schema;
mod show;

/// What a command may use of the process.
pub(crate) struct Context {
    /// The environment.
    pub(crate) variables: Box<dyn Variables + Send + Sync>,
    /// The first thread.
    pub(crate) main_thread: MainThread,
    /// The real standard output.
    pub(crate) stdout: Arc<File>,
    /// Ends the process at once with this code, whatever the first thread is doing.
    pub(crate) leave: fn(u8) -> !,
}

/// Runs a command to its exit code.
pub(crate) async fn run(command: Command, context: Context) -> u8 {
    match command {
        Command::Run { config, require_backend } => run::run(&context, &config, require_backend).await,
        Command::Dev { function, every, count } => dev::dev(&context, &function, every, count).await,
        Command::Invoke { function, event, state, context: facts } => {
            invoke::invoke(&context, &function, event.as_deref(), state.as_deref(), &facts).await
        }
        Command::Check { config, connect } => check::check(&context, &config, connect).await,
        Command::Config { config, explain } => show::show(&context, &config, explain),
        Command::Components { format } => components::components(&context, format),
        Command::Schema { format } => schema::schema(&context, format),
        Command::Health { config, ready } => health::health(&context, &config, ready).await,
        Command::Replay(args) => replay::replay(&context, &args).await,
        Command::Init(args) => init::init(&context, &args),
        Command::Dlq { action } => dlq::dlq(&context, &action).await,
        Command::Worker => refuse(&Fault::internal("'worker' is for main itself")),
    }
}

/// Says a fault on standard error; its exit code.
fn refuse(fault: &Fault) -> u8 {
    say(&format!("gaugefn: {}", fault.chain()));
    if let Some(report) = fault.report() {
        say(report.trim_end());
    }
    fault.blame().exit_code()
}

/// Says all problems on standard error, one a line; the exit code of a wrong configuration.
fn refuse_all(problems: &[Problem]) -> u8 {
    for problem in problems {
        say(&problem.to_string());
    }
    Blame::Config.exit_code()
}

/// A line on standard error.
fn say(text: &str) {
    crate::log::say(&visible(text));
}

/// Without what would move a terminal's cursor or change its colours: payloads and errors are anybody's.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && letter != '\n' && letter != '\t' {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

impl Context {
    /// The configuration, checked. Where it is wrong, that was said, and the exit code is the error.
    fn configured(&self, args: &ConfigArgs) -> Result<(Layered, Settings), u8> {
        let mut layered = configuration::layered(args, &*self.variables).map_err(|fault| refuse(&fault))?;
        let settings = layered.settings().map_err(|problems| refuse_all(&problems))?;
        layered.warnings.extend(settings.warnings.iter().map(ToString::to_string));
        Ok((layered, settings))
    }

    /// A fault of a function that cannot be loaded; where its file is missing, with what else is there.
    fn with_elsewhere(&self, settings: &Settings, function: &str, fault: Fault) -> Fault {
        let mut functions = settings.functions.iter();
        let found = functions.find(|settings| settings.name == function).and_then(deployment::elsewhere);
        match (fault.blame(), found) {
            (Blame::File, Some(found)) => Fault::file(format!("{}; {found}", fault.chain())),
            (Blame::Function, Some(found)) => Fault::function(format!("{}; {found}", fault.chain())),
            _ => fault,
        }
    }

    /// What the functions of these settings share.
    fn surroundings<'a>(&self, settings: &'a Settings, facts: Facts) -> Surroundings<'a> {
        Surroundings {
            shared: &settings.shared,
            main_thread: self.main_thread.clone(),
            stdout: Arc::clone(&self.stdout),
            facts,
            isolate: crate::components::isolate(),
            encoded_state: false,
            restarts: Restarts::default(),
        }
    }

    /// Text on the real standard output; the command's exit code. A reader who has gone has had enough.
    fn print(&self, text: &str) -> u8 {
        match stdout::write(&self.stdout, text.as_bytes()) {
            Ok(()) => 0,
            Err(Unwritten { error, .. }) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
            Err(Unwritten { error, .. }) => {
                refuse(&Fault::internal("standard output cannot be written").caused_by(error))
            }
        }
    }
}
