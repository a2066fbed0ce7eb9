//! The whole configuration, as it is used: every component chosen, every table checked, nothing contacted.

use std::net::SocketAddr;
use std::time::Duration;

use config::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::claims::Taken;
use super::reader::Reader;
use super::section::{Problem, Section};
use crate::contract::{DeadLetters, Executor, Fault, Loader, Sink, Source, StateStore};
use crate::options::{Size, Span};
use crate::registry::{Entry, Role};

/// `[log]`: what gaugefn says.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogOptions {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,function=debug`; lines of user code have
    /// the target `function`.
    pub level: String,
    /// `text` for people, `json` for machines: one object a line, output of user code included.
    pub format: LogFormat,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[admin]`: health, metrics and the list of functions over HTTP, read only.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminOptions {
    /// Address and port, such as `0.0.0.0:9464`; without it there is no admin server.
    #[serde(deserialize_with = "address")]
    #[schemars(with = "Option<String>")]
    pub listen: Option<SocketAddr>,
}

fn address<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|_| {
        serde::de::Error::custom(format!("'{text}' is no address; write IP address and port, such as 0.0.0.0:9464"))
    })
}

/// `[functions.NAME]`: one function.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FunctionOptions {
    /// The entry function's name, or `module.name`.
    pub handler: String,
    /// How long one call may take before its worker is killed; 0 for no limit. Needs `isolation = "process"`, as all
    /// options about workers do.
    pub timeout: Span,
    /// How long a stop waits for events in flight, and then for what the function does at its end.
    pub drain: Span,
    /// Workers of this function. More than one needs a queue as the source, and `state.key` or
    /// `state.scope = "worker"`.
    pub workers: u32,
    /// Where the function runs.
    pub isolation: Isolation,
    /// What is kept ready for a worker that has to be replaced.
    pub standby: Standby,
    /// Resident memory of a worker at which it is killed. None: no limit.
    pub memory_limit: Option<Size>,
    /// Events after which a worker is replaced, between two batches. None: no limit.
    pub max_events: Option<u64>,
    /// Resident memory of a worker at which it is replaced, between two batches. None: no limit.
    pub max_resident: Option<Size>,
    /// Age of a worker at which it is replaced, between two batches. None: no limit.
    pub max_age: Option<Span>,
}

impl Default for FunctionOptions {
    fn default() -> Self {
        Self {
            handler: "handler".to_owned(),
            timeout: Span::seconds(0),
            // five seconds less than the 30 that Kubernetes grants
            drain: Span::seconds(25),
            workers: 1,
            isolation: Isolation::Process,
            standby: Standby::Interpreter,
            memory_limit: None,
            max_events: None,
            max_resident: None,
            max_age: None,
        }
    }
}

impl FunctionOptions {
    /// How long a version or a worker may take to end after another one has taken its place.
    #[must_use]
    pub fn farewell(&self) -> Duration {
        /// Long enough to finish what was begun. More would only let those pile up that never end.
        const MOST: Duration = Duration::from_secs(10);
        self.drain.0.min(MOST)
    }
}

/// Where a function runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// In worker processes of its own: a crash costs one event, and calls can have a time limit.
    Process,
    /// In the engine's process, the lowest latency; Python on its main thread, one Python function per process.
    Inline,
}

/// What is kept ready for a worker that has to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standby {
    /// A process with the interpreter started and the function not yet imported: what importing does happens once.
    Interpreter,
    /// A process with the function imported: the fastest, and the import runs once more.
    Imported,
    /// Nothing.
    None,
}

/// What all state stores have in common.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StateOptions {
    /// A JSON pointer into the event, such as `/host`: one `context.env` for each value found there, and one for events
    /// that have none. None: one for all.
    pub key: Option<String>,
    /// Who has a state of its own: the function, or each of its workers.
    pub scope: Scope,
}

impl Default for StateOptions {
    fn default() -> Self {
        Self { key: None, scope: Scope::Function }
    }
}

/// Who has a state of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The function: one state.
    Function,
    /// Each of its workers.
    Worker,
}

/// What all loaders have in common: whether new code takes over while the function runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReloadOptions {
    /// Whether changed code is loaded while the function runs. A version that cannot be loaded leaves the old one.
    pub reload: bool,
    /// What becomes of the function's state then. With `keep` a version that could not go on with it is not taken.
    pub reload_state: ReloadState,
}

impl Default for ReloadOptions {
    fn default() -> Self {
        Self { reload: true, reload_state: ReloadState::Keep }
    }
}

/// What becomes of a function's state when new code takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReloadState {
    /// It goes on with the new code.
    Keep,
    /// It begins anew.
    Reset,
}

/// `[functions.NAME.errors]`: what happens when a call fails; some defaults are those of the source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorTable {
    /// How often a failed event is tried again. A newer value of a latest-value source ends all pending retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", extend("x-default" = "`3` for `redis_stream`, else `0`"))]
    pub retries: Option<u32>,
    /// The wait before the first retry; it doubles with each, with jitter, up to a minute.
    pub backoff: Span,
    /// What happens when all attempts have failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Then", extend("x-default" = "`dead_letter` for `redis_stream`, else `skip`"))]
    pub then: Option<Then>,
}

impl Default for ErrorTable {
    fn default() -> Self {
        Self { retries: None, backoff: Span::millis(200), then: None }
    }
}

impl ErrorTable {
    /// What is in force where the source is a queue that loses nothing by itself, and where it is not.
    #[must_use]
    pub fn resolve(&self, keeps_events: bool) -> ErrorOptions {
        let (retries, then) = if keeps_events { (3, Then::DeadLetter) } else { (0, Then::Skip) };
        ErrorOptions {
            retries: self.retries.unwrap_or(retries),
            backoff: self.backoff,
            then: self.then.unwrap_or(then),
        }
    }
}

/// What happens when a call fails, as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorOptions {
    /// How often a failed event is tried again.
    pub retries: u32,
    /// The wait before the first retry; it doubles with each, with jitter, up to a minute.
    pub backoff: Span,
    /// What happens when all attempts have failed.
    pub then: Then,
}

impl Default for ErrorOptions {
    fn default() -> Self {
        ErrorTable::default().resolve(false)
    }
}

/// What happens when all attempts have failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Log, count and go on; the old result stays.
    Skip,
    /// Keep the event with its error; `gaugefn dlq` shows it and tries it again.
    DeadLetter,
    /// End the process with 76.
    Stop,
}

/// One chosen component with its table.
pub struct Choice<R: Role + ?Sized> {
    /// What was chosen.
    pub entry: &'static Entry<R>,
    /// Its options, without `use`.
    pub section: Section,
}

/// One function, ready to be built.
pub struct FunctionSettings {
    /// Its label.
    pub name: String,
    /// Its own options.
    pub options: FunctionOptions,
    /// The error policy.
    pub errors: ErrorOptions,
    /// Where events come from.
    pub source: Choice<dyn Source>,
    /// Where code comes from; an executor that needs none may go without.
    pub loader: Option<Choice<dyn Loader>>,
    /// How newer code takes over.
    pub reload: ReloadOptions,
    /// What runs it.
    pub executor: Choice<dyn Executor>,
    /// What keeps events that failed for good; there exactly where `errors.then` is `dead_letter`.
    pub dead_letters: Option<Choice<dyn DeadLetters>>,
    /// What keeps its state.
    pub state: Choice<dyn StateStore>,
    /// What all stores have in common.
    pub state_options: StateOptions,
    /// Where results go, by label.
    pub sinks: Vec<(String, Choice<dyn Sink>)>,
    /// What the components of all functions work with, where no result may go.
    pub taken: Taken,
}

/// The whole configuration.
pub struct Settings {
    /// `[log]`
    pub log: LogOptions,
    /// `[admin]`
    pub admin: AdminOptions,
    /// Tables that components share: `[redis]`.
    pub shared: Vec<Section>,
    /// At least one.
    pub functions: Vec<FunctionSettings>,
    /// What may well be meant, and is seldom what was wanted; for the log.
    pub warnings: Vec<Problem>,
}

impl Settings {
    /// Reads the merged tree. `fallback` is the origin for problems of things that are not there.
    ///
    /// # Errors
    /// All problems of the tree, sorted by path.
    pub fn read(tree: &Value, fallback: Option<&str>) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader {
            problems: Vec::new(),
            warnings: Vec::new(),
            fallback: fallback.map(str::to_owned),
            shared: Vec::new(),
            claims: Vec::new(),
            taken: Taken::default(),
        };
        let settings = reader.settings(tree);
        let mut problems = reader.problems;
        match settings {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => {
                problems.sort();
                problems.dedup();
                Err(problems)
            }
        }
    }
}

/// One fault of many problems, for commands that stop at them.
#[must_use]
pub fn refusal(problems: &[Problem]) -> Fault {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Fault::config(lines.join("\n"))
}
