//! Executor `python`: a Python function in this process, on its first thread.
//!
//! The module is imported once and lives on; `context` is one object, and `context.env` is whatever the function puts
//! there. Events are parsed by Python's own `json.loads`, results written by its `json.dumps`. A call that raises is
//! an outcome of its event; nothing that Python raises ends the process. What user code prints or logs becomes
//! records. There is one interpreter, hence one Python function, per process. Nothing remote is involved, except that
//! pip is run first where `requirements` is set.
//!
//! ```toml
//! [functions.vm.executor]
//! use = "python"
//! path = ["/opt/lib"]                      # before sys.path, after the function's own folders
//! venv = "/opt/venv"                       # default: VIRTUAL_ENV, else the Python of the build
//! requirements = "/opt/requirements.txt"   # installed into a private folder, once per content
//! ```

mod ages;
mod call;
mod interpreter;
mod keeping;
mod measure;
mod memory;
mod module;
mod records;
mod requirements;
mod state;
mod venv;
mod watch;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runtime_core::config::os_text;
use runtime_core::config::section::Concern;
use runtime_core::contract::{Brief, EntryFile, Executor, Function, Module};
use runtime_core::main_thread::MainThread;
use runtime_core::{Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;

/// The options.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Folders for `sys.path`, after the function's own and before everything else.
    #[serde(deserialize_with = "os_text::read_list")]
    path: Vec<PathBuf>,
    /// The folder of a virtual environment whose packages are used. Default: `VIRTUAL_ENV`.
    #[serde(deserialize_with = "os_text::read_option")]
    venv: Option<PathBuf>,
    /// A requirements file that pip installs before the function is imported.
    #[serde(deserialize_with = "os_text::read_option")]
    requirements: Option<PathBuf>,
}

/// Prepares the one Python function of this process.
struct Python {
    /// The options, as they are.
    config: Config,
    /// Where Python runs: signal handlers, and many C libraries, insist on the first thread.
    main_thread: MainThread,
}

impl Kind for Python {
    type Role = dyn Executor;
    type Config = Config;
    const NAME: &'static str = "python";
    const SUMMARY: &'static str = "a Python function, called with the parsed event and a context";
    const ONE_PER_PROCESS: bool = true;

    fn review(config: &Config) -> Vec<Concern> {
        let empty = |path: &PathBuf| path.as_os_str().is_empty();
        let mut concerns = Vec::new();
        if config.path.iter().any(empty) {
            concerns.push(Concern::new("path", "an entry is empty; name folders, or leave the option out"));
        }
        if config.venv.as_ref().is_some_and(empty) {
            concerns.push(Concern::new("venv", "is empty; name a folder, or leave the option out"));
        }
        if config.requirements.as_ref().is_some_and(empty) {
            concerns.push(Concern::new("requirements", "is empty; name a file, or leave the option out"));
        }
        concerns
    }

    fn unfit(file: &EntryFile) -> Option<&'static str> {
        if file.is_library() {
            Some("a shared library")
        } else if file.is_zip() || ["zip", "whl", "pyz"].iter().any(|ending| file.ends(ending)) {
            Some("a zip")
        } else if file.ends("pyc") || (file.has(2, b"\r\n") && file.has(5, b"\0\0\0")) {
            Some("byte code of Python")
        } else {
            None
        }
    }

    async fn build(config: Config, site: &Site<'_>) -> Result<Box<dyn Executor>, Fault> {
        Ok(Box::new(Self { config, main_thread: site.main_thread.clone() }))
    }
}

inventory::submit!(Entry::of::<Python>());

/// Lets `faulthandler` write stacks to this descriptor: of every thread when the signal comes, and at a crash. `code`
/// is a module with `arm(descriptor, signal)`.
#[cfg(feature = "worker")]
pub(crate) async fn arm(
    main_thread: &MainThread,
    descriptor: std::os::fd::OwnedFd,
    code: &str,
    signal: i32,
) -> Result<(), Fault> {
    use pyo3::types::PyAnyMethods;
    use std::os::fd::IntoRawFd;

    let failed =
        |error: &dyn std::fmt::Display| Fault::internal(format!("python's faulthandler does not start: {error}"));
    let code = std::ffi::CString::new(code).map_err(|error| failed(&error))?;
    // it belongs to faulthandler from now on, as long as the process lives
    let descriptor = descriptor.into_raw_fd();
    let armed = call::guarded(main_thread, move || {
        pyo3::Python::attach(|py| {
            pyo3::types::PyModule::from_code(py, &code, c"<gaugefn>/dump.py", c"_gaugefn_dump")?
                .call_method1("arm", (descriptor, signal))
                .map(drop)
        })
    });
    armed.await?.map_err(|error| failed(&error))
}

#[async_trait]
impl Executor for Python {
    async fn warm(&self) -> Result<(), Fault> {
        let executable = venv::executable(self.config.venv.as_deref())?;
        call::guarded(&self.main_thread, move || interpreter::start(&executable)).await?
    }

    async fn prepare(&self, module: Option<Module>, brief: Brief) -> Result<Box<dyn Function>, Fault> {
        let module = module.ok_or_else(|| Fault::internal("executor 'python' was given no module"))?;
        let seat = Seat::take(&brief.function)?;
        let executable = venv::executable(self.config.venv.as_deref())?;
        let site = match &self.config.requirements {
            Some(file) => Some(requirements::install(file, &executable, &brief.function).await?),
            None => None,
        };
        let (keep, apart, state_key) = (module.keep.clone(), brief.apart, brief.state_key.clone());
        let (function, state_ttl, health) = (Arc::clone(&brief.function), brief.state_ttl, brief.health.clone());
        let paths = self.folders(&brief.function)?;
        // a worker is watched by its parent
        let watch = (!apart).then(|| watch_import(&brief));
        let parts = call::guarded(&self.main_thread, move || {
            interpreter::start(&executable)?;
            module::load(&module, &brief, &paths, site.as_deref())
        })
        .await;
        drop(watch);
        // also where it was refused in the end
        health.say(None);
        let parts = parts??;
        seat.keep();
        Ok(Box::new(call::PythonFunction::new(
            parts,
            function,
            self.main_thread.clone(),
            keep,
            apart,
            state_key.as_deref(),
            state_ttl,
        )))
    }
}

/// Says that an import takes long, as calls of an older version wait for it.
fn watch_import(brief: &Brief) -> watch::Watch {
    const LONG: Duration = Duration::from_secs(10);
    let (function, health) = (Arc::clone(&brief.function), brief.health.clone());
    watch::after(LONG, move |place| {
        let trouble = format!(
            "its code has been loading for {}s, and calls wait for that, as isolation is 'inline'{place}",
            LONG.as_secs()
        );
        tracing::warn!(%function, "{trouble}");
        health.say(Some(&trouble));
    })
}

impl Python {
    /// The configured folders, absolute: a function may change its working folder.
    fn folders(&self, function: &str) -> Result<Vec<PathBuf>, Fault> {
        let absolute = |path: &PathBuf| {
            let folder = std::path::absolute(path).map_err(|error| {
                Fault::config(format!("executor option path: {} has no absolute form", path.display())).caused_by(error)
            })?;
            if !folder.exists() {
                // as any Python does with such an entry, but not silently
                tracing::warn!(function, folder = %folder.display(), "executor option path names what is not there");
            }
            Ok(folder)
        };
        self.config.path.iter().map(absolute).collect()
    }
}

/// The right to be the Python function of this process; given back unless a version of the function came to be.
struct Seat {
    kept: bool,
}

static SEATED: Mutex<Option<Arc<str>>> = Mutex::new(None);

impl Seat {
    fn take(function: &Arc<str>) -> Result<Self, Fault> {
        let mut seated = SEATED.lock().unwrap_or_else(PoisonError::into_inner);
        // a newer version of the same function is loaded beside it
        if let Some(other) = seated.as_ref().filter(|other| *other != function) {
            return Err(Fault::config(format!(
                "function '{function}': only one Python function runs inside one process, and '{other}' is there \
                 already; use isolation = \"process\" for one of them"
            )));
        }
        let kept = seated.replace(function.clone()).is_some();
        Ok(Self { kept })
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.kept {
            *SEATED.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn empty_options_are_named() {
        let config = Config { path: vec![PathBuf::new()], venv: Some(PathBuf::new()), requirements: None };
        let options: Vec<_> = Python::review(&config).iter().map(|concern| concern.option).collect();
        assert_eq!(options, ["path", "venv"]);
        assert!(Python::review(&Config::default()).is_empty());
    }

    #[test]
    fn a_seat_that_is_not_kept_is_free_again() {
        drop(Seat::take(&"a".into()).unwrap());
        Seat::take(&"b".into()).unwrap().keep();
        let Err(fault) = Seat::take(&"c".into()) else { panic!("taken twice") };
        assert!(fault.to_string().starts_with("function 'c': only one Python function runs"), "{fault}");
        assert!(fault.to_string().ends_with("use isolation = \"process\" for one of them"), "{fault}");
        assert_eq!(fault.blame().exit_code(), 78);
    }
}
