//! The folder of a new function: absent or empty before, whole or untouched afterwards.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use runtime_core::contract::Blame;

use super::Refusal;

/// Where a function can be made.
#[derive(Debug)]
pub(super) struct Place {
    /// As it was named.
    named: PathBuf,
    /// The nearest folder that exists, without links.
    base: PathBuf,
    /// What has to be made below it; nothing where the folder exists and is empty.
    rest: PathBuf,
    /// `base` and `rest`.
    path: PathBuf,
}

impl Place {
    /// # Errors
    /// Something is there already, or nothing can be made there.
    pub(super) fn find(dir: &Path) -> Result<Self, Refusal> {
        let shown = dir.display();
        let refused = |text: String| Err(Refusal::usage(text));
        match fs::metadata(dir) {
            Ok(meta) if !meta.is_dir() => {
                return refused(format!("'{shown}' is a file; name a new or an empty folder"));
            }
            Ok(_) => {
                let mut entries = fs::read_dir(dir).map_err(|error| unusable(dir, &error))?;
                if entries.next().is_some() {
                    return refused(format!("folder '{shown}' is not empty; name a new or an empty one"));
                }
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(dir, &error)),
            Err(_) if fs::symlink_metadata(dir).is_ok() => {
                return refused(format!("'{shown}' is a link to nothing; name a new or an empty folder"));
            }
            Err(_) => {}
        }
        let absolute = std::path::absolute(dir).map_err(|error| unusable(dir, &error))?;
        let base = absolute.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("/"));
        let rest = absolute.strip_prefix(base).unwrap_or(&absolute).to_owned();
        if !rest.components().all(|part| matches!(part, Component::Normal(_))) {
            return refused(format!("'{shown}' leads through a folder that does not exist; name it without '..'"));
        }
        let base = base.canonicalize().map_err(|error| unusable(dir, &error))?;
        let path = base.join(&rest);
        Ok(Self { named: dir.to_owned(), base, rest, path })
    }

    /// The folder's absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's own name, also where it was named as `.`.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Writes all files, or nothing.
    ///
    /// # Errors
    /// The folder, or a file in it, cannot be made.
    pub(super) fn fill(&self, files: &[(&str, String)]) -> Result<(), Refusal> {
        // beside or inside the place, so that renaming it is all that is left to do
        let draft = tempfile::Builder::new()
            .prefix(".gaugefn-init-")
            .tempdir_in(&self.base)
            .map_err(|error| unusable(&self.named, &error))?;
        let root = draft.path().join(&self.rest);
        write(&root, files).map_err(|error| self.broken(&error))?;
        let first = self.rest.components().next();
        match first {
            Some(first) => fs::rename(draft.path().join(first), self.base.join(first)),
            // the folder itself stays: somebody may be in it
            None => self.move_in(draft.path()),
        }
        .map_err(|error| self.broken(&error))
    }

    fn move_in(&self, draft: &Path) -> io::Result<()> {
        let mut moved = Vec::new();
        let mut all = || {
            for entry in fs::read_dir(draft)? {
                let entry = entry?;
                let target = self.path.join(entry.file_name());
                fs::rename(entry.path(), &target)?;
                moved.push(target);
            }
            Ok(())
        };
        let done = all();
        if done.is_err() {
            for path in moved {
                // the error that counts is the first one
                let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            }
        }
        done
    }

    fn broken(&self, error: &io::Error) -> Refusal {
        let message = format!("folder '{}' could not be filled, nothing was made: {error}", self.named.display());
        Refusal { message, code: Blame::Internal.exit_code() }
    }
}

fn unusable(dir: &Path, error: &io::Error) -> Refusal {
    Refusal::usage(format!("folder '{}' cannot be made; name one where you may write: {}", dir.display(), error.kind()))
}

fn write(root: &Path, files: &[(&str, String)]) -> io::Result<()> {
    for (name, text) in files {
        let path = root.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn files() -> Vec<(&'static str, String)> {
        vec![("a", "1".to_owned()), ("b/c", "2".to_owned())]
    }

    #[test]
    fn an_absent_folder_and_its_parents_are_made() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("x/y/vm");
        let place = Place::find(&dir).unwrap();
        assert_eq!(place.name(), "vm");
        place.fill(&files()).unwrap();
        assert_eq!((names(top.path()), names(&dir)), (vec!["x".to_owned()], vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(fs::read_to_string(dir.join("b/c")).unwrap(), "2");
        // not the private rights of a temporary folder
        let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions());
        fs::create_dir(top.path().join("plain")).unwrap();
        assert_eq!(mode(&dir), mode(&top.path().join("plain")));
    }

    #[test]
    fn an_empty_folder_stays_the_same_folder() {
        use std::os::unix::fs::MetadataExt;
        let top = tempfile::tempdir().unwrap();
        let inode = fs::metadata(top.path()).unwrap().ino();
        Place::find(top.path()).unwrap().fill(&files()).unwrap();
        assert_eq!(names(top.path()), ["a", "b"]);
        assert_eq!(fs::metadata(top.path()).unwrap().ino(), inode);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing() {
        let top = tempfile::tempdir().unwrap();
        let impossible = || vec![("a", String::new()), ("a/b", String::new())];
        let said = Place::find(&top.path().join("vm")).unwrap().fill(&impossible()).unwrap_err();
        assert_eq!((said.code, names(top.path())), (70, vec![]));
        assert!(said.message.contains("vm' could not be filled, nothing was made: "), "{}", said.message);
        Place::find(top.path()).unwrap().fill(&impossible()).unwrap_err();
        assert_eq!(names(top.path()), [""; 0]);
    }

    #[test]
    fn a_place_taken_meanwhile_is_left_alone() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("vm");
        let place = Place::find(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("mine"), "").unwrap();
        assert_eq!(place.fill(&files()).unwrap_err().code, 70);
        assert_eq!((names(top.path()), names(&dir)), (vec!["vm".to_owned()], vec!["mine".to_owned()]));
    }
}
