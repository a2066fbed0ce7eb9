//! Parent side: what comes out of the child's descriptors 1 and 2, line by line: C code, subprocesses, crashes.
//!
//! The pipes are always drained, so that no write of the child waits for a slow log. Where nobody takes the lines,
//! only so many are kept, and the rest is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A line of more bytes comes in pieces.
pub const LONGEST: usize = 64 << 10;

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

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
struct Lines {
    /// What was read since the last line break.
    open: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], mut each: impl FnMut(String, bool)) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (mut line, ended) = line.strip_suffix(b"\n").map_or((line, false), |line| (line, true));
            while self.open.len() + line.len() > LONGEST {
                let (fits, later) = line.split_at(LONGEST - self.open.len());
                self.open.extend_from_slice(fits);
                line = later;
                let at = whole(&self.open);
                each(lossy(&self.open[..at]), true);
                self.open.drain(..at);
            }
            self.open.extend_from_slice(line);
            if ended {
                let text = self.open.strip_suffix(b"\r").unwrap_or(&self.open);
                each(lossy(text), false);
                self.open.clear();
            }
        }
    }

    /// The last line need not have a line break.
    fn end(self, mut each: impl FnMut(String, bool)) {
        if !self.open.is_empty() {
            each(lossy(&self.open), false);
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The length without a letter at the end whose last bytes are still to come.
fn whole(bytes: &[u8]) -> usize {
    let end = bytes.len();
    // a letter has at most four bytes
    for back in 1..=end.min(3) {
        let width = match bytes[end - back] {
            0b1000_0000..=0b1011_1111 => continue,
            0b1100_0000..=0b1101_1111 => 2,
            0b1110_0000..=0b1110_1111 => 3,
            0b1111_0000..=0b1111_0111 => 4,
            _ => 1,
        };
        return if width > back { end - back } else { end };
    }
    end
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
    use proptest::prelude::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::fs::File;
    use std::io::Write;

    fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(String, bool)> {
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        pieces.into_iter().for_each(|piece| lines.push(piece, |text, cut| got.push((text, cut))));
        lines.end(|text, cut| got.push((text, cut)));
        got
    }

    fn texts(got: &[(String, bool)]) -> Vec<&str> {
        got.iter().map(|(text, _)| text.as_str()).collect()
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_were_read(text in "(é|\n|ab){0,60}", size in 1_usize..9) {
            let got = split(text.as_bytes().chunks(size));
            prop_assert_eq!(texts(&got), text.lines().collect::<Vec<_>>());
        }

        #[test]
        fn garbage_is_replaced(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            split([&bytes[..]]);
        }
    }

    #[test]
    fn the_last_line_needs_no_break_and_windows_breaks_are_breaks() {
        assert_eq!(texts(&split([&b"a\r\n\nb\xffc\nlast"[..]])), ["a", "", "b\u{fffd}c", "last"]);
    }

    #[test]
    fn a_long_line_comes_in_pieces_of_whole_letters() {
        // the limit falls between the bytes of a letter
        let long = format!("a{}", "é".repeat(LONGEST));
        let got = split([long.as_bytes(), b"\nnext\n"]);
        assert_eq!(got.iter().map(|(_, cut)| *cut).collect::<Vec<_>>(), [true, true, false, false]);
        assert!(got.iter().all(|(text, _)| text.len() <= LONGEST && !text.contains('\u{fffd}')));
        assert_eq!(texts(&got)[..3].concat(), long);
        assert_eq!(got[3].0, "next");
        let exact = "b".repeat(LONGEST);
        assert_eq!(split([exact.as_bytes(), b"\n"]), [(exact, false)]);
    }

    #[test]
    fn long_garbage_is_cut_too() {
        let got = split([&[0b1011_1111; LONGEST + 10][..]]);
        assert_eq!(got.len(), 2);
        assert_eq!(got[0].0.chars().count(), LONGEST);
    }

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
