//! One shared library with native functions, read where it lies.
//!
//! A missing file is exit 66, a folder or pipe in its place 65; what is in the file is for the executor `native` to
//! judge. A file that is replaced later is seen by its content.
//!
//! ```toml
//! [functions.vm.loader]
//! use = "native"
//! path = "/opt/libvm.so"
//! ```

use crate::file::{hash_of, in_place};
use crate::hash::Remembered;
use crate::{off_thread, places};
use async_trait::async_trait;
use runtime_core::config::{Concern, os_text};
use runtime_core::contract::{EntryFile, Fit, Loader, Module, Places, Revision};
use runtime_core::{Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Options of the loader `native`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The library, an ELF file such as `libvm.so`.
    #[serde(deserialize_with = "os_text::read")]
    path: PathBuf,
}

/// The loader `native`.
#[derive(Debug)]
pub struct Library {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// The revision is asked for often.
    seen: Remembered,
}

impl Library {
    fn new(config: Config) -> Self {
        Self { inner: Arc::new(Inner { path: config.path, seen: Remembered::default() }) }
    }
}

impl Kind for Library {
    type Role = dyn Loader;
    type Config = Config;
    const NAME: &'static str = "native";
    const SUMMARY: &'static str = "one shared library with native functions";

    fn review(config: &Config) -> Vec<Concern> {
        let concern = if config.path.as_os_str().is_empty() {
            Concern::new("path", "is empty; name the library")
        } else if is_other(&EntryFile::at(&config.path)) {
            Concern::new("path", other(&config.path))
        } else {
            return Vec::new();
        };
        vec![concern]
    }

    fn takes(path: &Path) -> Fit {
        match EntryFile::at(path) {
            file if file.begins(b"\x7fELF") => Fit::Content,
            file if file.is_library() && !path.is_dir() => Fit::Name,
            _ => Fit::None,
        }
    }

    fn entry_file(config: &Config) -> Option<EntryFile> {
        // a file that is no library is told by the review
        Some(EntryFile::at(&config.path)).filter(|file| !is_other(file))
    }

    async fn build(config: Config, _site: &Site<'_>) -> Result<Box<dyn Loader>, Fault> {
        Ok(Box::new(Self::new(config)))
    }
}

inventory::submit!(Entry::of::<Library>());

/// Whether there is a file that is no library and does not mean to be one.
fn is_other(file: &EntryFile) -> bool {
    file.is_there() && !file.is_library()
}

fn other(path: &Path) -> String {
    format!(
        "'{}' is no shared library, which is all that the loader 'native' loads: use the loader 'file'",
        path.display()
    )
}

#[async_trait]
impl Loader for Library {
    async fn revision(&self) -> Result<Revision, Fault> {
        let inner = self.inner.clone();
        off_thread(move || hash_of(&inner.path, &inner.seen).map(Revision::from)).await
    }

    async fn load(&self, _handler: &str) -> Result<Module, Fault> {
        let inner = self.inner.clone();
        if is_other(&EntryFile::at(&inner.path)) {
            return Err(Fault::config(other(&inner.path)));
        }
        off_thread(move || in_place(&inner.path, &inner.seen)).await
    }

    fn describe(&self) -> String {
        self.inner.path.display().to_string()
    }

    fn places(&self) -> Places {
        places::of_file(&self.inner.path)
    }

    fn fixed(&self) -> Option<String> {
        places::mounted_alone(&self.inner.path)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use runtime_core::contract::Blame;
    use std::fs;

    #[tokio::test]
    async fn a_library_is_read_where_it_lies_and_known_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libvm.so");
        let loader = Library::new(Config { path: path.clone() });
        let missing = loader.load("handler").await.unwrap_err();
        assert_eq!(missing.blame(), Blame::File);
        fs::write(&path, "one").unwrap();
        let module = loader.load("handler").await.unwrap();
        assert_eq!((module.root.as_path(), module.entry.as_path()), (folder.path(), path.as_path()));
        assert_eq!(module.revision, loader.revision().await.unwrap());
        fs::write(&path, "two").unwrap();
        assert_ne!(module.revision, loader.revision().await.unwrap());
        assert_eq!(loader.describe(), path.display().to_string());
    }

    #[test]
    fn an_empty_path_is_named() {
        let concerns = Library::review(&Config { path: PathBuf::new() });
        assert_eq!(concerns[0].message, "is empty; name the library");
        assert!(Library::review(&Config { path: "libvm.so".into() }).is_empty());
    }
}
