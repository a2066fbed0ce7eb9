//! What cannot be encoded, in words.

use pyo3::prelude::*;
use state_codec::Reason;

/// Longer keys are cut in messages.
const SHOWN: usize = 60;

/// Why a value has no text.
#[derive(Debug)]
pub(super) struct Lost {
    /// Where in the value it was met, the innermost step first.
    steps: Vec<String>,
    what: String,
}

impl Lost {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { steps: Vec::new(), what: what.into() }
    }

    pub(super) fn within(mut self, step: impl Into<String>) -> Self {
        self.steps.push(step.into());
        self
    }

    /// In a few words, of a value with this name.
    pub(super) fn named(&self, name: &str) -> String {
        // a path of two hundred steps says no more than its begin
        let path: String = self.steps.iter().rev().take(8).map(String::as_str).collect();
        let more = if self.steps.len() > 8 { "…" } else { "" };
        format!("{name}{path}{more} ({})", self.what)
    }
}

impl From<PyErr> for Lost {
    fn from(error: PyErr) -> Self {
        Self::new(format!("encoding it raises {error}"))
    }
}

impl From<state_codec::Error> for Lost {
    fn from(error: state_codec::Error) -> Self {
        Self::new(match error.reason() {
            Reason::Deep => format!("nested more than {} levels deep", state_codec::DEPTH),
            other => other.to_string(),
        })
    }
}

/// A key as Python shows it. Only for keys that have a text: others may run code of the function's.
pub(super) fn shown(key: &Bound<'_, PyAny>) -> String {
    // Python refuses to print huge integers
    let text = key.repr().map_or_else(|_| called(key), |text| text.to_string_lossy().into_owned());
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// `a queue.Queue`, `an io.StringIO`, `a dict`
pub(super) fn called(value: &Bound<'_, PyAny>) -> String {
    let kind = value.get_type();
    let name = kind.qualname().map_or_else(|_| "object".to_owned(), |name| name.to_string_lossy().into_owned());
    let module = kind.module().map_or_else(|_| "builtins".to_owned(), |name| name.to_string_lossy().into_owned());
    let full = if module == "builtins" { name } else { format!("{module}.{name}") };
    let vowel = full.trim_start_matches('_').starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U']);
    format!("{} {full}", if vowel { "an" } else { "a" })
}

/// The helper says what it does not take.
pub(super) fn unfit(py: Python<'_>, value: &Bound<'_, PyAny>, error: &PyErr) -> Lost {
    Lost::new(format!("{} {}", called(value), error.value(py)))
}

/// A path's step to the value of a key that is text.
pub(super) fn step(key: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || letter == '_';
    let name = !key.is_empty() && key.chars().all(plain) && !key.starts_with(char::is_numeric);
    if name { format!(".{key}") } else { format!("[{key:?}]") }
}
