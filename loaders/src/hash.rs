//! What a module is made of, as one number: two modules with the same hash are the same module.

use crate::refusal::Refusal;
use runtime_core::contract::Revision;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// More files than this are no function's folder but somebody's home or a whole disk.
const MOST_FILES: usize = 100_000;

/// SHA-256 of a module's content, displayed in hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Of everything that `reader` still gives, in small pieces.
    pub(crate) fn of_reader(reader: &mut impl Read) -> io::Result<Self> {
        let mut digest = Sha256::new();
        feed(&mut digest, reader)?;
        Ok(Self(digest.finalize().into()))
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of the names and contents of `files`, which `files_below` listed.
    pub(crate) fn of_files(root: &Path, files: &[PathBuf]) -> io::Result<Self> {
        let mut digest = Sha256::new();
        for file in files {
            let name = file.strip_prefix(root).unwrap_or(file).as_os_str().as_bytes();
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name);
            // the content's own digest, so that no content can pass for the next file's name
            digest.update(Self::of_reader(&mut File::open(file)?)?.0);
        }
        Ok(Self(digest.finalize().into()))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<ContentHash> for Revision {
    fn from(hash: ContentHash) -> Self {
        Self::new(hash.to_string())
    }
}

/// Remembers a hash for as long as the files' inodes say that nothing was written: a revision is asked for every few
/// seconds, and reading a library each time would cost more than the function.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<Option<(ContentHash, ContentHash)>>);

impl Remembered {
    /// The hash of these files: the one from before where nothing can have changed, else what `compute` says.
    pub(crate) fn hash<E>(
        &self,
        files: &[PathBuf],
        compute: impl FnOnce() -> Result<ContentHash, E>,
    ) -> Result<ContentHash, E> {
        self.hash_as_of(SystemTime::now(), files, compute)
    }

    fn hash_as_of<E>(
        &self,
        now: SystemTime,
        files: &[PathBuf],
        compute: impl FnOnce() -> Result<ContentHash, E>,
    ) -> Result<ContentHash, E> {
        let stamp = stamp(files, now);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (stamp, *last) {
            (Some(stamp), Some((before, hash))) if stamp == before => Ok(hash),
            (stamp, _) => {
                let hash = compute()?;
                *last = stamp.map(|stamp| (stamp, hash));
                Ok(hash)
            }
        }
    }
}

/// Names, inodes, sizes and change times. None where a change time is so young that a further change could have the
/// same, as clocks of file systems tick coarsely.
fn stamp(files: &[PathBuf], now: SystemTime) -> Option<ContentHash> {
    const YOUNG: i64 = 2;
    let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs().cast_signed();
    let mut digest = Sha256::new();
    for file in files {
        let meta = fs::metadata(file).ok()?;
        if meta.ctime() > now - YOUNG {
            return None;
        }
        digest.update(file.as_os_str().as_bytes());
        for number in [meta.dev(), meta.ino(), meta.len()] {
            digest.update(number.to_le_bytes());
        }
        for number in [meta.ctime(), meta.ctime_nsec(), meta.mtime(), meta.mtime_nsec()] {
            digest.update(number.to_le_bytes());
        }
    }
    Some(ContentHash(digest.finalize().into()))
}

/// Every regular file below `root` that can matter to the function, sorted: without `__pycache__`,
/// `*.pyc`, `.git`, and the `..data` links of a mounted ConfigMap (their files appear under their own names).
pub(crate) fn files_below(root: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let unreadable = |error| Refusal::unreadable("folder", &folder, &error);
        let place = fs::metadata(&folder).map_err(unreadable)?;
        // a link may lead back up
        if !seen.insert((place.dev(), place.ino())) {
            continue;
        }
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let name = name.as_bytes();
            if name == b"__pycache__" || name == b".git" || name.starts_with(b"..") || name.ends_with(b".pyc") {
                continue;
            }
            // follows links; one that leads nowhere is nothing that could be imported
            match fs::metadata(entry.path()) {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) if meta.is_file() => files.push(entry.path()),
                _ => {}
            }
            if files.len() > MOST_FILES {
                return Err(Refusal::broken(format!(
                    "folder {} holds more than {MOST_FILES} files: name the folder of the function alone",
                    root.display()
                )));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn feed(digest: &mut Sha256, reader: &mut impl Read) -> io::Result<()> {
    let mut piece = [0; 16 * 1024];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(n) => digest.update(&piece[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::time::Duration;

    fn of_folder(root: &Path) -> ContentHash {
        ContentHash::of_files(root, &files_below(root).unwrap()).unwrap()
    }

    #[test]
    fn is_sha_256_however_it_is_read() {
        assert_eq!(
            ContentHash::of_bytes(b"hello world").to_string(),
            "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
        );
        let long = vec![7; 100_000];
        assert_eq!(ContentHash::of_reader(&mut &long[..]).unwrap(), ContentHash::of_bytes(&long));
    }

    #[test]
    fn a_folder_is_its_names_and_contents_and_nothing_python_left_there() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("main.py"), "x = 1").unwrap();
        fs::create_dir(root.path().join("lib")).unwrap();
        fs::write(root.path().join("lib/a.py"), "").unwrap();
        let first = of_folder(root.path());

        for ignored in ["__pycache__", ".git", "..data"] {
            fs::create_dir(root.path().join(ignored)).unwrap();
            fs::write(root.path().join(ignored).join("f"), "noise").unwrap();
        }
        fs::write(root.path().join("main.pyc"), "noise").unwrap();
        assert_eq!(of_folder(root.path()), first);

        fs::rename(root.path().join("lib/a.py"), root.path().join("lib/b.py")).unwrap();
        assert_ne!(of_folder(root.path()), first);
        fs::rename(root.path().join("lib/b.py"), root.path().join("lib/a.py")).unwrap();
        fs::write(root.path().join("main.py"), "x = 2").unwrap();
        assert_ne!(of_folder(root.path()), first);
    }

    #[test]
    fn a_hash_is_remembered_until_a_file_changes() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("main.py");
        fs::write(&file, "x = 1").unwrap();
        let files = [file.clone()];
        let remembered = Remembered::default();
        let now = Cell::new(SystemTime::now());
        let ask = |text: &str| {
            let compute = || Ok::<_, ()>(ContentHash::of_bytes(text.as_bytes()));
            remembered.hash_as_of(now.get(), &files, compute).unwrap()
        };
        // too young to be trusted
        assert_eq!(ask("one"), ContentHash::of_bytes(b"one"));
        assert_eq!(ask("two"), ContentHash::of_bytes(b"two"));
        now.set(now.get() + Duration::from_secs(4));
        assert_eq!(ask("three"), ContentHash::of_bytes(b"three"));
        assert_eq!(ask("four"), ContentHash::of_bytes(b"three"));
        fs::write(&file, "x = 2").unwrap();
        assert_eq!(ask("five"), ContentHash::of_bytes(b"five"));
    }

    #[test]
    fn links_that_lead_in_circles_or_nowhere_end() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("main.py"), "").unwrap();
        std::os::unix::fs::symlink(root.path(), root.path().join("again")).unwrap();
        std::os::unix::fs::symlink("/nowhere", root.path().join("gone")).unwrap();
        assert_eq!(files_below(root.path()).unwrap(), [root.path().join("main.py")]);
    }
}
