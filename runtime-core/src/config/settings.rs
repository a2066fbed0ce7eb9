//! The whole configuration, as it is used: every component chosen, every table checked, nothing contacted.

use std::net::SocketAddr;

use config::{Value, ValueKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::{Problem, Section, unknown_key};
use super::{reserved, suggest, tree};
use crate::contract::{Executor, Fault, Loader, Sink, Source, StateStore};
use crate::options::Span;
use crate::registry::{Entry, Registry, Role, Shared};

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
    /// How long one call may take before its worker is killed; 0 for no limit. Needs `isolation = "process"`.
    pub timeout: Span,
    /// How long a stop waits for events in flight.
    pub drain: Span,
    /// Workers of this function.
    pub workers: u32,
    /// Where the function runs.
    pub isolation: Isolation,
}

impl Default for FunctionOptions {
    fn default() -> Self {
        Self {
            handler: "handler".to_owned(),
            timeout: Span::seconds(0),
            // five seconds less than the 30 that Kubernetes grants
            drain: Span::seconds(25),
            workers: 1,
            isolation: Isolation::Inline,
        }
    }
}

/// Where a function runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// In a process of its own (not available in this version).
    Process,
    /// In the engine's process; Python on its main thread, one Python function per process.
    Inline,
}

/// `[functions.NAME.errors]`: what happens when a call fails.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorOptions {
    /// How often a failed event is tried again. A newer value of a latest-value source ends all pending retries.
    pub retries: u32,
    /// The wait before the first retry; it doubles with each, with jitter, up to a minute.
    pub backoff: Span,
    /// What happens when all attempts have failed.
    pub then: Then,
}

impl Default for ErrorOptions {
    fn default() -> Self {
        Self { retries: 0, backoff: Span::millis(200), then: Then::Skip }
    }
}

/// What happens when all attempts have failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Log, count and go on; the old result stays.
    Skip,
    /// Keep the event with its error (not available in this version).
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
    /// What runs it.
    pub executor: Choice<dyn Executor>,
    /// What keeps its state.
    pub state: Choice<dyn StateStore>,
    /// Where results go, by label.
    pub sinks: Vec<(String, Choice<dyn Sink>)>,
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
}

/// Collects problems while the tree is taken apart.
struct Reader {
    problems: Vec<Problem>,
    /// The config file, named where nothing else can be.
    fallback: Option<String>,
}

impl Settings {
    /// Reads the merged tree. `fallback` is the origin for problems of things that are not there.
    ///
    /// # Errors
    /// All problems of the tree, sorted by path.
    pub fn read(tree: &Value, fallback: Option<&str>) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader { problems: Vec::new(), fallback: fallback.map(str::to_owned) };
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

/// Whether a label may name a function or a sink: `[a-z][a-z0-9_-]*`.
fn is_label(label: &str) -> bool {
    label.starts_with(|c: char| c.is_ascii_lowercase())
        && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
}

impl Reader {
    fn section(&self, path: impl Into<String>, value: Option<Value>) -> Section {
        // YAML has a null where nothing is written below a key
        let value = value.filter(|value| !matches!(value.kind, ValueKind::Nil)).unwrap_or_else(super::layers::empty);
        Section::new(path, value, self.fallback.clone())
    }

    fn parse<T: serde::de::DeserializeOwned + JsonSchema + Default>(
        &mut self,
        section: &Section,
        reserved: &[&str],
    ) -> T {
        section.parse(reserved).unwrap_or_else(|problems| {
            self.problems.extend(problems);
            T::default()
        })
    }

    fn settings(&mut self, tree: &Value) -> Option<Settings> {
        let mut root = self.section("", Some(tree.clone()));
        let log_section = self.section("log", root.take("log"));
        let log: LogOptions = self.parse(&log_section, &[]);
        let admin_section = self.section("admin", root.take("admin"));
        let admin = self.parse(&admin_section, &[]);
        let mut shared = Vec::new();
        for table in Shared::all() {
            let section = self.section(table.name, root.take(table.name));
            self.problems.extend((table.check)(&section));
            shared.push(section);
        }
        let functions = root.take("functions");
        let mut known = vec!["admin", "functions", "log"];
        known.extend(Shared::all().iter().map(|table| table.name));
        let given = root.table().map(|table| table.iter()).into_iter().flatten();
        let given =
            given.filter(|(key, value)| !known.contains(&key.as_str()) && !matches!(value.kind, ValueKind::Nil));
        for (key, _) in given {
            self.problems.push(root.problem(key, unknown_key(key, &known, &[])));
        }

        let functions = self.functions(functions);
        functions.map(|functions| Settings { log, admin, shared, functions })
    }

    /// The entries of a table of labels; without, where there is something else in its place.
    fn entries_of(&mut self, section: &Section) -> Option<Vec<(String, Value)>> {
        match section.table() {
            Ok(table) => Some(table.clone().into_iter().collect()),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    fn functions(&mut self, functions: Option<Value>) -> Option<Vec<FunctionSettings>> {
        let section = self.section("functions", functions);
        let labels = self.entries_of(&section)?;
        if labels.is_empty() {
            let message = "missing; write a table [functions.NAME] for each function";
            self.problems.push(Problem::new("functions", message, self.fallback.clone()));
        }
        let all: Vec<_> = labels.into_iter().map(|(name, value)| self.function(name, value)).collect();
        let all: Option<Vec<_>> = all.into_iter().collect();
        let single: Vec<_> = all.iter().flatten().filter(|function| function.executor.entry.one_per_process).collect();
        if let [first, second, ..] = single.as_slice() {
            let message = format!(
                "a second function of the executor '{}' beside '{}': without isolation = \"process\", which is not \
                 available in this version, a process holds one; run one gaugefn for each",
                second.executor.entry.name, first.name
            );
            let problem = Problem::new(format!("functions.{}", second.name), message, self.fallback.clone());
            self.problems.push(problem);
        }
        all
    }

    fn function(&mut self, name: String, value: Value) -> Option<FunctionSettings> {
        let path = format!("functions.{name}");
        let mut table = self.section(&path, Some(value));
        self.entries_of(&table)?;
        if !is_label(&name) {
            let message = "a label starts with a lower-case letter and goes on with those, digits, '_' and '-'";
            self.problems.push(table.problem("", message));
        }
        // a part that is missing is missing where the function stands
        let origin = table.origin();
        let part = |reader: &Self, table: &mut Section, role: &str| match table.take(role) {
            Some(value) => reader.section(format!("{path}.{role}"), Some(value)),
            None => Section::new(format!("{path}.{role}"), super::layers::empty(), origin.clone()),
        };
        let has = |table: &Section, role: &str| table.get(role).is_some();
        let has_source = has(&table, "source");
        let has_loader = has(&table, "loader");
        let source = part(self, &mut table, "source");
        let loader = part(self, &mut table, "loader");
        let executor = part(self, &mut table, "executor");
        let state = part(self, &mut table, "state");
        let errors = part(self, &mut table, "errors");
        let sinks = table.take("sinks");
        let options = self.options(&table);
        let errors = self.errors(&errors);

        let executor = self.choose::<dyn Executor>(executor, Some("python"));
        let source = if has_source {
            self.choose::<dyn Source>(source, None)
        } else {
            self.problems.push(source.problem("", "missing; name where events come from: use = \"redis_key\""));
            None
        };
        let wants_loader = executor.as_ref().is_none_or(|choice| choice.entry.needs_module);
        let loader = match (has_loader, wants_loader) {
            (true, _) => self.choose::<dyn Loader>(loader, None).map(Some),
            (false, false) => Some(None),
            (false, true) => {
                self.problems.push(loader.problem("", "missing; name where the function's code is: use = \"file\""));
                None
            }
        };
        let state = self.choose::<dyn StateStore>(state, Some("memory"));
        let sinks = self.sinks(&path, sinks);
        Some(FunctionSettings {
            name,
            options,
            errors,
            source: source?,
            loader: loader?,
            executor: executor?,
            state: state?,
            sinks: sinks?,
        })
    }

    fn options(&mut self, table: &Section) -> FunctionOptions {
        let parts = ["source", "loader", "executor", "state", "errors", "sinks"];
        let (own, problems) = table.read::<FunctionOptions>(reserved::FUNCTION);
        // a slip in the name of a part is worth the name of the part
        let mended = problems.into_iter().map(|problem| match problem.path.rsplit_once('.') {
            Some((_, key)) if problem.message.starts_with("unknown key") => {
                match super::suggest::nearest(key, &parts) {
                    Some(near) => Problem { message: format!("unknown key, did you mean '{near}'?"), ..problem },
                    None => problem,
                }
            }
            _ => problem,
        });
        self.problems.extend(mended);
        let mut own = own.unwrap_or_default();
        if own.handler.trim().is_empty() {
            self.problems.push(table.problem("handler", "empty; name the entry function, such as 'handler'"));
        }
        if own.isolation == Isolation::Process {
            self.problems
                .push(table.problem("isolation", "'process' is not available in this version; functions run inline"));
        }
        if !own.timeout.0.is_zero() {
            let message = "needs isolation = \"process\", which is not available in this version";
            self.problems.push(table.problem("timeout", message));
        }
        if own.workers == 0 {
            self.problems.push(table.problem("workers", "'0' workers cannot work; the least is 1"));
        } else if own.workers > 1 {
            let message = format!("'{}' workers are not available in this version; only 1 is", own.workers);
            self.problems.push(table.problem("workers", message));
        }
        own.handler = own.handler.trim().to_owned();
        own
    }

    fn errors(&mut self, section: &Section) -> ErrorOptions {
        let (errors, problems) = section.read::<ErrorOptions>(&[]);
        self.problems.extend(problems);
        let errors = errors.unwrap_or_default();
        if errors.then == Then::DeadLetter {
            self.problems
                .push(section.problem("then", "'dead_letter' is not available in this version; use skip or stop"));
        }
        errors
    }

    fn sinks(&mut self, path: &str, sinks: Option<Value>) -> Option<Vec<(String, Choice<dyn Sink>)>> {
        let section = self.section(format!("{path}.sinks"), sinks);
        let table = self.entries_of(&section)?;
        let mut chosen = Vec::new();
        let mut complete = true;
        for (label, value) in table {
            let section = self.section(format!("{path}.sinks.{label}"), Some(value));
            if !is_label(&label) {
                let message = "a label starts with a lower-case letter and goes on with those, digits, '_' and '-'";
                self.problems.push(section.problem("", message));
            }
            // `use` may be left out where the label is a component's name
            let registered = Registry::<dyn Sink>::collect().ok()?;
            let implied = registered.get(&label).is_ok() || reserved::is_component("sink", &label);
            match self.choose::<dyn Sink>(section, implied.then_some(label.as_str())) {
                Some(choice) => chosen.push((label, choice)),
                None => complete = false,
            }
        }
        complete.then_some(chosen)
    }

    /// The component that a table names, with all problems of its options noted.
    fn choose<R: Role + ?Sized>(&mut self, mut section: Section, implied: Option<&str>) -> Option<Choice<R>>
    where
        Entry<R>: inventory::Collect,
    {
        let registry = match Registry::<R>::collect() {
            Ok(registry) => registry,
            Err(fault) => {
                self.problems.push(section.problem("", fault.to_string()));
                return None;
            }
        };
        if let Err(problem) = section.table() {
            // the component's name alone, as other tools would have it
            let message = match section.text().filter(|name| registry.get(name).is_ok()) {
                Some(name) => format!("{}; write [{}] and use = \"{name}\" below it", problem.message, section.path()),
                None => problem.message,
            };
            self.problems.push(Problem { message, ..problem });
            return None;
        }
        let named = section.get("use").cloned();
        let name = match (named.map(|value| value.kind), implied) {
            (Some(ValueKind::String(name)), _) => name,
            (Some(other), _) => {
                let message = format!("invalid type: {}, expected a component's name", tree::noun(&other));
                self.problems.push(section.problem("use", message));
                return None;
            }
            (None, Some(name)) => name.to_owned(),
            (None, None) => {
                let names: Vec<_> = registry.entries().iter().map(|entry| entry.name).collect();
                // the label of a sink may be meant as its component's name
                let label = section.path().rsplit('.').next().unwrap_or_default();
                let hint = suggest::nearest(label, &names).map(|near| format!("; did you mean the label '{near}'?"));
                let hint = hint.unwrap_or_default();
                let message = format!("missing; name the {}: available are {}{hint}", R::NAME, names.join(", "));
                self.problems.push(section.problem("use", message));
                return None;
            }
        };
        let entry = match registry.get(&name) {
            Ok(entry) => entry,
            Err(message) => {
                self.problems.push(section.problem("use", message));
                return None;
            }
        };
        section.take("use");
        let found = (entry.check)(&section);
        let ok = found.is_empty();
        self.problems.extend(found);
        ok.then_some(Choice { entry, section })
    }
}

/// One fault of many problems, for commands that stop at them.
#[must_use]
pub fn refusal(problems: &[Problem]) -> Fault {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Fault::config(lines.join("\n"))
}
