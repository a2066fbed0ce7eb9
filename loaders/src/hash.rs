//! What a module is made of, as one number: two modules with the same hash are the same module.

use runtime_core::contract::Revision;
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// A larger file is data that somebody counts as code, such as a model: reading it would hold up every start.
const LARGEST_READ: u64 = 64 << 20;

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

    /// Of one file of several. A large one is told by its size and the time of its last change.
    pub(crate) fn of_file(file: &Path, stamp: &Stamp) -> io::Result<Self> {
        if stamp.size <= LARGEST_READ {
            // no more than that, should it be growing
            return Self::of_reader(&mut File::open(file)?.take(LARGEST_READ));
        }
        let mut digest = Sha256::new();
        digest.update(b"size and time");
        digest.update(stamp.size.to_le_bytes());
        for number in stamp.modified {
            digest.update(number.to_le_bytes());
        }
        Ok(Self(digest.finalize().into()))
    }

    /// Of files with their names.
    pub(crate) fn of_parts(parts: &[(PathBuf, Self)]) -> Self {
        let mut digest = Sha256::new();
        for (name, content) in parts {
            let name = name.as_os_str().as_bytes();
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name);
            // the content's own digest, so that no content can pass for the next file's name
            digest.update(content.0);
        }
        Self(digest.finalize().into())
    }
}

/// What the inode of a file says: if it is the same as before, nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    place: [u64; 2],
    size: u64,
    changed: [i64; 2],
    modified: [i64; 2],
}

impl Stamp {
    pub(crate) fn of(file: &Path) -> io::Result<Self> {
        let meta = fs::metadata(file)?;
        Ok(Self {
            place: [meta.dev(), meta.ino()],
            size: meta.len(),
            changed: [meta.ctime(), meta.ctime_nsec()],
            modified: [meta.mtime(), meta.mtime_nsec()],
        })
    }

    /// Whether a further change could have the same time, as clocks of file systems tick coarsely.
    pub(crate) fn is_young(&self, now: SystemTime) -> bool {
        const YOUNG: i64 = 2;
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        self.changed[0] > now - YOUNG
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

/// Names, inodes, sizes and change times. None where one is so young that it says too little.
fn stamp(files: &[PathBuf], now: SystemTime) -> Option<ContentHash> {
    let mut digest = Sha256::new();
    for file in files {
        let stamp = Stamp::of(file).ok().filter(|stamp| !stamp.is_young(now))?;
        digest.update(file.as_os_str().as_bytes());
        let [device, inode] = stamp.place;
        for number in [device, inode, stamp.size] {
            digest.update(number.to_le_bytes());
        }
        for number in stamp.changed.into_iter().chain(stamp.modified) {
            digest.update(number.to_le_bytes());
        }
    }
    Some(ContentHash(digest.finalize().into()))
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
}
