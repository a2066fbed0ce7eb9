//! The prepared function: one job on the main thread, and one hold of the GIL, for each batch.

use std::any::Any;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString};
use runtime_core::Fault;
use runtime_core::contract::{Call, Env, Event, Function, Legacy, Outcome, Returned};
use runtime_core::main_thread::MainThread;
use tokio::time::sleep;

use super::keeping::Keeping;
use super::memory::{Key, Memory};
use super::{records, state, watch};
use crate::forked;
use crate::kept::Kept;

/// Runs `job` on the main thread; a panic in it does not take that thread down.
pub(super) async fn guarded<T: Send + 'static>(
    main_thread: &MainThread,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let at_home = move || {
        let done = catch_unwind(AssertUnwindSafe(job)).map_err(|panic| panicked(&*panic));
        if forked::is_child() {
            Python::attach(|py| leave(py, None));
        }
        done
    };
    main_thread.run(at_home).await?
}

/// Ends a child that user code has forked, as Python would where the child's last line has run or raised.
fn leave(py: Python<'_>, error: Option<&PyErr>) -> ! {
    let error = error.map(|error| error.value(py));
    let code = py
        .import("_gaugefn_call")
        .and_then(|call| call.call_method1("last_words", (error,)))
        .and_then(|code| code.extract::<i32>());
    forked::leave(code.unwrap_or(1))
}

fn panicked(panic: &(dyn Any + Send)) -> Fault {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Fault::internal(format!("a panic below python: {}", text.unwrap_or("without a message")))
}

/// A loaded function with what its calls need, all of it Python's.
pub(super) struct Parts {
    /// A `Version` of `module.py`.
    version: Py<PyAny>,
    handler: Py<PyAny>,
    /// The context that a version begins with.
    context: Py<PyAny>,
    /// The folder of the function's own files, for messages.
    root: OsString,
    json: Py<PyModule>,
    /// `begin` of `context.py`.
    begin: Py<PyAny>,
    /// `awaited`, `describe` and `offender` of `call.py`.
    awaited: Py<PyAny>,
    describe: Py<PyAny>,
    offender: Py<PyAny>,
    /// `finish` of `records.py`.
    finish: Py<PyAny>,
    records: Py<PyModule>,
    call: Py<PyModule>,
}

impl Parts {
    pub(super) fn new(
        version: Bound<'_, PyAny>,
        context: Bound<'_, PyAny>,
        root: OsString,
        json: &Bound<'_, PyModule>,
        records: &Bound<'_, PyModule>,
        call: &Bound<'_, PyModule>,
        contexts: &Bound<'_, PyModule>,
    ) -> PyResult<Self> {
        Ok(Self {
            handler: version.getattr("handler")?.unbind(),
            version: version.unbind(),
            context: context.unbind(),
            root,
            json: json.clone().unbind(),
            begin: contexts.getattr("begin")?.unbind(),
            awaited: call.getattr("awaited")?.unbind(),
            describe: call.getattr("describe")?.unbind(),
            offender: call.getattr("offender")?.unbind(),
            finish: records.getattr("finish")?.unbind(),
            records: records.clone().unbind(),
            call: call.clone().unbind(),
        })
    }

    /// One event, whatever happens in it.
    pub(super) fn outcome(
        &self,
        py: Python<'_>,
        memory: &Memory,
        event: &Event,
        key: &Key<'_>,
        seconds: Option<f64>,
    ) -> Returned {
        records::enter(&event.id);
        let returned = catch_unwind(AssertUnwindSafe(|| {
            let returned = self.returned(py, memory, event, key, seconds);
            // streams that the function has broken are its own business, and its next print will tell it
            let _ = self.finish.call0(py);
            returned
        }));
        if forked::is_child() {
            // by what became of the result
            leave(py, None);
        }
        records::enter("");
        returned.unwrap_or_else(|panic| Returned::Failed(panicked(&*panic)))
    }

    fn returned(
        &self,
        py: Python<'_>,
        memory: &Memory,
        event: &Event,
        key: &Key<'_>,
        seconds: Option<f64>,
    ) -> Returned {
        let context = memory.context.bind(py);
        let input = match self.parse(py, &event.payload) {
            Ok(input) => input,
            Err(error) => return Returned::Failed(Fault::event(format!("the event is not json: {}", error.value(py)))),
        };
        let key = match memory.enter(py, event, key) {
            Ok(key) => key,
            Err(error) => return Returned::Failed(self.fault(py, error)),
        };
        let called = self
            .begin
            .call1(py, (context, &event.id, event.attempt, seconds))
            .and_then(|_| self.handler.bind(py).call1((input, context)))
            .and_then(|result| self.settled(result));
        if forked::is_child() {
            leave(py, called.as_ref().err());
        }
        // whatever the call has made of it, and also where it failed
        let called = match memory.leave(key) {
            Ok(()) => called,
            Err(error) => called.and(Err(error)),
        };
        let result = match called {
            Ok(result) => result,
            Err(error) => {
                // the first error is the one to tell, also where the function brought a `confirm_execution` that raises
                let _ = self.confirm(context);
                return Returned::Failed(self.fault(py, error));
            }
        };
        // nothing below confirms a call whose result cannot be stored
        let returned = match result.is_truthy() {
            Ok(true) => match self.dump(&result) {
                Ok(text) => Returned::Output(text),
                Err(fault) => return Returned::Failed(fault),
            },
            Ok(false) => Returned::Empty,
            Err(error) => {
                let fault = self.fault(py, error);
                let line = format!("whether the result is empty cannot be told: {fault}");
                return Returned::Failed(Fault::function(line).with_report(fault.report().unwrap_or_default()));
            }
        };
        match self.confirm(context) {
            Ok(()) => returned,
            Err(error) => Returned::Failed(self.fault(py, error)),
        }
    }

    fn parse<'py>(&self, py: Python<'py>, payload: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        // looked up each time: a function may have put its own in place, and it would count in the replaced image
        let loads = self.json.bind(py).getattr(intern!(py, "loads"))?;
        match std::str::from_utf8(payload) {
            // with a mark or zero bytes it may be one of the other encodings that `loads` knows
            Ok(text) if !text.starts_with('\u{feff}') && !text.contains('\0') => loads.call1((text,)),
            _ => loads.call1((PyBytes::new(py, payload),)),
        }
    }

    fn settled<'py>(&self, result: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let plain = result.is_none()
            || result.is_exact_instance_of::<PyDict>()
            || result.is_exact_instance_of::<PyList>()
            || result.is_exact_instance_of::<PyFloat>()
            || result.is_exact_instance_of::<PyInt>()
            || result.is_exact_instance_of::<PyString>()
            || result.is_exact_instance_of::<PyBool>();
        if plain { Ok(result) } else { self.awaited.bind(result.py()).call1((result,)) }
    }

    fn dump(&self, result: &Bound<'_, PyAny>) -> Result<Bytes, Fault> {
        let py = result.py();
        let dumped = self
            .json
            .bind(py)
            .getattr(intern!(py, "dumps"))
            .and_then(|dumps| dumps.call1((result,)))
            .and_then(|text| Ok(Bytes::copy_from_slice(text.cast::<PyString>()?.to_str()?.as_bytes())));
        dumped.map_err(|error| {
            let found = self.offender.bind(py).call1((result,)).and_then(|found| found.extract::<Option<String>>());
            let fault = self.fault(py, error);
            let line = match found {
                Ok(Some(found)) => format!("the result is not json: {found}"),
                Ok(None) | Err(_) => format!("the result is not json: {fault}"),
            };
            Fault::function(line).with_report(fault.report().unwrap_or_default())
        })
    }

    fn confirm(&self, context: &Bound<'_, PyAny>) -> PyResult<()> {
        context.call_method0(intern!(context.py(), "confirm_execution")).map(drop)
    }

    /// What Python raised, `SystemExit` and `KeyboardInterrupt` included.
    pub(super) fn fault(&self, py: Python<'_>, error: PyErr) -> Fault {
        let described = self
            .describe
            .bind(py)
            .call1((error.clone_ref(py).into_value(py), &self.root))
            .and_then(|described| described.extract::<(String, String)>());
        match described {
            Ok((line, report)) => Fault::function(line).with_report(report),
            Err(_) => Fault::function(error.to_string()),
        }
    }

    /// Puts this version in the place of the one that ran. The context stays one object, with a new date of the file;
    /// without an older one it is this version's own.
    fn take_place(&self, own: &Memory, older: Option<&Memory>) -> Result<Option<Memory>, Fault> {
        Python::attach(|py| {
            let taken = || {
                self.version.call_method0(py, intern!(py, "take_place"))?;
                let Some(older) = older else { return Ok(None) };
                let stamp = intern!(py, "function_getmtime");
                older.context.setattr(py, stamp, self.context.getattr(py, stamp)?)?;
                Ok(Some(own.with(py, older.context.clone_ref(py), older)))
            };
            taken().map_err(|error| self.fault(py, error))
        })
    }

    /// Begins with a state that another process encoded.
    fn go_on(&self, memory: &Memory, env: &Env) -> Result<(), Fault> {
        Python::attach(|py| {
            let decoded = state::decode(py, env).and_then(|whole| memory.begin(py, whole));
            decoded.map_err(|error| self.fault(py, error))
        })
    }

    fn end(&self) -> Result<(), Fault> {
        Python::attach(|py| {
            let ended = self.call.call_method0(py, "end");
            let finished = self.records.call_method0(py, "finish_all");
            ended.and(finished).map(drop).map_err(|error| self.fault(py, error))
        })
    }
}

/// The one Python function of the process.
pub(super) struct PythonFunction {
    parts: Arc<Parts>,
    /// Goes on with newer versions.
    memory: Arc<Memory>,
    function: Arc<str>,
    main_thread: MainThread,
    /// How long `context.env` was after the last batch.
    entries: Arc<AtomicUsize>,
    /// Where somebody else keeps the states.
    kept: Arc<Mutex<Kept>>,
    /// Whether a successor would be in another process.
    apart: bool,
    /// The unpacked folder: a function may open its files, or import from it, at any time.
    _keep: Option<Arc<dyn Any + Send + Sync>>,
}

impl PythonFunction {
    /// With the context that the parts begin with.
    pub(super) fn new(
        parts: Parts,
        function: Arc<str>,
        main_thread: MainThread,
        keep: Option<Arc<dyn Any + Send + Sync>>,
        apart: bool,
        state_key: Option<&str>,
        state_ttl: Option<Duration>,
    ) -> Self {
        let memory = Python::attach(|py| Memory::new(py, parts.context.clone_ref(py), state_key, state_ttl));
        Self {
            parts: Arc::new(parts),
            memory: Arc::new(memory),
            main_thread,
            entries: Arc::default(),
            kept: Arc::new(Mutex::new(Kept::new(Arc::clone(&function)))),
            function,
            apart,
            _keep: keep,
        }
    }
}

impl PythonFunction {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Function for PythonFunction {
    async fn invoke(&mut self, events: &[Event], call: Call) -> Result<Vec<Outcome>, Fault> {
        let (parts, memory, entries) = (self.parts.clone(), self.memory.clone(), self.entries.clone());
        let kept = call.keep.then(|| Arc::clone(&self.kept));
        let events = events.to_vec();
        guarded(&self.main_thread, move || {
            // each event has as long as the first one
            let seconds = call.deadline.map(|end| end.saturating_duration_since(Instant::now()).as_secs_f64());
            let observer = call.observer.as_deref();
            Python::attach(|py| {
                if let Some(kept) = kept {
                    let mut live = Keeping { py, parts: &parts, memory: &memory, seconds };
                    let outcomes = kept.lock().unwrap_or_else(PoisonError::into_inner).run(&mut live, &events, &call);
                    entries.store(memory.entries(py), Ordering::Relaxed);
                    return outcomes;
                }
                let outcome = |(index, event)| {
                    if let Some(observer) = observer {
                        observer.begins(index);
                    }
                    let outcome = parts.outcome(py, &memory, event, &Key::OfEvent, seconds).into();
                    if let Some(observer) = observer {
                        observer.ended(index, &outcome);
                    }
                    outcome
                };
                let outcomes = events.iter().enumerate().map(outcome).collect();
                entries.store(memory.entries(py), Ordering::Relaxed);
                outcomes
            })
        })
        .await
    }

    fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    async fn hand_over(&mut self) -> Result<Legacy, Fault> {
        if !self.apart {
            return Ok(Legacy::Live(Box::new(Arc::clone(&self.memory))));
        }
        if let Some(reason) = self.kept().unreadable() {
            return Err(Fault::function(format!("there is no state to hand over: {reason}")));
        }
        let memory = self.memory.clone();
        let encoded = guarded(&self.main_thread, move || Python::attach(|py| memory.encoded(py)));
        let (env, lost) =
            encoded.await?.map_err(|error| Fault::function("context.env cannot be had").caused_by(error))?;
        Ok(Legacy::Encoded { env, lost })
    }

    async fn take_over(&mut self, legacy: Option<Legacy>) -> Result<(), Fault> {
        self.kept().reset();
        let older = match legacy {
            None => None,
            Some(Legacy::Live(live)) => match live.downcast::<Arc<Memory>>() {
                Ok(memory) => Some(memory),
                Err(_) => return Err(Fault::internal("a python function was handed another executor's state")),
            },
            Some(Legacy::Encoded { env, .. }) => {
                let (parts, memory) = (self.parts.clone(), self.memory.clone());
                return guarded(&self.main_thread, move || parts.go_on(&memory, &env)).await?;
            }
        };
        let (parts, own) = (self.parts.clone(), self.memory.clone());
        let taken = guarded(&self.main_thread, move || parts.take_place(&own, older.as_deref().map(|older| &**older)));
        if let Some(memory) = taken.await?? {
            self.memory = Arc::new(memory);
        }
        Ok(())
    }

    /// The interpreter goes on, with what the version has registered for its end.
    async fn retire(&mut self, _within: Duration) -> Result<(), Fault> {
        Ok(())
    }

    /// Nothing can end it but its process. Where the caller is on the main thread itself, it does not hear of the end of
    /// the time, but that is said.
    async fn close(&mut self, within: Duration) -> Result<(), Fault> {
        let (parts, function) = (self.parts.clone(), Arc::clone(&self.function));
        // in a worker the parent does that, and has it all the time
        let watch = (within < Duration::MAX).then(|| {
            watch::after(within, move |place| {
                tracing::warn!(
                    %function,
                    "its end takes longer than {:.1}s and is not waited for: an atexit function, or a thread that is no \
                     daemon, goes on{place}", within.as_secs_f64()
                );
            })
        });
        let result = tokio::select! {
            result = guarded(&self.main_thread, move || parts.end()) => result?,
            // after what is said of it
            () = sleep(within.saturating_add(Duration::from_millis(400))) => Ok(()),
        };
        drop(watch);
        result
    }
}
