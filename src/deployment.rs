//! The default deployment: one function `default`, Python on Redis, described by environment variables alone.
//!
//! Deployments in use spell these variables in many ways; all of them are known here, and only here. The result is
//! one layer of the configuration's tree, every value with the variable that it came from.

use config::Value;
use runtime_core::config::layers::{self, Variables, of_variable, put};
use runtime_core::config::{Problem, Section, os_text, pairing, tree};

use code::{Code, Place};

mod code;
mod elsewhere;
mod redis;

pub(crate) use elsewhere::elsewhere;
pub(crate) use redis::{facts, make_way};

/// Where the replaced image had the function, and where its deployments mount it.
pub(crate) const USER_MODULE: &str = "/opt/usermodule.py";

/// The origin of what no variable says.
const DEFAULT: &str = "the default deployment";

const INPUT: &[&str] = &["REDIS_INPUT_KEY", "RUNTIME_INPUT_CHANNEL"];
const OUTPUT: &[&str] = &["REDIS_OUTPUT_KEY", "RUNTIME_OUTPUT_CHANNEL"];

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
    "HANDLER_ENTRYPOINT",
    "ZIP_ENTRY_FUNCTION",
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
    fn first(&mut self, row: &[&'static str]) -> Option<Set> {
        let mut set = row.iter().filter(|name| self.variables.get(name).is_some()).copied();
        let first = set.next()?;
        for name in set {
            self.warnings.push(same_meaning(name, first));
        }
        Some((first, self.variables.get(first)?))
    }
}

/// A variable and its value.
type Set = (&'static str, String);

fn same_meaning(ignored: &str, used: &str) -> String {
    format!("{ignored} is ignored: {used} is set as well and means the same")
}

/// The layer of the environment over the tree of the config file, from which keys that contradict a variable are
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
    let functions = tree::table(file).and_then(|top| top.get("functions"));
    if let Some(functions) = functions.filter(|functions| tree::table(functions).is_none_or(|table| !table.is_empty()))
    {
        return Some(tree::origin(functions).unwrap_or_else(|| "the config file".to_owned()));
    }
    let declares = |name: &String| {
        let path = name.strip_prefix(layers::PREFIX)?.to_lowercase();
        let label = path.strip_prefix("functions__")?.split("__").next()?.to_owned();
        (label != "default" && variables.get(name).is_some()).then_some(label)
    };
    let label = variables.names().iter().find_map(declares)?;
    Some(format!("{}FUNCTIONS__{}__…", layers::PREFIX, label.to_uppercase()))
}

/// The values of the default deployment that no variable says.
fn fixed(text: &str) -> Value {
    of_variable(DEFAULT, text)
}

fn set(tree: &mut Value, path: &[&str], value: Value) {
    put(tree, &[&["functions", "default"], path].concat(), value);
}

/// Whether what runs the code of this layer, which its file decides, has packages to install.
fn knows_requirements(tree: &Value) -> bool {
    let below = |value: &Value, key: &str| tree::table(value)?.get(key).cloned();
    let loader = ["functions", "default", "loader"].iter().try_fold(tree.clone(), |value, key| below(&value, key));
    let section = loader.map(|loader| Section::new("functions.default.loader", loader, None));
    section.is_none_or(|loader| pairing::knows(&loader, "requirements"))
}

impl Reader<'_> {
    fn warn_of_unused(&mut self, place: &str) {
        let rows = [INPUT, OUTPUT, PERIOD, HANDLER, REQUIREMENTS].into_iter().chain(code::ROWS.iter().copied());
        let names = rows.flatten().filter(|name| self.variables.get(name).is_some());
        self.warnings.extend(names.map(|name| format!("{name} is ignored: the functions are declared by {place}")));
    }

    fn default_function(&mut self, tree: &mut Value) {
        self.source(tree);
        self.sink(tree);
        let module = self.handler(tree);
        // it calls no function, so nothing is said of where one would be
        if self.overriding("executor__use").as_deref() != Some("passthrough") {
            self.code(tree, module);
        }
    }

    fn source(&mut self, tree: &mut Value) {
        set(tree, &["source", "use"], fixed("redis_key"));
        // its windows may count samples, so nothing calls it more often than its period
        set(tree, &["source", "watch"], fixed("poll"));
        let key = self.first(INPUT).map_or_else(|| fixed("metrics"), |(name, key)| of_variable(name, key));
        set(tree, &["source", "key"], key);
        if let Some((name, period)) = self.first(PERIOD) {
            set(tree, &["source", "period"], of_variable(name, period));
        }
    }

    fn sink(&mut self, tree: &mut Value) {
        match self.first(OUTPUT) {
            Some((name, key)) => {
                set(tree, &["sinks", "result", "use"], fixed("redis_key"));
                set(tree, &["sinks", "result", "key"], of_variable(name, key));
            }
            None if self.overriding("sinks__").is_some() => {}
            None => self.warnings.push("REDIS_OUTPUT_KEY is not set: results go to the log only".to_owned()),
        }
    }

    /// The entry function; the module that a name with a dot names as well is left to the choice of the code.
    fn handler(&mut self, tree: &mut Value) -> Option<Set> {
        let (variable, name) = self.first(HANDLER)?;
        let (module, function) = match name.trim().rsplit_once('.') {
            Some((module, function)) => (Some((variable, module.to_owned())), function),
            None => (None, name.trim()),
        };
        set(tree, &["handler"], of_variable(variable, function));
        module
    }

    fn code(&mut self, tree: &mut Value, module: Option<Set>) {
        match code::choose(self, module) {
            Code::Zip { place, entry } => {
                set(tree, &["loader", "use"], fixed("zip"));
                match place {
                    Place::Path((variable, path)) => set(tree, &["loader", "path"], of_variable(variable, path)),
                    Place::Base64((variable, text)) => set(tree, &["loader", "base64"], of_variable(variable, text)),
                }
                if let Some((variable, entry)) = entry {
                    set(tree, &["loader", "entry"], of_variable(variable, entry));
                }
            }
            Code::Folder { folder: (variable, path), entry } => {
                set(tree, &["loader", "use"], fixed("dir"));
                set(tree, &["loader", "path"], of_variable(variable, path));
                set(tree, &["loader", "entry"], of_variable(entry.0, entry.1));
            }
            Code::File((variable, path)) => {
                set(tree, &["loader", "use"], fixed("file"));
                set(tree, &["loader", "path"], of_variable(variable, path));
            }
            Code::Source((variable, text)) => {
                set(tree, &["loader", "use"], fixed("file"));
                set(tree, &["loader", "source"], of_variable(variable, text));
            }
        }
        if let Some((variable, path)) = self.first(REQUIREMENTS) {
            if !knows_requirements(tree) {
                self.warnings
                    .push(format!("{variable} is ignored: packages are for Python, and the function is a library"));
            } else if os_text::path(&path).is_file() {
                set(tree, &["executor", "requirements"], of_variable(variable, path));
            } else {
                self.warnings.push(format!("{variable} is ignored: there is no file '{}'", os_text::shown(&path)));
            }
        }
    }

    /// The first overriding variable of the default function whose path starts so.
    fn overriding(&self, path: &str) -> Option<String> {
        let start = format!("{}functions__default__{path}", layers::PREFIX).to_lowercase();
        let names = self.variables.names();
        names.iter().filter(|name| name.to_lowercase().starts_with(&start)).find_map(|name| self.variables.get(name))
    }
}

#[cfg(test)]
mod tests;
