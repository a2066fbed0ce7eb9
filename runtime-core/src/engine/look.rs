//! Looks at the places where a function's code would change.
//!
//! The system says at once that something has changed in a folder; where it cannot (a network file system, no watches
//! left), and for links further up that lead elsewhere one day, there is a slow look at the content. What is written
//! beside the code is no reason to look.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::contract::{Names, Places};

/// How often the content is asked for although nothing was said. A ConfigMap takes a minute to arrive.
const SLOW: Duration = Duration::from_secs(10);

/// Nothing more must have been said for so long: an editor or a copy makes several changes of one.
const QUIET: Duration = Duration::from_millis(40);

/// A folder that is never quiet, as functions write into it, is looked at this often all the same.
const RESTLESS: Duration = Duration::from_millis(400);

/// Folders that one function may have watched: what the system grants is shared with everything else of this user.
const MOST_WATCHED: usize = 1024;

/// Waits for changes of one function's code.
pub(super) struct Look<'a> {
    function: &'a str,
    /// Counts what was said.
    said: watch::Receiver<u64>,
    folders: Vec<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    /// Whether it was said that not every folder is watched.
    partly: bool,
}

impl<'a> Look<'a> {
    /// Begins to look at these places.
    pub(super) fn at(function: &'a str, places: Places) -> Self {
        let (sender, said) = watch::channel(0);
        let names = places.names;
        let tell = move |event: notify::Result<Event>| {
            // an error means that something may have been missed
            if event.is_ok_and(|event| !is_of_interest(&event, &names)) {
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
        let mut look = Self { function, said, folders: places.folders, watcher, partly: false };
        look.again();
        look
    }

    /// Looks at these folders from now on; whether some are new, so that a change in them may have been missed.
    pub(super) fn follow(&mut self, folders: Vec<PathBuf>) -> bool {
        if folders == self.folders {
            return false;
        }
        let (before, now) = (watched(&self.folders), watched(&folders));
        let new = now.iter().any(|folder| !before.contains(folder));
        if let Some(watcher) = &mut self.watcher {
            for folder in before.iter().filter(|folder| !now.contains(*folder)) {
                // it may be gone, and its watch with it
                let _ = watcher.unwatch(folder);
            }
        }
        self.folders = folders;
        self.again();
        new
    }

    /// Asks for all places once more: one that was absent may be there, and one that was a link to another folder may
    /// lead elsewhere by now.
    fn again(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let refused = |folder: &PathBuf| match watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => None,
            // there is nothing that could change, until it comes
            Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => None,
            Err(error) => Some(error),
        };
        let refused: Vec<_> = self.folders.iter().take(MOST_WATCHED).filter_map(refused).collect();
        let without = refused.len() + self.folders.len().saturating_sub(MOST_WATCHED);
        if without > 0 && !self.partly {
            let reason = refused.first().map_or_else(|| format!("{MOST_WATCHED} are watched"), ToString::to_string);
            tracing::info!(
                function = self.function,
                "changes in {without} folders of the code are looked for every {SLOW:?}: {reason}"
            );
        }
        self.partly = without > 0;
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

fn watched(folders: &[PathBuf]) -> HashSet<&PathBuf> {
    folders.iter().take(MOST_WATCHED).collect()
}

/// Whether the event may be a change of the code.
fn is_of_interest(event: &Event, names: &Names) -> bool {
    let is_folder = |path: &PathBuf| match event.kind {
        EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder) => true,
        // of what has got this name nothing more is said; a folder that has lost it takes its code away
        EventKind::Modify(ModifyKind::Name(_)) => path.is_dir(),
        _ => false,
    };
    let may_be_code = |path: &PathBuf| names.hold(path, false) || (is_folder(path) && names.hold(path, true));
    !is_mere_reading(event.kind)
        && (event.paths.is_empty() || event.need_rescan() || event.paths.iter().any(may_be_code))
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
    use std::path::Path;
    use tokio::time::timeout;

    /// Whether something is noticed long before the slow look.
    async fn noticed(look: &mut Look<'_>) -> bool {
        timeout(SLOW / 2, look.next()).await.is_ok()
    }

    #[tokio::test]
    async fn writing_renaming_and_swapping_links_are_noticed_and_reading_is_not() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().to_path_buf();
        let file = path.join("main.py");
        fs::write(&file, "x = 1").unwrap();
        let mut look = Look::at("vm", Places { folders: vec![path.clone()], ..Places::default() });
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
    async fn folders_that_come_later_are_looked_at_and_looked_into_at_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().to_path_buf();
        let mut look = Look::at("vm", Places { folders: vec![path.clone()], ..Places::default() });
        fs::create_dir(path.join("lib")).unwrap();
        assert!(noticed(&mut look).await);
        assert!(look.follow(vec![path.clone(), path.join("lib")]), "written to before it was watched");
        assert!(!look.follow(vec![path.clone(), path.join("lib")]));
        fs::write(path.join("lib/a.py"), "").unwrap();
        assert!(noticed(&mut look).await);
        assert!(!look.follow(vec![path]));
    }

    #[tokio::test]
    async fn what_is_no_code_wakes_nobody() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().to_path_buf();
        let is_code = |path: &Path, is_folder: bool| is_folder || path.extension().is_some_and(|ending| ending == "py");
        let mut look = Look::at("vm", Places { folders: vec![path.clone()], names: Names::matching(is_code) });
        fs::write(path.join("calls.log"), "x").unwrap();
        fs::write(path.join("state.tmp"), "x").unwrap();
        fs::rename(path.join("state.tmp"), path.join("state.json")).unwrap();
        fs::remove_file(path.join("calls.log")).unwrap();
        assert!(timeout(Duration::from_millis(300), look.next()).await.is_err());
        fs::create_dir(path.join("other")).unwrap();
        assert!(noticed(&mut look).await);
        fs::rename(path.join("other"), path.join("lib")).unwrap();
        assert!(noticed(&mut look).await);
        fs::write(path.join("new"), "x").unwrap();
        fs::rename(path.join("new"), path.join("a.py")).unwrap();
        assert!(noticed(&mut look).await);
    }

    #[tokio::test]
    async fn an_absent_place_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        let late = root.path().join("late");
        let mut look = Look::at("vm", Places { folders: vec![late.clone(), root.path().into()], ..Places::default() });
        fs::create_dir(&late).unwrap();
        assert!(noticed(&mut look).await);
        fs::write(late.join("f.py"), "").unwrap();
        assert!(noticed(&mut look).await);
    }
}
