//! The runtime as a native function sees it: facts, its log, and its own measurements.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use gaugefn_sdk::abi::{Host, Label, Slice};
use runtime_core::contract::Brief;
use runtime_core::records::{self, Record};
use tracing::Level;

use crate::measure::{self, Value};

/// Refusals that are told; a library may make up new names for ever.
const TOLD: usize = 100;

/// What the callbacks of one function work with. It lives as long as the process: threads of the library may use it
/// after the function has ended.
struct Ear {
    function: String,
    /// Names that were refused, each with the reason.
    told: Mutex<HashSet<(String, String)>>,
}

/// A description that lives as long as the process.
#[derive(Clone, Copy)]
pub(super) struct Described(pub(super) &'static Host);

// SAFETY: nothing in it is written to, and the callbacks may be called from any thread
unsafe impl Send for Described {}

/// Facts and callbacks for the function of this brief.
pub(super) fn describe(brief: &Brief, modified: SystemTime) -> Described {
    measure::begin();
    let ear: &'static Ear = Box::leak(Box::new(Ear { function: brief.function.to_string(), told: Mutex::default() }));
    let kept = |text: &Option<String>| Slice::of_option(text.clone().map(|text| &*text.leak()));
    let facts = &brief.facts;
    let mtime = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    Described(Box::leak(Box::new(Host {
        size: size_of::<Host>(),
        handle: std::ptr::from_ref(ear).cast_mut().cast(),
        log,
        measure,
        function_name: Slice::of(ear.function.as_bytes()),
        host: kept(&facts.host),
        input_key: kept(&facts.input_key),
        output_key: kept(&facts.output_key),
        function_mtime: i64::try_from(mtime).unwrap_or(i64::MAX),
        port: facts.port.map_or(0, u32::from),
    })))
}

unsafe extern "C" fn log(handle: *mut c_void, event_id: Slice, level: u32, text: Slice) {
    // SAFETY: `describe` made the handle, and the texts last as long as this call
    let (ear, event, text) = unsafe { (&*handle.cast::<Ear>(), event_id.text(), text.text()) };
    let level = match level {
        0 | 1 => Level::ERROR,
        2 => Level::WARN,
        3 => Level::INFO,
        4 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let (event, text) = (event.unwrap_or_default(), text.unwrap_or_default());
    records::write(
        level,
        Record { function: &ear.function, event: &event, stream: &ear.function, worker: None, text: &text },
    );
}

unsafe extern "C" fn measure(
    handle: *mut c_void,
    measure: u32,
    name: Slice,
    value: f64,
    labels: *const Label,
    count: usize,
) {
    // SAFETY: as for `log`
    let (ear, name) = unsafe { (&*handle.cast::<Ear>(), name.text().unwrap_or_default()) };
    let labels = if labels.is_null() || count == 0 {
        &[]
    } else {
        // SAFETY: there are `count` of them, and they last as long as this call
        unsafe { std::slice::from_raw_parts(labels, count) }
    };
    // SAFETY: so do their texts
    let text = |slice: Slice| unsafe { slice.text() }.unwrap_or_default();
    let labels: Vec<_> = labels.iter().map(|label| (text(label.key), text(label.value))).collect();
    ear.measure(measure, &name, value, labels);
}

impl Ear {
    fn measure(&self, measure: u32, name: &str, value: f64, labels: Vec<(String, String)>) {
        let Err(reason) = self.record(measure, name, value, labels) else { return };
        // a library cannot be told at its call
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = told.len() < TOLD && told.insert((name.to_owned(), reason.clone()));
        drop(told);
        if is_new {
            tracing::warn!(function = self.function, "metric '{name}' is not recorded: {reason}");
        }
    }

    fn record(&self, measure: u32, name: &str, value: f64, labels: Vec<(String, String)>) -> Result<(), String> {
        let value = match measure {
            1 if value >= 0.0 && value.fract() == 0.0 => Value::Count(value as u64),
            1 => return Err("a count grows by a whole number from 0".to_owned()),
            2 => Value::Gauge(value),
            3 => Value::Observe(value),
            _ => return Err("the kind of measurement is unknown; known are 1, 2 and 3".to_owned()),
        };
        measure::record(&self.function, name, value, labels)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn odd_measurements_are_refused_with_a_reason() {
        measure::begin();
        let ear = Ear { function: "vm".to_owned(), told: Mutex::default() };
        let permit = |measure, name: &str, value, key: &str| {
            let labels: Vec<_> = Some(key)
                .filter(|key| !key.is_empty())
                .map(|key| (key.to_owned(), String::new()))
                .into_iter()
                .collect();
            ear.record(measure, name, value, labels).err().unwrap_or_default()
        };
        assert_eq!(permit(1, "calls", 2.0, "kind"), "");
        assert!(permit(2, "calls", 2.0, "").starts_with("the name was used for another kind before"));
        assert_eq!(permit(2, "9x", 2.0, ""), "a name has letters, digits and _, and no digit first");
        assert_eq!(permit(2, "", 2.0, ""), "a name has letters, digits and _, and no digit first");
        for key in ["function", "__x", "le", "a-b"] {
            assert!(permit(1, "calls", 2.0, key).starts_with(&format!("label '{key}' is ")), "{key}");
        }
        for value in [-1.0, 0.5, f64::NAN] {
            assert_eq!(permit(1, "calls", value, ""), "a count grows by a whole number from 0");
        }
        assert_eq!(permit(4, "x", 0.0, ""), "the kind of measurement is unknown; known are 1, 2 and 3");
    }

    #[test]
    fn a_library_that_is_refused_for_ever_is_told_a_few_times() {
        let ear = Ear { function: "vm".to_owned(), told: Mutex::default() };
        for n in 0..TOLD + 10 {
            ear.measure(1, &format!("x-{n}"), 1.0, Vec::new());
        }
        assert_eq!(ear.told.lock().unwrap().len(), TOLD);
    }
}
