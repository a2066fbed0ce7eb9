//! Says where user code holds the main thread up for longer than it may, as nothing but the end of the process could
//! end it there.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

/// As long as it is held, somebody watches.
pub(super) struct Watch(#[expect(dead_code, reason = "held for its other half")] mpsc::Sender<()>);

/// Has this said after the time, with the place where the main thread is, or the threads that it waits for, in words to be
/// appended. Dropped before, it says nothing.
pub(super) fn after(time: Duration, say: impl FnOnce(String) + Send + 'static) -> Watch {
    let (held, dropped) = mpsc::channel::<()>();
    let watch = move || {
        if let Err(RecvTimeoutError::Timeout) = dropped.recv_timeout(time) {
            say(place());
        }
    };
    // without a thread it is not said
    drop(thread::Builder::new().name("watch".to_owned()).spawn(watch));
    Watch(held)
}

/// Empty where it cannot be told: who holds the GIL may never let it go.
fn place() -> String {
    const SOON: Duration = Duration::from_millis(300);
    let (told, place) = mpsc::channel();
    let ask = move || {
        let found = Python::attach(|py| -> PyResult<String> {
            py.import("_gaugefn_call")?.call_method0("holding_up")?.extract()
        });
        // nobody may be waiting any more
        let _ = told.send(found.unwrap_or_default());
    };
    drop(thread::Builder::new().name("place".to_owned()).spawn(ask));
    place.recv_timeout(SOON).unwrap_or_default()
}
