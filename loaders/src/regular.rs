//! Opens what must be an ordinary file, and says what it is where it is none.

use crate::refusal::Refusal;
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens a regular file for reading. `what` is its name in messages: `zip`, `module`.
pub(crate) fn open(what: &str, path: &Path) -> Result<(File, Metadata), Refusal> {
    let unreadable = |error| Refusal::unreadable(what, path, &error);
    let refuse = |meta: Metadata| Err(irregular(meta.file_type()).about(&format!("{what} {}", path.display())));
    let meta = fs::metadata(path).map_err(unreadable)?;
    // some devices act on being opened
    if !meta.is_file() {
        return refuse(meta);
    }
    // without waiting: what was a file may have become a pipe since
    let no_wait = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(no_wait).open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if meta.is_file() { Ok((file, meta)) } else { refuse(meta) }
}

fn irregular(kind: FileType) -> Refusal {
    let kind = if kind.is_dir() {
        return Refusal::unsuitable(
            "is a folder, no regular file, as an absent optional ConfigMap leaves one at its mount point: \
             provide the file or correct the path",
        );
    } else if kind.is_fifo() {
        "named pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    };
    Refusal::unsuitable(format!("is a {kind}, no regular file: provide the file or correct the path"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::refusal::Reason;

    #[test]
    fn only_regular_files_are_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        let socket = folder.path().join("socket");
        let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, word) in [
            (pipe.as_path(), "is a named pipe, no regular file"),
            (&socket, "is a socket, no regular file"),
            (Path::new("/dev/null"), "is a device, no regular file"),
            (folder.path(), "is a folder, no regular file, as an absent optional ConfigMap leaves one"),
        ] {
            let refusal = open("module", path).unwrap_err();
            assert_eq!(refusal.reason, Reason::Unsuitable);
            let start = format!("module {}: {word}", path.display());
            assert!(refusal.to_string().starts_with(&start), "{refusal}");
        }
        assert_eq!(open("module", &folder.path().join("gone")).unwrap_err().reason, Reason::Missing);
        fs::write(folder.path().join("m.py"), "x").unwrap();
        assert_eq!(open("module", &folder.path().join("m.py")).unwrap().1.len(), 1);
    }
}
