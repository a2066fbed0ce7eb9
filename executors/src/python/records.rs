//! What user code prints and logs, on its way into the log with the function's and the event's name.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyString;
use runtime_core::records::{self, Record};
use tracing::Level;

/// What is being worked on. Threads of the function count as working on the same.
struct Now {
    function: String,
    event: String,
}

static NOW: Mutex<Now> = Mutex::new(Now { function: String::new(), event: String::new() });

/// From now on records belong to this function.
pub(super) fn begin(function: &str) {
    function.clone_into(&mut NOW.lock().unwrap_or_else(PoisonError::into_inner).function);
}

/// From now on records belong to this event; an empty one stands for none.
pub(super) fn enter(event: &str) {
    event.clone_into(&mut NOW.lock().unwrap_or_else(PoisonError::into_inner).event);
}

/// Called by Python with one line or message; `level` is one of `logging`'s.
#[pyfunction]
#[pyo3(name = "send")]
pub(super) fn send(py: Python<'_>, level: i64, stream: &Bound<'_, PyString>, text: &Bound<'_, PyString>) {
    // lossy: a message may hold lone surrogates
    let (stream, text) = (stream.to_string_lossy(), text.to_string_lossy());
    let (function, event) = {
        let now = NOW.lock().unwrap_or_else(PoisonError::into_inner);
        (now.function.clone(), now.event.clone())
    };
    // whoever reads the log may be slow, and other threads of the function need not wait for that
    py.detach(|| {
        records::write(
            severity(level),
            Record { function: &function, event: &event, stream: &stream, worker: None, text: &text },
        );
    });
}

const fn severity(level: i64) -> Level {
    match level {
        40.. => Level::ERROR,
        30.. => Level::WARN,
        20.. => Level::INFO,
        10.. => Level::DEBUG,
        _ => Level::TRACE,
    }
}
