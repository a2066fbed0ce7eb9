//! One list of everything that scripted parts were asked to do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What was asked of the scripted parts that hold a clone of this, in order, with tokio's time of each.
#[derive(Debug, Clone)]
pub struct Journal {
    begin: Instant,
    lines: Arc<Mutex<Vec<(Duration, String)>>>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { begin: Instant::now(), lines: Arc::default() }
    }
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, Vec<(Duration, String)>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line.
    pub fn note(&self, line: impl Into<String>) {
        let at = self.begin.elapsed();
        self.lock().push((at, line.into()));
    }

    /// All lines that begin so; all there are for an empty text.
    #[must_use]
    pub fn lines(&self, beginning: &str) -> Vec<String> {
        self.timed(beginning).into_iter().map(|(_, line)| line).collect()
    }

    /// The same with the time of each, counted from the making of the journal.
    #[must_use]
    pub fn timed(&self, beginning: &str) -> Vec<(Duration, String)> {
        self.lock().iter().filter(|(_, line)| line.starts_with(beginning)).cloned().collect()
    }

    /// How many lines begin so.
    #[must_use]
    pub fn count(&self, beginning: &str) -> usize {
        self.lock().iter().filter(|(_, line)| line.starts_with(beginning)).count()
    }

    /// Waits until so many lines begin so, looking each millisecond.
    ///
    /// # Panics
    /// It takes more than ten minutes of tokio's time.
    pub async fn reaches(&self, beginning: &str, count: usize) {
        let limit = Instant::now() + Duration::from_secs(600);
        while self.count(beginning) < count {
            assert!(Instant::now() < limit, "{} of {count} '{beginning}' came", self.count(beginning));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
