//! The default deployment: one function `default`, Python on Redis, described by environment variables alone.
//!
//! Deployments in use spell these variables in many ways; all of them are known here, and only here. The result is
//! one layer of the configuration's tree, every value with the variable that it came from.

use std::path::{Path, PathBuf};

use config::Value;
use runtime_core::config::Problem;
use runtime_core::config::layers::{self, Variables, of_variable, put};

use code::Code;

mod code;
mod redis;

pub(crate) use redis::facts;

/// Where the replaced image had the function, and where its deployments mount it.
pub(crate) const USER_MODULE: &str = "/opt/usermodule.py";

/// Seconds between two looks at the key.
const PERIOD: &[&str] = &[
    "REDIS_MONITOR_PERIOD",
    "REDIS_MONITORING_PERIOD",
    "REDIS_MONITORING_PERIOD_SECONDS",
    "MONITORING_PERIOD",
    "MONITOR_PERIOD",
    "REDIS_POLL_PERIOD",
    "REDIS_POLL_INTERVAL",
    "RUNTIME_POLL_INTERVAL",
    "POLL_INTERVAL_SECONDS",
    "INTERVAL_SECONDS",
    "INTERVAL_KEY",
    "SLEEP_TIME",
    "INTERVAL",
];

/// The entry function: `name` or `module.name`.
const HANDLER: &[&str] = &[
    "USER_HANDLER_NAME",
    "HANDLER_FUNCTION_NAME",
    "HANDLER_FUNCTION",
    "FUNCTION_HANDLER",
    "ENTRY_FUNCTION",
    "ENTRYPOINT",
    "FUNCTION_ENTRY_POINT",
    "USER_ENTRYPOINT_FUNCTION",
    "RUNTIME_FUNCTION_NAME",
];

/// A requirements file; the first spelling is the replaced image's own.
const REQUIREMENTS: &[&str] = &["NEW_REQUERIMENTS", "NEW_REQUIREMENTS"];

/// What the environment says.
#[derive(Debug)]
pub(crate) struct Deployment {
    /// The layer above the config file.
    pub(crate) tree: Value,
    /// What has been ignored and what is assumed, for the log.
    pub(crate) warnings: Vec<String>,
    /// What cannot be used.
    pub(crate) problems: Vec<Problem>,
}

/// Reads variables and notes those that are set in vain.
struct Reader<'a> {
    variables: &'a dyn Variables,
    warnings: Vec<String>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// The first variable of a row that is set, with its value; each further one is named in a warning.
    fn first(&mut self, row: &[&'static str]) -> Option<(&'static str, String)> {
        let mut set = row.iter().filter_map(|name| Some((*name, self.variables.get(name)?)));
        let first = set.next()?;
        for (name, _) in set {
            self.warnings.push(format!("{name} is ignored: {} is set as well and means the same", first.0));
        }
        Some(first)
    }
}

/// The layer of the environment over the tree of the config file, from which a key that contradicts a variable is
/// removed.
pub(crate) fn read(variables: &dyn Variables, file: &mut Value) -> Deployment {
    let mut reader = Reader { variables, warnings: Vec::new(), problems: Vec::new() };
    let mut tree = layers::empty();
    redis::fill(&mut reader, &mut tree, file);
    match declared_elsewhere(variables, file) {
        Some(place) => reader.warn_of_unused(&place),
        None => reader.default_function(&mut tree),
    }
    Deployment { tree, warnings: reader.warnings, problems: reader.problems }
}

/// Where functions other than the default one are declared, if they are.
fn declared_elsewhere(variables: &dyn Variables, file: &Value) -> Option<String> {
    use runtime_core::config::tree;
    if let Some(functions) = tree::table(file).and_then(|top| top.get("functions")).and_then(tree::table) {
        if !functions.is_empty() {
            return Some(functions.values().find_map(tree::origin).unwrap_or_else(|| "the config file".to_owned()));
        }
    }
    let declares = |name: &String| {
        let path = name.strip_prefix(layers::PREFIX)?.to_lowercase();
        let label = path.strip_prefix("functions__")?.split("__").next()?.to_owned();
        (label != "default" && variables.get(name).is_some()).then_some(label)
    };
    let label = variables.names().iter().find_map(declares)?;
    Some(format!("{}FUNCTIONS__{}__…", layers::PREFIX, label.to_uppercase()))
}

impl Reader<'_> {
    fn warn_of_unused(&mut self, place: &str) {
        // names that mean something here alone; words such as INTERVAL may well belong to somebody else
        let ours = |name: &&str| {
            ["REDIS_", "USER_", "ZIP", "RUNTIME_", "PYFILE", "NEW_REQU"].iter().any(|start| name.starts_with(start))
        };
        let rows = [&["REDIS_INPUT_KEY", "REDIS_OUTPUT_KEY"], PERIOD, HANDLER, REQUIREMENTS];
        let names = rows.into_iter().chain(code::ROWS.iter().copied()).flatten().copied().filter(ours);
        for name in names.filter(|name| self.variables.get(name).is_some()) {
            let warning = format!("{name} is ignored: the functions are declared by {place}");
            self.warnings.push(warning);
        }
    }

    fn default_function(&mut self, tree: &mut Value) {
        const FUNCTION: [&str; 2] = ["functions", "default"];
        let mut set = |path: &[&str], value: Value| put(tree, &[&FUNCTION[..], path].concat(), value);
        let fixed = |text: &str| of_variable("the default deployment", text);

        set(&["source", "use"], fixed("redis_key"));
        // its windows may count samples, so nothing calls it more often than its period
        set(&["source", "watch"], fixed("poll"));
        match self.first(&["REDIS_INPUT_KEY"]) {
            Some((name, key)) => set(&["source", "key"], of_variable(name, key)),
            None => set(&["source", "key"], fixed("metrics")),
        }
        if let Some((name, period)) = self.first(PERIOD) {
            set(&["source", "period"], of_variable(name, period));
        }
        match self.first(&["REDIS_OUTPUT_KEY"]) {
            Some((name, key)) => {
                set(&["sinks", "result", "use"], fixed("redis_key"));
                set(&["sinks", "result", "key"], of_variable(name, key));
            }
            None if self.declares_sinks() => {}
            None => {
                let warning = "REDIS_OUTPUT_KEY is not set: results go to the log only";
                self.warnings.push(warning.to_owned());
            }
        }

        let mut module = None;
        let mut handler_name = "handler".to_owned();
        if let Some((variable, name)) = self.first(HANDLER) {
            let name = name.trim().to_owned();
            if let Some((of, function)) = name.rsplit_once('.') {
                module = Some((variable, of.to_owned()));
                handler_name = function.to_owned();
            } else {
                handler_name.clone_from(&name);
            }
            set(&["handler"], of_variable(variable, handler_name.clone()));
        }
        if self.executor().as_deref() == Some("passthrough") {
            return;
        }
        match code::choose(self, module) {
            Code::Zip { variable, path, entry } => {
                set(&["loader", "use"], fixed("zip"));
                set(&["loader", "path"], of_variable(variable, path));
                if let Some((variable, entry)) = entry {
                    set(&["loader", "entry"], of_variable(variable, entry));
                }
            }
            Code::Base64 { variable, text, entry } => {
                set(&["loader", "use"], fixed("zip"));
                set(&["loader", "base64"], of_variable(variable, text));
                if let Some((variable, entry)) = entry {
                    set(&["loader", "entry"], of_variable(variable, entry));
                }
            }
            Code::File { variable, path } => {
                if Path::new(&path).extension().is_some_and(|ending| ending == "so") {
                    set(&["executor", "use"], of_variable(variable, "native"));
                }
                set(&["loader", "use"], fixed("file"));
                set(&["loader", "path"], of_variable(variable, path));
            }
            Code::Source { variable, text } => {
                set(&["loader", "use"], fixed("file"));
                set(&["loader", "source"], of_variable(variable, text));
            }
        }
        if let Some((variable, path)) = self.first(REQUIREMENTS) {
            if PathBuf::from(&path).is_file() {
                set(&["executor", "use"], fixed("python"));
                set(&["executor", "requirements"], of_variable(variable, path));
            } else {
                self.warnings.push(format!("{variable} is ignored: there is no file '{path}'"));
            }
        }
    }

    /// Whether sinks of the default function are declared by overriding variables.
    fn declares_sinks(&self) -> bool {
        let prefix = format!("{}functions__default__sinks__", layers::PREFIX).to_lowercase();
        self.variables.names().iter().any(|name| name.to_lowercase().starts_with(&prefix))
    }

    /// The executor that an overriding variable names.
    fn executor(&self) -> Option<String> {
        let wanted = format!("{}functions__default__executor__use", layers::PREFIX).to_lowercase();
        self.variables
            .names()
            .iter()
            .find(|name| name.to_lowercase() == wanted)
            .and_then(|name| self.variables.get(name))
    }
}

#[cfg(test)]
mod tests;
