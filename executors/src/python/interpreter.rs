//! Starts the interpreter, once per process, on the thread that stays Python's main thread.
//!
//! The configuration is isolated: it reads no environment of its own and no command line. The executable alone is
//! given, so that CPython finds `pyvenv.cfg`, its library and its packages by its own rules; what goes in front of
//! `sys.path` is put there afterwards.

// pyo3 has no safe face for PyConfig
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pyo3::ffi;
use pyo3::prelude::*;
use runtime_core::Fault;

use crate::forked;

/// The version of the Python that this binary was built with, such as `3.11.7`.
const BUILT_WITH: &str = env!("GAUGEFN_PYTHON_VERSION");

/// The interpreter that runs in this process.
static STARTED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Starts the interpreter as `executable` would start it. A second call with the same one does nothing.
///
/// # Errors
/// It is not the Python that this binary belongs to, or it does not start.
pub(super) fn start(executable: &Path) -> Result<(), Fault> {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    match &*started {
        Some(running) if running == executable => {}
        Some(running) => {
            return Err(Fault::config(format!(
                "{} cannot be used: this process runs {} already",
                executable.display(),
                running.display()
            )));
        }
        None => {
            check_library()?;
            // Python runs user code by starting: `.pth` files, `sitecustomize`
            forked::begin();
            initialize(executable)?;
            *started = Some(executable.to_owned());
        }
    }
    drop(started);
    Python::attach(|py| {
        check_base(py)?;
        leave_interrupts(py)
    })
}

/// `VIRTUAL_ENV` and `PYTHONPATH` are no settings of this runtime: they mean here what they mean to any Python, and
/// the isolated interpreter does not look at them itself.
#[allow(clippy::disallowed_methods)]
pub(super) fn python_variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// `LD_LIBRARY_PATH` wins over the path in the binary, and another patch release would start, then fail in odd places.
fn check_library() -> Result<(), Fault> {
    // SAFETY: may be called before initialization and returns a static string.
    let text = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) }.to_string_lossy();
    let loaded = text.split_whitespace().next().unwrap_or_default();
    if loaded == BUILT_WITH {
        return Ok(());
    }
    Err(Fault::config(format!(
        "libpython {loaded} was loaded, but this binary was built with {BUILT_WITH}; \
         unset LD_LIBRARY_PATH, or install Python {BUILT_WITH}"
    )))
}

fn initialize(executable: &Path) -> Result<(), Fault> {
    let program = CString::new(executable.as_os_str().as_bytes())
        .map_err(|_| Fault::config(format!("the path {} has a zero byte", executable.display())))?;
    let failed = |status: ffi::PyStatus| {
        let reason = if status.err_msg.is_null() {
            "no reason given".into()
        } else {
            // SAFETY: not null, and CPython's messages are static strings.
            unsafe { CStr::from_ptr(status.err_msg) }.to_string_lossy()
        };
        Fault::config(format!("python {} does not start: {reason}", executable.display()))
    };

    // SAFETY: no interpreter exists, as `start` holds its lock and calls this once; the structures are initialized by
    // CPython before they are read, and `config` is cleared on every way out.
    unsafe {
        let mut pre: ffi::PyPreConfig = std::mem::zeroed();
        ffi::PyPreConfig_InitIsolatedConfig(&raw mut pre);
        pre.utf8_mode = 1;
        // an isolated interpreter would keep the locale at C, unlike any Python that users know
        pre.configure_locale = 1;
        let status = ffi::Py_PreInitialize(&raw const pre);
        if ffi::PyStatus_Exception(status) != 0 {
            return Err(failed(status));
        }

        let mut config: ffi::PyConfig = std::mem::zeroed();
        ffi::PyConfig_InitIsolatedConfig(&raw mut config);
        config.install_signal_handlers = 0;
        config.parse_argv = 0;
        config.site_import = 1;
        config.buffered_stdio = 0;
        // the function's folder belongs to its owner, and may be watched
        config.write_bytecode = 0;
        let mut argv = [c"".as_ptr()];
        let status = [
            ffi::PyConfig_SetBytesString(&raw mut config, &raw mut config.program_name, program.as_ptr()),
            ffi::PyConfig_SetBytesString(&raw mut config, &raw mut config.executable, program.as_ptr()),
            ffi::PyConfig_SetBytesArgv(&raw mut config, 1, argv.as_mut_ptr()),
        ]
        .into_iter()
        .find(|status| ffi::PyStatus_Exception(*status) != 0);
        let status = status.unwrap_or_else(|| ffi::Py_InitializeFromConfig(&raw const config));
        ffi::PyConfig_Clear(&raw mut config);
        if ffi::PyStatus_Exception(status) != 0 {
            return Err(failed(status));
        }
        // this thread holds the GIL now; it takes it again for each batch
        ffi::PyEval_SaveThread();
    }
    Ok(())
}

/// A `python3` of the same version but another build starts as well, and then misses modules.
fn check_base(py: Python<'_>) -> Result<(), Fault> {
    let base: PathBuf = py
        .import("sys")
        .and_then(|sys| sys.getattr("base_prefix"))
        .and_then(|base| base.extract())
        .map_err(|error| Fault::internal("python has no sys.base_prefix").caused_by(error))?;
    let wanted = Path::new(env!("GAUGEFN_PYTHON_BASE"));
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if real(&base) == real(wanted) {
        return Ok(());
    }
    Err(Fault::config(format!(
        "python runs from {}, but this binary was built with the one in {}",
        base.display(),
        wanted.display()
    )))
}

/// The first `import signal`, wherever it stands, would take SIGINT from the engine: it happens here and is undone.
fn leave_interrupts(py: Python<'_>) -> Result<(), Fault> {
    let code = c"import signal
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
";
    py.run(code, Some(&pyo3::types::PyDict::new(py)), None)
        .map_err(|error| Fault::internal("python's signal module does not load").caused_by(error))
}
