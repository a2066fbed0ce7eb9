//! A config file becomes a tree, after a look at its text: no few bytes may stand for gigabytes, no depth may exhaust
//! a stack, and nothing may be said twice.
//!
//! * `yaml` - YAML has aliases, documents and keys of any kind, and its parser has no limits
//! * `json` - JSON's parser keeps the last of two equal keys
//! * `toml` - TOML's parser refuses them, and knows a limit of depth; it keeps every token of a file

mod json;
mod toml;
mod yaml;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use config::{Map, Value, ValueKind};

use crate::contract::Fault;

/// No configuration that a person or a chart wrote is larger; a ConfigMap holds no more.
const LARGEST: u64 = 1 << 20;

/// Values of a file, those that aliases stand for included: each takes some 200 bytes of memory.
const MOST_VALUES: usize = 50_000;

/// Bytes that the texts of all values may take, where aliases repeat them.
const MOST_TEXT: usize = 8 << 20;

/// Tables and lists inside of each other. The configuration itself has six.
const DEEPEST: usize = 64;

/// Characters of a parser's message.
const LONGEST_MESSAGE: usize = 240;

const TOO_MANY: &str = "stands for more than 50000 values: split it, or repeat less of it by aliases";
const TOO_LONG: &str = "stands for more than 8 MiB of text: name files by their paths, or repeat less of it by aliases";
const TOO_DEEP: &str = "nests tables or lists more than 64 deep: no option has that";

/// The tree of a config file; the origin of each value is the path as it is given here.
pub(super) fn read(path: &Path) -> Result<Value, Fault> {
    let name = path.display().to_string();
    let format = match path.extension().and_then(|ending| ending.to_str()) {
        Some("toml") => config::FileFormat::Toml,
        Some("yaml" | "yml") => config::FileFormat::Yaml,
        Some("json") => config::FileFormat::Json,
        _ => {
            return Err(Fault::config(format!(
                "config file '{name}' has no ending that tells its format: use .toml, .yaml, .yml or .json"
            )));
        }
    };
    let text = text(path, &name)?;
    let tree = tree(&text, format).map_err(|trouble| {
        Fault::config(match trouble {
            Trouble::Syntax(message) => {
                format!("config file '{name}' cannot be parsed: {}", without_excerpt(&message))
            }
            Trouble::Refused(message) => format!("config file '{name}' {message}"),
        })
    })?;
    Ok(with_origin(tree, &name))
}

/// What is wrong with the text of a config file.
enum Trouble {
    /// What its parser says.
    Syntax(String),
    /// It could be parsed, and must not be; goes on after the file's name.
    Refused(String),
}

impl Trouble {
    fn at(message: &str, line: usize, column: usize) -> Self {
        Self::Refused(format!("{message} (line {line}, column {column})"))
    }
}

/// The sentence for a key that is there twice.
fn twice(key: &str) -> String {
    format!("has the key '{}' twice in one table: remove one of the two", short(key))
}

/// A key as it may stand in one line of a message.
fn short(key: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = key.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if key.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// The text of the file, which is UTF-8; the mark that some editors put in front is not part of it.
fn text(path: &Path, name: &str) -> Result<String, Fault> {
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => {
            Fault::file(format!("config file '{name}' does not exist; mount it there or correct the path"))
        }
        ErrorKind::IsADirectory => {
            Fault::file(format!("config file '{name}' is a folder; name the file, or mount it there"))
        }
        _ => Fault::file(format!("config file '{name}' cannot be read")).caused_by(error),
    };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Fault::config(format!(
            "config file '{name}' is larger than 1 MiB; name files of the function by their paths instead"
        )));
    }
    let wide = bytes.starts_with(&[0xff, 0xfe])
        || bytes.starts_with(&[0xfe, 0xff])
        || bytes.iter().take(64).any(|byte| *byte == 0);
    if wide {
        return Err(Fault::config(format!("config file '{name}' is UTF-16 text or none at all; save it as UTF-8")));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Fault::config(format!("config file '{name}' is not UTF-8 text; save it so")))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn tree(text: &str, format: config::FileFormat) -> Result<Value, Trouble> {
    match format {
        config::FileFormat::Yaml => yaml::judge(text)?,
        config::FileFormat::Json => json::judge(text)?,
        _ => toml::judge(text)?,
    }
    let parsed = config::Format::parse(&format, None, text).map_err(|error| Trouble::Syntax(error.to_string()))?;
    let mut tree = Value::new(None, ValueKind::Table(parsed));
    if format == config::FileFormat::Yaml {
        yaml::merge(&mut tree, "")?;
    }
    Ok(tree)
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A parser's message in one line, without the lines of the file that TOML's shows: they may hold a secret.
fn without_excerpt(message: &str) -> String {
    let is_excerpt =
        |line: &&str| line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|');
    let lines: Vec<_> = message.lines().filter(|line| !is_excerpt(line)).map(str::trim).collect();
    let line = lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join(": ");
    // it may quote a value as long as the file
    match line.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn with_origin(value: Value, origin: &str) -> Value {
    let kind = match value.kind {
        ValueKind::Table(table) => ValueKind::Table(
            table.into_iter().map(|(key, value)| (key, with_origin(value, origin))).collect::<Map<_, _>>(),
        ),
        ValueKind::Array(list) => ValueKind::Array(list.into_iter().map(|value| with_origin(value, origin)).collect()),
        scalar => scalar,
    };
    Value::new(Some(&origin.to_owned()), kind)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
