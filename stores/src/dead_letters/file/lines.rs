//! The file itself: appended to, read, and written anew without some of its lines.
//!
//! ```text
//! vm.dead       the letters; ids ascend, as a new one is always greater than the last one of the file
//! vm.dead.lock  locked by the process that is at the file
//! vm.dead.tmp   the file without what is being removed; never read
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, ErrorKind, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use runtime_core::Fault;
use runtime_core::contract::{Filed, Letter};
use rustix::fs::{Access, FlockOperation};

use crate::dead_letters::Id;
use crate::dead_letters::line::{self, Found};
use crate::disk::{self, beside};

/// Others are at the file for milliseconds. One that takes longer is stopped, or has a very slow disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks whether the file is free.
const LOOK: Duration = Duration::from_millis(2);

/// Bytes of letters that are read at once, about.
const PAGE: usize = 8 << 20;

/// Read at a time on the search for the last line; most letters fit.
const BLOCK: u64 = 16 * 1024;

pub(super) struct Lines {
    path: PathBuf,
}

impl Lines {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether letters could be added; leaves no file behind.
    pub(super) fn check(&self) -> Result<(), Fault> {
        for path in [&self.path, &beside(&self.path, ".lock")] {
            let opened = OpenOptions::new().write(true).open(path).map(drop);
            let writable = match opened {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let made_there = Access::WRITE_OK | Access::EXEC_OK;
                    rustix::fs::access(disk::folder_of(path), made_there).map_err(Into::into)
                }
                opened => opened,
            };
            writable.map_err(|error| disk::trouble("dead letters' file", "write", path, error))?;
        }
        Ok(())
    }

    /// Adds letters and brings them to the disk.
    pub(super) fn append(&self, letters: &[Letter]) -> Result<(), Fault> {
        if letters.is_empty() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let is_new = !self.path.exists();
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&self.path);
        let mut file = file.map_err(|error| self.trouble("open", error))?;
        let length = file.metadata().map_err(|error| self.trouble("read", error))?.len();
        let last = last_line(&file, length).map_err(|error| self.trouble("read", error))?;
        let mut text = Vec::new();
        if last.last().is_some_and(|byte| *byte != b'\n') {
            // half of a line: it must not become one with what follows
            text.push(b'\n');
        }
        let mut id = first_id(&last);
        for letter in letters {
            let line = line::write(&id.to_string(), letter)
                .map_err(|error| Fault::internal("a letter cannot be written as JSON").caused_by(error))?;
            text.extend(line.as_bytes());
            text.push(b'\n');
            id.count += 1;
        }
        let written = file.seek(SeekFrom::End(0)).and_then(|_| file.write_all(&text)).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // what is half there is skipped by whoever reads, if it cannot be taken back
            let _ = file.set_len(length);
            return Err(self.trouble("write", error));
        }
        if is_new {
            disk::sync(disk::folder_of(&self.path)).map_err(|error| self.trouble("write", error))?;
        }
        Ok(())
    }

    /// The first letters whose ids are wanted, `max` at most, and of large ones as many as have [`PAGE`] bytes.
    pub(super) fn read(&self, wanted: impl Fn(Id) -> bool, max: usize) -> Result<Vec<Filed>, Fault> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        self.each(|text, line| {
            if matches!(&line, Found::Letter(id, _) if wanted(*id)) {
                found.extend(line.filed());
                bytes += text.len();
            }
            Ok(found.len() < max && bytes < PAGE)
        })?;
        Ok(found)
    }

    /// Writes the file without these letters; how many there were of them.
    pub(super) fn remove(&self, ids: &BTreeSet<Id>) -> Result<u64, Fault> {
        if ids.is_empty() || !self.path.exists() {
            return Ok(0);
        }
        let _lock = self.lock()?;
        let next = beside(&self.path, ".tmp");
        let trouble = |error| disk::trouble("dead letters' file", "write", &next, error);
        let mut file = BufWriter::new(File::create(&next).map_err(trouble)?);
        let mut removed = 0;
        self.each_locked(|text, line| {
            match line {
                Found::Letter(id, _) if ids.contains(&id) => removed += 1,
                // nobody was told that it is kept
                Found::Torn => {}
                Found::Letter(..) | Found::Foreign(_) => {
                    file.write_all(text).and_then(|()| file.write_all(b"\n")).map_err(trouble)?;
                }
            }
            Ok(true)
        })?;
        let file = file.into_inner().map_err(|error| trouble(error.into_error()))?;
        if removed == 0 {
            let _ = fs::remove_file(&next);
            return Ok(0);
        }
        file.sync_all().map_err(trouble)?;
        fs::rename(&next, &self.path).map_err(|error| self.trouble("replace", error))?;
        disk::sync(disk::folder_of(&self.path)).map_err(|error| self.trouble("write", error))?;
        Ok(removed)
    }

    /// Every line, without its end, until the answer is false. A file that is not there has none.
    fn each(&self, seen: impl FnMut(&[u8], Found) -> Result<bool, Fault>) -> Result<(), Fault> {
        if !self.path.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.each_locked(seen)
    }

    fn each_locked(&self, mut seen: impl FnMut(&[u8], Found) -> Result<bool, Fault>) -> Result<(), Fault> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.trouble("open", error)),
        };
        let mut file = BufReader::new(file);
        let mut text = Vec::new();
        for number in 1.. {
            text.clear();
            if file.read_until(b'\n', &mut text).map_err(|error| self.trouble("read", error))? == 0 {
                break;
            }
            let text = text.trim_ascii_end();
            if text.is_empty() {
                continue;
            }
            let line = line::read(text);
            let path = self.path.display();
            match &line {
                Found::Letter(..) => {}
                Found::Torn => tracing::warn!("line {number} of '{path}' is torn, and skipped: a crash cut it off"),
                Found::Foreign(why) => {
                    tracing::warn!("line {number} of '{path}' is no dead letter, and skipped: {why}")
                }
            }
            if !seen(text, line)? {
                break;
            }
        }
        Ok(())
    }

    /// Held until it is dropped, or the process ends.
    fn lock(&self) -> Result<File, Fault> {
        let path = beside(&self.path, ".lock");
        let trouble = |error| disk::trouble("dead letters' file", "lock", &path, error);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(trouble)?;
        let end = Instant::now() + PATIENCE;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => std::thread::sleep(LOOK),
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(Fault::backend(format!(
                        "dead letters' file '{}' has been locked by another process for {} s: end that one, or wait \
                         for it",
                        self.path.display(),
                        PATIENCE.as_secs()
                    )));
                }
                Err(error) => return Err(trouble(error.into())),
            }
        }
    }

    fn trouble(&self, verb: &str, error: std::io::Error) -> Fault {
        disk::trouble("dead letters' file", verb, &self.path, error)
    }
}

/// The last line with its end, if it has one, or that half of a line which follows the last end.
fn last_line(file: &File, length: u64) -> std::io::Result<Vec<u8>> {
    let mut tail = Vec::new();
    let mut start = length;
    while start > 0 {
        let block = start.saturating_sub(BLOCK);
        let mut bytes = vec![0; usize::try_from(start - block).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, block)?;
        bytes.append(&mut tail);
        tail = bytes;
        start = block;
        let inner = tail.len() - usize::from(tail.last() == Some(&b'\n'));
        if let Some(at) = tail[..inner].iter().rposition(|byte| *byte == b'\n') {
            return Ok(tail.split_off(at + 1));
        }
    }
    Ok(tail)
}

/// Now, unless a letter of the file is younger: a clock may be put back.
fn first_id(last: &[u8]) -> Id {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = Id { millis: u64::try_from(now.as_millis()).unwrap_or(u64::MAX), count: 0 };
    match line::read(last.trim_ascii_end()) {
        Found::Letter(id, _) if id >= now => Id { count: id.count + 1, ..id },
        _ => now,
    }
}
