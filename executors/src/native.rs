//! Executor `native`: a function of a shared library, in this process, on a thread of its own.
//!
//! The library is judged before any of its code runs: its ELF file is whole, for this machine, and has the note and
//! the symbol of `gaugefn-sdk`. It is then loaded from a private copy in memory, so that the file may be replaced at
//! any time, and never unloaded. `handler` chooses among the functions that it exports. A batch crosses the border
//! once; a panic is an outcome of its event. A crash (a signal, `abort`) ends the process. Its state goes on in a newer
//! version where the library has `save` and `load`, as those of `gaugefn-sdk` have. Nothing remote is involved.
//!
//! ```toml
//! [functions.vm.executor]
//! use = "native"
//! ```

mod call;
mod host;
mod instance;
mod library;
mod note;
mod state;

use async_trait::async_trait;
use runtime_core::contract::{Brief, EntryFile, Executor, Function, Module};
use runtime_core::{Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::forked;

/// It has no options.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

/// Prepares functions of shared libraries.
#[derive(Debug)]
struct Native;

impl Kind for Native {
    type Role = dyn Executor;
    type Config = Config;
    const NAME: &'static str = "native";
    const SUMMARY: &'static str = "a function of a shared library, called with the event's bytes and a context";
    const KEYED_STATE: bool = false;

    fn unfit(file: &EntryFile) -> Option<&'static str> {
        (!file.is_library()).then_some("no shared library")
    }

    async fn build(_config: Config, _site: &Site<'_>) -> Result<Box<dyn Executor>, Fault> {
        Ok(Box::new(Self))
    }
}

inventory::submit!(Entry::of::<Native>());

#[async_trait]
impl Executor for Native {
    async fn prepare(&self, module: Option<Module>, brief: Brief) -> Result<Box<dyn Function>, Fault> {
        let module = module.ok_or_else(|| Fault::internal("executor 'native' was given no module"))?;
        forked::begin();
        // constructors of a library may take their time
        let loaded = tokio::task::spawn_blocking(move || {
            let function = library::load(&module.entry, &brief.handler);
            // by a constructor
            forked::leave_if_child();
            let function = function?;
            call::NativeFunction::start(function, host::describe(&brief, module.modified))
        });
        let function =
            loaded.await.map_err(|error| Fault::internal("loading a library was interrupted").caused_by(error))??;
        Ok(Box::new(function))
    }
}
