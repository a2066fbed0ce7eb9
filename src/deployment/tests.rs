//! The variables in use, row by row. The names are written out here and not taken from the code, so that one that
//! is lost there is missed here.

#![allow(clippy::unwrap_used)]

mod code;
mod connection;
mod names;
mod scope;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

use config::Value;
use runtime_core::config::{layers, tree};

use super::{Deployment, read};

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
const ZIP: &[&str] = &[
    "ZIP_TARGET_PATH",
    "ZIP_FILE_PATH",
    "FUNCTION_ZIP_PATH",
    "RUNTIME_ZIP_PATH",
    "CODE_ZIP_PATH",
    "ZIP_PATH",
    "ZIP_FILE",
];
const INPUT: &[&str] = &["REDIS_INPUT_KEY", "RUNTIME_INPUT_CHANNEL"];
const OUTPUT: &[&str] = &["REDIS_OUTPUT_KEY", "RUNTIME_OUTPUT_CHANNEL"];
const BASE64: &[&str] = &["ZIP_BASE64", "USER_CODE_BASE64"];
const ENTRY: &[&str] = &[
    "ZIP_ENTRY_RELATIVE_FILE_PATH",
    "ZIP_ENTRY_FILE",
    "RUNTIME_ZIP_ENTRY",
    "ZIPPED_MODULE_NAME",
    "ROOT_FUNCTION_MODULE",
];
const SINGLE: &[&str] = &["USER_MODULE_PATH", "FUNCTION_PATH", "PYFILE_PATH", "RUNTIME_SCRIPT_PATH"];
const WHICH: &[&str] = &["PYFILE_OR_ZIP", "RUNTIME_SOURCE_TYPE"];
const URL: &[&str] = &["ZIP_URL", "ZIPFILE_URL", "ZIP_FILE_URL", "FUNCTION_ZIP_URL"];
const HOST: &[&str] = &["REDIS_HOST", "REDIS_IP", "RUNTIME_REDIS_HOST"];
const PORT: &[&str] = &["REDIS_PORT", "RUNTIME_REDIS_PORT"];
const REQUIREMENTS: &[&str] = &["NEW_REQUERIMENTS", "NEW_REQUIREMENTS"];

/// Text that stands for a zip, and other text: neither is opened for more than its first bytes.
const ZIP_TEXT: &str = "UEsDBBQAAAAIAA==";

/// Files to name by variables.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn put(&self, name: &str, content: &[u8]) -> String {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn folder(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn zip(&self, name: &str) -> String {
        self.zip_of(name, &["main.py"])
    }

    /// A zip with these modules.
    fn zip_of(&self, name: &str, modules: &[&str]) -> String {
        let path = self.folder.path().join(name);
        let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        for module in modules {
            zip.start_file(*module, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(b"def handler(input, context):\n    return input\n").unwrap();
        }
        zip.finish().unwrap();
        path.display().to_string()
    }

    /// Starts as a zip does, and has no end.
    fn broken_zip(&self, name: &str) -> String {
        self.put(name, b"PK\x03\x04 and then nothing")
    }
}

/// What a set of variables comes to.
struct Result {
    layer: Value,
    warnings: Vec<String>,
    problems: Vec<String>,
}

impl Result {
    /// The value at a path such as `functions.default.source.key`, and its origin.
    fn at(&self, path: &str) -> Option<(String, String)> {
        let found = path.split('.').try_fold(&self.layer, |value, key| tree::table(value)?.get(key))?;
        Some((found.to_string(), found.origin().unwrap().to_owned()))
    }

    fn of_default(&self, path: &str) -> Option<(String, String)> {
        self.at(&format!("functions.default.{path}"))
    }

    fn text(&self, path: &str) -> Option<String> {
        self.of_default(path).map(|(text, _)| text)
    }

    /// The executor that the settings have, whoever chose it.
    fn executor(&self) -> &'static str {
        runtime_core::config::Settings::read(&self.layer, None).ok().unwrap().functions[0].executor.entry.name
    }

    /// Without the one that a missing REDIS_OUTPUT_KEY always gives.
    fn other_warnings(&self) -> Vec<&str> {
        self.warnings.iter().map(String::as_str).filter(|text| !text.starts_with("REDIS_OUTPUT_KEY is not")).collect()
    }
}

fn pair(value: impl Into<String>, origin: &str) -> Option<(String, String)> {
    Some((value.into(), origin.to_owned()))
}

fn with_file(variables: &[(&str, &str)], file: &mut Value) -> Result {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let Deployment { tree, warnings, problems } = read(&variables, file);
    let problems = problems.iter().map(ToString::to_string).collect();
    Result { layer: tree, warnings, problems }
}

fn alone(variables: &[(&str, &str)]) -> Result {
    with_file(variables, &mut layers::empty())
}

fn toml(text: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gaugefn.toml");
    fs::write(&path, text).unwrap();
    layers::file(&path).unwrap()
}

/// Each name of a row alone sets `path`; an empty one counts as not set; of two, the first wins and the other is
/// named; of all, each but the first is named once.
fn row(names: &[&str], path: &str, value: &str, around: &[(&str, &str)]) {
    let run = |set: &[(&str, &str)]| alone(&[around, set].concat());
    let absent = run(&[]).at(path);
    for name in names {
        let one = run(&[(name, value)]);
        assert_eq!(one.at(path), pair(value, name), "{name} alone");
        assert_eq!(one.other_warnings(), [""; 0], "{name} alone");
        assert_eq!(run(&[(name, "")]).at(path), absent, "{name} empty");
    }
    for (index, first) in names.iter().enumerate() {
        for second in &names[index + 1..] {
            let both = run(&[(second, value), (first, value)]);
            assert_eq!(both.at(path).map(|(_, origin)| origin).as_deref(), Some(*first), "{first} before {second}");
            let warning = format!("{second} is ignored: {first} is set as well and means the same");
            assert_eq!(both.other_warnings(), [warning.as_str()]);
            let empty_first = run(&[(second, value), (first, "")]);
            assert_eq!(empty_first.at(path), pair(value, second), "an empty {first} before {second}");
            assert_eq!(empty_first.other_warnings(), [""; 0]);
        }
    }
    let all: Vec<_> = names.iter().map(|name| (*name, value)).collect();
    let all = run(&all);
    assert_eq!(all.at(path), pair(value, names[0]));
    let ignored: Vec<_> = names[1..]
        .iter()
        .map(|name| format!("{name} is ignored: {} is set as well and means the same", names[0]))
        .collect();
    assert_eq!(all.other_warnings(), ignored);
}
