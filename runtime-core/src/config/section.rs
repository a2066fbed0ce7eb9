//! One table of the configuration: its typed options, or all of its problems at once.

use std::collections::BTreeSet;
use std::fmt;

use config::{Value, ValueKind};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::typed::Typed;
use super::{os_text, suggest, tree};

/// One mistake, with its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The option's path: `functions.vm.source.period`.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
    /// The file or the variable that it came from.
    pub origin: Option<String>,
}

impl Problem {
    /// A problem of the value at this path.
    pub fn new(path: impl Into<String>, message: impl Into<String>, origin: Option<String>) -> Self {
        Self { path: path.into(), message: message.into(), origin }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, os_text::shown(&self.message))?;
        match &self.origin {
            Some(origin) => write!(f, " (from {origin})"),
            None => Ok(()),
        }
    }
}

/// What a component finds wrong with one of its own options.
#[derive(Debug, Clone)]
pub struct Concern {
    /// The option's name; empty for the table as a whole.
    pub option: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl Concern {
    /// A concern about this option.
    pub fn new(option: &'static str, message: impl Into<String>) -> Self {
        Self { option, message: message.into() }
    }
}

/// One table, with its path.
#[derive(Debug, Clone)]
pub struct Section {
    path: String,
    value: Value,
    /// Named where neither the table nor its values have an origin.
    fallback: Option<String>,
}

impl Section {
    /// `value` must be a table; `fallback` is the origin to name for an empty one.
    #[must_use]
    pub fn new(path: impl Into<String>, value: Value, fallback: Option<String>) -> Self {
        Self { path: path.into(), value, fallback }
    }

    /// An empty table.
    #[must_use]
    pub fn empty(path: impl Into<String>) -> Self {
        Self::new(path, Value::new(None, ValueKind::Table(config::Map::new())), None)
    }

    /// Where it stands in the configuration.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The whole table.
    #[must_use]
    pub(super) const fn value(&self) -> &Value {
        &self.value
    }

    /// The value of an option, if it is given.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        tree::table(&self.value)?.get(key).filter(|value| !matches!(value.kind, ValueKind::Nil))
    }

    /// Takes an option out.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        match &mut self.value.kind {
            ValueKind::Table(table) => table.shift_remove(key),
            _ => None,
        }
    }

    /// Where the table came from, as far as can be told.
    #[must_use]
    pub fn origin(&self) -> Option<String> {
        tree::origin(&self.value).or_else(|| self.fallback.clone())
    }

    /// What is in the table.
    ///
    /// # Errors
    /// There is something else in its place.
    pub fn table(&self) -> Result<&config::Map<String, Value>, Problem> {
        tree::table(&self.value).ok_or_else(|| {
            let found = tree::noun(&self.value.kind);
            self.problem("", format!("invalid type: {found}, expected a table"))
        })
    }

    /// The text that stands in the place of the table, if it is text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }

    /// The problem of one of the options, with its origin.
    #[must_use]
    pub fn problem(&self, option: &str, message: impl Into<String>) -> Problem {
        let origin = self.get(option).and_then(tree::origin).or_else(|| self.origin());
        let path = match (self.path.as_str(), option) {
            (path, "") => path.to_owned(),
            ("", option) => option.to_owned(),
            (path, option) => format!("{path}.{option}"),
        };
        Problem::new(path, message, origin)
    }

    /// A component's concern, with its place.
    #[must_use]
    pub fn concern(&self, concern: Concern) -> Problem {
        self.problem(concern.option, concern.message)
    }

    /// The table apart: the options of this type, and all others.
    #[must_use]
    pub fn split<T: JsonSchema>(&self) -> (Self, Self) {
        let (mut own, mut rest) = (self.clone(), self.clone());
        let names = property_names(&schema_of::<T>());
        if let ValueKind::Table(table) = &mut own.value.kind {
            table.retain(|key, _| names.contains(key));
        }
        if let ValueKind::Table(table) = &mut rest.value.kind {
            table.retain(|key, _| !names.contains(key));
        }
        // an empty table has the origin of the whole one
        own.fallback = self.origin();
        rest.fallback.clone_from(&own.fallback);
        (own, rest)
    }

    /// The typed options. `reserved` are names that exist in later versions only.
    ///
    /// # Errors
    /// Every unknown, missing and wrongly typed option; of a list or nested table the first wrong value only.
    pub fn parse<T: DeserializeOwned + JsonSchema>(&self, reserved: &[&str]) -> Result<T, Vec<Problem>> {
        match self.read(reserved) {
            (Some(typed), problems) if problems.is_empty() => Ok(typed),
            (_, problems) => Err(problems),
        }
    }

    /// Every problem that [`parse`](Self::parse) finds, and the options without those that have one, so that what they
    /// mean together can be judged in the same run; none where a required option is missing.
    #[must_use]
    pub fn read<T: DeserializeOwned + JsonSchema>(&self, reserved: &[&str]) -> (Option<T>, Vec<Problem>) {
        self.read_beside(reserved, &[])
    }

    /// As [`read`](Self::read), where the table has further options, named for whoever mistypes one.
    #[must_use]
    pub fn read_beside<T: DeserializeOwned + JsonSchema>(
        &self,
        reserved: &[&str],
        beside: &[String],
    ) -> (Option<T>, Vec<Problem>) {
        let mut table = match self.table() {
            Ok(table) => table.clone(),
            Err(problem) => return (None, vec![problem]),
        };
        table.retain(|_, value| !matches!(value.kind, ValueKind::Nil));
        let mut problems = Vec::new();

        let schema = schema_of::<T>();
        let known = property_names(&schema);
        let known: Vec<&str> = known.iter().chain(beside).map(String::as_str).collect();
        let unknown: Vec<String> = table.keys().filter(|key| !known.contains(&key.as_str())).cloned().collect();
        for key in unknown {
            problems.push(self.problem(&key, unknown_key(&key, &known, reserved)));
            table.shift_remove(&key);
        }
        let missing: BTreeSet<String> =
            required_names(&schema).into_iter().filter(|name| !table.contains_key(name)).collect();
        for name in &missing {
            problems.push(self.problem(name, "missing; it has no default"));
        }

        // serde stops at the first wrong value: note it, take it out, go on
        loop {
            let value = Value::new(None, ValueKind::Table(table.clone()));
            let error = match serde_path_to_error::deserialize::<_, T>(Typed(value)) {
                Ok(typed) => return (Some(typed), problems),
                Err(error) => error,
            };
            let top = match error.path().iter().next() {
                Some(serde_path_to_error::Segment::Map { key }) => key.clone(),
                _ if problems.is_empty() => {
                    problems.push(self.problem("", plain(&error.inner().to_string())));
                    break;
                }
                // a key that is missing, or was taken out for its value: both are named above
                _ => break,
            };
            let message = match table.get(&top) {
                Some(_) if tree::is_secret(&top) => {
                    "wrong type; write text, in quotes (its value is not shown)".to_owned()
                }
                Some(value) => tree::without_secrets(plain(&error.inner().to_string()), value),
                None => plain(&error.inner().to_string()),
            };
            problems.push(Problem { path: join(&self.path, &error.path().to_string()), ..self.problem(&top, message) });
            if table.shift_remove(&top).is_none() {
                break;
            }
        }
        (None, problems)
    }

    /// The concerns about options that have no problem yet, with their places.
    #[must_use]
    pub fn further(&self, concerns: Vec<Concern>, problems: &[Problem]) -> Vec<Problem> {
        let further = concerns.into_iter().map(|concern| self.concern(concern));
        further.filter(|further| problems.iter().all(|problem| problem.path != further.path)).collect()
    }
}

/// serde's sentence with what Rust calls a type in words.
fn plain(message: &str) -> String {
    const WORDS: &[(&str, &str)] = &[
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number, 0 or more"),
        ("expected u64", "expected a whole number, 0 or more"),
        ("expected i64", "expected a whole number"),
        ("expected a sequence", "expected a list"),
    ];
    WORDS.iter().fold(message.to_owned(), |message, (rust, words)| match message.strip_suffix(rust) {
        Some(start) => format!("{start}{words}"),
        None => message,
    })
}

fn join(path: &str, rest: &str) -> String {
    if path.is_empty() { rest.to_owned() } else { format!("{path}.{rest}") }
}

/// The sentence for a key that is not known here.
#[must_use]
pub fn unknown_key(key: &str, known: &[&str], reserved: &[&str]) -> String {
    if reserved.contains(&key) {
        return "not available in this version".to_owned();
    }
    match suggest::nearest(key, known) {
        Some(near) => format!("unknown key, did you mean '{near}'?"),
        None if known.is_empty() => "unknown key, there are no options here".to_owned(),
        None => format!("unknown key, known are {}", known.join(", ")),
    }
}

/// The JSON Schema of a table's type, with nested types in place.
#[must_use]
pub fn schema_of<T: JsonSchema>() -> schemars::Schema {
    let mut settings = schemars::generate::SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    settings.into_generator().into_root_schema_for::<T>()
}

/// The names of a type's options.
#[must_use]
pub fn property_names(schema: &schemars::Schema) -> Vec<String> {
    let properties = schema.get("properties").and_then(|properties| properties.as_object());
    properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}

fn required_names(schema: &schemars::Schema) -> Vec<String> {
    let required = schema.get("required").and_then(|required| required.as_array());
    required.map(|names| names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Trigger {
        Change,
        Always,
        #[serde(rename = "0")]
        Zero,
    }

    #[derive(Debug, serde::Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Options {
        key: String,
        port: Option<u16>,
        #[serde(default)]
        notify: bool,
        trigger: Option<Trigger>,
        #[serde(default)]
        paths: Vec<String>,
    }

    fn section(text: &str) -> Section {
        let file = config::File::from_str(text, config::FileFormat::Toml);
        Section::new("functions.vm.source", config::Config::builder().add_source(file).build().unwrap().cache, None)
    }

    fn messages(text: &str) -> Vec<String> {
        let mut all: Vec<_> =
            section(text).parse::<Options>(&["lease"]).unwrap_err().iter().map(ToString::to_string).collect();
        all.sort();
        all
    }

    #[test]
    fn all_problems_come_at_once() {
        let found =
            messages("prot = 1\nport = 70000\nnotify = 'yes'\ntrigger = 'sometimes'\nlease = 1\npaths = ['a', 1]");
        assert_eq!(
            found,
            [
                "functions.vm.source.key: missing; it has no default",
                "functions.vm.source.lease: not available in this version",
                "functions.vm.source.notify: invalid type: string \"yes\", expected a boolean",
                "functions.vm.source.paths[1]: invalid type: integer `1`, expected a string",
                "functions.vm.source.port: invalid value: integer `70000`, expected a whole number from 0 to 65535",
                "functions.vm.source.prot: unknown key, did you mean 'port'?",
                "functions.vm.source.trigger: unknown variant `sometimes`, expected one of `change`, `always`, `0`",
            ]
        );
    }

    #[test]
    fn files_must_have_the_right_types() {
        assert_eq!(messages("key = 5"), ["functions.vm.source.key: invalid type: integer `5`, expected a string"]);
        assert_eq!(messages("key = 'k'\nport = 1.7").len(), 1);
        assert_eq!(messages("key = 'k'\nport = true").len(), 1);
        assert_eq!(messages("key = 'k'\nport = '6379'").len(), 1);
    }

    #[test]
    fn a_word_that_is_a_number_may_be_written_as_one() {
        let trigger = |text: &str| section(text).parse::<Options>(&[]).map(|options| options.trigger);
        for text in ["key = 'k'\ntrigger = 0", "key = 'k'\ntrigger = '0'"] {
            assert!(matches!(trigger(text), Ok(Some(Trigger::Zero))), "{text}");
        }
        assert!(trigger("key = 'k'\ntrigger = 1").is_err());
        assert!(trigger("key = 'k'\ntrigger = 0.0").is_err());
    }

    #[test]
    fn variables_are_text_that_is_converted() {
        let variable = String::from("GAUGEFN__X");
        let text = |text: &str| Value::new(Some(&variable), text);
        let table = [("key", "5"), ("port", "6379"), ("notify", "yes"), ("paths", "a, b"), ("trigger", "always")];
        let table: config::Map<String, Value> = table.iter().map(|(key, it)| ((*key).to_owned(), text(it))).collect();
        let options: Options = Section::new("x", Value::new(None, table), None).parse(&[]).unwrap();
        assert_eq!((options.key.as_str(), options.port, options.notify), ("5", Some(6379), true));
        assert_eq!(options.paths, ["a", "b"]);
        assert!(matches!(options.trigger, Some(Trigger::Always)));
    }
}
