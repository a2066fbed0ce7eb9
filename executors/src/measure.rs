//! What functions measure. Each measurement is checked at its call: no name, label or value of a function can make the
//! page of metrics one that Prometheus does not read.
//!
//! The page belongs to all functions of gaugefn's process, so [`registry`] is there, and a worker asks it about every
//! series that is new to it. What it has refused is refused at the call as well, wherever the other user of the name is.

#[cfg(feature = "worker")]
mod arrived;
mod registry;

use std::fmt;
use std::process;
use std::sync::OnceLock;

use metrics::Label;

#[cfg(feature = "worker")]
pub(crate) use arrived::arrived;
pub(crate) use registry::admit as admit_here;

/// What all names begin with.
const PREFIX: &str = "gaugefn_function_";

/// Letters of a name, or of a label's.
const NAME: usize = 200;

/// Bytes of all labels of a series.
const LABELS: usize = 2 << 10;

/// The process that records. A forked child has a copy of the recorder that nobody reads and whose locks nobody may ever
/// open.
static RECORDS_IN: OnceLock<u32> = OnceLock::new();

/// Whom to ask whether a series may be, where that is another process.
static ASK: OnceLock<Ask> = OnceLock::new();

type Ask = Box<dyn Fn(&Series<'_>) -> Result<(), String> + Send + Sync>;

/// Called once by the process that records.
pub(crate) fn begin() {
    RECORDS_IN.get_or_init(process::id);
}

/// From now on series of this process have to be admitted by another one.
#[cfg(feature = "worker")]
pub(crate) fn ask(ask: impl Fn(&Series<'_>) -> Result<(), String> + Send + Sync + 'static) {
    // a worker has one parent
    let _ = ASK.set(Box::new(ask));
}

/// A measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    Count(u64),
    Gauge(f64),
    Observe(f64),
}

/// By which method a name is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "worker", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Kind {
    Count,
    Gauge,
    Observe,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "count()",
            Self::Gauge => "gauge()",
            Self::Observe => "observe()",
        })
    }
}

impl Value {
    const fn kind(self) -> Kind {
        match self {
            Self::Count(_) => Kind::Count,
            Self::Gauge(_) => Kind::Gauge,
            Self::Observe(_) => Kind::Observe,
        }
    }
}

/// One line of the page, or the lines of one distribution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series<'a> {
    pub(crate) function: &'a str,
    pub(crate) kind: Kind,
    /// As the function says it.
    pub(crate) name: &'a str,
    /// The function's own, sorted.
    pub(crate) labels: &'a [(String, String)],
}

/// Hands a measurement to the process's recorder.
///
/// # Errors
/// Why that would spoil the page, and what to do.
pub(crate) fn record(
    function: &str,
    name: &str,
    value: Value,
    mut labels: Vec<(String, String)>,
) -> Result<(), String> {
    check(name, value, &labels)?;
    if RECORDS_IN.get() != Some(&process::id()) {
        return Ok(());
    }
    labels.sort_unstable();
    for (_, text) in labels.iter_mut().filter(|(_, text)| text.contains('\\')) {
        // the exporter takes what looks like an escape for one
        *text = text.replace('\\', r"\\");
    }
    let series = Series { function, kind: value.kind(), name, labels: &labels };
    match ASK.get() {
        None => registry::admit(&series)?,
        Some(ask) => registry::once(&series, ask)?,
    }
    let name = format!("{PREFIX}{name}");
    let own = Label::new("function", function.to_owned());
    let labels: Vec<_> =
        std::iter::once(own).chain(labels.into_iter().map(|(key, text)| Label::new(key, text))).collect();
    match value {
        Value::Count(by) => metrics::counter!(name, labels).increment(by),
        Value::Gauge(value) => metrics::gauge!(name, labels).set(value),
        Value::Observe(value) => metrics::histogram!(name, labels).record(value),
    }
    Ok(())
}

/// What can be said without knowing any other series.
fn check(name: &str, value: Value, labels: &[(String, String)]) -> Result<(), String> {
    if !is_name(name) {
        return Err("a name has letters, digits and _, and no digit first".to_owned());
    }
    if name.len() > NAME {
        return Err(format!("a name has at most {NAME} letters"));
    }
    // the exporter adds `_sum` only where a name does not end like that
    if let (Kind::Observe, Some(part)) =
        (value.kind(), ["sum", "count", "bucket"].iter().find(|part| name.ends_with(**part)))
    {
        return Err(format!(
            "a name for observe() must not end in '{part}', as a part of a distribution does; use another name"
        ));
    }
    for (n, (label, _)) in labels.iter().enumerate() {
        if ["function", "le", "quantile"].contains(&label.as_str()) || label.starts_with("__") {
            return Err(format!("label '{label}' is reserved; use another name for it"));
        }
        if !is_name(label) || label.len() > NAME {
            return Err(format!(
                "label '{}' is not made of letters, digits and _, no digit first, {NAME} of them at most",
                label.chars().take(NAME).collect::<String>().escape_debug()
            ));
        }
        if labels[..n].iter().any(|(other, _)| other == label) {
            return Err(format!("label '{label}' is given twice"));
        }
    }
    let length: usize = labels.iter().map(|(label, text)| label.len() + text.len()).sum();
    if length > LABELS {
        return Err(format!("labels have at most {LABELS} bytes together, not {length}; log long texts instead"));
    }
    match value {
        Value::Observe(value) if !value.is_finite() => {
            Err(format!("observe() takes numbers, not {value}, which would be in the sum for ever"))
        }
        _ => Ok(()),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, value: Value, labels: &[(&str, &str)]) -> String {
        let labels: Vec<_> = labels.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        check(name, value, &labels).err().unwrap_or_default()
    }

    #[test]
    fn odd_measurements_are_refused_with_a_reason() {
        let count = Value::Count(1);
        assert_eq!(refusal("calls", count, &[("kind", "\n\"\\\u{0}")]), "");
        for name in ["9x", "", "a-b", "a b", "é"] {
            assert_eq!(refusal(name, count, &[]), "a name has letters, digits and _, and no digit first");
        }
        assert_eq!(refusal(&"x".repeat(201), count, &[]), "a name has at most 200 letters");
        for key in ["function", "le", "quantile", "__name__", "__x"] {
            assert_eq!(
                refusal("calls", count, &[(key, "")]),
                format!("label '{key}' is reserved; use another name for it")
            );
        }
        for key in ["a-b", "1", ""] {
            let said = refusal("calls", count, &[(key, "")]);
            assert!(said.starts_with(&format!("label '{key}' is not made of letters")), "{said}");
        }
        assert_eq!(refusal("calls", count, &[("a", "1"), ("a", "2")]), "label 'a' is given twice");
        let said = refusal("calls", count, &[("a", &"x".repeat(LABELS))]);
        assert_eq!(said, "labels have at most 2048 bytes together, not 2049; log long texts instead");
        for name in ["x_sum", "checksum", "discount", "bucket"] {
            assert!(refusal(name, Value::Observe(1.0), &[]).contains("must not end in"), "{name}");
            assert_eq!(refusal(name, Value::Gauge(1.0), &[]), "");
        }
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(refusal("x", Value::Observe(value), &[]).starts_with("observe() takes numbers, not "));
            assert_eq!(refusal("x", Value::Gauge(value), &[]), "");
        }
    }
}
