//! A folder with several modules, used where it lies.
//!
//! Without `entry` the file is `main.py`, else `handler.py`, else `usermodule.py`, else the only module at the top
//! that has the entry function. A missing folder is exit 66, one without an entry file 65.
//!
//! Changes are seen by the content of the code: of all `*.py` and `*.so` below the folder, and of what `include` adds.
//! Whatever else lies there, logs, caches, databases, models, is neither read nor a reason to load anything anew. Left
//! out are names with a dot in front, `__pycache__`, `node_modules`, and virtual environments.
//!
//! ```toml
//! [functions.vm.loader]
//! use = "dir"
//! path = "/opt/function"
//! entry = "app/main.py"     # or a dotted module, or a file's stem
//! include = ["*.json", "templates/**"]
//! ```

use crate::include::Include;
use crate::refusal::Refusal;
use crate::tree::Tree;
use crate::{entry, off_thread, places};
use async_trait::async_trait;
use runtime_core::config::{Concern, os_text};
use runtime_core::contract::{EntryFile, Fit, Loader, Module, Places, Revision};
use runtime_core::{Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;
use std::fs;
use std::path::{self, Path, PathBuf};
use std::sync::Arc;

/// Options of the loader `dir`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder.
    #[serde(deserialize_with = "os_text::read")]
    path: PathBuf,
    /// The file inside with the entry function: a path, a dotted module or a file's stem.
    #[serde(default, deserialize_with = "os_text::read_option")]
    entry: Option<PathBuf>,
    /// Patterns of further files whose change is a change of the code, beside `*.py` and `*.so`: `*.json`,
    /// `templates/**`. One without `/` counts in every folder below. A file over 64 MiB is told by its size and time.
    #[serde(default)]
    include: Vec<String>,
}

/// The loader `dir`.
#[derive(Debug)]
pub struct Folder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    tree: Arc<Tree>,
}

impl Folder {
    fn new(config: Config) -> Result<Self, Fault> {
        let include = Include::new(&config.include, config.entry.as_deref());
        let include = include.map_err(|reason| Fault::config(format!("loader option include: {reason}")))?;
        let tree = Arc::new(Tree::new(config.path.clone(), include));
        Ok(Self { inner: Arc::new(Inner { config, tree }) })
    }
}

impl Kind for Folder {
    type Role = dyn Loader;
    type Config = Config;
    const NAME: &'static str = "dir";
    const SUMMARY: &'static str = "a folder with several modules";

    fn review(config: &Config) -> Vec<Concern> {
        let empty = config.path.as_os_str().is_empty();
        let empty = empty.then(|| Concern::new("path", "is empty; name the function's folder"));
        let patterns = Include::new(&config.include, None).err().map(|reason| Concern::new("include", reason));
        empty.into_iter().chain(patterns).collect()
    }

    fn takes(path: &Path) -> Fit {
        if path.is_dir() { Fit::Content } else { Fit::None }
    }

    fn entry_file(config: &Config) -> Option<EntryFile> {
        let names = entry::names(&config.path);
        let likely = entry::likely(&names, config.entry.as_deref())?;
        Some(EntryFile::at(&config.path.join(likely)))
    }

    async fn build(config: Config, _site: &Site<'_>) -> Result<Box<dyn Loader>, Fault> {
        Ok(Box::new(Self::new(config)?))
    }
}

inventory::submit!(Entry::of::<Folder>());

#[async_trait]
impl Loader for Folder {
    async fn revision(&self) -> Result<Revision, Fault> {
        let inner = self.inner.clone();
        off_thread(move || inner.revision()).await
    }

    async fn load(&self, handler: &str) -> Result<Module, Fault> {
        let (inner, handler) = (self.inner.clone(), handler.to_owned());
        off_thread(move || inner.load(&handler)).await
    }

    fn describe(&self) -> String {
        self.inner.config.path.display().to_string()
    }

    fn places(&self) -> Places {
        places::of_tree(&self.inner.tree)
    }
}

impl Inner {
    fn revision(&self) -> Result<Revision, Refusal> {
        must_be_folder(&self.config.path)?;
        self.tree.hash().map(Revision::from)
    }

    fn load(&self, handler: &str) -> Result<Module, Refusal> {
        let path = &self.config.path;
        must_be_folder(path)?;
        let unreadable = |error| Refusal::unreadable("folder", path, &error);
        // first: what is written from now on makes the next revision
        let revision = self.revision()?;
        let root = path::absolute(path).map_err(unreadable)?;
        let title = format!("folder {}", path.display());
        let entry = entry::find(&root, self.config.entry.as_deref(), handler, &title)?;
        let modified = fs::metadata(&entry).and_then(|meta| meta.modified()).map_err(unreadable)?;
        Ok(Module { root, entry, revision, modified, keep: None })
    }
}

fn must_be_folder(path: &Path) -> Result<(), Refusal> {
    let meta = fs::metadata(path).map_err(|error| Refusal::unreadable("folder", path, &error))?;
    if meta.is_dir() {
        return Ok(());
    }
    Err(Refusal::unsuitable(format!(
        "folder {}: is no folder: use the loader 'file' or 'zip', or correct the path",
        path.display()
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use runtime_core::contract::Blame;

    fn at(path: &Path, entry: Option<&str>) -> Folder {
        Folder::new(Config { path: path.to_path_buf(), entry: entry.map(PathBuf::from), include: Vec::new() }).unwrap()
    }

    #[tokio::test]
    async fn a_folder_is_used_where_it_lies() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("app")).unwrap();
        fs::write(root.path().join("app/run.py"), "def go(a, b): pass").unwrap();
        fs::write(root.path().join("one.py"), "def go(a, b): pass").unwrap();
        let module = at(root.path(), None).load("go").await.unwrap();
        assert_eq!((module.root.as_path(), module.entry), (root.path(), root.path().join("one.py")));
        let loader = at(root.path(), Some("app.run"));
        let module = loader.load("go").await.unwrap();
        assert_eq!(module.entry, root.path().join("app/run.py"));
        assert_eq!(module.revision, loader.revision().await.unwrap());

        fs::write(root.path().join("app/run.py"), "def go(a, b): return 1").unwrap();
        assert_ne!(module.revision, loader.revision().await.unwrap());
    }

    #[tokio::test]
    async fn what_is_no_folder_is_named() {
        let root = tempfile::tempdir().unwrap();
        let gone = root.path().join("gone");
        let fault = at(&gone, None).load("handler").await.unwrap_err();
        assert_eq!(fault.blame(), Blame::File);
        assert_eq!(
            fault.to_string(),
            format!("folder {} does not exist: mount it there or correct the path", gone.display())
        );
        fs::write(&gone, "").unwrap();
        let fault = at(&gone, None).revision().await.unwrap_err();
        assert_eq!(fault.blame(), Blame::Function);
        let fault = at(root.path(), Some("main")).load("handler").await.unwrap_err();
        assert_eq!(fault.blame(), Blame::Function);
        assert!(fault.to_string().contains("has no entry 'main': there are 'gone'; name one of them"), "{fault}");
    }
}
