//! `context.metrics`: measurements of a function's own, handed to the process's recorder.

use std::sync::OnceLock;

use metrics::Label;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A forked child has a copy of the recorder that nobody reads and whose locks nobody may ever open.
static RECORDS_IN: OnceLock<u32> = OnceLock::new();

/// Called once by the process that records.
pub(super) fn begin() {
    RECORDS_IN.get_or_init(std::process::id);
}

/// Called by Python with what it has checked: `kind` is `count`, `gauge` or `observe`.
#[pyfunction]
#[pyo3(name = "measure")]
pub(super) fn measure(kind: &str, name: &str, value: &Bound<'_, PyAny>, labels: Vec<(String, String)>) -> PyResult<()> {
    if RECORDS_IN.get() != Some(&std::process::id()) {
        return Ok(());
    }
    let name = format!("gaugefn_function_{name}");
    let labels: Vec<_> = labels.into_iter().map(|(key, value)| Label::new(key, value)).collect();
    match kind {
        "count" => metrics::counter!(name, labels).increment(value.extract()?),
        "gauge" => metrics::gauge!(name, labels).set(value.extract::<f64>()?),
        "observe" => metrics::histogram!(name, labels).record(value.extract::<f64>()?),
        other => return Err(PyValueError::new_err(format!("no such measurement: {other}"))),
    }
    Ok(())
}
