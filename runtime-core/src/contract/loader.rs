//! Where code comes from.

use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;

use super::fault::Fault;

/// Names one content of a module: equal bytes have equal revisions, whatever their times and paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Revision(String);

impl Revision {
    /// From a content hash in hexadecimal digits.
    pub fn new(hash: impl Into<String>) -> Self {
        Self(hash.into())
    }

    /// The whole hash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The first twelve digits.
impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..12).unwrap_or(&self.0))
    }
}

/// A function's code, as files that an executor can open.
#[derive(Clone)]
pub struct Module {
    /// The folder that holds all of it. Absolute.
    pub root: PathBuf,
    /// The file with the entry function, inside `root`. Absolute.
    pub entry: PathBuf,
    /// What the content is.
    pub revision: Revision,
    /// When the function's file was last modified: `context.function_getmtime`.
    pub modified: SystemTime,
    /// Keeps an unpacked folder alive for as long as anybody uses the module; it goes with its last user.
    pub keep: Option<Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("entry", &self.entry).field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// Where a change of code would show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// Folders in which names appear, go, or get another content; links to them count as themselves.
    pub folders: Vec<PathBuf>,
    /// Folders that count with everything below.
    pub trees: Vec<PathBuf>,
}

/// Brings code to where it can be run.
#[async_trait]
pub trait Loader: Send + Sync {
    /// What [`load`](Loader::load) would load now. Cheap, as it is asked every few seconds; decided by content,
    /// not by times.
    ///
    /// # Errors
    /// As for `load`.
    async fn revision(&self) -> Result<Revision, Fault>;

    /// The module, ready on disk. `handler` is the name of the wanted entry function: a loader that has to choose
    /// among files may look for it.
    ///
    /// # Errors
    /// [`Blame::File`](super::Blame::File) where a named file is missing, [`Blame::Function`](super::Blame::Function)
    /// where it is there but unusable.
    async fn load(&self, handler: &str) -> Result<Module, Fault>;

    /// The file or folder that is loaded, for messages.
    fn describe(&self) -> String;

    /// Where to look for changes; nothing where the code cannot change. Names alone: a place may be absent.
    fn places(&self) -> Places {
        Places::default()
    }

    /// Why a change of the code would never show, although it could be expected to, with the remedy.
    fn fixed(&self) -> Option<String> {
        None
    }
}
