//! What a worker prints and logs, on its way into the log with the function's name and the event's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runtime_core::contract::Event;
use runtime_core::records::{self, Record};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Level;

use super::super::output::{Line, Output, Stream};
use super::super::records::{OWN, Received, Records};
use super::super::shared::Area;

/// How long the last words of a worker that has ended may take to arrive.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What a worker is being called with: raw output belongs to whatever event runs while it is read.
#[derive(Debug, Default)]
pub(super) struct Current {
    slot: usize,
    ids: String,
    ends: Vec<usize>,
}

impl Current {
    /// A batch begins.
    pub(super) fn begin(&mut self, slot: usize, events: &[Event]) {
        self.end();
        self.slot = slot;
        for event in events {
            self.ids.push_str(&event.id);
            self.ends.push(self.ids.len());
        }
    }

    /// Nothing runs.
    pub(super) fn end(&mut self) {
        self.ids.clear();
        self.ends.clear();
    }

    fn event(&self, area: &Area) -> &str {
        if self.ends.is_empty() {
            return "";
        }
        // between two events, what is read was most likely written by the one before
        let index = area
            .progress(self.slot)
            .map(|progress| progress.running.map_or(progress.finished.saturating_sub(1), |(index, _)| index));
        let Some(end) = index.and_then(|index| self.ends.get(index).map(|end| (index, *end))) else { return "" };
        let start = end.0.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.ids[start..end.1]
    }
}

/// Reads everything that one worker says.
#[derive(Debug)]
pub(super) struct Ears {
    tasks: JoinSet<()>,
    /// To be told of each batch.
    pub(super) current: Arc<Mutex<Current>>,
}

impl Ears {
    pub(super) fn open(function: &Arc<str>, pid: u32, records: Records, output: Output, area: &Arc<Area>) -> Self {
        let current = Arc::new(Mutex::new(Current::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(hear_records(Arc::clone(function), pid, records));
        tasks.spawn(hear_output(Arc::clone(function), pid, output, Arc::clone(&current), Arc::clone(area)));
        Self { tasks, current }
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

async fn hear_records(function: Arc<str>, pid: u32, mut records: Records) {
    while let Some(record) = records.next().await {
        dropped(&function, record.lost);
        if record.stream == OWN {
            own(&function, pid, &record);
        } else {
            record.write(&function, Some(pid));
        }
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
