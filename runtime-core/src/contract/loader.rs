//! Where code comes from.

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};
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
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Folders in which names appear, go, or get another content; links to them count as themselves. The first ones
    /// matter most, where there are more than can be watched.
    pub folders: Vec<PathBuf>,
    /// What in them can be code: what else is written there is no reason to look.
    pub names: Names,
}

/// Which paths in the watched folders may be code, be it as a file or as a folder that has some; by default all.
#[derive(Clone, Default)]
pub struct Names(Option<Arc<MayBeCode>>);

type MayBeCode = dyn Fn(&Path, bool) -> bool + Send + Sync;

impl Names {
    /// Those for which this says so. It is told whether the path is a folder's.
    pub fn matching(may_be_code: impl Fn(&Path, bool) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(may_be_code)))
    }

    /// Whether this path, which begins with that of a watched folder, may be code.
    #[must_use]
    pub fn hold(&self, path: &Path, is_folder: bool) -> bool {
        self.0.as_ref().is_none_or(|may_be_code| may_be_code(path, is_folder))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Names(some)" } else { "Names(all)" })
    }
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

    /// Where to look for changes; nothing where the code cannot change. Names alone: a place may be absent. Asked again
    /// after each [`revision`](Loader::revision), as folders come and go.
    fn places(&self) -> Places {
        Places::default()
    }

    /// Why a change of the code would never show, although it could be expected to, with the remedy.
    fn fixed(&self) -> Option<String> {
        None
    }
}
