//! A zip with several modules, unpacked into a private folder.
//!
//! The path names a zip, a file with its base64 text, or a folder that holds exactly one of them. The archive is
//! checked before a byte is written: names that lead elsewhere, links, duplicate and overlapping entries and anything
//! over the limits are refused with exit 65; a missing file is 66. The unpacked folder is removed with its last user.
//! The entry file is found as the loader `dir` finds it, also below a single top folder.
//!
//! ```toml
//! [functions.vm.loader]
//! use = "zip"
//! path = "/opt/function.zip"
//! entry = "main.py"         # or a dotted module, or a file's stem
//! max_total = "512MiB"
//! ```

use crate::hash::Remembered;
use crate::refusal::Refusal;
use crate::unpack::{self, Archive, Limits};
use crate::{entry, off_thread, places};
use async_trait::async_trait;
use runtime_core::config::{Concern, os_text};
use runtime_core::contract::{EntryFile, Fit, Loader, Module, Places, Revision};
use runtime_core::options::Size;
use runtime_core::{Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::{self, Path, PathBuf};
use std::sync::Arc;

/// Options of the loader `zip`; exactly one of `path` and `base64`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The zip, a file with its base64 text, or a folder that holds exactly one of them.
    #[serde(default, deserialize_with = "os_text::read_option")]
    path: Option<PathBuf>,
    /// The base64 text of the zip itself.
    #[serde(default)]
    base64: Option<String>,
    /// The file inside with the entry function: a path, a dotted module or a file's stem.
    #[serde(default, deserialize_with = "os_text::read_option")]
    entry: Option<PathBuf>,
    /// Entries that the zip may hold.
    #[serde(default = "max_entries")]
    max_entries: u64,
    /// Bytes that all its files may unpack to.
    #[serde(default = "max_total")]
    max_total: Size,
    /// Unpacked bytes per packed byte, counted past 16 MiB unpacked.
    #[serde(default = "max_ratio")]
    max_ratio: u64,
}

fn max_entries() -> u64 {
    Limits::default().max_entries
}

fn max_total() -> Size {
    Size(Limits::default().max_total)
}

fn max_ratio() -> u64 {
    Limits::default().max_ratio
}

/// What a zip holds, by its path or its base64 text: the names of its files with `/`, as they would be unpacked. None
/// where it cannot be unpacked, which loading it explains.
#[must_use]
pub fn names(path: Option<&Path>, base64: Option<&str>) -> Option<Vec<String>> {
    let scratch = std::env::temp_dir();
    let mut archive = match (path, base64) {
        (Some(path), _) => Archive::open(path, &scratch).ok()?,
        (None, text) => Archive::from_text(text?, &scratch).ok()?,
    };
    unpack::names(&mut archive).ok()
}

/// The loader `zip`.
#[derive(Debug)]
pub struct ZipFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    /// The revision is asked for often.
    seen: Remembered,
}

impl ZipFile {
    fn new(config: Config) -> Self {
        Self { inner: Arc::new(Inner { config, seen: Remembered::default() }) }
    }
}

impl Kind for ZipFile {
    type Role = dyn Loader;
    type Config = Config;
    const NAME: &'static str = "zip";
    const SUMMARY: &'static str = "a zip with several modules, unpacked into a private folder";

    fn review(config: &Config) -> Vec<Concern> {
        let mut concerns = Vec::new();
        match (&config.path, &config.base64) {
            (None, None) => concerns.push(Concern::new("path", "missing; name the zip, or give its text as base64")),
            (Some(_), Some(_)) => {
                concerns.push(Concern::new("base64", "cannot be set together with path; remove one of them"));
            }
            (Some(path), None) if path.as_os_str().is_empty() => {
                concerns.push(Concern::new("path", "is empty; name the zip"));
            }
            _ => {}
        }
        for (option, value) in
            [("max_entries", config.max_entries), ("max_total", config.max_total.0), ("max_ratio", config.max_ratio)]
        {
            if value == 0 {
                concerns.push(Concern::new(option, "is 0, which no zip could meet; leave it out for the default"));
            }
        }
        concerns
    }

    fn takes(path: &Path) -> Fit {
        match EntryFile::at(path) {
            file if file.is_zip() => Fit::Content,
            file if ["zip", "whl", "pyz"].iter().any(|ending| file.ends(ending)) && !path.is_dir() => Fit::Name,
            _ => Fit::None,
        }
    }

    fn entry_file(config: &Config) -> Option<EntryFile> {
        let names = names(config.path.as_deref(), config.base64.as_deref())?;
        entry::likely(&names, config.entry.as_deref()).map(EntryFile::named)
    }

    async fn build(config: Config, _site: &Site<'_>) -> Result<Box<dyn Loader>, Fault> {
        Ok(Box::new(Self::new(config)))
    }
}

inventory::submit!(Entry::of::<ZipFile>());

#[async_trait]
impl Loader for ZipFile {
    async fn revision(&self) -> Result<Revision, Fault> {
        let inner = self.inner.clone();
        off_thread(move || inner.revision()).await
    }

    async fn load(&self, handler: &str) -> Result<Module, Fault> {
        let (inner, handler) = (self.inner.clone(), handler.to_owned());
        off_thread(move || inner.load(&handler, &std::env::temp_dir())).await
    }

    fn describe(&self) -> String {
        match &self.inner.config.path {
            Some(path) => path.display().to_string(),
            None => "base64 text of a zip".to_owned(),
        }
    }

    fn places(&self) -> Places {
        self.inner.config.path.as_deref().map(places::of_either).unwrap_or_default()
    }

    fn fixed(&self) -> Option<String> {
        self.inner.config.path.as_deref().and_then(places::mounted_alone)
    }
}

impl Inner {
    fn open(&self, scratch: &Path) -> Result<Archive, Refusal> {
        let archive = match (&self.config.path, &self.config.base64) {
            (Some(path), _) => Archive::open(path, scratch)?,
            (None, Some(text)) => Archive::from_text(text, scratch)?,
            (None, None) => return Err(Refusal::missing("loader 'zip' has neither path nor base64")),
        };
        archive.refuse_above(&self.limits())?;
        Ok(archive)
    }

    fn limits(&self) -> Limits {
        Limits {
            max_entries: self.config.max_entries,
            max_total: self.config.max_total.0,
            max_ratio: self.config.max_ratio,
        }
    }

    fn revision(&self) -> Result<Revision, Refusal> {
        let hash = || unpack::hash(&mut self.open(&std::env::temp_dir())?);
        let watched = self.config.path.iter().map(|path| unpack::file_at(path)).collect::<Result<Vec<_>, _>>()?;
        self.seen.hash(&watched, hash).map(Revision::from)
    }

    fn load(&self, handler: &str, place: &Path) -> Result<Module, Refusal> {
        let mut archive = self.open(place)?;
        // first, and of the opened file: what is written to it from now on makes the next revision
        let revision = unpack::hash(&mut archive)?.into();
        let folder = unpack::unpack(&mut archive, &self.limits(), place)?;
        let root =
            path::absolute(folder.path()).map_err(|error| Refusal::unreadable("folder", folder.path(), &error))?;
        let entry = entry::find(&root, self.config.entry.as_deref(), handler, &archive.title)?;
        Ok(Module { root, entry, revision, modified: archive.modified, keep: Some(Arc::new(folder)) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use base64::Engine;
    use runtime_core::contract::Blame;
    use std::fs;
    use std::io::{Cursor, Write};

    fn config(path: Option<&Path>) -> Config {
        Config {
            path: path.map(Path::to_path_buf),
            base64: None,
            entry: None,
            max_entries: max_entries(),
            max_total: max_total(),
            max_ratio: max_ratio(),
        }
    }

    fn zip(files: &[(&str, &str)]) -> Vec<u8> {
        let mut zip = ::zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in files {
            zip.start_file(*name, ::zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    #[tokio::test]
    async fn a_zip_is_unpacked_until_its_last_user_goes() {
        let mount = tempfile::tempdir().unwrap();
        let path = mount.path().join("f.zip");
        let bytes = zip(&[("my-fn/main.py", "x = 1"), ("my-fn/lib/a.py", ""), ("__MACOSX/._main.py", "")]);
        fs::write(&path, &bytes).unwrap();
        let loader = ZipFile::new(config(Some(&path)));
        let module = loader.load("handler").await.unwrap();
        assert_eq!(module.entry, module.root.join("my-fn/main.py"));
        assert_eq!(fs::read_to_string(&module.entry).unwrap(), "x = 1");
        assert_eq!(module.revision, loader.revision().await.unwrap());
        assert_eq!(module.modified, fs::metadata(&path).unwrap().modified().unwrap());

        // the folder that holds it, and its text, are the same revision
        let folder = ZipFile::new(config(Some(mount.path())));
        assert_eq!(folder.revision().await.unwrap(), module.revision);
        let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let from_text = ZipFile::new(Config { base64: Some(text), entry: Some("my-fn.lib.a".into()), ..config(None) });
        assert_eq!(from_text.revision().await.unwrap(), module.revision);
        let other = from_text.load("handler").await.unwrap();
        assert_eq!(other.entry, other.root.join("my-fn/lib/a.py"));

        let root = module.root.clone();
        drop(module);
        assert!(!root.exists());

        fs::write(&path, zip(&[("main.py", "x = 2")])).unwrap();
        assert_ne!(loader.revision().await.unwrap(), other.revision);
    }

    #[tokio::test]
    async fn faults_say_whose_they_are() {
        let mount = tempfile::tempdir().unwrap();
        let path = mount.path().join("f.zip");
        let loader = ZipFile::new(config(Some(&path)));
        let missing = loader.load("handler").await.unwrap_err();
        assert_eq!(missing.blame(), Blame::File);
        assert_eq!(
            missing.to_string(),
            format!("zip {} does not exist: mount it there or correct the path", path.display())
        );
        assert_eq!(loader.revision().await.unwrap_err().blame(), Blame::File);
        fs::write(&path, zip(&[("../main.py", "")])).unwrap();
        assert_eq!(loader.load("handler").await.unwrap_err().blame(), Blame::Function);
        fs::write(&path, zip(&[("a.py", ""), ("b.py", "")])).unwrap();
        let fault = loader.load("run").await.unwrap_err();
        assert_eq!(fault.blame(), Blame::Function);
        assert!(fault.to_string().starts_with(&format!("zip {}: has no main.py", path.display())), "{fault}");
        let unwritable = loader.inner.load("run", Path::new("/proc/self")).unwrap_err();
        assert_eq!(Fault::from(unwritable).blame(), Blame::Config);
    }

    #[test]
    fn limits_and_origins_are_reviewed() {
        let concerns = |config: Config| {
            ZipFile::review(&config).into_iter().map(|concern| (concern.option, concern.message)).collect::<Vec<_>>()
        };
        assert_eq!(concerns(config(None)), [("path", "missing; name the zip, or give its text as base64".to_owned())]);
        let both = Config { base64: Some("UEsD".to_owned()), ..config(Some(Path::new("f.zip"))) };
        assert_eq!(concerns(both)[0].0, "base64");
        let none = Config { max_entries: 0, max_ratio: 0, ..config(Some(Path::new("f.zip"))) };
        assert_eq!(concerns(none).iter().map(|(option, _)| *option).collect::<Vec<_>>(), ["max_entries", "max_ratio"]);
    }
}
