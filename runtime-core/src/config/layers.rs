//! Layers of settings, lowest first:
//!
//! 1. defaults: in the types of the options
//! 2. the config file
//! 3. the variables of the default deployment, which the binary translates (it knows the components)
//! 4. `GAUGEFN__A__B`
//! 5. the command line
//!
//! This is the only file that reads the process's environment. The config crate reads the files; its own environment
//! source lower-cases every key, loses the variable's name and cannot refuse an ambiguous one, so that layer is ours.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use config::{Map, Value, ValueKind};

use super::section::Problem;
use super::{os_text, tree};
use crate::contract::Fault;

/// What the variables of the whole tree begin with.
pub const PREFIX: &str = "GAUGEFN__";

/// The environment, behind a small trait so that tests need not touch the process.
pub trait Variables {
    /// The value of a variable, without one line end after it, as one that stands in a file: what `base64 -d` or a
    /// secret made of a file gives ends so. An empty one counts as not set.
    fn get(&self, name: &str) -> Option<String>;
    /// The value as it is, for a variable that holds a text of several lines.
    fn whole(&self, name: &str) -> Option<String>;
    /// The names of all set variables, sorted.
    fn names(&self) -> Vec<String>;
}

/// The environment of this process. A value that is no UTF-8 is what [`os_text`] makes of it; a name that is none is
/// nobody's of ours.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

#[allow(clippy::disallowed_methods, reason = "the one place that reads the process's environment")]
impl Variables for ProcessEnvironment {
    fn get(&self, name: &str) -> Option<String> {
        self.whole(name).as_deref().and_then(line)
    }

    fn whole(&self, name: &str) -> Option<String> {
        std::env::var_os(name).filter(|value| !value.is_empty()).map(|value| os_text::text(&value))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
        names.sort();
        names
    }
}

impl Variables for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).map(String::as_str).and_then(line)
    }

    fn whole(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).filter(|value| !value.is_empty()).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// The text without one line end after it; none where nothing is left. A lone carriage return is what a file of
/// variables with line ends of Windows leaves.
fn line(text: &str) -> Option<String> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    (!line.is_empty()).then(|| line.to_owned())
}

/// An empty tree.
#[must_use]
pub fn empty() -> Value {
    Value::new(None, ValueKind::Table(Map::new()))
}

/// The tree of a config file; the origin of each value is the path as it is given here.
///
/// # Errors
/// The file is missing (exit 66), has no known ending, is no TOML, YAML or JSON table, says something twice, or stands
/// for more than any configuration needs.
pub fn file(path: &Path) -> Result<Value, Fault> {
    super::file::read(path)
}

/// Keys that are one: variables that name them ignore case, so two in one table must differ in more than that.
#[must_use]
pub fn spelled_twice(tree: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    compare_keys(tree, "", &mut problems);
    problems
}

fn compare_keys(value: &Value, path: &str, problems: &mut Vec<Problem>) {
    match &value.kind {
        ValueKind::Table(table) => {
            let mut seen: HashMap<String, &str> = HashMap::new();
            for (key, value) in table {
                let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                if let Some(other) = seen.insert(key.to_lowercase(), key) {
                    let message = format!("differs from '{other}' by case alone: remove one of the two");
                    problems.push(Problem::new(here.clone(), message, tree::origin(value)));
                }
                compare_keys(value, &here, problems);
            }
        }
        ValueKind::Array(list) => list.iter().for_each(|value| compare_keys(value, path, problems)),
        _ => {}
    }
}

/// A value that a variable gives.
#[must_use]
pub fn of_variable(name: &str, text: impl Into<String>) -> Value {
    Value::new(Some(&name.to_owned()), text.into())
}

/// Puts a value at a path of a tree that has only tables on the way.
pub fn put(tree: &mut Value, path: &[&str], value: Value) {
    let Some((key, above)) = path.split_last() else {
        return;
    };
    let mut at = tree;
    for segment in above {
        if !matches!(at.kind, ValueKind::Table(_)) {
            *at = empty();
        }
        let ValueKind::Table(table) = &mut at.kind else { return };
        at = table.entry((*segment).to_owned()).or_insert_with(empty);
    }
    if let ValueKind::Table(table) = &mut at.kind {
        table.insert((*key).to_owned(), value);
    }
}

/// The layer of `GAUGEFN__A__B=text`, each set at `a.b`. A segment means the key of `below` that it equals when case
/// and `-` against `_` are ignored; the key that is spelled exactly so wins. Of two variables for one place, or for a
/// place inside the other's, the second is a problem.
#[must_use]
pub fn overrides(variables: &dyn Variables, below: &Value) -> (Value, Vec<Problem>) {
    let mut layer = empty();
    let mut problems = Vec::new();
    for name in variables.names() {
        let Some(path) = name.strip_prefix(PREFIX) else { continue };
        let Some(text) = variables.get(&name) else { continue };
        let wrong = |message: String| Problem::new(name.clone(), message, None);
        let segments: Vec<&str> = path.split("__").collect();
        if segments.iter().any(|segment| segment.is_empty()) {
            problems.push(wrong(format!("no path of the configuration; write {PREFIX}A__B for a.b")));
            continue;
        }
        match resolve(&segments, below, &layer) {
            Ok(path) => {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                if let Some(other) = contradicted(&layer, &path) {
                    problems.push(wrong(format!("contradicts {other}; one of them has to go")));
                    continue;
                }
                put(&mut layer, &path, of_variable(&name, text));
            }
            Err(message) => problems.push(wrong(message)),
        }
    }
    (layer, problems)
}

/// The variable that has set this place already, or something that it stands in or that stands in it.
fn contradicted(layer: &Value, path: &[&str]) -> Option<String> {
    let mut at = layer;
    for key in path {
        let Some(table) = tree::table(at) else { break };
        at = table.get(*key)?;
    }
    tree::origin(at)
}

/// The keys that the segments of a variable mean.
fn resolve(segments: &[&str], below: &Value, layer: &Value) -> Result<Vec<String>, String> {
    let mut keys = Vec::new();
    let mut at: Vec<&Value> = vec![below, layer];
    for segment in segments {
        let tables: Vec<_> = at.iter().filter_map(|value| tree::table(value)).collect();
        let lower = segment.to_lowercase();
        let fold = |key: &str| key.to_lowercase().replace('-', "_");
        let mut alike: Vec<&str> = tables
            .iter()
            .flat_map(|table| table.keys())
            .map(String::as_str)
            .filter(|key| fold(key) == fold(&lower))
            .collect();
        alike.sort_unstable();
        alike.dedup();
        let key = match alike.as_slice() {
            [] => lower,
            [one] => (*one).to_owned(),
            many if many.contains(segment) => (*segment).to_owned(),
            many if many.contains(&lower.as_str()) => lower,
            many => return Err(format!("'{segment}' could mean each of {}; rename one of them", many.join(", "))),
        };
        at = tables.iter().filter_map(|table| table.get(&key)).collect();
        keys.push(key);
    }
    Ok(keys)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn toml(text: &str) -> Value {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.toml");
        std::fs::write(&path, text).unwrap();
        file(&path).unwrap()
    }

    fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
        path.iter().fold(value, |value, key| &tree::table(value).unwrap()[*key])
    }

    #[test]
    fn a_variable_finds_the_key_that_it_means() {
        let below = toml("[functions.my-vm.source]\nkey = 'a'\n[functions.other]\n");
        let set =
            variables(&[("GAUGEFN__FUNCTIONS__MY_VM__SOURCE__KEY", "b"), ("GAUGEFN__LOG__LEVEL", ""), ("X", "1")]);
        let (layer, problems) = overrides(&set, &below);
        assert_eq!(problems, []);
        let key = at(&layer, &["functions", "my-vm", "source", "key"]);
        assert_eq!((key.to_string().as_str(), key.origin()), ("b", Some("GAUGEFN__FUNCTIONS__MY_VM__SOURCE__KEY")));
        assert!(tree::table(&layer).unwrap().get("log").is_none());
    }

    #[test]
    fn one_line_end_after_a_value_is_no_part_of_it() {
        for (text, value) in [
            ("x\n", Some("x")),
            ("x\r\n", Some("x")),
            ("x\r", Some("x")),
            ("x\n\n", Some("x\n")),
            ("two\nlines\n", Some("two\nlines")),
            (" x ", Some(" x ")),
            ("\n", None),
            ("\r\n", None),
            ("", None),
        ] {
            let set: &dyn Variables = &variables(&[("X", text)]);
            assert_eq!(set.get("X"), value.map(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn an_ambiguous_variable_is_refused() {
        let below = toml("[functions.my-vm]\n[functions.my_vm]\n");
        let (_, problems) = overrides(&variables(&[("GAUGEFN__FUNCTIONS__MY_VM__HANDLER", "h")]), &below);
        assert_eq!(problems, [], "an exact spelling wins");
        let below = toml("[functions.my-big-vm]\n[functions.my-big_vm]\n");
        let (_, problems) = overrides(&variables(&[("GAUGEFN__FUNCTIONS__MY_BIG_VM__HANDLER", "h")]), &below);
        assert_eq!(
            problems[0].to_string(),
            "GAUGEFN__FUNCTIONS__MY_BIG_VM__HANDLER: 'MY_BIG_VM' could mean each of my-big-vm, my-big_vm; rename one of them"
        );
    }

    #[test]
    fn keys_that_differ_by_case_are_one() {
        let tree = toml("[functions.my-vm]\n[functions.My-VM]\nl = [{ A = 1, a = 2 }]\n[Functions]\n");
        let mut found: Vec<_> = spelled_twice(&tree)
            .into_iter()
            .map(|mut problem| {
                problem.origin = None;
                problem.to_string()
            })
            .collect();
        found.sort();
        assert_eq!(
            found,
            [
                "Functions: differs from 'functions' by case alone: remove one of the two",
                "functions.My-VM.l.a: differs from 'A' by case alone: remove one of the two",
                "functions.My-VM: differs from 'my-vm' by case alone: remove one of the two",
            ]
        );
        assert_eq!(spelled_twice(&toml("[a]\nb = 1\n[b]\nb = 2\n")), []);
    }

    #[test]
    fn unreadable_files_say_what_is_wrong() {
        let missing = file(Path::new("no/such.toml")).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "config file 'no/such.toml' does not exist; mount it there or correct the path"
        );
        assert_eq!(missing.blame().exit_code(), 66);
        assert!(file(Path::new("gaugefn.ini")).unwrap_err().to_string().contains("use .toml"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.toml");
        std::fs::write(&path, "a = \n").unwrap();
        let text = file(&path).unwrap_err().to_string();
        assert!(text.contains("cannot be parsed") && text.contains("line 1"), "{text}");
        std::fs::write(&path, "password = \"s3cret\n").unwrap();
        let text = file(&path).unwrap_err().to_string();
        assert!(!text.contains("s3cret") && !text.contains('\n') && text.contains("line 1, column 19"), "{text}");
    }
}
