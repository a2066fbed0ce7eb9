//! The file with the entry function, as it looks before anything is loaded: by it a loader and an executor are found
//! that go together.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Enough to tell what a file is.
const HEAD: u64 = 64;

/// A file by its name and its first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryFile {
    /// Its path, or its name in an archive.
    pub path: PathBuf,
    /// Its first bytes; none where there is no such file, or none to be read yet.
    head: Option<Vec<u8>>,
}

impl EntryFile {
    /// A file as it lies there.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf(), head: head(path) }
    }

    /// A file of which only the name is known.
    pub fn named(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), head: None }
    }

    /// Whether its content is known.
    #[must_use]
    pub const fn is_there(&self) -> bool {
        self.head.is_some()
    }

    /// Whether it begins with these bytes.
    #[must_use]
    pub fn begins(&self, with: &[u8]) -> bool {
        self.head.as_ref().is_some_and(|head| head.starts_with(with))
    }

    /// Whether these bytes stand at this place near its beginning.
    #[must_use]
    pub fn has(&self, at: usize, bytes: &[u8]) -> bool {
        self.head.as_ref().and_then(|head| head.get(at..)).is_some_and(|rest| rest.starts_with(bytes))
    }

    /// Whether its name ends so, after the dot.
    #[must_use]
    pub fn ends(&self, ending: &str) -> bool {
        self.path.extension().is_some_and(|own| own.eq_ignore_ascii_case(ending))
    }

    /// Whether it is a shared library or means to be one: by its content, or by its name.
    #[must_use]
    pub fn is_library(&self) -> bool {
        self.begins(b"\x7fELF") || self.ends("so")
    }

    /// Whether it is a zip, whatever its name.
    #[must_use]
    pub fn is_zip(&self) -> bool {
        self.begins(b"PK\x03\x04") || self.begins(b"PK\x05\x06")
    }
}

/// Some devices act on being opened, and a pipe would be waited for.
fn head(path: &Path) -> Option<Vec<u8>> {
    const NO_WAIT: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let file: File = OpenOptions::new().read(true).custom_flags(NO_WAIT).open(path).ok()?;
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head).ok()?;
    Some(head)
}

/// How well a loader suits a path for which none is named; the best one takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// It is for something else.
    None,
    /// It takes any file.
    Any,
    /// By the name.
    Name,
    /// By what is there.
    Content,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_content_and_else_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            EntryFile::at(&path)
        };
        assert!(put("vm", b"\x7fELF\x02").is_library() && put("vm.py", b"\x7fELF\x02").is_library());
        assert!(put("text.so", b"x = 1").is_library() && EntryFile::named("none.SO").is_library());
        assert!(!put("vm.py", b"x = 1").is_library() && !put("empty", b"").is_library());
        assert!(put("f", b"PK\x03\x04").is_zip() && !EntryFile::named("f.zip").is_zip());
        assert!(put("f", b"ab\r\n").has(2, b"\r\n") && !put("f", b"a").has(2, b"\r\n"));
        assert!(put("f", b"").is_there() && !EntryFile::at(folder.path()).is_there());
        assert!(!EntryFile::at(Path::new("/dev/zero")).is_there());
    }
}
