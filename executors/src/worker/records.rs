//! Records with their level and the event that they belong to: what a function prints and logs.
//!
//! The child writes them into a pipe that is never waited for longer than 10 ms: then a record is dropped and counted,
//! and the next one that gets through tells how many were. While the pipe stays full, further ones are not waited for
//! at all, so a parent that hangs costs a handler 10 ms and not 10 ms for each line.
//!
//! Each write is at most `PIPE_BUF` bytes, which the kernel writes whole or not at all, in one place. So threads and
//! forked processes share the pipe without a lock, which a fork might copy in its locked state.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use runtime_core::records::{self, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};
use rustix::process::getpid;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tracing::Level;

/// A text of more bytes comes in several records.
pub const LONGEST: usize = super::output::LONGEST;

/// How long a record waits for room: with what else a line costs, less than the 10 ms that are promised.
const PATIENCE: Duration = Duration::from_millis(8);

/// `PIPE_BUF` of Linux.
const FRAME: usize = 4096;

/// Mark (u16), length of the frame (u16), bits (u8), level (u8), process (u32), its record (u32), lost ones (u32).
const HEADER: usize = 18;

/// Where a frame begins, so that a stray write into the pipe costs no more than what it hit.
const MARK: u16 = 0xf7e5;

const FIRST: u8 = 1;
const LAST: u8 = 2;
const CUT: u8 = 4;

/// Names are cut after this many bytes: they go into the first frame.
const NAME: usize = 1024;

/// Records of which a part has come. More are abandoned ones: their process was killed meanwhile.
const OPEN: usize = 64;

/// The stream of what the runtime itself says in a worker; no logger has this name.
pub const OWN: &str = "\0gaugefn";

const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

/// The child's end. Shared by all threads.
#[derive(Debug)]
pub struct Sender {
    pipe: OwnedFd,
    count: AtomicU32,
    lost: AtomicU32,
    /// The last record did not get through.
    stalled: AtomicBool,
}

impl Sender {
    /// Of the records pipe that the worker was given, which does not block.
    #[must_use]
    pub fn new(pipe: OwnedFd) -> Self {
        Self { pipe, count: AtomicU32::new(0), lost: AtomicU32::new(0), stalled: AtomicBool::new(false) }
    }

    /// Sends a record; `event` is empty between events, `stream` is `stdout`, `stderr` or a logger's name. Returns
    /// within 10 ms; false where the record, or a piece of a long one, was dropped.
    pub fn send(&self, level: Level, event: &str, stream: &str, text: &str) -> bool {
        let (event, stream) = (head(event, NAME), head(stream, NAME));
        let mut patience = None;
        let mut rest = text;
        loop {
            let piece = head(rest, LONGEST);
            rest = &rest[piece.len()..];
            let cut = if rest.is_empty() { 0 } else { CUT };
            if !self.send_piece(level, cut, [event, stream], piece.as_bytes(), &mut patience) {
                return false;
            }
            if rest.is_empty() {
                return true;
            }
        }
    }

    fn send_piece(
        &self,
        level: Level,
        cut: u8,
        names: [&str; 2],
        mut text: &[u8],
        patience: &mut Option<Instant>,
    ) -> bool {
        let level = LEVELS.iter().position(|known| *known == level).unwrap_or_default() as u8;
        // only where there are frames to be put together; asked each time, as it may be a forked one by now
        let whole = HEADER + names.iter().map(|name| 2 + name.len()).sum::<usize>() + text.len() <= FRAME;
        let process = if whole { 0 } else { getpid().as_raw_nonzero().get().cast_unsigned() };
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let mut bits = FIRST | cut;
        loop {
            let mut frame = Frame::new();
            frame.put(&MARK.to_le_bytes());
            // the length, once it is known
            frame.put(&[0; 2]);
            let (bits_at, first) = (frame.length, bits & FIRST != 0);
            frame.put(&[bits, level]);
            frame.put(&process.to_le_bytes());
            frame.put(&count.to_le_bytes());
            frame.put(&if first { lost } else { 0 }.to_le_bytes());
            if first {
                for name in names {
                    frame.put(&(name.len() as u16).to_le_bytes());
                    frame.put(name.as_bytes());
                }
            }
            let (fits, later) = text.split_at(text.len().min(FRAME - frame.length));
            frame.put(fits);
            text = later;
            if text.is_empty() {
                frame.bytes[bits_at] |= LAST;
            }
            let length = frame.length as u16;
            frame.bytes[2..4].copy_from_slice(&length.to_le_bytes());
            if !self.write(frame.written(), patience) {
                let untold = if first { lost } else { 0 };
                self.lost.fetch_add(untold.saturating_add(1), Ordering::Relaxed);
                return false;
            }
            if text.is_empty() {
                return true;
            }
            bits = cut;
        }
    }

    fn write(&self, frame: &[u8], patience: &mut Option<Instant>) -> bool {
        loop {
            match write(&self.pipe, frame) {
                // whole, as it is no longer than PIPE_BUF
                Ok(_) => {
                    self.stalled.store(false, Ordering::Relaxed);
                    return true;
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) if !self.stalled.load(Ordering::Relaxed) => {}
                // still full, or the parent has gone
                Err(_) => return false,
            }
            let end = *patience.get_or_insert_with(|| Instant::now() + PATIENCE);
            let left = end.saturating_duration_since(Instant::now());
            let wait = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
            let room = poll(&mut [PollFd::new(&self.pipe, PollFlags::OUT)], Some(&wait));
            if left.is_zero() || room == Ok(0) {
                self.stalled.store(true, Ordering::Relaxed);
                return false;
            }
        }
    }
}

/// The first so many bytes at most, in whole letters.
fn head(text: &str, length: usize) -> &str {
    let mut end = length.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

struct Frame {
    bytes: [u8; FRAME],
    length: usize,
}

impl Frame {
    const fn new() -> Self {
        Self { bytes: [0; FRAME], length: 0 }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn written(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// One record as the parent gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// As it was sent.
    pub level: Level,
    /// As it was sent.
    pub event: String,
    /// As it was sent.
    pub stream: String,
    /// As it was sent.
    pub text: String,
    /// The text was too long: the next record of this event and stream is its continuation.
    pub cut: bool,
    /// How many records were dropped before this one.
    pub lost: u64,
}

impl Received {
    /// Writes it into the log, as one of this function and this worker.
    pub fn write(&self, function: &str, worker: Option<u32>) {
        let Self { event, stream, text, .. } = self;
        records::write(self.level, Record { function, event, stream, worker, text });
    }
}

/// The parent's end.
#[derive(Debug)]
pub struct Records {
    pipe: Receiver,
    decoder: Decoder,
}

impl Records {
    /// Of the records pipe of a worker.
    #[must_use]
    pub fn new(pipe: Receiver) -> Self {
        Self { pipe, decoder: Decoder::default() }
    }

    /// The next record; `None` once nobody can write any more. A future that is dropped loses nothing.
    ///
    /// It is right to be slow here: the child drops what does not fit any more.
    pub async fn next(&mut self) -> Option<Received> {
        loop {
            if let Some(record) = self.decoder.next() {
                return Some(record);
            }
            self.decoder.buffer.reserve(16 * FRAME);
            // a pipe that cannot be read is as good as closed
            if !matches!(self.pipe.read_buf(&mut self.decoder.buffer).await, Ok(1..)) {
                return None;
            }
        }
    }
}

/// Between two reads of [`Records::hear`].
const NAP: Duration = Duration::from_millis(1);

impl Records {
    /// Takes all records on this thread, until nobody can write any more.
    ///
    /// A reader that waits at the pipe is woken by each write, at the writer's expense: a function that says much would
    /// pay for every line. So what has come meanwhile is taken after a nap.
    ///
    /// # Errors
    /// The pipe cannot be read.
    pub fn hear(self, mut each: impl FnMut(Received)) -> io::Result<()> {
        let Self { pipe, mut decoder } = self;
        let mut pipe = File::from(pipe.into_blocking_fd()?);
        let mut chunk = vec![0; 16 * FRAME];
        loop {
            while let Some(record) = decoder.next() {
                each(record);
            }
            match pipe.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    decoder.buffer.extend_from_slice(&chunk[..length]);
                    if length < chunk.len() {
                        thread::sleep(NAP);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Records out of a stream of frames, which several processes and threads write.
#[derive(Debug, Default)]
struct Decoder {
    buffer: BytesMut,
    /// The oldest first.
    open: VecDeque<Open>,
}

/// A record of which more is to come.
#[derive(Debug)]
struct Open {
    /// Process and number.
    key: (u32, u32),
    record: Received,
    /// Frames are cut between bytes, so letters are put together first.
    text: Vec<u8>,
}

impl Decoder {
    fn next(&mut self) -> Option<Received> {
        while self.buffer.len() >= HEADER {
            let mut header = &self.buffer[..HEADER];
            let (mark, length) = (header.get_u16_le(), usize::from(header.get_u16_le()));
            let (bits, level) = (header.get_u8(), header.get_u8());
            let key = (header.get_u32_le(), header.get_u32_le());
            let lost = u64::from(header.get_u32_le());
            let level = LEVELS.get(usize::from(level)).filter(|_| mark == MARK && (HEADER..=FRAME).contains(&length));
            let Some(level) = level else {
                // not ours: on to where a frame may begin
                self.buffer.advance(1);
                continue;
            };
            if self.buffer.len() < length {
                return None;
            }
            let mut body = self.buffer.split_to(length);
            body.advance(HEADER);
            if bits & FIRST != 0 {
                let (Some(event), Some(stream)) = (name(&mut body), name(&mut body)) else { continue };
                let record = Received { level: *level, event, stream, text: String::new(), cut: bits & CUT != 0, lost };
                if bits & LAST != 0 {
                    return Some(Received { text: lossy(&body), ..record });
                }
                if self.open.len() == OPEN {
                    self.open.pop_front();
                }
                self.open.push_back(Open { key, record, text: body.to_vec() });
                continue;
            }
            let Some(at) = self.open.iter().position(|open| open.key == key) else { continue };
            let text = &mut self.open[at].text;
            // more than was ever sent is damage
            if text.len() + body.len() <= LONGEST {
                text.extend_from_slice(&body);
            }
            if bits & LAST != 0 {
                return self.open.remove(at).map(|open| Received { text: lossy(&open.text), ..open.record });
            }
        }
        None
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn name(body: &mut BytesMut) -> Option<String> {
    let length = usize::from(body.try_get_u16_le().ok()?);
    (length <= body.len()).then(|| lossy(&body.split_to(length)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
    use std::io::Write;
    use std::sync::Arc;

    fn pair() -> (OwnedFd, Sender) {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let _ = fcntl_setpipe_size(&write, 1 << 20);
        (read, Sender::new(write))
    }

    /// Everything that stands in the pipe.
    fn drain(read: &OwnedFd, decoder: &mut Decoder) -> Vec<Received> {
        let mut file = File::from(read.try_clone().unwrap());
        let mut bytes = vec![0; 2 << 20];
        let mut got = Vec::new();
        while let Ok(count @ 1..) = file.read(&mut bytes) {
            // in small pieces
            for piece in bytes[..count].chunks(777) {
                decoder.buffer.extend_from_slice(piece);
                got.extend(std::iter::from_fn(|| decoder.next()));
            }
        }
        got
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn records_come_as_they_were_sent(
            sent in proptest::collection::vec((0_usize..5, ".{0,20}", ".{0,20}", "(é|x|\n){0,9000}"), 1..6),
        ) {
            let (read, sender) = pair();
            for (level, event, stream, text) in &sent {
                prop_assert!(sender.send(LEVELS[*level], event, stream, text));
            }
            let got = drain(&read, &mut Decoder::default());
            prop_assert_eq!(got.len(), sent.len());
            for (got, (level, event, stream, text)) in got.iter().zip(&sent) {
                prop_assert_eq!((&got.event, &got.stream, &got.text), (event, stream, text));
                prop_assert_eq!((got.level, got.cut, got.lost), (LEVELS[*level], false, 0));
            }
        }

        #[test]
        fn garbage_costs_no_more_than_itself(garbage in proptest::collection::vec(0_u8..128, 0..5000)) {
            let (read, sender) = pair();
            let mut stray = File::from(sender.pipe.try_clone().unwrap());
            stray.write_all(&garbage).unwrap();
            prop_assert!(sender.send(Level::INFO, "e", "stdout", "found"));
            let got = drain(&read, &mut Decoder::default());
            prop_assert_eq!(got.last().map(|record| record.text.as_str()), Some("found"));
        }
    }

    #[test]
    fn a_long_text_comes_in_pieces_of_whole_letters() {
        let (read, sender) = pair();
        let text = format!("a{}", "é".repeat(100_000));
        assert!(sender.send(Level::WARN, "7-0", "log", &text));
        let got = drain(&read, &mut Decoder::default());
        let cuts: Vec<_> = got.iter().map(|record| record.cut).collect();
        assert_eq!(cuts, [true, true, true, false]);
        assert_eq!(got.iter().map(|record| record.text.as_str()).collect::<String>(), text);
        assert!(got.iter().all(|record| record.event == "7-0" && record.stream == "log"));
    }

    #[test]
    fn names_are_cut_rather_than_refused() {
        let (read, sender) = pair();
        assert!(sender.send(Level::INFO, &"é".repeat(4000), "stdout", "text"));
        let got = drain(&read, &mut Decoder::default());
        assert_eq!((got[0].event.len(), got[0].text.as_str()), (NAME, "text"));
    }

    #[test]
    fn threads_and_their_long_records_do_not_mix() {
        let (read, sender) = pair();
        let sender = Arc::new(sender);
        let threads: Vec<_> = ["a", "b", "c", "d"]
            .into_iter()
            .map(|name| {
                let sender = sender.clone();
                thread::spawn(move || (0..4).all(|_| sender.send(Level::INFO, name, "s", &name.repeat(50_000))))
            })
            .collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
        let got = drain(&read, &mut Decoder::default());
        assert_eq!(got.len(), 16);
        assert!(got.iter().all(|record| record.text == record.event.repeat(50_000)));
    }

    #[tokio::test]
    async fn the_end_of_all_writers_is_the_end() {
        let (read, sender) = pair();
        let mut records = Records::new(Receiver::from_owned_fd(read).unwrap());
        assert!(sender.send(Level::ERROR, "", "stderr", "last words"));
        drop(sender);
        let record = records.next().await.unwrap();
        assert_eq!((record.level, record.text.as_str()), (Level::ERROR, "last words"));
        assert_eq!(records.next().await, None);
    }

    mod timing {
        use super::*;

        #[test]
        fn a_full_pipe_costs_ten_milliseconds_once_and_drops_are_told() {
            let (read, sender) = pair();
            let line = "x".repeat(1000);
            let start = Instant::now();
            let mut through = 0;
            while sender.send(Level::INFO, "e", "stdout", &line) {
                through += 1;
            }
            let stalled = Instant::now();
            assert!((0..999).all(|_| !sender.send(Level::INFO, "e", "stdout", &line)));
            assert!(stalled.elapsed() < Duration::from_millis(10), "{:?}", stalled.elapsed());
            assert!(start.elapsed() > PATIENCE && start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
            let mut decoder = Decoder::default();
            assert_eq!(drain(&read, &mut decoder).len(), through);
            assert!(sender.send(Level::INFO, "e", "stdout", "after"));
            let after = drain(&read, &mut decoder);
            assert_eq!((after[0].text.as_str(), after[0].lost), ("after", 1000));
            // a reader that comes within 10 ms is waited for
            while sender.send(Level::INFO, "e", "stdout", &line) {}
            drain(&read, &mut decoder);
            while sender.pipe_has_room() {
                assert!(sender.send(Level::INFO, "e", "stdout", &line));
            }
            let late = thread::spawn(move || {
                thread::sleep(Duration::from_millis(3));
                let mut decoder = Decoder::default();
                drain(&read, &mut decoder);
                read
            });
            assert!(sender.send(Level::INFO, "e", "stdout", "waited"));
            late.join().unwrap();
        }

        impl Sender {
            fn pipe_has_room(&self) -> bool {
                poll(&mut [PollFd::new(&self.pipe, PollFlags::OUT)], Some(&Timespec::default())) == Ok(1)
            }
        }

        #[test]
        fn a_record_costs_the_handler_about_a_system_call() {
            let (read, sender) = pair();
            let mut best = Duration::MAX;
            for _ in 0..5 {
                let start = Instant::now();
                for _ in 0..2000 {
                    assert!(sender.send(Level::INFO, "1700000000000-0", "stdout", "a line as handlers print it"));
                }
                best = best.min(start.elapsed() / 2000);
                drain(&read, &mut Decoder::default());
            }
            // several times what an optimised build needs
            assert!(best < Duration::from_micros(10), "{best:?}");
        }
    }
}
