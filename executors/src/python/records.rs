//! What user code prints and logs, on its way into the log with the function's and the event's name.

use std::borrow::Cow;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use runtime_core::records::{self, Record, passing};
use rustix::io::Errno;
use tracing::Level;

/// A record is never longer, so that a function that prints without line breaks cannot fill the memory.
const LONGEST: usize = 64 << 10;

/// What is being worked on. Threads of the function count as working on the same.
struct Now {
    function: Option<Arc<str>>,
    event: Option<Arc<str>>,
}

static NOW: Mutex<Now> = Mutex::new(Now { function: None, event: None });

/// The runtime's log has locks, and a forked child inherits them in whatever state they were in. It writes to its
/// descriptors instead, which lead to the same place.
static FORKED: AtomicBool = AtomicBool::new(false);

/// From now on records belong to this function.
pub(super) fn begin(function: &str) {
    NOW.lock().unwrap_or_else(PoisonError::into_inner).function = Some(function.into());
}

/// From now on records belong to this event; an empty one stands for none.
pub(super) fn enter(event: &str) {
    let event = (!event.is_empty()).then(|| event.into());
    NOW.lock().unwrap_or_else(PoisonError::into_inner).event = event;
}

fn now() -> (Option<Arc<str>>, Option<Arc<str>>) {
    let now = NOW.lock().unwrap_or_else(PoisonError::into_inner);
    (now.function.clone(), now.event.clone())
}

/// Called by Python with one message; `level` is one of `logging`'s.
#[pyfunction]
#[pyo3(name = "send")]
pub(super) fn send(py: Python<'_>, level: i64, stream: &Bound<'_, PyString>, text: &Bound<'_, PyString>) {
    // any text may hold lone surrogates
    let (stream, text) = (stream.to_string_lossy(), escaped(text));
    let mut texts = Vec::new();
    let mut rest: &str = &text;
    while rest.len() > LONGEST {
        let (piece, later) = rest.split_at(whole(rest.as_bytes(), LONGEST));
        texts.push(piece.into());
        rest = later;
    }
    texts.push(rest.into());
    write(py, severity(level), &stream, &texts);
}

/// With lone surrogates as `\udfff`.
fn escaped<'a>(text: &'a Bound<'_, PyString>) -> Cow<'a, str> {
    text.to_str().map(Cow::from).unwrap_or_else(|_| {
        let bytes = text.call_method1("encode", ("utf-8", "backslashreplace"));
        let escaped = bytes.and_then(|bytes| Ok(bytes.cast::<PyBytes>()?.as_bytes().to_vec()));
        let escaped = escaped.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        escaped.map_or_else(|| text.to_string_lossy(), Cow::from)
    })
}

fn write(py: Python<'_>, level: Level, stream: &str, texts: &[Cow<'_, str>]) {
    let (function, event) = now();
    let (function, event) = (function.as_deref().unwrap_or_default(), event.as_deref().unwrap_or_default());
    // whoever reads the log may be slow, and other threads of the function need not wait for that
    py.detach(|| {
        for text in texts {
            records::write(level, Record { function, event, stream, worker: None, text });
        }
    });
}

/// Called by Python in a child that was forked.
#[pyfunction]
pub(super) fn forked() {
    FORKED.store(true, Ordering::Relaxed);
}

/// What stands below one of the two standard streams. Each thread has its own unfinished line.
#[pyclass(frozen)]
pub(super) struct Writer {
    /// Where the stream leads by its number: 1 or 2.
    descriptor: i32,
    /// `stdout` or `stderr`.
    stream: String,
    level: Level,
    unfinished: Mutex<HashMap<ThreadId, Unfinished>>,
}

/// A line that is being written.
#[derive(Default)]
struct Unfinished {
    /// Without carriage returns.
    line: Vec<u8>,
    /// One came last: what comes next is written over the line.
    returned: bool,
}

impl Unfinished {
    /// Adds bytes with carriage returns; what they complete goes to `lines`. What is written over is a line of its own,
    /// unless it was a passing state. Texts that one write has together are all meant to be read, but for percentages.
    fn write_over(&mut self, bytes: &[u8], lines: &mut Vec<u8>) {
        let mut together = false;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (part, ended) = part.strip_suffix(b"\n").map_or((part, false), |part| (part, true));
            for (n, text) in part.split(|byte| *byte == b'\r').enumerate() {
                self.returned |= n > 0;
                if text.is_empty() {
                    continue;
                }
                if self.returned {
                    let old = std::mem::take(&mut self.line);
                    let is_meant = together && !old.contains(&b'%') && !old.trim_ascii().is_empty();
                    if is_meant || !passing(&old, text) {
                        lines.extend(old);
                        lines.push(b'\n');
                    }
                    self.returned = false;
                }
                together |= self.line.is_empty();
                self.line.extend_from_slice(text);
            }
            if ended {
                lines.append(&mut self.line);
                lines.push(b'\n');
                self.returned = false;
            }
        }
    }
}

#[pymethods]
impl Writer {
    #[new]
    fn new(descriptor: i32, stream: String, level: i64) -> Self {
        Self { descriptor, stream, level: severity(level), unfinished: Mutex::default() }
    }

    /// `write` of the text stream: `print` calls it for each piece of a line.
    fn text(&self, text: &Bound<'_, PyString>) -> PyResult<usize> {
        match text.to_str() {
            Ok(plain) => self.add(text.py(), plain.as_bytes())?,
            // lone surrogates
            Err(_) => {
                let bytes = text.call_method1("encode", ("utf-8", "backslashreplace"))?;
                self.add(text.py(), bytes.cast::<PyBytes>()?.as_bytes())?;
            }
        }
        text.len()
    }

    /// `write` of the stream of bytes below it.
    fn bytes(&self, bytes: &Bound<'_, PyBytes>) -> PyResult<usize> {
        self.add(bytes.py(), bytes.as_bytes())?;
        Ok(bytes.as_bytes().len())
    }

    /// Makes a record of the unfinished line of this thread.
    fn finish(&self, py: Python<'_>) {
        let rest = self.open().remove(&thread::current().id());
        if let Some(rest) = rest {
            self.send(py, &rest.line, false);
        }
    }

    /// Makes records of all unfinished lines.
    fn finish_all(&self, py: Python<'_>) {
        let all = std::mem::take(&mut *self.open());
        all.values().for_each(|rest| self.send(py, &rest.line, false));
    }
}

impl Writer {
    /// Never held while anything is sent: that lets other threads of Python run.
    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<ThreadId, Unfinished>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<()> {
        if FORKED.load(Ordering::Relaxed) {
            return Ok(self.raw(bytes)?);
        }
        let thread = thread::current().id();
        let mut open = self.open();
        let own = open.entry(thread).or_default();
        let mut lines = Vec::new();
        if own.returned || bytes.contains(&b'\r') {
            own.write_over(bytes, &mut lines);
        } else {
            let before = own.line.len();
            own.line.extend_from_slice(bytes);
            let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| before + last + 1);
            if end == 0 && own.line.len() <= LONGEST {
                return Ok(());
            }
            let rest = own.line.split_off(end);
            lines = std::mem::replace(&mut own.line, rest);
        }
        while own.line.len() > LONGEST {
            lines.extend(own.line.drain(..whole(&own.line, LONGEST)));
            lines.push(b'\n');
        }
        if own.line.is_empty() {
            open.remove(&thread);
        }
        drop(open);
        if !lines.is_empty() {
            self.send(py, &lines, true);
        }
        Ok(())
    }

    /// Sends these lines; the last one need not be `complete`.
    fn send(&self, py: Python<'_>, lines: &[u8], complete: bool) {
        let lines = if complete { lines.strip_suffix(b"\n").unwrap_or(lines) } else { lines };
        let mut texts = Vec::new();
        for mut line in lines.split(|byte| *byte == b'\n') {
            while line.len() > LONGEST {
                let (piece, rest) = line.split_at(whole(line, LONGEST));
                texts.push(shown(piece));
                line = rest;
            }
            texts.push(shown(line));
        }
        write(py, self.level, &self.stream, &texts);
    }

    fn raw(&self, mut rest: &[u8]) -> std::io::Result<()> {
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        let descriptor = if self.descriptor == 1 { stdout.as_fd() } else { stderr.as_fd() };
        while !rest.is_empty() {
            match rustix::io::write(descriptor, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// As many of the first bytes as `most`, without a letter that would be cut.
fn whole(bytes: &[u8], most: usize) -> usize {
    // a letter has at most four bytes
    (most - 3..=most)
        .rev()
        .find(|at| bytes.get(*at).is_none_or(|byte| byte & 0b1100_0000 != 0b1000_0000))
        .unwrap_or(most)
}

/// What is no UTF-8 is shown as `\xff`.
fn shown(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.into();
    }
    let mut text = String::with_capacity(2 * bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().flat_map(|byte| byte.escape_ascii().map(char::from)));
    }
    text.into()
}

const fn severity(level: i64) -> Level {
    match level {
        40.. => Level::ERROR,
        30.. => Level::WARN,
        20.. => Level::INFO,
        10.. => Level::DEBUG,
        _ => Level::TRACE,
    }
}
