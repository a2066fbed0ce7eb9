//! Standard output, on which every line is whole.
//!
//! Whatever it is (a pipe whose other end is slow or does not block, a file on a disk that is full at the moment), a
//! line that was begun is ended before another one begins. A process has one standard output, so what is owed to it
//! is kept here, for all who write.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// Lines are written together up to `PIPE_BUF` bytes, which a pipe takes in one place: whoever else writes there gets
/// between lines.
const TOGETHER: usize = 4096;

static OWED: Owed = Owed(Mutex::new(None));

/// Lines that could not all be written.
#[derive(Debug)]
pub struct Unwritten {
    /// How many bytes need not be written again: whole lines, and one that was begun, whose end is written first the
    /// next time.
    pub done: usize,
    /// Of kind [`ErrorKind::BrokenPipe`] where nobody will ever read: a pipe or connection without a reader, a
    /// terminal that has gone.
    pub error: io::Error,
}

/// Writes lines, each with its end, to standard output; waits for whoever reads.
///
/// # Errors
/// Why not, and how far it came.
pub fn write(out: &File, lines: &[u8]) -> Result<(), Unwritten> {
    OWED.write(out, lines)
}

/// The end of a line that was begun; none before the first line.
struct Owed(Mutex<Option<Vec<u8>>>);

impl Owed {
    fn write(&self, out: &File, lines: &[u8]) -> Result<(), Unwritten> {
        let mut owed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // somebody before us may have been killed in the middle of a line
        let rest = owed.get_or_insert_with(|| if ends_torn(out).unwrap_or(false) { vec![b'\n'] } else { Vec::new() });
        let (written, result) = put(out, rest);
        rest.drain(..written);
        result.map_err(|error| Unwritten { done: 0, error })?;
        let mut done = 0;
        while done < lines.len() {
            let piece = piece(&lines[done..]);
            let (written, result) = put(out, piece);
            if let Err(error) = result {
                done += written;
                let begun = written > 0 && piece[written - 1] != b'\n';
                if begun {
                    let end = ended(&piece[written..]);
                    rest.extend_from_slice(&piece[written..written + end]);
                    done += end;
                }
                return Err(Unwritten { done, error });
            }
            done += written;
        }
        Ok(())
    }
}

/// As many whole lines as are written together, or one that is longer.
fn piece(lines: &[u8]) -> &[u8] {
    let fits = &lines[..lines.len().min(TOGETHER)];
    match fits.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => &lines[..=at],
        None => &lines[..ended(lines)],
    }
}

/// The length of the first line with its end.
fn ended(lines: &[u8]) -> usize {
    lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1)
}

/// How many bytes were written, all of them or those before an error.
fn put(out: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::write(out, &bytes[done..]) {
            Ok(length) => done += length,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(out, PollFlags::OUT)], None);
            }
            Err(error) => {
                let terminal = || out.metadata().is_ok_and(|meta| meta.file_type().is_char_device());
                let gone = error == Errno::CONNRESET || error == Errno::IO && terminal();
                let error = if gone { ErrorKind::BrokenPipe.into() } else { error.into() };
                return (done, Err(error));
            }
        }
    }
    (done, Ok(()))
}

/// Whether what is written will follow half a line of a file.
fn ends_torn(out: &File) -> io::Result<bool> {
    let meta = out.metadata()?;
    if !meta.is_file() || meta.len() == 0 || !rustix::fs::fcntl_getfl(out)?.contains(OFlags::APPEND) {
        return Ok(false);
    }
    // it is open for writing alone
    let file = File::open(format!("/proc/self/fd/{}", out.as_raw_fd()))?;
    let mut last = [0];
    file.read_exact_at(&mut last, meta.len() - 1)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{Read, pipe};
    use std::thread;
    use std::time::Duration;

    fn fresh() -> Owed {
        Owed(Mutex::new(None))
    }

    fn file(writer: io::PipeWriter) -> File {
        std::os::fd::OwnedFd::from(writer).into()
    }

    fn unblocked(out: &File) {
        rustix::fs::fcntl_setfl(out, OFlags::WRONLY | OFlags::NONBLOCK).unwrap();
    }

    #[test]
    fn a_pipe_that_does_not_block_gets_every_line_of_every_writer_whole() {
        let (mut read, write) = pipe().unwrap();
        let (out, owed) = (file(write), fresh());
        unblocked(&out);
        let reader = thread::spawn(move || {
            let mut text = String::new();
            thread::sleep(Duration::from_millis(50));
            read.read_to_string(&mut text).unwrap();
            text
        });
        let line = |letter: &str, length| format!("{}\n", letter.repeat(length));
        thread::scope(|scope| {
            for (letter, length) in [("a", 10), ("b", 1000), ("c", 100_000)] {
                let (out, owed) = (&out, &owed);
                scope.spawn(move || {
                    for _ in 0..30 {
                        owed.write(out, line(letter, length).repeat(3).as_bytes()).unwrap();
                    }
                });
            }
        });
        drop(out);
        let text = reader.join().unwrap();
        for (letter, length) in [("a", 10), ("b", 1000), ("c", 100_000)] {
            let own: Vec<_> = text.lines().filter(|line| line.starts_with(letter)).collect();
            assert!(own.len() == 90 && own.iter().all(|own| *own == letter.repeat(length)), "{letter}: {}", own.len());
        }
    }

    #[test]
    fn a_line_that_was_begun_is_ended_before_another_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::fs::write(&path, "killed").unwrap();
        let out = File::options().append(true).open(&path).unwrap();
        let owed = fresh();
        owed.write(&out, b"1\n").unwrap();
        *owed.0.lock().unwrap() = Some(b"gun\n".to_vec());
        rustix::io::write(&out, b"be").unwrap();
        owed.write(&out, b"next\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "killed\n1\nbegun\nnext\n");
    }

    #[test]
    fn what_a_full_disk_took_is_not_written_again() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let owed = fresh();
        let unwritten = owed.write(&full, b"1\n2\n").unwrap_err();
        assert_eq!((unwritten.done, unwritten.error.kind()), (0, ErrorKind::StorageFull));
        assert_eq!(piece(b"1\n2\n3"), b"1\n2\n");
        assert_eq!(piece(&[b'x'; 2 * TOGETHER]).len(), 2 * TOGETHER);
    }

    #[test]
    fn a_reader_who_has_gone_is_told_apart() {
        let (read, write) = pipe().unwrap();
        drop(read);
        assert_eq!(fresh().write(&file(write), b"1\n").unwrap_err().error.kind(), ErrorKind::BrokenPipe);
    }
}
