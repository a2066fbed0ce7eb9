//! A folder with several modules, used where it lies.
//!
//! Without `entry` the file is `main.py`, else `handler.py`, else `usermodule.py`, else the only module at the top
//! that has the entry function. A missing folder is exit 66, one without an entry file 65. Changes are seen by
//! content, over all files but byte code.
//!
//! ```toml
//! [functions.vm.loader]
//! use = "dir"
//! path = "/opt/function"
//! entry = "app/main.py"     # or a dotted module, or a file's stem
//! ```

use crate::hash::{ContentHash, Remembered, files_below};
use crate::refusal::Refusal;
use crate::{entry, off_thread, places};
use async_trait::async_trait;
use runtime_core::config::Concern;
use runtime_core::contract::{Loader, Module, Places, Revision};
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
    path: PathBuf,
    /// The file inside with the entry function: a path, a dotted module or a file's stem.
    #[serde(default)]
    entry: Option<String>,
}

/// The loader `dir`.
#[derive(Debug)]
pub struct Folder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    /// The revision is asked for often.
    seen: Remembered,
}

impl Folder {
    fn new(config: Config) -> Self {
        Self { inner: Arc::new(Inner { config, seen: Remembered::default() }) }
    }
}

impl Kind for Folder {
    type Role = dyn Loader;
    type Config = Config;
    const NAME: &'static str = "dir";
    const SUMMARY: &'static str = "a folder with several modules";

    fn review(config: &Config) -> Vec<Concern> {
        let empty = config.path.as_os_str().is_empty();
        empty.then(|| Concern::new("path", "is empty; name the function's folder")).into_iter().collect()
    }

    async fn build(config: Config, _site: &Site<'_>) -> Result<Box<dyn Loader>, Fault> {
        Ok(Box::new(Self::new(config)))
    }
}

inventory::submit!(Entry::of::<Folder>());

#[async_trait]
impl Loader for Folder {
    async fn revision(&self) -> Result<Revision, Fault> {
        let inner = self.inner.clone();
        off_thread(move || inner.hash().map(Revision::from)).await
    }

    async fn load(&self, handler: &str) -> Result<Module, Fault> {
        let (inner, handler) = (self.inner.clone(), handler.to_owned());
        off_thread(move || inner.load(&handler)).await
    }

    fn describe(&self) -> String {
        self.inner.config.path.display().to_string()
    }

    fn places(&self) -> Places {
        places::of_folder(&self.inner.config.path)
    }
}

impl Inner {
    fn hash(&self) -> Result<ContentHash, Refusal> {
        let root = &self.config.path;
        must_be_folder(root)?;
        let files = files_below(root)?;
        self.seen.hash(&files, || {
            ContentHash::of_files(root, &files).map_err(|error| Refusal::unreadable("a file below", root, &error))
        })
    }

    fn load(&self, handler: &str) -> Result<Module, Refusal> {
        let path = &self.config.path;
        must_be_folder(path)?;
        let unreadable = |error| Refusal::unreadable("folder", path, &error);
        // first: what is written from now on makes the next revision
        let revision = self.hash()?.into();
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
        Folder::new(Config { path: path.to_path_buf(), entry: entry.map(str::to_owned) })
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
