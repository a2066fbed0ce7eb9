//! JSON lines from a file or from standard input, each line one event.
//!
//! Delivery: every line once, in order; after the last one the source is exhausted. Nothing is remembered between
//! two runs. Blank lines are skipped; a malformed line is an event like any other and fails as one, and so does a line
//! over `max_payload`, of which the first 64 KiB are kept. A file that cannot be opened, or that is compressed, ends the
//! function.
//!
//! ```toml
//! [functions.vm.source]
//! use = "file"
//! path = "events.jsonl"     # "-" is standard input
//! period = "1s"             # one line each second; as fast as possible without it
//! max_payload = "1MiB"
//! ```

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use runtime_core::config::{Claim, Concern, Hold, os_text};
use runtime_core::contract::{Batch, Delivery, Event, Pull, Receipt, Source};
use runtime_core::options::{Size, Span};
use runtime_core::registry::Nothing;
use runtime_core::{Around, Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::lines::{self, MAX_PAYLOAD};

/// Lines are handed over in chunks of about this many bytes, so that a fast reader costs no wake-up per line.
const CHUNK: usize = 256 << 10;

/// Chunks read ahead. With `max_payload` it bounds the memory: two in the channel, one being made, one being used.
const AHEAD: usize = 2;

/// Options of the source `file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file of JSON lines; `-` is standard input.
    #[serde(deserialize_with = "os_text::read")]
    path: PathBuf,
    /// Time between two lines; as fast as possible without it.
    #[serde(default)]
    period: Option<Span>,
    /// Bytes that a line may have. A longer one is a failed event.
    #[serde(default = "max_payload")]
    max_payload: Size,
}

const fn max_payload() -> Size {
    Size(MAX_PAYLOAD)
}

/// An event, or the reason why there are no more.
type Line = Result<Event, Fault>;

/// The source `file`.
#[derive(Debug)]
pub struct Lines {
    origin: Origin,
    /// What ids begin with.
    name: String,
    period: Option<Duration>,
    /// The longest line.
    max: u64,
    /// From the reading thread, once it was started.
    chunks: Option<mpsc::Receiver<Vec<Line>>>,
    /// Received and not yet given to the engine.
    ready: VecDeque<Line>,
    /// When the next line may go, where lines are paced.
    due: Option<Instant>,
}

/// Where lines come from.
#[derive(Debug)]
enum Origin {
    Path(PathBuf),
    /// A copy of descriptor 0, which stays what it was when executors give the function an empty standard input.
    Stdin(File),
    /// The thread has it.
    Taken,
}

impl Lines {
    fn new(config: Config) -> Result<Self, Fault> {
        let (origin, name) = if config.path == Path::new("-") {
            let copy = io::stdin().as_fd().try_clone_to_owned();
            let copy = copy.map_err(|error| Fault::file("standard input is closed").caused_by(error))?;
            (Origin::Stdin(File::from(copy)), "stdin".to_owned())
        } else {
            let name = config.path.file_name().unwrap_or(config.path.as_os_str()).to_string_lossy().into_owned();
            (Origin::Path(config.path), name)
        };
        let period = config.period.map(|span| span.0);
        let max = config.max_payload.0;
        Ok(Self { origin, name, period, max, chunks: None, ready: VecDeque::new(), due: None })
    }

    /// Opens the input on a thread of its own and starts reading ahead.
    ///
    /// Reading a terminal or a pipe may block for ever. A thread that nobody joins does not keep the process, unlike
    /// one of the runtime's blocking threads; it ends by itself when the receiver is gone.
    async fn start(&mut self) -> Result<(), Fault> {
        if self.chunks.is_some() {
            return Ok(());
        }
        let origin = match &mut self.origin {
            Origin::Path(path) => Origin::Path(path.clone()),
            other => std::mem::replace(other, Origin::Taken),
        };
        let (name, max) = (self.name.clone(), self.max);
        let (opened, answer) = oneshot::channel();
        let (chunks, received) = mpsc::channel(AHEAD);
        let work = move || {
            let (result, file) = match open(origin) {
                Ok(file) => (Ok(()), Some(file)),
                Err(fault) => (Err(fault), None),
            };
            let awaited = opened.send(result).is_ok();
            if let Some(file) = file.filter(|_| awaited) {
                read(file, &name, max, &chunks);
            }
        };
        thread::Builder::new()
            .name("file-source".to_owned())
            .spawn(work)
            .map_err(|error| Fault::internal("no thread for reading could be started").caused_by(error))?;
        answer.await.map_err(|_| Fault::internal("the reading thread ended before it had opened its file"))??;
        self.chunks = Some(received);
        Ok(())
    }
}

impl Kind for Lines {
    type Role = dyn Source;
    type Config = Config;
    const NAME: &'static str = "file";
    const SUMMARY: &'static str = "JSON lines from a file or standard input";

    fn review(config: &Config) -> Vec<Concern> {
        let empty = config.path.as_os_str().is_empty();
        let empty =
            empty.then(|| Concern::new("path", "is empty; name a file of JSON lines, or '-' for standard input"));
        let zero = config.max_payload.0 == 0;
        let zero =
            zero.then(|| Concern::new("max_payload", "is 0, which no line could meet; leave it out for the default"));
        empty.into_iter().chain(zero).collect()
    }

    fn claims(config: &Config, _: &Nothing, _: &Around<'_>) -> Vec<Claim> {
        let file = Some(&config.path).filter(|path| *path != Path::new("-"));
        file.map(|path| Claim::file("path", Hold::Reads, path)).into_iter().collect()
    }

    async fn build(config: Config, _site: &Site<'_>) -> Result<Box<dyn Source>, Fault> {
        Ok(Box::new(Self::new(config)?))
    }
}

inventory::submit!(Entry::of::<Lines>());

#[async_trait]
impl Source for Lines {
    fn delivery(&self) -> Delivery {
        Delivery::Queue
    }

    async fn next_batch(&mut self, max: usize) -> Result<Pull, Fault> {
        self.start().await?;
        if self.ready.is_empty() {
            // before the pause, so that the end is not waited for; nothing is lost when this is dropped meanwhile
            match self.chunks.as_mut() {
                Some(chunks) => match chunks.recv().await {
                    Some(lines) => self.ready.extend(lines),
                    None => return Ok(Pull::Exhausted),
                },
                None => return Ok(Pull::Exhausted),
            }
        }
        let now = Instant::now();
        if let Some(due) = self.due.filter(|&due| due > now) {
            return Ok(Pull::Again(due - now));
        }
        let max = if self.period.is_some() { 1 } else { max };
        let mut events = Vec::with_capacity(max.min(self.ready.len()));
        while events.len() < max {
            match self.ready.pop_front() {
                Some(Ok(event)) => events.push(event),
                // what was read before it comes first
                Some(Err(fault)) if !events.is_empty() => {
                    self.ready.push_front(Err(fault));
                    break;
                }
                Some(Err(fault)) => return Err(fault),
                None => break,
            }
        }
        if let Some(period) = self.period {
            let regular = self.due.map(|due| due + period).filter(|&due| due > now);
            self.due = Some(regular.unwrap_or(now + period));
        }
        Ok(Pull::Batch(Batch { events, receipt: Receipt::none(), skipped: 0 }))
    }

    async fn check(&mut self) -> Result<(), Fault> {
        self.start().await
    }
}

fn open(origin: Origin) -> Result<File, Fault> {
    match origin {
        Origin::Stdin(file) => Ok(file),
        Origin::Taken => Err(Fault::internal("standard input is being read already")),
        Origin::Path(path) => {
            let refused = |error: io::Error| {
                let text =
                    format!("the event file '{}' cannot be opened; name a readable file of JSON lines", path.display());
                Fault::file(text).caused_by(error)
            };
            let file = File::open(&path).map_err(refused)?;
            if file.metadata().map_err(refused)?.is_dir() {
                return Err(refused(io::ErrorKind::IsADirectory.into()));
            }
            Ok(file)
        }
    }
}

/// Reads to the end, or until nobody listens.
fn read(input: impl Read, name: &str, max: u64, chunks: &mpsc::Sender<Vec<Line>>) {
    let mut lines = lines::Lines::new(input, max);
    let (mut chunk, mut size) = (Vec::new(), 0);
    loop {
        // The next read may wait for a person at a keyboard: hand over what there is.
        if !chunk.is_empty() && (size >= CHUNK || !lines.has_next()) {
            if chunks.blocking_send(std::mem::take(&mut chunk)).is_err() {
                return;
            }
            size = 0;
        }
        match lines.read_line() {
            Ok(Some(line)) => {
                size += line.text.len();
                let event = Event::new(format!("{name}:{}", line.number), line.text);
                let flaw = line.flaw.map(|flaw| format!("{name}: {flaw}").into());
                chunk.push(Ok(Event { flaw, ..event }));
            }
            Ok(None) => break,
            Err(error) => {
                let text = format!("{name}:{} cannot be read", lines.next_number());
                chunk.push(Err(Fault::file(text).caused_by(error)));
                break;
            }
        }
    }
    if !chunk.is_empty() {
        // an error means that the function is stopping
        let _ = chunks.blocking_send(chunk);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use runtime_core::contract::Blame;
    use runtime_core::testkit::source_contract;

    use super::*;

    fn source(text: &[u8], period: Option<Span>) -> (tempfile::TempDir, Lines) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        std::fs::write(&path, text).unwrap();
        (folder, Lines::new(Config { path, period, max_payload: max_payload() }).unwrap())
    }

    /// All events, and the fault that ended them, if it was one.
    async fn all(source: &mut Lines, max: usize) -> (Vec<(String, String)>, Option<Fault>) {
        let mut events = Vec::new();
        loop {
            match source.next_batch(max).await {
                Ok(Pull::Batch(batch)) => {
                    assert!((1..=max).contains(&batch.events.len()));
                    let text = |event: Event| (event.id, String::from_utf8_lossy(&event.payload).into_owned());
                    events.extend(batch.events.into_iter().map(text));
                }
                Ok(Pull::Again(after)) => tokio::time::sleep(after).await,
                Ok(Pull::Exhausted) => return (events, None),
                Err(fault) => return (events, Some(fault)),
            }
        }
    }

    fn pair(id: &str, text: &str) -> (String, String) {
        (id.to_owned(), text.to_owned())
    }

    #[tokio::test]
    async fn it_keeps_the_promises_of_a_source() {
        let (_folder, mut source) = source(b"1\n2\n3\n4\n5\n", None);
        assert_eq!(source_contract(&mut source, 5).await.len(), 5);
    }

    #[tokio::test]
    async fn every_line_is_an_event_named_by_its_number() {
        let (_folder, mut source) = source(b"{\"a\":1}\n\n  \t\r\n[2]\r\nnot json\n\"last\"", None);
        source.check().await.unwrap();
        let (events, fault) = all(&mut source, 3).await;
        assert!(fault.is_none());
        assert_eq!(
            events,
            [
                pair("events.jsonl:1", "{\"a\":1}"),
                pair("events.jsonl:4", "[2]"),
                pair("events.jsonl:5", "not json"),
                pair("events.jsonl:6", "\"last\""),
            ]
        );
        assert!(matches!(source.next_batch(1).await, Ok(Pull::Exhausted)));
    }

    #[tokio::test]
    async fn order_holds_over_many_chunks() {
        let text: String = (1..=50_000).map(|n| format!("{{\"number\": {n}}}\n")).collect();
        let (_folder, mut source) = source(text.as_bytes(), None);
        let (events, fault) = all(&mut source, 100).await;
        assert!(fault.is_none());
        assert_eq!(events.len(), 50_000);
        assert!(events.iter().zip(1..).all(|((_, text), n)| *text == format!("{{\"number\": {n}}}")));
    }

    #[tokio::test]
    async fn an_empty_file_is_exhausted_at_once() {
        let (_folder, mut source) = source(b"\n\n", None);
        assert!(matches!(source.next_batch(1).await, Ok(Pull::Exhausted)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_period_paces_the_lines_and_the_end_needs_no_wait() {
        let (_folder, mut source) = source(b"1\n2\n3\n", Some(Span::seconds(10)));
        let start = Instant::now();
        let (events, fault) = all(&mut source, 100).await;
        assert!(fault.is_none());
        assert_eq!(events.len(), 3);
        assert!(start.elapsed() >= Duration::from_secs(20), "{:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(21), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_an_event_that_fails_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let long = "x".repeat(2000);
        std::fs::write(&path, format!("1\n\"{long}\"\r\n3\n")).unwrap();
        let mut source = Lines::new(Config { path, period: None, max_payload: Size(1000) }).unwrap();
        let mut events = Vec::new();
        while let Ok(Pull::Batch(batch)) = source.next_batch(100).await {
            events.extend(batch.events);
        }
        assert_eq!(events.iter().map(|event| event.payload.len()).collect::<Vec<_>>(), [1, 1000, 1]);
        assert_eq!((events[0].flaw.as_deref(), events[2].flaw.as_deref()), (None, None));
        assert_eq!(
            (&*events[1].id, events[1].flaw.as_deref().unwrap()),
            (
                "events.jsonl:2",
                "events.jsonl: line 2 at byte 2 has 2004 bytes, more than max_payload (1000); write each event on a line \
                 of its own"
            )
        );
    }

    #[tokio::test]
    async fn a_compressed_file_ends_the_function() {
        let (_folder, mut source) = source(b"\x1f\x8b\x08\0\0\n\0", None);
        let (events, fault) = all(&mut source, 100).await;
        assert!(events.is_empty());
        let fault = fault.unwrap();
        assert!(!fault.retry() && fault.chain().contains("gzip data; unpack it first"), "{}", fault.chain());
    }

    #[tokio::test]
    async fn a_missing_file_and_a_folder_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().join("absent.jsonl"), folder.path().to_owned()] {
            let mut source =
                Lines::new(Config { path: path.clone(), period: None, max_payload: max_payload() }).unwrap();
            let fault = source.check().await.unwrap_err();
            assert_eq!((fault.blame(), fault.retry()), (Blame::File, false));
            assert!(fault.to_string().contains(&format!("'{}'", path.display())), "{fault}");
        }
    }

    #[tokio::test]
    async fn a_line_of_a_pipe_comes_while_the_writer_goes_on() {
        let (pipe, mut writer) = io::pipe().unwrap();
        let (_folder, mut source) = source(b"", None);
        source.origin = Origin::Stdin(File::from(std::os::fd::OwnedFd::from(pipe)));
        source.name = "stdin".to_owned();
        source.check().await.unwrap();
        writer.write_all(b"1\n\n2\npart").unwrap();
        let mut ids = Vec::new();
        while ids.len() < 2 {
            let Ok(Pull::Batch(batch)) = source.next_batch(10).await else { panic!("the pipe is open") };
            ids.extend(batch.events.into_iter().map(|event| event.id));
        }
        assert_eq!(ids, ["stdin:1", "stdin:3"]);
        let waiting = tokio::time::timeout(Duration::from_millis(50), source.next_batch(10)).await;
        assert!(waiting.is_err(), "half a line is no event");
        writer.write_all(b"ial\n").unwrap();
        drop(writer);
        let (events, fault) = all(&mut source, 10).await;
        assert!(fault.is_none());
        assert_eq!(events, [pair("stdin:4", "partial")]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let concerns = Lines::review(&Config { path: PathBuf::new(), period: None, max_payload: Size(0) });
        assert_eq!(concerns.iter().map(|concern| concern.option).collect::<Vec<_>>(), ["path", "max_payload"]);
    }
}
