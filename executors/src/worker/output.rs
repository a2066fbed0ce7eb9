//! Parent side: what comes out of the child's descriptors 1 and 2, line by line: C code, subprocesses, crashes.
//!
//! The pipes are always drained, so that no write of the child waits for a slow log. Where nobody takes the lines,
//! only so many are kept, and the rest is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use runtime_core::records::Lines;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use runtime_core::records::LONGEST;

/// Bytes of lines that wait for being taken; more are dropped.
const HELD: usize = 2 << 20;

/// What a line costs besides its text.
const OVERHEAD: usize = 64;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    /// The word used in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One line, or a piece of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it was written to.
    pub stream: Stream,
    /// Without its line break. What is no UTF-8 is replaced.
    pub text: String,
    /// It was too long: the next one of this stream is its continuation.
    pub cut: bool,
    /// How many lines of this stream were dropped right before it.
    pub lost: u64,
}

/// The lines of both streams, in the order in which they were read.
#[derive(Debug)]
pub struct Output {
    lines: mpsc::UnboundedReceiver<Line>,
    held: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    /// Dropped, they end, also where something that escaped still holds a pipe open.
    _tasks: JoinSet<()>,
}

impl Output {
    /// Begins to read. Inside a tokio runtime.
    #[must_use]
    pub fn new(stdout: Receiver, stderr: Receiver) -> Self {
        let (sender, lines) = mpsc::unbounded_channel();
        let (held, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for (stream, pipe) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
            let to = Sender { stream, sender: sender.clone(), held: held.clone(), lost: lost.clone(), before: 0 };
            tasks.spawn(drain(pipe, to));
        }
        Self { lines, held, lost, _tasks: tasks }
    }

    /// The next line; `None` once nobody can write any more. A future that is dropped loses nothing.
    pub async fn next(&mut self) -> Option<Line> {
        let line = self.lines.recv().await?;
        self.held.fetch_sub(line.text.len() + OVERHEAD, Ordering::Relaxed);
        Some(line)
    }

    /// How many lines were dropped since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

struct Sender {
    stream: Stream,
    sender: mpsc::UnboundedSender<Line>,
    held: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    before: u64,
}

impl Sender {
    fn send(&mut self, text: String, cut: bool) {
        let cost = text.len() + OVERHEAD;
        if self.held.fetch_add(cost, Ordering::Relaxed) + cost > HELD {
            self.held.fetch_sub(cost, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.before += 1;
            return;
        }
        let line = Line { stream: self.stream, text, cut, lost: std::mem::take(&mut self.before) };
        // a reader that has gone has dropped this task as well
        let _ = self.sender.send(line);
    }
}

async fn drain(mut pipe: Receiver, mut to: Sender) {
    let (mut lines, mut buffer) = (Lines::default(), Vec::with_capacity(LONGEST));
    // a pipe that cannot be read is as good as closed
    while let Ok(1..) = pipe.read_buf(&mut buffer).await {
        lines.push(&buffer, |text, cut| to.send(text, cut));
        buffer.clear();
    }
    lines.end(|text, cut| to.send(text, cut));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::fs::File;
    use std::io::Write;

    #[tokio::test]
    async fn a_writer_never_waits_and_what_is_dropped_is_counted() {
        let (stdout, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (stderr, other) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut output =
            Output::new(Receiver::from_owned_fd(stdout).unwrap(), Receiver::from_owned_fd(stderr).unwrap());
        let line = format!("{}\n", "x".repeat(999));
        // twice as much as is held, and nobody takes it
        let total = 2 * HELD / 1000;
        let writing = tokio::task::spawn_blocking(move || {
            let mut write = File::from(write);
            (0..total).for_each(|_| write.write_all(line.as_bytes()).unwrap());
        });
        writing.await.unwrap();
        drop(other);
        let (mut count, mut lost) = (0, 0);
        while let Some(line) = output.next().await {
            assert_eq!((line.stream, line.text.len(), line.cut), (Stream::Stdout, 999, false));
            count += 1;
            lost += line.lost;
        }
        assert!(count >= HELD / (999 + OVERHEAD), "{count}");
        assert!(output.lost() > 0 && lost <= output.lost());
        assert_eq!(count as u64 + output.lost(), total as u64);
        assert_eq!(output.held.load(Ordering::Relaxed), 0);
    }
}
