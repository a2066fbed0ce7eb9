//! The one place that calls into a library: an instance between `open` and `close`, on its thread.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::null_mut;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gaugefn_sdk::abi::{self, Slice};
use runtime_core::Fault;
use runtime_core::contract::{Blame, Call, Env, Event, Outcome, Returned, StateKey};
use serde::de::IgnoredAny;

use super::host::Described;
use super::library::Exported;
use super::state::{self, Told};
use crate::forked;
use crate::kept::{Called, Kept, Live, Mark, Saved};

/// What a library without `save` loses, where it may have a state.
const NO_SAVE: (&str, &str) = ("the library's state", "its table has no save");

pub(super) struct Instance {
    function: abi::Function,
    pointer: *mut c_void,
    /// Where somebody else keeps its state.
    kept: Kept,
}

impl Instance {
    pub(super) fn open(exported: Exported, host: Described) -> Self {
        let function = exported.function;
        // SAFETY: the host lives as long as the process
        let pointer = function.open.map_or(null_mut(), |open| unsafe { open(host.0) });
        // SAFETY: so do its texts
        let name = unsafe { host.0.function_name.text() }.unwrap_or_default();
        Self { function, pointer, kept: Kept::new(name.into()) }
    }

    /// All events in one crossing, unless somebody has to know what happens to each.
    pub(super) fn invoke(&mut self, events: &[Event], call: &Call) -> Vec<Outcome> {
        // each event has as long as the first one
        let limit = call.deadline.map(|end| end.saturating_duration_since(Instant::now()));
        if call.keep {
            let mut kept = std::mem::replace(&mut self.kept, Kept::new(Arc::default()));
            let outcomes = kept.run(&mut Alone { instance: self, limit }, events, call);
            self.kept = kept;
            return outcomes;
        }
        if call.observer.is_none() {
            let handed: Vec<_> = events.iter().map(handed).collect();
            let mut outcomes = vec![abi::Outcome::UNSET; events.len()];
            // SAFETY: what outcomes point to is valid where they are read
            return self.cross(&handed, &mut outcomes, limit, |outcomes| unsafe { read(outcomes) });
        }
        let mut all = Vec::with_capacity(events.len());
        for (n, event) in events.iter().enumerate() {
            if let Some(observer) = &call.observer {
                observer.begins(n);
            }
            let outcome = Outcome::from(self.one(event, limit));
            if let Some(observer) = &call.observer {
                observer.ended(n, &outcome);
            }
            all.push(outcome);
        }
        all
    }

    fn one(&self, event: &Event, limit: Option<Duration>) -> Returned {
        let (handed, mut answer) = (handed(event), [abi::Outcome::UNSET]);
        // SAFETY: what the outcome points to is valid where it is read
        self.cross(from_ref(&handed), &mut answer, limit, |answer| unsafe { alone(&answer[0]) })
    }

    /// Calls the library, reads its answer, and releases it.
    fn cross<T>(
        &self,
        events: &[abi::Event],
        outcomes: &mut [abi::Outcome],
        limit: Option<Duration>,
        read: impl FnOnce(&[abi::Outcome]) -> T,
    ) -> T {
        let batch = abi::Call {
            size: size_of::<abi::Call>(),
            count: events.len(),
            events: events.as_ptr().cast(),
            event_size: size_of::<abi::Event>(),
            outcomes: outcomes.as_mut_ptr().cast(),
            outcome_size: size_of::<abi::Outcome>(),
            remaining: limit.map_or(abi::NO_LIMIT, |left| i64::try_from(left.as_nanos()).unwrap_or(i64::MAX)),
        };
        if let Some(call) = self.function.call {
            // SAFETY: everything in the batch lives until after `release`; this thread is the only one that calls
            unsafe { call(self.pointer, &raw const batch) };
            // before anybody is told of the outcomes
            forked::leave_if_child();
        }
        let answer = read(outcomes);
        if let Some(release) = self.function.release {
            // SAFETY: as for `call`
            unsafe { release(self.pointer, &raw const batch) };
        }
        answer
    }

    /// The state as it is, and what of it cannot be told.
    pub(super) fn save(&self) -> Told {
        let mut told = Told::default();
        match self.function.save {
            // SAFETY: what takes the entries lives as long as the call
            Some(save) => state::told(&mut told, |saving| unsafe { save(self.pointer, saving) }),
            None if self.function.open.is_some() => told.lose(NO_SAVE.0, NO_SAVE.1),
            None => {}
        }
        told
    }

    /// As [`save`](Self::save), for a successor.
    pub(super) fn hand_over(&self) -> Result<Told, Fault> {
        match self.kept.unreadable() {
            None => Ok(self.save()),
            Some(reason) => Err(Fault::function(format!("there is no state to hand over: {reason}"))),
        }
    }

    /// Begins with this state.
    pub(super) fn take_over(&mut self, env: &Env) -> Result<(), Fault> {
        self.kept.reset();
        self.load(env)
    }

    /// Replaces the state.
    fn load(&self, env: &Env) -> Result<(), Fault> {
        let Some(load) = self.function.load else {
            if env.0.is_empty() {
                return Ok(());
            }
            return Err(Fault::function(
                "the library takes no state over (its table has no load): build it with a later gaugefn-sdk, or begin \
                 anew with reload_state = \"reset\"",
            ));
        };
        // SAFETY: the entries live as long as the call
        state::given(env, |loading| unsafe { load(self.pointer, loading) })
    }
}

/// An instance whose state somebody else keeps: there is one, and each event crosses alone.
struct Alone<'a> {
    instance: &'a Instance,
    limit: Option<Duration>,
}

impl Live for Alone<'_> {
    fn key(&self, _event: &Event) -> StateKey {
        StateKey(None)
    }

    fn refusal(&self) -> Option<Fault> {
        let function = &self.instance.function;
        if function.save.is_some() && function.load.is_some() || function.open.is_none() {
            return None;
        }
        Some(Fault::config(
            "the library cannot keep its state in a store (its table has no save and load): build it with a later \
             gaugefn-sdk, or use the state 'memory'",
        ))
    }

    fn call(&mut self, event: &Event) -> Called {
        let returned = self.instance.one(event, self.limit);
        // a library may say of any event that it is of no use, also after it has worked with it
        let is_malformed = matches!(&returned, Returned::Failed(fault) if fault.blame() == Blame::Event)
            && serde_json::from_slice::<IgnoredAny>(&event.payload).is_err();
        Called { returned, reached: !is_malformed }
    }

    fn save(&mut self, _key: &StateKey) -> Saved {
        let Told { env, lost } = self.instance.save();
        let lost = lost.into_iter().map(|(name, reason)| (name.clone(), format!("'{name}' ({reason})"))).collect();
        Saved { mark: Mark { env, odd: false }, lost }
    }

    fn give(&mut self, _key: &StateKey, env: &Env) -> Result<(), Fault> {
        self.instance.load(env)
    }

    fn restore(&mut self, key: &StateKey, mark: &Mark) -> Result<(), Fault> {
        if self.save(key).mark == *mark { Ok(()) } else { self.instance.load(&mark.env) }
    }

    fn forget(&mut self, _key: &StateKey) {
        // an empty state is one that no library refuses
        let _ = self.instance.load(&Env::default());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(close) = self.function.close {
            // SAFETY: nothing is called after this
            unsafe { close(self.pointer) };
        }
    }
}

fn handed(event: &Event) -> abi::Event {
    abi::Event { id: Slice::of(event.id.as_bytes()), payload: Slice::of(&event.payload), attempt: event.attempt }
}

/// All results are copied into one buffer that they share.
///
/// # Safety
/// The slices of the outcomes are valid.
unsafe fn read(outcomes: &[abi::Outcome]) -> Vec<Outcome> {
    let results = outcomes.iter().filter(|outcome| outcome.status == abi::OUTPUT);
    let mut buffer = Vec::new();
    // SAFETY: by the caller's promise
    results.for_each(|outcome| buffer.extend_from_slice(unsafe { outcome.value.bytes() }));
    let mut left = Bytes::from(buffer);
    let returned = outcomes.iter().map(|outcome| {
        if outcome.status == abi::OUTPUT {
            // as many as were copied: null has none, whatever its length says
            let length = if outcome.value.data.is_null() { 0 } else { outcome.value.len };
            return result(left.split_to(length));
        }
        // SAFETY: as above
        unsafe { other(outcome) }
    });
    returned.map(Outcome::from).collect()
}

/// What the handlers of the sdk do with `null` is right for the others too.
fn result(text: Bytes) -> Returned {
    if text.trim_ascii() == b"null" { Returned::Empty } else { Returned::Output(text) }
}

/// # Safety
/// The slices of the outcome are valid.
unsafe fn alone(outcome: &abi::Outcome) -> Returned {
    if outcome.status == abi::OUTPUT {
        // SAFETY: by the caller's promise
        return result(Bytes::copy_from_slice(unsafe { outcome.value.bytes() }));
    }
    // SAFETY: as above
    unsafe { other(outcome) }
}

/// # Safety
/// The slices of the outcome are valid.
unsafe fn other(outcome: &abi::Outcome) -> Returned {
    // SAFETY: by the caller's promise
    let (line, report) = unsafe { (outcome.value.text().unwrap_or_default(), outcome.report.text()) };
    let fault = match outcome.status {
        abi::EMPTY => return Returned::Empty,
        abi::FAILED => Fault::function(line),
        abi::UNUSABLE => Fault::event(line),
        abi::UNSET => Fault::function("the library gave this event no outcome: its call must fill in every one"),
        status => Fault::function(format!("the library gave an outcome of the unknown status {status}")),
    };
    Returned::Failed(match report {
        Some(report) => fault.with_report(report),
        None => fault,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u32, value: &'static str) -> abi::Outcome {
        abi::Outcome { status, value: Slice::of(value.as_bytes()), report: Slice::NONE }
    }

    #[test]
    fn outcomes_keep_their_order_and_their_bytes() {
        let outcomes = [
            outcome(abi::OUTPUT, "{\"a\": 1}"),
            outcome(abi::EMPTY, "not looked at"),
            outcome(abi::OUTPUT, " null\n"),
            abi::Outcome { status: abi::OUTPUT, value: Slice { data: std::ptr::null(), len: 7 }, report: Slice::NONE },
            outcome(abi::UNUSABLE, "no object"),
            abi::Outcome { report: Slice::of(b"line\nline"), ..outcome(abi::FAILED, "line") },
            abi::Outcome::UNSET,
            outcome(9, ""),
            outcome(abi::OUTPUT, "[2]"),
        ];
        // SAFETY: they point to literals, or to nothing
        let read = unsafe { read(&outcomes) };
        let texts: Vec<_> = read
            .iter()
            .map(|outcome| match &outcome.returned {
                Returned::Empty => "empty".to_owned(),
                Returned::Output(text) => String::from_utf8_lossy(text).into_owned(),
                Returned::Failed(fault) => {
                    format!("{}: {fault}: {}", fault.blame().as_str(), fault.report().unwrap_or("no report"))
                }
                Returned::NotCalled => panic!("every event is called"),
            })
            .collect();
        let expected = [
            "{\"a\": 1}",
            "empty",
            "empty",
            "",
            "event: no object: no report",
            "function: line: line\nline",
            "function: the library gave this event no outcome: its call must fill in every one: no report",
            "function: the library gave an outcome of the unknown status 9: no report",
            "[2]",
        ];
        assert_eq!(texts, expected);
    }
}
