//! From a module's files to something that can be called.

use std::ffi::{CStr, OsString};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use pyo3::ffi::c_str;
use pyo3::prelude::*;
use runtime_core::Fault;
use runtime_core::contract::{Brief, Module};

use super::call::Parts;
use super::interpreter::python_variable;
use super::{measure, records};

/// Imports the module and finds its entry function. To be called on Python's main thread, after its start.
///
/// # Errors
/// [`Fault::function`] with file, line, and what was wanted.
pub(super) fn load(module: &Module, brief: &Brief, paths: &[PathBuf], site: Option<&Path>) -> Result<Parts, Fault> {
    records::begin(&brief.function);
    crate::measure::begin();
    Python::attach(|py| {
        let own =
            Own::load(py, brief).map_err(|error| Fault::internal("python support code fails").caused_by(error))?;
        let loaded = own.function(module, brief, paths, site).map_err(|error| refusal(py, &error));
        // what the import printed without a line break
        let finished = own.records.call_method0("finish");
        let parts = loaded?;
        finished.map_err(|error| Fault::internal("python streams fail").caused_by(error))?;
        Ok(parts)
    })
}

/// The runtime's own Python, and what it uses of the library: both are loaded before the function's folder, which may
/// have a `json.py`, stands in front of `sys.path`.
struct Own<'py> {
    json: Bound<'py, PyModule>,
    records: Bound<'py, PyModule>,
    call: Bound<'py, PyModule>,
    module: Bound<'py, PyModule>,
    context: Bound<'py, PyModule>,
}

impl<'py> Own<'py> {
    fn load(py: Python<'py>, brief: &Brief) -> PyResult<Self> {
        let modules = py.import("sys")?.getattr("modules")?;
        let own = |code: &CStr, file: &CStr, name: &CStr| {
            // there already after a first function that could not be loaded
            match modules.get_item(name.to_string_lossy()) {
                Ok(module) => Ok(module.cast_into()?),
                Err(_) => PyModule::from_code(py, code, file, name),
            }
        };
        let records = own(c_str!(include_str!("records.py")), c"<gaugefn>/records.py", c"_gaugefn_records")?;
        let (send, forked) =
            (wrap_pyfunction!(super::records::send, py)?, wrap_pyfunction!(super::records::forked, py)?);
        records.call_method1("install", (&*brief.function, send, py.get_type::<records::Writer>(), forked))?;
        // `module` imports from `call`
        let call = own(c_str!(include_str!("call.py")), c"<gaugefn>/call.py", c"_gaugefn_call")?;
        let module = own(c_str!(include_str!("module.py")), c"<gaugefn>/module.py", c"_gaugefn_module")?;
        let context = own(c_str!(include_str!("context.py")), c"<gaugefn>/context.py", c"_gaugefn_context")?;
        Ok(Self { json: py.import("json")?, records, call, module, context })
    }

    fn function(&self, module: &Module, brief: &Brief, paths: &[PathBuf], site: Option<&Path>) -> PyResult<Parts> {
        let py = self.module.py();
        // as text: a PathBuf would become a pathlib.Path
        let (entry, root) = (module.entry.as_os_str(), module.root.as_os_str());
        let mut all: Vec<OsString> = paths.iter().map(|path| path.clone().into_os_string()).collect();
        if let Some(more) = python_variable("PYTHONPATH") {
            all.extend(std::env::split_paths(&more).map(PathBuf::into_os_string).filter(|path| !path.is_empty()));
        }
        let version =
            self.module.call_method1("load", (entry, root, &brief.handler, all, site.map(Path::as_os_str)))?;

        let facts = &brief.facts;
        let modified = module.modified.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let send = wrap_pyfunction!(measure::measure, py)?;
        let (host, input, output) = (&facts.host, &facts.input_key, &facts.output_key);
        let context =
            self.context.call_method1("make", (&*brief.function, host, facts.port, input, output, modified, send))?;
        Parts::new(version, context, root.to_owned(), &self.json, &self.records, &self.call, &self.context)
    }
}

/// `module.py` says itself what is wrong with a function; anything else is Python's own error.
fn refusal(py: Python<'_>, error: &PyErr) -> Fault {
    let value = error.value(py);
    let line = value.getattr("line").and_then(|line| line.extract::<String>());
    let report = value.getattr("report").and_then(|report| report.extract::<Option<String>>());
    match (line, report) {
        (Ok(line), Ok(Some(report))) => Fault::function(line).with_report(report),
        (Ok(line), Ok(None)) => Fault::function(line),
        _ => Fault::function(format!("the function cannot be loaded: {error}")),
    }
}
