//! Writes what the plan allows into a fresh private folder.

use super::plan::{Plan, PlannedFile};
use crate::refusal::{Refusal, plain, quoted};
use runtime_core::scratch::{self, Listed};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use tempfile::TempDir;
use zip::ZipReadOptions;
use zip::unstable::read::ZipIterable;

/// A folder that goes with its last user, and with the process at the latest.
#[derive(Debug)]
pub(crate) struct PrivateFolder {
    folder: TempDir,
    _listed: Listed,
}

impl PrivateFolder {
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// An empty folder below `place` that only this user can enter.
pub(crate) fn private_folder(place: &Path) -> Result<PrivateFolder, Refusal> {
    let folder = tempfile::Builder::new()
        .prefix("gaugefn-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(place)
        .map_err(|error| cannot_write(place, &error))?;
    let _listed = scratch::list(folder.path());
    Ok(PrivateFolder { folder, _listed })
}

/// Unpacks the planned files of `zip` below `root`. What was written stays behind on an error: the folder goes
/// with its owner.
pub(crate) fn extract<R: Read + Seek>(zip: &mut ZipIterable<R>, plan: &Plan, root: &Path) -> Result<(), Refusal> {
    for folder in &plan.folders {
        make_folder(&root.join(folder), root)?;
    }
    let mut wanted = plan.files.iter().peekable();
    let mut index = 0;
    let entries = zip.files().map_err(|error| Refusal::broken(format!("is damaged: {error}")))?;
    while let Some(&file) = wanted.peek() {
        let damaged = |error| {
            Refusal::broken(format!("entry {} is damaged: {error}; copy or pack the archive again", quoted(&file.path)))
        };
        let Some(entry) = entries.next() else {
            return Err(Refusal::broken("changed while it was read: try again when it is complete"));
        };
        let entry = entry.map_err(damaged)?;
        if index == file.index {
            let mut content = entry.with_reader(entries.reader_mut(), ZipReadOptions::new()).map_err(damaged)?;
            write_file(&mut content, file, root)?;
            wanted.next();
        }
        index += 1;
    }
    Ok(())
}

fn write_file(content: &mut impl Read, file: &PlannedFile, root: &Path) -> Result<(), Refusal> {
    let path = root.join(&file.path);
    if let Some(folder) = path.parent() {
        make_folder(folder, root)?;
    }
    // `create_new`: in a private folder without links nothing can be there, so anything there is a broken promise
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(if file.executable { 0o700 } else { 0o600 })
        .open(&path)
        .map_err(|error| full(root, &error))?;
    copy_exactly(content, &mut target, file, root)
}

/// Copies and counts: the sizes that the limits were checked against are the archive's claims until here.
fn copy_exactly(content: &mut impl Read, target: &mut File, file: &PlannedFile, root: &Path) -> Result<(), Refusal> {
    let name = quoted(&file.path);
    let mut piece = [0; 16 * 1024];
    let mut copied = 0u64;
    loop {
        let read = match content.read(&mut piece) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error().is_some() => {
                return Err(Refusal::broken(format!("cannot be read: {}", plain(&error))));
            }
            Err(error) => {
                return Err(Refusal::broken(format!(
                    "entry {name} is damaged: {}; copy or pack the archive again",
                    plain(&error)
                )));
            }
        };
        copied += read as u64;
        if copied > file.size {
            return Err(Refusal::broken(format!(
                "entry {name} unpacks to more than the {} bytes that it claims: the archive is damaged or a bomb; pack it again",
                file.size
            )));
        }
        if read == 0 {
            break;
        }
        target.write_all(&piece[..read]).map_err(|error| full(root, &error))?;
    }
    if copied < file.size {
        return Err(Refusal::broken(format!(
            "entry {name} unpacks to {copied} bytes and claims {}: the archive is damaged; pack it again",
            file.size
        )));
    }
    Ok(())
}

fn make_folder(path: &Path, root: &Path) -> Result<(), Refusal> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| full(root, &error))
}

fn full(root: &Path, error: &io::Error) -> Refusal {
    cannot_write(root.parent().unwrap_or(root), error)
}

/// No folder for temporary files, or no space in it.
pub(crate) fn cannot_write(place: &Path, error: &io::Error) -> Refusal {
    Refusal::host(format!(
        "cannot be unpacked in {}: {}; mount a writable folder with enough space there (an emptyDir at /tmp) or set TMPDIR to one",
        place.display(),
        plain(error)
    ))
}
