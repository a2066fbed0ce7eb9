//! The entry points of a Rust function: what its library exports for each handler.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::null_mut;
use std::time::{Duration, SystemTime};

use crate::abi::{Call, EMPTY, Entry, Event, FAILED, Host, Label, Load, OUTPUT, Outcome, Save, Slice, UNUSABLE};
use crate::context::{Context, Facts, Level, Listener, Measure, Saved};
use crate::export::{Handled, Handler};
use crate::panics;

/// An instance of a Rust function.
struct Instance {
    context: Context,
    /// What the last call's outcomes point to.
    kept: Vec<Vec<u8>>,
}

impl Instance {
    /// Keeps the bytes until `release`; the buffer of a `Vec` stays where it is when the `Vec` is moved.
    fn keep(&mut self, bytes: Vec<u8>) -> Slice {
        let slice = Slice::of(&bytes);
        self.kept.push(bytes);
        slice
    }
}

pub(crate) unsafe extern "C" fn open(host: *const Host) -> *mut c_void {
    // SAFETY: the runtime hands over a structure of at least the fields of minor 0, valid for the process's life
    let host: &'static Host = unsafe { &*host };
    // SAFETY: so are the texts in it
    let text = |slice: Slice| unsafe { slice.text() };
    let made = panics::caught(|| {
        let mtime = u64::try_from(host.function_mtime).unwrap_or_default();
        let facts = Facts {
            function_name: text(host.function_name).unwrap_or_default(),
            host: text(host.host),
            port: u16::try_from(host.port).ok().filter(|port| *port != 0),
            input_key: text(host.input_key),
            output_key: text(host.output_key),
            function_getmtime: SystemTime::UNIX_EPOCH + Duration::from_nanos(mtime),
        };
        let context = Context::of_runtime(facts, Box::new(Wire(host)));
        Box::into_raw(Box::new(Instance { context, kept: Vec::new() }))
    });
    made.map_or(null_mut(), <*mut Instance>::cast)
}

pub(crate) unsafe extern "C" fn call<H: Handler>(instance: *mut c_void, call: *const Call) {
    if instance.is_null() {
        // `open` failed; every outcome stays unset
        return;
    }
    // SAFETY: `instance` is what `open` made, and the runtime calls one instance from one thread at a time
    let instance = unsafe { &mut *instance.cast::<Instance>() };
    // SAFETY: the runtime hands over a structure of at least the fields of minor 0
    let call = unsafe { &*call };
    let remaining = u64::try_from(call.remaining).ok().map(Duration::from_nanos);
    for n in 0..call.count {
        // SAFETY: there are `count` events that far apart, each with at least the fields of minor 0
        let event = unsafe { call.events.add(n * call.event_size).cast::<Event>().read() };
        // SAFETY: they last as long as the call
        let (id, payload) = unsafe { (event.id.bytes(), event.payload.bytes()) };
        let handled = panics::caught(|| {
            instance.context.begin(&String::from_utf8_lossy(id), event.attempt, remaining);
            H::handle(payload, &mut instance.context)
        });
        let (status, value, report) = match handled {
            Ok(Handled::Empty) => (EMPTY, Vec::new(), None),
            Ok(Handled::Output(text)) => (OUTPUT, text, None),
            Ok(Handled::Failed(text)) => (FAILED, text.into_bytes(), None),
            Ok(Handled::Unusable(text)) => (UNUSABLE, text.into_bytes(), None),
            Err(panic) => {
                instance.context.confirm_execution();
                (FAILED, panic.line.into_bytes(), Some(panic.report.into_bytes()))
            }
        };
        let report = report.map_or(Slice::NONE, |report| instance.keep(report));
        let value = if status == EMPTY { Slice::NONE } else { instance.keep(value) };
        // SAFETY: there are `count` outcomes that far apart, each with at least the fields of minor 0
        unsafe { call.outcomes.add(n * call.outcome_size).cast::<Outcome>().write(Outcome { status, value, report }) };
    }
}

pub(crate) unsafe extern "C" fn release(instance: *mut c_void, _call: *const Call) {
    // SAFETY: as for `call`, or null
    if let Some(instance) = unsafe { instance.cast::<Instance>().as_mut() } {
        instance.kept.clear();
    }
}

pub(crate) unsafe extern "C" fn close(instance: *mut c_void) {
    if instance.is_null() {
        return;
    }
    // SAFETY: `open` made it of a box, and nothing is called after this
    let instance = unsafe { Box::from_raw(instance.cast::<Instance>()) };
    // a state's own `drop` may panic, and there is nobody left to tell
    let _ = panics::caught(|| drop(instance));
}

pub(crate) unsafe extern "C" fn save(instance: *mut c_void, save: *const Save) {
    // SAFETY: as for `call`, or null
    let Some(instance) = (unsafe { instance.cast::<Instance>().as_ref() }) else { return };
    // SAFETY: the runtime hands over a structure of at least the fields of minor 2
    let save = unsafe { &*save };
    let slice = |text: &String| Slice::of(text.as_bytes());
    let Saved { entries, lost } = instance.context.save();
    for (key, value) in &entries {
        // SAFETY: handle and function are the runtime's own, and the texts last as long as the call
        unsafe { (save.put)(save.handle, slice(key), slice(value)) };
    }
    for (name, reason) in &lost {
        // SAFETY: as above
        unsafe { (save.lose)(save.handle, slice(name), slice(reason)) };
    }
}

pub(crate) unsafe extern "C" fn load(instance: *mut c_void, load: *const Load) {
    // SAFETY: the runtime hands over a structure of at least the fields of minor 2
    let load = unsafe { &*load };
    let refuse = |reason: &str| {
        // SAFETY: handle and function are the runtime's own, and the text lasts as long as the call
        unsafe { (load.refuse)(load.handle, Slice::of(reason.as_bytes())) };
    };
    // SAFETY: as for `call`, or null
    let Some(instance) = (unsafe { instance.cast::<Instance>().as_mut() }) else {
        return refuse("the function was not opened");
    };
    let entries = (0..load.count).map(|n| {
        // SAFETY: there are `count` entries that far apart, each with at least the fields of minor 2
        let entry = unsafe { load.entries.add(n * load.entry_size).cast::<Entry>().read() };
        // SAFETY: they last as long as the call
        let text = |slice: Slice| unsafe { slice.text() }.unwrap_or_default();
        (text(entry.key), text(entry.value))
    });
    // what is replaced may panic when it is dropped
    match panics::caught(|| instance.context.load(entries)) {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => refuse(&reason),
        Err(panic) => refuse(&panic.line),
    }
}

/// The runtime's side of a context.
struct Wire(&'static Host);

// SAFETY: its functions may be called from any thread
unsafe impl Send for Wire {}

impl Listener for Wire {
    fn log(&mut self, event: &str, level: Level, text: &str) {
        let (event, text) = (Slice::of(event.as_bytes()), Slice::of(text.as_bytes()));
        // SAFETY: handle and function are the runtime's own, and the texts last as long as the call
        unsafe { (self.0.log)(self.0.handle, event, level as u32, text) };
    }

    fn measure(&mut self, measure: Measure, name: &str, value: f64, labels: &[(&str, &str)]) {
        let slice = |text: &str| Slice::of(text.as_bytes());
        let labels: Vec<_> = labels.iter().map(|(key, value)| Label { key: slice(key), value: slice(value) }).collect();
        let host = self.0;
        // SAFETY: as above
        unsafe { (host.measure)(host.handle, measure as u32, slice(name), value, labels.as_ptr(), labels.len()) };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::abi::{Function, NO_LIMIT};

    struct Picky;
    impl Handler for Picky {
        fn handle(payload: &[u8], context: &mut Context) -> Handled {
            *context.state::<u64>() += 1;
            match payload {
                b"panic" => panic!("call {}", context.state::<u64>()),
                b"fail" => Handled::Failed(format!("event {}", context.event_id())),
                b"log" => {
                    context.warn("seen");
                    context.count("seen", 2, &[("a", "b")]);
                    Handled::Empty
                }
                payload => Handled::Output(payload.to_ascii_uppercase()),
            }
        }
    }

    unsafe extern "C" fn log(handle: *mut c_void, event: Slice, level: u32, text: Slice) {
        // SAFETY: the test below made them
        let (said, event, text) =
            unsafe { (&mut *handle.cast::<Vec<String>>(), event.text().unwrap(), text.text().unwrap()) };
        said.push(format!("{event} {level} {text}"));
    }

    unsafe extern "C" fn measure(
        handle: *mut c_void,
        measure: u32,
        name: Slice,
        value: f64,
        labels: *const Label,
        count: usize,
    ) {
        // SAFETY: the test below made them
        let (said, name, labels) = unsafe {
            let labels = std::slice::from_raw_parts(labels, count);
            (&mut *handle.cast::<Vec<String>>(), name.text().unwrap(), labels[0].key.text().unwrap())
        };
        said.push(format!("{measure} {name} {value} {labels}"));
    }

    #[test]
    fn a_batch_crosses_the_border_and_a_panic_stays_behind_it() {
        let mut said: Vec<String> = Vec::new();
        let host: &'static Host = Box::leak(Box::new(Host {
            size: size_of::<Host>(),
            handle: (&raw mut said).cast(),
            log,
            measure,
            function_name: Slice::of(b"vm"),
            host: Slice::NONE,
            input_key: Slice::NONE,
            output_key: Slice::NONE,
            function_mtime: 1,
            port: 0,
        }));
        let function = Function::of::<Picky>("handler");
        let payloads: [&[u8]; 5] = [b"abc", b"panic", b"fail", b"log", b""];
        let events = payloads.map(|payload| Event { id: Slice::of(b"e1"), payload: Slice::of(payload), attempt: 1 });
        let mut outcomes = [Outcome::UNSET; 5];
        let batch = Call {
            size: size_of::<Call>(),
            count: 5,
            events: events.as_ptr().cast(),
            event_size: size_of::<Event>(),
            outcomes: outcomes.as_mut_ptr().cast(),
            outcome_size: size_of::<Outcome>(),
            remaining: NO_LIMIT,
        };
        // SAFETY: everything handed over lives until after `close`
        unsafe {
            let instance = function.open.unwrap()(host);
            function.call.unwrap()(instance, &batch);
            let text = |n: usize| outcomes[n].value.text().unwrap_or_default();
            assert_eq!(outcomes.map(|outcome| outcome.status), [OUTPUT, FAILED, FAILED, EMPTY, OUTPUT]);
            assert_eq!((text(0), text(2), text(4)), ("ABC".to_owned(), "event e1".to_owned(), String::new()));
            assert!(text(1).contains("shim.rs:") && text(1).ends_with(": call 2"), "{}", text(1));
            assert!(outcomes[1].report.text().unwrap().contains(":\ncall 2"));
            function.release.unwrap()(instance, &batch);
            assert!((*instance.cast::<Instance>()).kept.is_empty());
            function.close.unwrap()(instance);
        }
        assert_eq!(said, ["e1 2 seen", "1 seen 2 a"]);
    }

    unsafe extern "C" fn put(handle: *mut c_void, key: Slice, value: Slice) {
        // SAFETY: the test below made it, and the texts live as long as the call
        let (said, key, value) = unsafe { (&mut *handle.cast::<Vec<String>>(), key.text(), value.text()) };
        said.push(format!("{} = {}", key.unwrap(), value.unwrap()));
    }

    unsafe extern "C" fn refuse(handle: *mut c_void, reason: Slice) {
        // SAFETY: as above
        let (said, reason) = unsafe { (&mut *handle.cast::<Vec<String>>(), reason.text()) };
        said.push(reason.unwrap());
    }

    #[test]
    fn a_state_crosses_the_border() {
        let mut said: Vec<String> = Vec::new();
        let handle: *mut c_void = (&raw mut said).cast();
        let mut instance = Instance { context: Context::for_tests(), kept: Vec::new() };
        let pointer: *mut c_void = (&raw mut instance).cast();
        let saving = Save { size: size_of::<Save>(), handle, put, lose: put };
        let loaded = |entries: &[Entry], into: *mut c_void| {
            let load = Load {
                size: size_of::<Load>(),
                count: entries.len(),
                entries: entries.as_ptr().cast(),
                entry_size: size_of::<Entry>(),
                handle,
                refuse,
            };
            // SAFETY: everything handed over lives as long as the call
            unsafe { super::load(into, &load) };
        };
        let entry = |key: &'static str, value: &'static str| Entry {
            key: Slice::of(key.as_bytes()),
            value: Slice::of(value.as_bytes()),
        };
        loaded(&[entry("a", " [1]"), entry("gaugefn.states", "{\"u64\": 3}")], pointer);
        loaded(&[entry("a", "2"), entry("b", "{")], pointer);
        loaded(&[], null_mut());
        // SAFETY: as above
        unsafe {
            super::save(pointer, &saving);
            super::save(null_mut(), &saving);
        }
        assert_eq!(instance.context.state::<u64>(), &3);
        let wanted = [
            "the value of 'b' cannot be read: EOF while parsing an object at line 1 column 1",
            "the function was not opened",
            "a = [1]",
            "gaugefn.states = {\"u64\":3}",
        ];
        assert_eq!(said, wanted);
    }
}
