//! The process's own standard streams, before anything else can write to them.
//!
//! Results: user code, C libraries and subprocesses write to descriptor 1 as they like, so the real standard output is
//! kept aside and 1 is made standard error.
//!
//! The log: where each of its lines is to be JSON, what is written to descriptors 1 and 2 has to become records first.
//! Then both are pipes, and the log alone has the real standard error. What a crash of this very process writes in its
//! last moment is lost with the threads that read them.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use runtime_core::records::{self, Lines, Record};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::stdio::{dup2_stderr, dup2_stdout};
use tracing::Level;

/// Takes a private copy of descriptor 1 and points 1 at 2. To be called before any thread starts.
///
/// # Errors
/// The process has no descriptors left.
pub(crate) fn claim_stdout() -> io::Result<Arc<File>> {
    let stdout = match fcntl_dupfd_cloexec(io::stdout(), 3) {
        Ok(copy) => File::from(copy),
        // started without a standard output
        Err(rustix::io::Errno::BADF) => File::options().write(true).open("/dev/null")?,
        Err(error) => return Err(error.into()),
    };
    dup2_stdout(io::stderr())?;
    Ok(Arc::new(stdout))
}

/// What the pipes can hold, where the kernel allows as much: a writer should seldom wait for the log.
const PIPE: usize = 1 << 20;

/// A piece of what is read at once.
const CHUNK: usize = 64 << 10;

/// How long what is left may take to be logged at the end; what holds the pipes open may outlive this process.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The real standard error, and who is still reading.
struct Captured {
    stderr: OwnedFd,
    /// Closed by each reader at its end.
    readers: Receiver<()>,
}

static CAPTURED: Mutex<Option<Captured>> = Mutex::new(None);

/// From now on what is written to descriptors 1 and 2 becomes records of this function; empty where it can be
/// anybody's. The log has the real standard error by then.
///
/// # Errors
/// The process has no descriptors or threads left.
pub(crate) fn capture(function: &str) -> io::Result<()> {
    let stderr = fcntl_dupfd_cloexec(io::stderr(), 3)?;
    let (ended, readers) = channel();
    let mut ends = Vec::new();
    for (stream, level) in [("stdout", Level::INFO), ("stderr", Level::WARN)] {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        // refused where this user's pipes hold much already
        let _ = fcntl_setpipe_size(&write, PIPE);
        let (function, ended) = (function.to_owned(), ended.clone());
        let reader = thread::Builder::new().name(stream.to_owned());
        reader.spawn(move || read_all(File::from(read), level, stream, &function, &ended))?;
        ends.push(write);
    }
    dup2_stdout(&ends[0])?;
    dup2_stderr(&ends[1])?;
    *CAPTURED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Captured { stderr, readers });
    Ok(())
}

fn read_all(mut pipe: File, level: Level, stream: &str, function: &str, _ended: &Sender<()>) {
    let mut lines = Lines::default();
    let mut chunk = vec![0; CHUNK];
    // which event it belongs to is known to nobody out here
    let write = |text: String, _| {
        records::write(level, Record { function, event: "", stream, worker: None, text: &text });
    };
    loop {
        match pipe.read(&mut chunk) {
            Ok(length @ 1..) => lines.push(&chunk[..length], write),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    lines.end(write);
}

/// Ends what [`capture`] began, if it did: what was written before is logged. To be called right before the end of the
/// process.
pub(crate) fn release() {
    let captured = CAPTURED.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(Captured { stderr, readers }) = captured else { return };
    // closes the pipes, and whoever still writes is heard unchanged
    if dup2_stdout(stderr.as_fd()).and_then(|()| dup2_stderr(stderr.as_fd())).is_err() {
        return;
    }
    let end = Instant::now() + LAST_WORDS;
    // an error comes once both readers have ended, or when it takes too long
    while readers.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {}
}
