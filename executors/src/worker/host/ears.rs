//! What a worker prints and logs, on its way into the log with the function's name and the event's.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use runtime_core::contract::Event;
use runtime_core::records::{self, Record};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Level;

use super::super::output::{Line, Output, Stream};
use super::super::records::{OWN, Received, Records};
use super::super::shared::{Area, SLOTS, slot_of};

/// How long the last words of a worker that has ended may take to arrive.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How long after a batch raw output still counts as its last event's.
const ECHO: Duration = Duration::from_millis(100);

/// Where raw output of all workers is heard: whoever reads the log may be slow, and the engine does not wait for that.
/// Without a thread it has to.
fn room() -> Handle {
    static ROOM: OnceLock<Option<Handle>> = OnceLock::new();
    let room = ROOM.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_time().build().ok()?;
        let handle = runtime.handle().clone();
        let hear = move || runtime.block_on(std::future::pending::<()>());
        thread::Builder::new().name("log".to_owned()).spawn(hear).ok().map(|_| handle)
    });
    room.clone().unwrap_or_else(Handle::current)
}

/// What a worker is being called with: raw output belongs to whatever event runs while it is read.
#[derive(Debug, Default)]
pub(super) struct Current([Given; SLOTS]);

/// The events of one batch.
#[derive(Debug, Default)]
struct Given {
    batch: u64,
    ids: String,
    ends: Vec<usize>,
    /// When the batch ended.
    over: Option<Instant>,
}

impl Current {
    /// A batch was given.
    pub(super) fn begin(&mut self, batch: u64, events: &[Event]) {
        let given = &mut self.0[slot_of(batch)];
        given.clear(batch);
        for event in events {
            given.ids.push_str(&event.id);
            given.ends.push(given.ids.len());
        }
    }

    /// It is answered. What it wrote last may still be on its way.
    pub(super) fn end(&mut self, batch: u64) {
        let given = &mut self.0[slot_of(batch)];
        if given.batch == batch {
            given.over = Some(Instant::now());
        }
    }

    /// The event that runs, else the one that ran last.
    fn event(&self, area: &Area) -> &str {
        let heard = |given: &&Given| given.over.is_none_or(|over| over.elapsed() <= ECHO);
        let given = self.0.iter().filter(|given| given.batch > 0).filter(heard);
        let running = given.filter_map(|given| {
            let progress = area.progress(slot_of(given.batch)).filter(|progress| progress.batch == given.batch)?;
            let last = progress.running.map_or(progress.finished.checked_sub(1), |(index, _)| Some(index))?;
            Some((progress.running.is_some(), given, last))
        });
        let Some((_, given, index)) = running.max_by_key(|(runs, given, _)| (*runs, given.batch)) else { return "" };
        let Some(end) = given.ends.get(index) else { return "" };
        let start = index.checked_sub(1).map_or(0, |before| given.ends[before]);
        &given.ids[start..*end]
    }
}

impl Given {
    fn clear(&mut self, batch: u64) {
        (self.batch, self.over) = (batch, None);
        self.ids.clear();
        self.ends.clear();
    }
}

/// Reads everything that one worker says.
#[derive(Debug)]
pub(super) struct Ears {
    /// Whose worker it is.
    pub(super) function: Arc<str>,
    tasks: JoinSet<()>,
    /// To be told of each batch.
    pub(super) current: Arc<Mutex<Current>>,
}

impl Ears {
    pub(super) fn open(function: &Arc<str>, pid: u32, records: Records, output: Output, area: &Arc<Area>) -> Self {
        let current = Arc::new(Mutex::new(Current::default()));
        let mut tasks = JoinSet::new();
        let (ended, end) = oneshot::channel();
        let own = Arc::clone(function);
        let ears = move || {
            hear_records(&own, pid, records);
            // nobody may be waiting for it
            let _ = ended.send(());
        };
        match thread::Builder::new().name("ears".to_owned()).spawn(ears) {
            Ok(_) => drop(tasks.spawn(async { drop(end.await) })),
            Err(error) => tracing::error!(%function, worker = pid, "what a worker prints is not heard: {error}"),
        }
        tasks.spawn_on(hear_output(Arc::clone(function), pid, output, Arc::clone(&current), Arc::clone(area)), &room());
        Self { function: Arc::clone(function), tasks, current }
    }

    /// What has to be answered meanwhile.
    pub(super) fn also(&mut self, answering: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(answering);
    }

    /// Waits for the last words of a process that has ended, so that they stand before what is said of its end.
    pub(super) async fn finish(&mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // something that has escaped may hold the pipes
        let _ = timeout(LAST_WORDS, all).await;
    }
}

fn dropped(function: &str, lost: u64) {
    if lost > 0 {
        metrics::counter!("gaugefn_log_lines_dropped_total", "function" => function.to_owned()).increment(lost);
    }
}

fn hear_records(function: &str, pid: u32, records: Records) {
    let heard = records.hear(|record| {
        dropped(function, record.lost);
        if record.stream == OWN {
            own(function, pid, &record);
        } else {
            record.write(function, Some(pid));
        }
    });
    if let Err(error) = heard {
        tracing::error!(function, worker = pid, "what a worker prints is not heard any more: {error}");
    }
}

/// The runtime's own words, said in the worker.
fn own(function: &str, worker: u32, record: &Received) {
    let text = &record.text;
    match record.level {
        Level::ERROR => tracing::error!(function, worker, "{text}"),
        Level::WARN => tracing::warn!(function, worker, "{text}"),
        _ => tracing::info!(function, worker, "{text}"),
    }
}

async fn hear_output(function: Arc<str>, pid: u32, mut output: Output, current: Arc<Mutex<Current>>, area: Arc<Area>) {
    while let Some(Line { stream, text, lost, .. }) = output.next().await {
        dropped(&function, lost);
        let event = current.lock().unwrap_or_else(PoisonError::into_inner).event(&area).to_owned();
        let level = match stream {
            Stream::Stdout => Level::INFO,
            Stream::Stderr => Level::WARN,
        };
        let stream = stream.as_str();
        records::write(level, Record { function: &function, event: &event, stream, worker: Some(pid), text: &text });
    }
}
