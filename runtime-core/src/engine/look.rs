//! Looks at the places where a function's code would change.
//!
//! The system says at once that something has changed below a folder; where it cannot (a network file system, no
//! watches left), and for links further up that lead elsewhere one day, there is a slow look at the content.

use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::contract::Places;

/// How often the content is asked for although nothing was said. A ConfigMap takes a minute to arrive.
const SLOW: Duration = Duration::from_secs(10);

/// Nothing more must have been said for so long: an editor or a copy makes several changes of one.
const QUIET: Duration = Duration::from_millis(40);

/// A folder that is never quiet, as functions write into it, is looked at this often all the same.
const RESTLESS: Duration = Duration::from_millis(400);

/// Waits for changes of one function's code.
pub(super) struct Look {
    /// Counts what was said.
    said: watch::Receiver<u64>,
    places: Places,
    watcher: Option<RecommendedWatcher>,
}

impl Look {
    /// Begins to look at these places.
    pub(super) fn at(function: &str, places: Places) -> Self {
        let (sender, said) = watch::channel(0);
        let tell = move |event: notify::Result<Event>| {
            // an error means that something may have been missed
            if event.is_ok_and(|event| is_mere_reading(event.kind)) {
                return;
            }
            sender.send_modify(|count| *count += 1);
        };
        let watcher = match RecommendedWatcher::new(tell, Config::default()) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::info!(function, "changes of the code are looked for every {SLOW:?}: {error}");
                None
            }
        };
        let mut look = Self { said, places, watcher };
        look.again();
        look
    }

    /// Asks for all places once more: one that was absent may be there, and one that was a link to another folder may
    /// lead elsewhere by now.
    fn again(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let all = self.places.folders.iter().map(|folder| (folder, RecursiveMode::NonRecursive));
        let all = all.chain(self.places.trees.iter().map(|tree| (tree, RecursiveMode::Recursive)));
        for (place, mode) in all {
            if let Err(error) = watcher.watch(place, mode) {
                tracing::debug!(folder = %place.display(), "not watched, looked at every {SLOW:?}: {error}");
            }
        }
    }

    /// Resolves when something has changed, or when it is time to look without being told.
    pub(super) async fn next(&mut self) {
        let slowly = sleep(SLOW);
        tokio::select! {
            biased;
            told = self.said.changed() => {
                if told.is_err() {
                    // without a watcher nobody is left to tell
                    sleep(SLOW).await;
                    return;
                }
                let latest = Instant::now() + RESTLESS;
                loop {
                    let quiet = (Instant::now() + QUIET).min(latest);
                    match timeout_at(quiet, self.said.changed()).await {
                        Ok(Ok(())) if Instant::now() < latest => {}
                        Ok(Err(_)) => break sleep_until(quiet).await,
                        _ => break,
                    }
                }
            }
            () = slowly => {}
        }
        self.again();
    }
}

/// Hashing the files must not count as a change of them.
fn is_mere_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;
    use tokio::time::timeout;

    /// Whether something is noticed long before the slow look.
    async fn noticed(look: &mut Look) -> bool {
        timeout(SLOW / 2, look.next()).await.is_ok()
    }

    #[tokio::test]
    async fn writing_renaming_and_swapping_links_are_noticed_and_reading_is_not() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().to_path_buf();
        let file = path.join("main.py");
        fs::write(&file, "x = 1").unwrap();
        let mut look = Look::at("vm", Places { folders: vec![path.clone()], trees: Vec::new() });
        fs::write(&file, "x = 2").unwrap();
        assert!(noticed(&mut look).await);
        fs::rename(&file, path.join("other.py")).unwrap();
        assert!(noticed(&mut look).await);
        std::os::unix::fs::symlink("other.py", path.join("..tmp")).unwrap();
        fs::rename(path.join("..tmp"), path.join("..data")).unwrap();
        assert!(noticed(&mut look).await);
        let read = fs::read(path.join("other.py")).unwrap();
        assert_eq!(read, b"x = 2");
        assert!(timeout(Duration::from_millis(300), look.next()).await.is_err());
    }

    #[tokio::test]
    async fn a_tree_counts_with_folders_that_come_later() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().to_path_buf();
        let mut look = Look::at("vm", Places { folders: Vec::new(), trees: vec![path.clone()] });
        fs::create_dir(path.join("lib")).unwrap();
        assert!(noticed(&mut look).await);
        fs::write(path.join("lib/a.py"), "").unwrap();
        assert!(noticed(&mut look).await);
    }

    #[tokio::test]
    async fn an_absent_place_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        let late = root.path().join("late");
        let mut look = Look::at("vm", Places { folders: vec![late.clone(), root.path().into()], trees: Vec::new() });
        fs::create_dir(&late).unwrap();
        assert!(noticed(&mut look).await);
        fs::write(late.join("f.py"), "").unwrap();
        assert!(noticed(&mut look).await);
    }
}
