//! One file: a Python module, or a native library (`.so`).
//!
//! The file is used where it lies, under its own name, which need not end in `.py`; byte-order marks and line ends
//! are left to Python. Source text given as an option is written to a private folder as `usermodule.py`. A missing
//! file is exit 66, a folder or pipe in its place 65. A file that is replaced later is seen by its content.
//!
//! ```toml
//! [functions.vm.loader]
//! use = "file"
//! path = "/opt/usermodule.py"
//! ```

use crate::hash::{ContentHash, Remembered};
use crate::refusal::Refusal;
use crate::unpack::private_folder;
use crate::{off_thread, places, regular};
use async_trait::async_trait;
use runtime_core::config::{Concern, os_text};
use runtime_core::contract::{EntryFile, Fit, Loader, Module, Places, Revision};
use runtime_core::{Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{self, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The name under which the replaced image imported its function, and functions know themselves.
const NAME_OF_TEXT: &str = "usermodule.py";

/// Options of the loader `file`; exactly one of them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file: a Python module or a native library.
    #[serde(default, deserialize_with = "os_text::read_option")]
    path: Option<PathBuf>,
    /// The text of the Python module itself.
    #[serde(default)]
    source: Option<String>,
}

/// The loader `file`.
#[derive(Debug)]
pub struct SingleFile {
    origin: Arc<Origin>,
}

#[derive(Debug)]
enum Origin {
    Path {
        path: PathBuf,
        /// The revision is asked for often.
        seen: Remembered,
    },
    Text(String),
}

impl SingleFile {
    fn new(config: Config) -> Result<Self, Fault> {
        let origin = match config {
            Config { path: Some(path), source: None } => Origin::Path { path, seen: Remembered::default() },
            Config { path: None, source: Some(text) } => Origin::Text(text),
            _ => return Err(Fault::config("loader 'file' needs exactly one of path and source")),
        };
        Ok(Self { origin: Arc::new(origin) })
    }
}

impl Kind for SingleFile {
    type Role = dyn Loader;
    type Config = Config;
    const NAME: &'static str = "file";
    const SUMMARY: &'static str = "one file: a Python module or a native library";

    fn review(config: &Config) -> Vec<Concern> {
        let concern = match (&config.path, &config.source) {
            (None, None) => Concern::new("path", "missing; name the function's file, or give its text as source"),
            (Some(_), Some(_)) => Concern::new("source", "cannot be set together with path; remove one of them"),
            (Some(path), None) if path.as_os_str().is_empty() => {
                Concern::new("path", "is empty; name the function's file")
            }
            _ => return Vec::new(),
        };
        vec![concern]
    }

    fn takes(path: &Path) -> Fit {
        if path.is_dir() { Fit::None } else { Fit::Any }
    }

    fn entry_file(config: &Config) -> Option<EntryFile> {
        config.path.as_deref().map(EntryFile::at)
    }

    async fn build(config: Config, _site: &Site<'_>) -> Result<Box<dyn Loader>, Fault> {
        Ok(Box::new(Self::new(config)?))
    }
}

inventory::submit!(Entry::of::<SingleFile>());

#[async_trait]
impl Loader for SingleFile {
    async fn revision(&self) -> Result<Revision, Fault> {
        let origin = self.origin.clone();
        off_thread(move || match &*origin {
            Origin::Path { path, seen } => hash_of(path, seen).map(Revision::from),
            Origin::Text(text) => Ok(ContentHash::of_bytes(text.as_bytes()).into()),
        })
        .await
    }

    async fn load(&self, _handler: &str) -> Result<Module, Fault> {
        let origin = self.origin.clone();
        off_thread(move || match &*origin {
            Origin::Path { path, seen } => in_place(path, seen),
            Origin::Text(text) => written(text, &std::env::temp_dir()),
        })
        .await
    }

    fn describe(&self) -> String {
        match &*self.origin {
            Origin::Path { path, .. } => path.display().to_string(),
            Origin::Text(_) => "source text".to_owned(),
        }
    }

    fn places(&self) -> Places {
        match &*self.origin {
            Origin::Path { path, .. } => places::of_file(path),
            Origin::Text(_) => Places::default(),
        }
    }

    fn fixed(&self) -> Option<String> {
        match &*self.origin {
            Origin::Path { path, .. } => places::mounted_alone(path),
            Origin::Text(_) => None,
        }
    }
}

/// The content of the file.
pub(crate) fn hash_of(path: &Path, seen: &Remembered) -> Result<ContentHash, Refusal> {
    seen.hash(&[path.to_path_buf()], || {
        let (mut file, _) = regular::open("module", path)?;
        ContentHash::of_reader(&mut file).map_err(|error| Refusal::unreadable("module", path, &error))
    })
}

/// The file where it lies, alone.
pub(crate) fn in_place(path: &Path, seen: &Remembered) -> Result<Module, Refusal> {
    let unreadable = |error| Refusal::unreadable("module", path, &error);
    let (_, meta) = regular::open("module", path)?;
    // the path as it was named: resolving links would show a ConfigMap's inner folders as `__file__`
    let entry = path::absolute(path).map_err(unreadable)?;
    let root = entry.parent().unwrap_or(Path::new("/")).to_path_buf();
    let revision = hash_of(path, seen)?.into();
    Ok(Module { root, entry, revision, modified: meta.modified().map_err(unreadable)?, keep: None })
}

fn written(text: &str, place: &Path) -> Result<Module, Refusal> {
    let folder = private_folder(place)?;
    let root = path::absolute(folder.path()).map_err(|error| Refusal::unreadable("folder", folder.path(), &error))?;
    let entry = root.join(NAME_OF_TEXT);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&entry)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| crate::unpack::cannot_write(place, &error).about("source text"))?;
    let revision = ContentHash::of_bytes(text.as_bytes()).into();
    Ok(Module { root, entry, revision, modified: SystemTime::now(), keep: Some(Arc::new(folder)) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use runtime_core::contract::Blame;
    use std::fs;

    fn at(path: impl Into<PathBuf>) -> SingleFile {
        SingleFile::new(Config { path: Some(path.into()), source: None }).unwrap()
    }

    #[tokio::test]
    async fn a_file_is_used_where_it_lies_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["usermodule.py", "pyfile", "lib.so"] {
            let path = folder.path().join(name);
            fs::write(&path, "\u{feff}def handler(a, b):\r\n    pass\r\n").unwrap();
            let loader = at(&path);
            let module = loader.load("handler").await.unwrap();
            assert_eq!((module.root.as_path(), module.entry.as_path()), (folder.path(), path.as_path()));
            assert_eq!(module.modified, fs::metadata(&path).unwrap().modified().unwrap());
            assert_eq!(module.revision, loader.revision().await.unwrap());
            assert!(module.keep.is_none());
        }
    }

    #[tokio::test]
    async fn the_revision_follows_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.py");
        fs::write(&path, "x = 1").unwrap();
        let loader = at(&path);
        let first = loader.revision().await.unwrap();
        fs::write(&path, "x = 2").unwrap();
        assert_ne!(loader.revision().await.unwrap(), first);
        fs::write(&path, "x = 1").unwrap();
        assert_eq!(loader.revision().await.unwrap(), first);
    }

    #[tokio::test]
    async fn a_missing_file_and_a_folder_in_its_place_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usermodule.py");
        for fault in [at(&path).load("handler").await.unwrap_err(), at(&path).revision().await.unwrap_err()] {
            assert_eq!(fault.blame(), Blame::File);
            assert_eq!(
                fault.to_string(),
                format!("module {} does not exist: mount it there or correct the path", path.display())
            );
        }
        fs::create_dir(&path).unwrap();
        let fault = at(&path).load("handler").await.unwrap_err();
        assert_eq!(fault.blame(), Blame::Function);
        assert_eq!(
            fault.to_string(),
            format!(
                "module {}: is a folder, no regular file, as an absent optional ConfigMap leaves one at its mount point: provide the file or correct the path",
                path.display()
            )
        );
    }

    #[tokio::test]
    async fn source_text_becomes_a_private_module_that_goes_with_its_last_user() {
        let text = "def handler(input, context):\n    return {}\n";
        let loader = SingleFile::new(Config { path: None, source: Some(text.to_owned()) }).unwrap();
        let module = loader.load("handler").await.unwrap();
        assert_eq!(module.entry, module.root.join("usermodule.py"));
        assert_eq!(fs::read_to_string(&module.entry).unwrap(), text);
        assert_eq!(module.revision, loader.revision().await.unwrap());
        let (root, other_user) = (module.root.clone(), module.clone());
        drop(module);
        assert!(root.exists());
        drop(other_user);
        assert!(!root.exists());
        let nowhere = written(text, Path::new("/proc/self")).unwrap_err();
        assert!(Fault::from(nowhere).to_string().contains("or set TMPDIR to one"));
    }

    #[test]
    fn exactly_one_origin_is_asked_for() {
        let concerns = |path: Option<&str>, source: Option<&str>| {
            let config = Config { path: path.map(PathBuf::from), source: source.map(str::to_owned) };
            SingleFile::review(&config).into_iter().map(|concern| concern.message).collect::<Vec<_>>()
        };
        assert_eq!(concerns(None, None), ["missing; name the function's file, or give its text as source"]);
        assert_eq!(concerns(Some("a"), Some("b")), ["cannot be set together with path; remove one of them"]);
        assert_eq!(concerns(Some(""), None), ["is empty; name the function's file"]);
        assert!(concerns(Some("a"), None).is_empty() && concerns(None, Some("")).is_empty());
    }
}
