//! From the merged tree to settings: components are chosen, tables checked, and all mistakes collected.

use config::{Value, ValueKind};
use schemars::JsonSchema;

use super::claims::{Claimed, Taken};
use super::section::{Problem, Section, unknown_key};
use super::settings::{
    Choice, FunctionOptions, FunctionSettings, Isolation, LogOptions, ReloadOptions, Scope, Settings, Standby,
    StateOptions,
};
use super::{reserved, suggest, tree};
use crate::contract::{Executor, Loader, Sink, Source, StateStore};
use crate::registry::{Entry, Registry, Role, Shared};

/// Collects problems while the tree is taken apart.
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
    /// What may well be meant, and is seldom what was wanted.
    pub(super) warnings: Vec<Problem>,
    /// The config file, named where nothing else can be.
    pub(super) fallback: Option<String>,
    /// Tables that components share.
    pub(super) shared: Vec<Section>,
    /// What the components of all functions work with.
    pub(super) claims: Vec<Claimed>,
    /// The same, as results must keep away from it.
    pub(super) taken: Taken,
}

/// Whether a label may name a function or a sink: `[a-z][a-z0-9_-]*`.
fn is_label(label: &str) -> bool {
    label.starts_with(|c: char| c.is_ascii_lowercase())
        && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
}

/// The executor where none is named and no file says otherwise.
pub(super) const PYTHON: &str = "python";

/// Whether a label is the name of a sink, so that `use` may be left out.
pub(super) fn is_sink(label: &str) -> bool {
    let registered = Registry::<dyn Sink>::collect().is_ok_and(|sinks| sinks.get(label).is_ok());
    registered || reserved::is_component("sink", label)
}

impl Reader {
    pub(super) fn section(&self, path: impl Into<String>, value: Option<Value>) -> Section {
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

    pub(super) fn settings(&mut self, tree: &Value) -> Option<Settings> {
        let mut root = self.section("", Some(tree.clone()));
        let log_section = self.section("log", root.take("log"));
        let log: LogOptions = self.parse(&log_section, &[]);
        let admin_section = self.section("admin", root.take("admin"));
        let admin = self.parse(&admin_section, &[]);
        for table in Shared::all() {
            let section = self.section(table.name, root.take(table.name));
            self.problems.extend((table.check)(&section));
            self.shared.push(section);
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
        self.compare_claims();
        let (shared, warnings) = (std::mem::take(&mut self.shared), std::mem::take(&mut self.warnings));
        functions.map(|mut functions| {
            functions.iter_mut().for_each(|function| function.taken = self.taken.clone());
            Settings { log, admin, shared, functions, warnings }
        })
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
        let in_here = |function: &&FunctionSettings| {
            function.options.isolation == Isolation::Inline && function.executor.entry.one_per_process
        };
        let single: Vec<_> = all.iter().flatten().filter(in_here).collect();
        if let [first, second, ..] = single.as_slice() {
            let message = format!(
                "a second function of the executor '{}' with isolation = \"inline\" beside '{}': a process holds one; \
                 use isolation = \"process\" for one of them",
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
        let has_letters = has(&table, "dead_letters");
        let source = part(self, &mut table, "source");
        let loader = part(self, &mut table, "loader");
        let executor = part(self, &mut table, "executor");
        let state = part(self, &mut table, "state");
        let errors = part(self, &mut table, "errors");
        let letters = part(self, &mut table, "dead_letters");
        let sinks = table.take("sinks");
        let mut options = self.options(&table);

        let source = if has_source {
            self.choose::<dyn Source>(source, None)
        } else {
            self.problems.push(source.problem("", "missing; name where events come from: use = \"redis_key\""));
            None
        };
        // problems of these are noted with those of the loader's own
        let reload = loader.split::<ReloadOptions>().0.read(&[]).0.unwrap_or_default();
        let missing = loader.problem("", "missing; name where the function's code is: use = \"file\"");
        let loader = if has_loader { self.choose::<dyn Loader>(loader, None) } else { None };
        let executor = self.executor(executor, loader.as_ref());
        let wants_loader = executor.as_ref().is_none_or(|choice| choice.entry.needs_module);
        let loader = match (has_loader, wants_loader) {
            (true, _) => loader.map(Some),
            (false, false) => Some(None),
            (false, true) => {
                self.problems.push(missing);
                None
            }
        };
        let state_options: StateOptions = state.split::<StateOptions>().0.read(&[]).0.unwrap_or_default();
        if let Some(key) = state_options.key.as_deref().filter(|key| !key.starts_with('/')) {
            let message = format!("'{key}' is no JSON pointer; write '/{key}' for the value of '{key}'");
            self.problems.push(state.problem("key", message));
        }
        if let Some(executor) = executor.as_ref().filter(|it| !it.entry.keyed_state && state_options.key.is_some()) {
            let name = executor.entry.name;
            let message = format!(
                "a state for each key is not available in this version with the executor '{name}'; leave it out for one \
                 state"
            );
            self.problems.push(state.problem("key", message));
        }
        let scope = state.problem("scope", "");
        let state = self.choose::<dyn StateStore>(state, Some("memory"));
        if let (Some(executor), Some(store)) = (&executor, &state)
            && !executor.entry.keyed_state
            && !store.entry.durable
            && store.section.get("ttl").is_some()
        {
            let message = format!(
                "not available in this version with the executor '{}' and the store '{}'; use 'file' or 'redis'",
                executor.entry.name, store.entry.name
            );
            self.problems.push(store.section.problem("ttl", message));
        }
        if let Some(store) = state.as_ref().filter(|store| store.entry.durable && state_options.scope == Scope::Worker)
        {
            let message = format!(
                "'worker' is for state that ends with the process, and the store '{}' keeps it; set state.key, or \
                 workers = 1",
                store.entry.name
            );
            self.problems.push(Problem { message, ..scope });
        }
        if let (Some(source), Some(executor)) = (&source, &executor) {
            self.workers(&table, &mut options, source, executor, &state_options);
        }
        let sinks = self.sinks(&path, sinks);
        let (errors, dead_letters) =
            self.failures(&errors, has_letters.then_some(letters), source.as_ref(), state.as_ref(), sinks.as_deref());
        if let Some(source) = &source {
            self.claim(&name, source);
        }
        if let Some(state) = &state {
            self.claim(&name, state);
        }
        for (_, sink) in sinks.iter().flatten() {
            self.claim(&name, sink);
        }
        if let Some(letters) = &dead_letters {
            self.claim(&name, letters);
        }
        Some(FunctionSettings {
            name,
            options,
            errors,
            source: source?,
            loader: loader?,
            reload,
            executor: executor?,
            state: state?,
            dead_letters,
            state_options,
            sinks: sinks?,
            taken: Taken::default(),
        })
    }

    fn options(&mut self, table: &Section) -> FunctionOptions {
        let parts = ["source", "loader", "executor", "state", "errors", "dead_letters", "sinks"];
        let (own, problems) = table.read::<FunctionOptions>(&[]);
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
        if own.workers == 0 {
            self.problems.push(table.problem("workers", "'0' workers cannot work; the least is 1"));
        }
        let zeros = [
            ("memory_limit", own.memory_limit.is_some_and(|size| size.0 == 0)),
            ("max_events", own.max_events == Some(0)),
            ("max_resident", own.max_resident.is_some_and(|size| size.0 == 0)),
            ("max_age", own.max_age.is_some_and(|span| span.0.is_zero())),
        ];
        for (option, _) in zeros.into_iter().filter(|(_, zero)| *zero) {
            self.problems.push(table.problem(option, "is 0, which no worker could meet; leave it out for no limit"));
        }
        own.handler = own.handler.trim().to_owned();
        own
    }

    /// What the options about workers mean together with the chosen parts.
    fn workers(
        &mut self,
        table: &Section,
        options: &mut FunctionOptions,
        source: &Choice<dyn Source>,
        executor: &Choice<dyn Executor>,
        state: &StateOptions,
    ) {
        if !executor.entry.needs_module {
            // it runs no code of anybody's
            options.isolation = Isolation::Inline;
        }
        if options.isolation == Isolation::Inline {
            let given = [
                ("timeout", !options.timeout.0.is_zero()),
                ("workers", options.workers > 1),
                ("standby", options.standby != Standby::Interpreter),
                ("memory_limit", options.memory_limit.is_some()),
                ("max_events", options.max_events.is_some()),
                ("max_resident", options.max_resident.is_some()),
                ("max_age", options.max_age.is_some()),
            ];
            let message = if executor.entry.needs_module {
                "needs isolation = \"process\"".to_owned()
            } else {
                format!("is for worker processes; the executor '{}' has none", executor.entry.name)
            };
            for (option, _) in given.into_iter().filter(|(_, given)| *given) {
                self.problems.push(table.problem(option, message.clone()));
            }
        } else if options.workers > 1 && source.entry.latest_value {
            let message = format!(
                "'{}' workers cannot share the source '{}', which gives one value at a time; set 1, or use a queue",
                options.workers, source.entry.name
            );
            self.problems.push(table.problem("workers", message));
        } else if options.workers > 1 && state.scope == Scope::Function && state.key.is_none() {
            let message = format!(
                "'{}' workers cannot share one state; set state.key, or state.scope = \"worker\" to give each its own, \
                 or workers = 1",
                options.workers
            );
            self.problems.push(table.problem("workers", message));
        }
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
            match self.choose::<dyn Sink>(section, is_sink(&label).then_some(label.as_str())) {
                Some(choice) => chosen.push((label, choice)),
                None => complete = false,
            }
        }
        complete.then_some(chosen)
    }

    /// The component that a table names, with all problems of its options noted.
    pub(super) fn choose<R: Role + ?Sized>(&mut self, mut section: Section, implied: Option<&str>) -> Option<Choice<R>>
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
        let mut found = (entry.check)(&section);
        found.extend(section.split::<R::Common>().0.read::<R::Common>(&[]).1);
        let ok = found.is_empty();
        self.problems.extend(found);
        ok.then_some(Choice { entry, section })
    }
}
