//! What the components of this crate that write files have in common.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use runtime_core::Fault;

/// A name beside that of the file.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Brings the names in a folder to the disk: those of new files survive a power cut only then.
pub(crate) fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all())
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Disks fill up and come back; only a folder that is not there is a mistake. `what` the file is stands before its path.
pub(crate) fn trouble(what: &str, verb: &str, path: &Path, error: std::io::Error) -> Fault {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound if !folder_of(path).exists() => {
            Fault::file(format!("{what} '{shown}': its folder does not exist; make it, or name another path"))
        }
        ErrorKind::PermissionDenied => Fault::backend(format!(
            "cannot {verb} {what} '{shown}': permission denied; let this user write to its folder"
        )),
        ErrorKind::IsADirectory => Fault::backend(format!(
            "cannot {verb} {what} '{shown}': it is a folder; name a file in it, or another path"
        )),
        _ => Fault::backend(format!("cannot {verb} {what} '{shown}': check its disk")).caused_by(error),
    }
}
