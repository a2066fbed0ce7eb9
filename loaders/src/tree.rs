//! A folder's code as one number, read anew only where something was written.

use crate::hash::{ContentHash, Stamp};
use crate::include::Include;
use crate::refusal::Refusal;
use std::collections::{HashMap, HashSet};
use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// More files than this are no function's code but somebody's home or a whole disk.
const MOST_FILES: usize = 100_000;

/// More names than this, of whatever kind, take seconds to look through.
const MOST_NAMES: usize = 1_000_000;

/// What makes a folder a virtual environment, whose packages change by its own tools.
const ENVIRONMENT: &str = "pyvenv.cfg";

/// The code below one folder.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    include: Include,
    seen: Mutex<Seen>,
}

/// What the last look has found.
#[derive(Debug, Default)]
struct Seen {
    /// Of each file what it was, where nothing can have been written since unnoticed.
    files: HashMap<PathBuf, (Stamp, ContentHash)>,
    folders: Vec<PathBuf>,
}

/// What lies in the folder now.
#[derive(Debug, Default)]
struct Found {
    /// Code, sorted.
    files: Vec<PathBuf>,
    /// Where code is, sorted, then where it could come to be.
    folders: Vec<PathBuf>,
}

impl Tree {
    pub(crate) fn new(root: PathBuf, include: Include) -> Self {
        Self { root, include, seen: Mutex::default() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn include(&self) -> &Include {
        &self.include
    }

    /// Names and contents of all code.
    pub(crate) fn hash(&self) -> Result<ContentHash, Refusal> {
        self.hash_as_of(SystemTime::now())
    }

    fn hash_as_of(&self, now: SystemTime) -> Result<ContentHash, Refusal> {
        let found = self.found()?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = HashMap::with_capacity(found.files.len());
        let mut parts = Vec::with_capacity(found.files.len());
        for file in found.files {
            let unreadable = |error: &io::Error| Refusal::unreadable("a file below", &self.root, error);
            let (stamp, hash) = match Stamp::of(&file).and_then(|stamp| match seen.files.get(&file) {
                Some((before, hash)) if *before == stamp => Ok((stamp, *hash)),
                _ => ContentHash::of_file(&file, &stamp).map(|hash| (stamp, hash)),
            }) {
                Ok(known) => known,
                // removed since it was listed
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unreadable(&error)),
            };
            parts.push((file.strip_prefix(&self.root).unwrap_or(&file).to_path_buf(), hash));
            if !stamp.is_young(now) {
                files.insert(file, (stamp, hash));
            }
        }
        *seen = Seen { files, folders: found.folders };
        Ok(ContentHash::of_parts(&parts))
    }

    /// The folders that the last look went through, those with code first.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).folders.clone()
    }

    /// Looks through the folder in the order of the names, so that of several links to one folder it is always the same
    /// that is followed.
    fn found(&self) -> Result<Found, Refusal> {
        let mut found = Found::default();
        let (mut coded, mut empty) = (Vec::new(), Vec::new());
        let mut visited = HashSet::new();
        let mut names = 0;
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let is_root = folder == self.root;
            let mut listed = match list(&folder, &mut visited) {
                Ok(listed) => listed,
                Err(error) if is_root => return Err(Refusal::unreadable("folder", &folder, &error)),
                // removed meanwhile, or not for this user: nothing could be imported from it
                Err(_) => continue,
            };
            names += listed.len();
            if names > MOST_NAMES {
                return Err(Refusal::broken(format!(
                    "folder {} holds more than {MOST_NAMES} names: keep data beside the function's folder, not in it",
                    self.root.display()
                )));
            }
            let is_environment =
                listed.iter().any(|(path, _)| path.file_name().is_some_and(|name| name == ENVIRONMENT));
            if is_environment && !is_root && !folder.file_name().is_some_and(|name| self.include.spells(name)) {
                continue;
            }
            listed.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            let before = found.files.len();
            // the last one is looked at first
            for (path, kind) in listed.into_iter().rev() {
                let below = path.strip_prefix(&self.root).unwrap_or(&path);
                let name = path.file_name().unwrap_or_default();
                let (counts, enters) = (self.include.counts(below), self.include.enters(name));
                if !counts && !enters {
                    continue;
                }
                // only a link has to be followed in order to be known
                let (is_file, is_folder) = if kind.is_symlink() {
                    fs::metadata(&path).map_or((false, false), |meta| (meta.is_file(), meta.is_dir()))
                } else {
                    (kind.is_file(), kind.is_dir())
                };
                if is_folder && enters {
                    folders.push(path);
                } else if is_file && counts {
                    found.files.push(path);
                }
            }
            if found.files.len() > MOST_FILES {
                return Err(Refusal::broken(format!(
                    "folder {} holds more than {MOST_FILES} files of code: name the folder of the function alone",
                    self.root.display()
                )));
            }
            if found.files.len() > before || is_root { coded.push(folder) } else { empty.push(folder) }
        }
        found.files.sort_unstable();
        found.folders = coded;
        found.folders.extend(empty);
        Ok(found)
    }
}

/// What is in a folder; nothing where it was looked through before, as a link may lead back up.
fn list(folder: &Path, visited: &mut HashSet<(u64, u64)>) -> io::Result<Vec<(PathBuf, FileType)>> {
    let place = fs::metadata(folder)?;
    if !visited.insert((place.dev(), place.ino())) {
        return Ok(Vec::new());
    }
    let mut listed = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        listed.push((entry.path(), entry.file_type()?));
        if listed.len() > MOST_NAMES {
            break;
        }
    }
    Ok(listed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::{create_dir, write};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Duration;

    fn tree(root: &Path, include: &[&str]) -> Tree {
        let patterns: Vec<_> = include.iter().map(|pattern| (*pattern).to_owned()).collect();
        Tree::new(root.to_path_buf(), Include::new(&patterns, None).unwrap())
    }

    fn hash(root: &Path) -> ContentHash {
        tree(root, &[]).hash().unwrap()
    }

    #[test]
    fn a_folder_is_the_names_and_contents_of_its_modules() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root.join("main.py"), "x = 1").unwrap();
        create_dir(root.join("lib")).unwrap();
        write(root.join("lib/a.py"), "").unwrap();
        let first = hash(root);

        for left in [".git", "..data", ".venv", "__pycache__", "node_modules", "env"] {
            create_dir(root.join(left)).unwrap();
            write(root.join(left).join("f.py"), "noise").unwrap();
        }
        write(root.join("env/pyvenv.cfg"), "home = /usr/bin").unwrap();
        for left in ["main.pyc", "calls.log", "cache.json", "state.db-wal", ".main.py.swp", "main.py~", "4913"] {
            write(root.join(left), "noise").unwrap();
        }
        let _listening = std::os::unix::net::UnixListener::bind(root.join("own.py")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe.py"), rustix::fs::Mode::RUSR).unwrap();
        symlink("user@host.17:1", root.join(".#main.py")).unwrap();
        assert_eq!(hash(root), first);
        assert_ne!(tree(root, &["*.json"]).hash().unwrap(), first);

        fs::rename(root.join("lib/a.py"), root.join("lib/b.py")).unwrap();
        assert_ne!(hash(root), first);
        fs::rename(root.join("lib/b.py"), root.join("lib/a.py")).unwrap();
        write(root.join("main.py"), "x = 2").unwrap();
        assert_ne!(hash(root), first);
    }

    #[test]
    fn links_that_lead_in_circles_or_nowhere_end_and_a_folder_counts_once() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root.join("main.py"), "").unwrap();
        create_dir(root.join("lib")).unwrap();
        write(root.join("lib/a.py"), "").unwrap();
        symlink(root, root.join("lib/up")).unwrap();
        symlink("lib", root.join("again")).unwrap();
        symlink("/nowhere", root.join("gone.py")).unwrap();
        symlink("round.py", root.join("round.py")).unwrap();
        let found = tree(root, &[]).found().unwrap();
        assert_eq!(found.files, [root.join("again/a.py"), root.join("main.py")]);
    }

    #[test]
    fn a_subfolder_that_cannot_be_read_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root.join("main.py"), "").unwrap();
        create_dir(root.join("lost")).unwrap();
        fs::set_permissions(root.join("lost"), fs::Permissions::from_mode(0o000)).unwrap();
        // root reads it all the same, and finds nothing
        assert_eq!(tree(root, &[]).found().unwrap().files, [root.join("main.py")]);
        fs::set_permissions(root.join("lost"), fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn only_what_was_written_is_read_again() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root.join("main.py"), "x = 1").unwrap();
        write(root.join("other.py"), "y = 1").unwrap();
        let tree = tree(root, &[]);
        let later = SystemTime::now() + Duration::from_secs(10);
        let first = tree.hash_as_of(later).unwrap();
        // what is remembered shows by a memory that is wrong
        for known in tree.seen.lock().unwrap().files.values_mut() {
            known.1 = ContentHash::of_bytes(b"remembered");
        }
        let remembered = tree.hash_as_of(later).unwrap();
        assert_ne!(remembered, first);
        write(root.join("main.py"), "x = 22").unwrap();
        let one = tree.hash_as_of(later).unwrap();
        assert!(one != remembered && one != first);
        assert_eq!(tree.seen.lock().unwrap().files[&root.join("other.py")].1, ContentHash::of_bytes(b"remembered"));

        // a file so young may change again within the same tick of the clock
        let young = Tree::new(root.to_path_buf(), Include::default());
        young.hash().unwrap();
        assert!(young.seen.lock().unwrap().files.is_empty());
    }

    #[test]
    fn a_file_of_gibibytes_is_told_by_size_and_time() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root.join("main.py"), "").unwrap();
        let model = fs::File::create(root.join("model.bin")).unwrap();
        model.set_len(8 << 30).unwrap();
        let tree = tree(root, &["*.bin"]);
        let begun = std::time::Instant::now();
        let first = tree.hash().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        model.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_ne!(tree.hash().unwrap(), first);
    }
}
