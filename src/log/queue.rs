//! The way to standard error: whoever has a line puts it here, and a thread of its own writes it.
//!
//! So whatever becomes of standard error, nobody waits for it and nothing ends by it: a pipe that is not read, a reader
//! that has gone, a full disk. What is waiting is bounded; lines beyond that, and lines that cannot be written, are
//! dropped and counted, and a later line says how many they were.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, getpid};

/// Bytes of lines that wait for being written. A line that comes below that is taken whole, however long it is.
const HELD: usize = 2 << 20;

/// What a line costs besides its text.
const OVERHEAD: usize = 64;

/// Lines are written together up to `PIPE_BUF` bytes, which a pipe takes in one place: whoever else writes there, such
/// as a function's subprocess, gets between lines and never into one.
const TOGETHER: usize = 4096;

/// Between two lines that say how many were dropped.
const REMINDER: Duration = Duration::from_secs(10);

/// How long standard error may take nothing at the end of the process before what is left is given up.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// How long the end may take at most with a reader that is slow.
const LONGEST_END: Duration = Duration::from_secs(2);

/// How long a line waits for room.
#[derive(Clone, Copy, Default)]
pub(super) struct Patience {
    /// As long as standard error has taken something within this time.
    pub(super) moving: Duration,
    /// This long whatever it takes.
    pub(super) anyway: Duration,
}

/// Lines on their way to one descriptor.
pub(super) struct Queue {
    to: File,
    /// A forked child has the queue, in whatever state it was, and not the thread.
    process: Pid,
    state: Mutex<State>,
    /// There is something to write, or to say at the end.
    filled: Condvar,
    /// Something was written, or given up.
    moved: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Line>,
    /// Of lines that wait and of those that are being written.
    held: usize,
    /// When standard error last took something, or was given something after it had nothing to do.
    last: Option<Instant>,
    /// Dropped, and not said yet.
    lost: u64,
    /// Why they could not be written; none if it was for want of room alone.
    why: Option<String>,
    writes: bool,
    ending: bool,
    /// At the end the dropped ones were told, or that was tried.
    told: bool,
}

impl State {
    const fn has_last_words(&self) -> bool {
        self.ending && self.lost > 0 && !self.told
    }
}

struct Line {
    function: String,
    text: Vec<u8>,
}

impl Line {
    const fn cost(&self) -> usize {
        self.text.len() + OVERHEAD
    }
}

impl Queue {
    pub(super) fn to(to: File) -> Self {
        Self { to, process: getpid(), state: Mutex::default(), filled: Condvar::new(), moved: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // no code of anybody else's runs while it is held
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a line there, with its line break. Where there is no room, waits as `patience` says; then the line is dropped,
    /// and counted as one of this function.
    pub(super) fn put(&'static self, function: &str, text: &[u8], patience: Patience) {
        if getpid() != self.process {
            // its own way, without locks that nobody may ever release
            let _ = rustix::io::write(&self.to, text);
            return;
        }
        let begin = Instant::now();
        let mut state = self.lock();
        while state.held >= HELD {
            let still = patience.moving.saturating_sub(state.last.map_or(Duration::MAX, |last| last.elapsed()));
            let left = still.max(patience.anyway.saturating_sub(begin.elapsed()));
            if left.is_zero() {
                state.lost += 1;
                drop(state);
                return count(function, 1);
            }
            state = self.moved.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if !state.writes {
            let writer = thread::Builder::new().name("stderr".to_owned());
            // without a thread, which may be there next time, the lines wait
            state.writes = writer.spawn(move || self.write()).is_ok();
        }
        if state.held == 0 {
            state.last = Some(Instant::now());
        }
        let line = Line { function: function.to_owned(), text: text.to_vec() };
        state.held += line.cost();
        state.lines.push_back(line);
        drop(state);
        self.filled.notify_one();
    }

    /// Waits until all is written, as long as standard error takes it; at the `end` also until it is said how many were
    /// dropped.
    pub(super) fn finish(&self, end: bool) {
        if getpid() != self.process {
            return;
        }
        let begin = Instant::now();
        let mut state = self.lock();
        if !state.writes {
            return;
        }
        if state.held == 0 {
            state.last = Some(begin);
        }
        state.ending = end;
        self.filled.notify_one();
        while state.held > 0 || state.has_last_words() {
            let still = LAST_WORDS.saturating_sub(state.last.map_or(Duration::ZERO, |last| last.elapsed()));
            let left = still.min(LONGEST_END.saturating_sub(begin.elapsed()));
            if left.is_zero() {
                return;
            }
            state = self.moved.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The thread's life.
    fn write(&self) {
        let mut pen = Pen { to: &self.to, torn: false };
        let mut told = None;
        loop {
            let lines = self.take(told);
            // without any it is time to try
            let (mut well, asked) = (lines.is_empty(), lines.is_empty());
            let mut lines = lines.into_iter().peekable();
            while let Some(first) = lines.next() {
                let mut text = first.text.clone();
                let mut group = vec![first];
                while let Some(next) = lines.next_if(|next| text.len() + next.text.len() <= TOGETHER) {
                    text.extend_from_slice(&next.text);
                    group.push(next);
                }
                well = self.written(&group, pen.write(&text));
            }
            if asked || well && due(told) {
                self.tell(&mut pen);
                told = Some(Instant::now());
            }
        }
    }

    /// All lines that wait; none when it is time to say how many were dropped.
    fn take(&self, told: Option<Instant>) -> VecDeque<Line> {
        let mut state = self.lock();
        loop {
            if !state.lines.is_empty() {
                return std::mem::take(&mut state.lines);
            }
            let untold = state.lost > 0 && told.is_some();
            if state.has_last_words() || untold && due(told) {
                return VecDeque::new();
            }
            state = if untold {
                let wait = self.filled.wait_timeout(state, REMINDER);
                wait.unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.filled.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    /// These were written, or the first bytes of them until something happened.
    fn written(&self, lines: &[Line], result: Result<(), (usize, io::Error)>) -> bool {
        let mut lost = Vec::new();
        let mut state = self.lock();
        state.held -= lines.iter().map(Line::cost).sum::<usize>();
        let well = result.is_ok();
        if let Err((mut whole, error)) = result {
            for line in lines {
                match whole.checked_sub(line.text.len()) {
                    Some(rest) => whole = rest,
                    None => {
                        whole = 0;
                        lost.push(line.function.as_str());
                    }
                }
            }
            state.lost += lost.len() as u64;
            state.why = Some(error.to_string());
        }
        // a failure is an answer, too: nobody has to wait
        state.last = Some(Instant::now());
        drop(state);
        self.moved.notify_all();
        lost.into_iter().for_each(|function| count(function, 1));
        well
    }

    /// Says how many lines were dropped since that was last said.
    fn tell(&self, pen: &mut Pen<'_>) {
        let (lost, why) = {
            let state = self.lock();
            (state.lost, state.why.clone())
        };
        let done = lost == 0 || pen.write(super::dropped(lost, why.as_deref()).as_bytes()).is_ok();
        let mut state = self.lock();
        if done {
            state.lost -= lost;
            state.why = None;
        }
        state.told = state.ending;
        drop(state);
        self.moved.notify_all();
    }
}

fn due(told: Option<Instant>) -> bool {
    told.is_none_or(|told| told.elapsed() >= REMINDER)
}

fn count(function: &str, lines: u64) {
    metrics::counter!("gaugefn_log_lines_dropped_total", "function" => function.to_owned()).increment(lines);
}

/// Writes whole lines, or at least begins each on a line of its own.
struct Pen<'a> {
    to: &'a File,
    /// The last thing that was written has no end.
    torn: bool,
}

impl Pen<'_> {
    /// Waits for room as long as it takes; an error comes with how many bytes of `text` were written before it.
    fn write(&mut self, text: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut bytes = Vec::new();
        let extra = usize::from(self.torn);
        if self.torn {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(text);
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::write(self.to, &bytes[done..]) {
                Ok(length) => {
                    done += length;
                    self.torn = bytes[..done].last().is_some_and(|byte| *byte != b'\n');
                }
                Err(Errno::INTR) => {}
                // somebody whose descriptor it is as well has made it so
                Err(Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::new(self.to, PollFlags::OUT)], None);
                }
                Err(error) => return Err((done.saturating_sub(extra), error.into())),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NONE: Patience = Patience { moving: Duration::ZERO, anyway: Duration::ZERO };
    use rustix::fs::{OFlags, fcntl_setfl};
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::io::Read;

    /// A queue into a pipe, and the pipe's other end.
    fn piped() -> (&'static Queue, File) {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        (Box::leak(Box::new(Queue::to(write.into()))), read.into())
    }

    /// Puts `count` numbered lines of this length there.
    fn put(queue: &'static Queue, count: usize, length: usize) {
        for number in 0..count {
            queue.put("vm", format!("{number:>0$}\n", length - 1).as_bytes(), NONE);
        }
    }

    #[test]
    fn nobody_waits_and_what_is_dropped_is_told_in_its_place() {
        let (queue, mut read) = piped();
        // the kernel's own buffer is a small part of this
        put(queue, 4 * HELD / 1000, 1000);
        let lost = queue.lock().lost;
        assert!(lost > 0 && queue.lock().held < HELD + 2 * 1000, "{lost} lost");
        let reader = thread::spawn(move || {
            let (mut text, mut chunk) = (Vec::new(), [0; 8192]);
            while !text.ends_with(b"later\n") {
                let length = read.read(&mut chunk).unwrap();
                text.extend_from_slice(&chunk[..length]);
            }
            String::from_utf8(text).unwrap()
        });
        while queue.lock().held > 0 {
            queue.finish(false);
        }
        queue.put("", b"later\n", NONE);
        let text = reader.join().unwrap();
        let kept = text.lines().count() - 1;
        assert!(text.lines().take(kept).enumerate().all(|(number, line)| line.trim() == number.to_string()));
        assert_eq!(kept + lost as usize, 4 * HELD / 1000);
    }

    #[test]
    fn a_reader_who_is_slow_loses_nothing_to_those_who_wait_for_him() {
        let (queue, mut read) = piped();
        let lines = 2 * HELD / 1000;
        let writer = thread::spawn(move || {
            let patience = Patience { moving: Duration::from_secs(20), ..NONE };
            for number in 0..lines {
                queue.put("vm", format!("{number:>999}\n").as_bytes(), patience);
            }
        });
        let mut text = vec![0; lines * 1000];
        for piece in text.chunks_mut(64 << 10) {
            read.read_exact(piece).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        writer.join().unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().enumerate().all(|(number, line)| line.trim() == number.to_string()));
        assert_eq!(queue.lock().lost, 0);
    }

    #[test]
    fn a_pipe_that_does_not_block_gets_whole_lines() {
        let (queue, mut read) = piped();
        fcntl_setfl(&queue.to, OFlags::NONBLOCK).unwrap();
        put(queue, 1000, 1000);
        let mut text = vec![0; 1000 * 1000];
        read.read_exact(&mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().lines().enumerate().all(|(n, line)| line.trim() == n.to_string()));
    }

    #[test]
    fn a_reader_who_has_gone_and_a_full_disk_are_answers() {
        let (queue, read) = piped();
        drop(read);
        let full: &'static Queue =
            Box::leak(Box::new(Queue::to(File::options().write(true).open("/dev/full").unwrap())));
        for queue in [queue, full] {
            put(queue, 10, 100);
            let begin = Instant::now();
            queue.finish(false);
            assert!(begin.elapsed() < LONGEST_END, "{:?}", begin.elapsed());
            let state = queue.lock();
            assert_eq!((state.lost, state.held), (10, 0));
            assert!(state.why.is_some());
        }
    }

    #[test]
    fn an_end_does_not_wait_for_a_pipe_that_nobody_reads() {
        let (queue, _read) = piped();
        put(queue, HELD / 1000, 1000);
        thread::sleep(LAST_WORDS);
        let begin = Instant::now();
        queue.finish(true);
        assert!(begin.elapsed() < LONGEST_END, "{:?}", begin.elapsed());
    }

    #[test]
    fn what_follows_half_a_line_begins_on_a_line_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = File::create(&path).unwrap();
        let mut pen = Pen { to: &file, torn: true };
        rustix::io::write(&file, b"half").unwrap();
        pen.write(b"whole\n").unwrap();
        pen.write(b"next\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "half\nwhole\nnext\n");
    }
}
