//! `context.metrics`: measurements of a function's own.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::measure::{Value, record};

/// Called by Python: `kind` is `count`, `gauge` or `observe`.
#[pyfunction]
#[pyo3(name = "measure")]
pub(super) fn measure(
    py: Python<'_>,
    function: &str,
    kind: &str,
    name: &str,
    value: &Bound<'_, PyAny>,
    labels: Vec<(String, String)>,
) -> PyResult<()> {
    let value = match kind {
        "count" => Value::Count(value.extract()?),
        "gauge" => Value::Gauge(value.extract()?),
        "observe" => Value::Observe(value.extract()?),
        other => return Err(PyValueError::new_err(format!("no such measurement: {other}"))),
    };
    // a series that is new is asked about, in a worker, and other threads of the function need not wait for that
    let recorded = py.detach(|| record(function, name, value, labels));
    recorded.map_err(|reason| PyValueError::new_err(format!("metric '{name}': {reason}")))
}
