//! The file itself: opened, locked, and appended to in whole lines.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtime_core::Fault;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

/// Others are at the file for as long as it takes to append to it. One that takes longer is stopped, or has a very slow
/// disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks whether the file is free.
const LOOK: Duration = Duration::from_millis(2);

pub(super) struct Place {
    path: PathBuf,
    /// Whether what was written has to survive a power cut.
    sync: bool,
    open: Option<Open>,
}

struct Open {
    file: File,
    /// A regular one, whose end can be looked at and cut off. Of a pipe nothing can be taken back.
    regular: bool,
    /// Of what is no regular file: the last line that was written has no end.
    torn: bool,
}

impl Place {
    pub(super) const fn new(path: PathBuf, sync: bool) -> Self {
        Self { path, sync, open: None }
    }

    /// Opens it.
    pub(super) fn check(&mut self) -> Result<(), Fault> {
        self.current().map(drop).map_err(|error| trouble(&self.path, error))
    }

    /// Appends lines, all of them or none, as far as the file lets itself be cut.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), Fault> {
        let sync = self.sync;
        let appended = self.current().and_then(|open| open.append(lines, sync));
        appended.map_err(|error| {
            // another one may be there next time
            self.open = self.open.take().filter(|open| open.regular || open.torn);
            trouble(&self.path, error)
        })
    }

    /// The open file, as long as the path leads to it: it may have been rotated away.
    fn current(&mut self) -> io::Result<&mut Open> {
        let there = match std::fs::metadata(&self.path) {
            Ok(meta) => Some(meta),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let known = self.open.take().filter(|open| {
            let own = open.file.metadata().map(|own| (own.dev(), own.ino()));
            there.as_ref().is_some_and(|there| own.is_ok_and(|own| own == (there.dev(), there.ino())))
        });
        let open = match (known, there) {
            (Some(open), _) => open,
            (None, Some(there)) => Open::existing(&self.path, there.is_file())?,
            (None, None) => {
                let made = Open::existing(&self.path, true)?;
                if self.sync {
                    // the name of a new file survives a power cut only then
                    File::open(folder_of(&self.path)).and_then(|folder| folder.sync_all())?;
                }
                made
            }
        };
        Ok(self.open.insert(open))
    }
}

impl Open {
    fn existing(path: &Path, regular: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true);
        let file = if regular {
            // its end is looked at, if this user may read it
            match options.create(true).read(true).open(path) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => options.read(false).open(path)?,
                opened => opened?,
            }
        } else {
            // a pipe that nobody reads is refused, instead of being waited for
            options.custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?
        };
        Ok(Self { file, regular, torn: false })
    }

    fn append(&mut self, lines: &[u8], sync: bool) -> io::Result<()> {
        if !self.regular {
            let text = [if self.torn { &b"\n"[..] } else { b"" }, lines].concat();
            return write(&self.file, &text).map_err(|(done, error)| {
                // whoever comes next to read a pipe has not seen what was before
                self.torn = error.kind() != ErrorKind::BrokenPipe && done > 0 && text[done - 1] != b'\n';
                error
            });
        }
        let _lock = Lock::of(&self.file)?;
        let before = self.file.metadata()?.len();
        let mut last = [b'\n'];
        if before > 0 {
            // a file that cannot be read is taken for a whole one
            let _ = self.file.read_exact_at(&mut last, before - 1);
        }
        // a kill, a power cut or another program has left half a line, which must not become one with the next
        let text = [if last == *b"\n" { &b""[..] } else { b"\n" }, lines].concat();
        let written = write(&self.file, &text).map_err(|(_, error)| error);
        written.and_then(|()| if sync { self.file.sync_data() } else { Ok(()) }).inspect_err(|_| {
            // what is half there would otherwise come again; if it stays, it is ended the next time
            if self.file.metadata().is_ok_and(|now| now.len() > before) {
                let _ = self.file.set_len(before);
            }
        })
    }
}

/// Waits for room in a pipe; an error comes with how many bytes were written before it.
fn write(file: &File, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::write(file, &bytes[done..]) {
            Ok(length) => done += length,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(file, PollFlags::OUT)], None);
            }
            Err(error) => return Err((done, error.into())),
        }
    }
    Ok(())
}

/// Keeps other processes, and other functions of this one, from the end of the file: what one cuts off is its own.
struct Lock<'a>(&'a File);

impl<'a> Lock<'a> {
    fn of(file: &'a File) -> io::Result<Self> {
        let end = Instant::now() + PATIENCE;
        loop {
            match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if Instant::now() < end => std::thread::sleep(LOOK),
                Err(Errno::WOULDBLOCK) => return Err(ErrorKind::WouldBlock.into()),
                Err(Errno::INTR) => {}
                // a file system without locks: one process at a time then, as the page of this component says
                Ok(()) | Err(_) => return Ok(Self(file)),
            }
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn trouble(path: &Path, error: io::Error) -> Fault {
    let path = path.display();
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NXIO | Errno::PIPE) => {
            Fault::backend(format!("nobody reads the pipe '{path}': start its reader")).caused_by(error)
        }
        None if error.kind() == ErrorKind::WouldBlock => Fault::backend(format!(
            "file '{path}' has been locked by another process for {} s: end that one, or wait for it",
            PATIENCE.as_secs()
        )),
        _ => {
            let remedy = "check its folder, permissions and free space";
            Fault::backend(format!("file '{path}' cannot be written: {remedy}")).caused_by(error)
        }
    }
}
