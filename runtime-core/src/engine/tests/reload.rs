//! New versions between batches: what is handed over, what is refused, and what is said of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::config::settings::{ReloadOptions, ReloadState};
use crate::contract::{Brief, Call, Env, Executor, Facts, Legacy, Loader, Module, Outcome, Places, Revision};
use crate::engine::Reload;

/// What there is to load at the moment; the revision is the text itself.
#[derive(Clone)]
struct Code(Arc<Mutex<&'static str>>, std::path::PathBuf);

impl Code {
    fn put(&self, text: &'static str) {
        *self.0.lock().unwrap() = text;
        // noticed as any file would be
        std::fs::write(self.1.join("code"), text).unwrap();
    }
}

#[async_trait]
impl Loader for Code {
    async fn revision(&self) -> Result<Revision, Fault> {
        match *self.0.lock().unwrap() {
            "missing" => Err(Fault::file("it is missing")),
            text => Ok(Revision::new(text)),
        }
    }

    async fn load(&self, _handler: &str) -> Result<Module, Fault> {
        let (root, revision) = (self.1.clone(), self.revision().await?);
        let modified = std::time::UNIX_EPOCH;
        Ok(Module { entry: root.join("code"), root, revision, modified, keep: None })
    }

    fn describe(&self) -> String {
        "the code".to_owned()
    }

    fn places(&self) -> Places {
        Places { folders: vec![self.1.clone()], ..Places::default() }
    }
}

/// Makes functions that say which version they are. Names tell what they do: `broken` does not load, `hanging` never gets
/// that far, `unwilling` does not take over, `leaky` loses something, `clinging` does not end.
struct Maker(Journal);

struct Named {
    name: String,
    state: u32,
    journal: Journal,
}

#[async_trait]
impl Executor for Maker {
    async fn prepare(&self, module: Option<Module>, _brief: Brief) -> Result<Box<dyn Function>, Fault> {
        let name = module.unwrap().revision.as_str().to_owned();
        if name.starts_with("broken") {
            return Err(Fault::function("it does not load"));
        }
        self.0.note(format!("prepare {name}"));
        if name == "hanging" {
            std::future::pending::<()>().await;
        }
        Ok(Box::new(Named { name, state: 0, journal: self.0.clone() }))
    }
}

#[async_trait]
impl Function for Named {
    async fn invoke(&mut self, events: &[Event], _call: Call) -> Result<Vec<Outcome>, Fault> {
        self.state += 1;
        self.journal.note(format!("{} {}", self.name, self.state));
        Ok(events.iter().map(|_| Returned::Empty.into()).collect())
    }

    async fn hand_over(&mut self) -> Result<Legacy, Fault> {
        let lost = if self.name == "leaky" { vec!["'lock'".to_owned()] } else { Vec::new() };
        let state = self.state.to_string().into();
        Ok(Legacy::Encoded { env: Env(vec![("state".into(), state)]), lost })
    }

    async fn take_over(&mut self, legacy: Option<Legacy>) -> Result<(), Fault> {
        if self.name == "unwilling" {
            return Err(Fault::function("it does not want to"));
        }
        if let Some(Legacy::Encoded { env, .. }) = legacy {
            self.state = std::str::from_utf8(&env.0[0].1).unwrap().parse().unwrap();
        }
        self.journal.note(format!("{} takes over", self.name));
        Ok(())
    }

    async fn retire(&mut self, _within: Duration) -> Result<(), Fault> {
        self.journal.note(format!("{} retires", self.name));
        if self.name == "clinging" {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// One event every 20 ms, on the real clock, as the system tells of changes on no other.
struct Line {
    code: Code,
    journal: Journal,
    board: Board,
    stopper: Stopper,
    task: tokio::task::JoinHandle<End>,
    _folder: tempfile::TempDir,
}

impl Line {
    async fn start(first: &'static str, state: ReloadState) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let code = Code(Arc::new(Mutex::new(first)), folder.path().to_path_buf());
        let script = (0..2000).flat_map(|_| [Script::Events(vec!["e"]), Script::Again(Duration::from_millis(5))]);
        let bench = Bench::new(Delivery::Queue, script);
        let journal = Journal::default();
        let maker = Maker(journal.clone());
        let brief =
            Brief { function: "vm".into(), handler: "handler".to_owned(), facts: Facts::default(), ..Brief::default() };
        let module = code.load("handler").await.unwrap();
        let serving = module.revision.clone();
        let function = maker.prepare(Some(module), brief.clone()).await.unwrap();
        let (mut parts, board) = bench.parts();
        parts.function = function;
        let options = ReloadOptions { reload: true, reload_state: state };
        let (loader, executor) = (Box::new(code.clone()), Box::new(maker));
        let farewell = Duration::from_secs(10);
        parts.reload = Some(Reload { loader, executor, brief, serving, options, farewell });
        let (stopper, stop) = stop();
        let task = tokio::spawn(run(parts, stop, board.clone(), false));
        let line = Self { code, journal, board, stopper, task, _folder: folder };
        line.wait(|notes| notes.iter().any(|note| note.ends_with(" 3"))).await;
        line
    }

    async fn wait(&self, is_it: impl Fn(&[String]) -> bool) {
        for _ in 0..1000 {
            if is_it(&self.journal.lines("")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.journal.lines(""));
    }

    /// Waits until the board says why the newest version is refused.
    async fn refused(&self, text: &str) {
        for _ in 0..1000 {
            if self.board.functions()["vm"].refused.as_deref() == Some(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.board.functions());
    }

    async fn end(self) -> Vec<String> {
        self.stopper.stop();
        assert_end!(self.task.await.unwrap(), End::Stopped);
        self.journal.lines("")
    }
}

/// The states in the order of the calls, whichever version was called.
fn states(notes: &[String]) -> Vec<u32> {
    notes.iter().filter_map(|note| note.rsplit_once(' ')?.1.parse().ok()).collect()
}

#[tokio::test]
async fn a_new_version_goes_on_where_the_old_one_stands() {
    let line = Line::start("one", ReloadState::Keep).await;
    line.code.put("two");
    line.wait(|notes| notes.iter().any(|note| note.starts_with("two ") && note.ends_with(char::is_numeric))).await;
    assert_eq!(line.board.functions()["vm"].revision.as_deref(), Some("two"));
    let notes = line.end().await;
    let all = states(&notes);
    assert!(all.iter().copied().eq(1..=all.len() as u32), "{notes:?}");
    let at = |wanted: &str| notes.iter().position(|note| note == wanted).unwrap();
    assert!(at("prepare two") < at("two takes over") && at("two takes over") < at("one retires"));
    assert!(notes[at("two takes over")..].iter().all(|note| !note.starts_with("one ") || note == "one retires"));
}

#[tokio::test]
async fn neither_an_end_nor_a_load_that_hangs_keeps_a_newer_version_out() {
    let line = Line::start("clinging", ReloadState::Keep).await;
    line.code.put("two");
    line.wait(|notes| notes.iter().any(|note| note == "clinging retires")).await;
    for (hanging, next) in [(1, "three"), (2, "four")] {
        line.code.put("hanging");
        line.wait(|notes| notes.iter().filter(|note| *note == "prepare hanging").count() == hanging).await;
        line.code.put(next);
        line.wait(|notes| notes.iter().any(|note| *note == format!("{next} takes over"))).await;
    }
    // back to what runs
    line.code.put("hanging");
    line.wait(|notes| notes.iter().filter(|note| *note == "prepare hanging").count() == 3).await;
    line.code.put("four");
    line.code.put("five");
    line.wait(|notes| notes.iter().any(|note| note == "five takes over")).await;
    assert_eq!(line.board.functions()["vm"].refused, None);
    let all = states(&line.end().await);
    assert!(all.iter().copied().eq(1..=all.len() as u32), "{all:?}");
}

#[tokio::test]
async fn a_reset_begins_anew() {
    let line = Line::start("leaky", ReloadState::Reset).await;
    line.code.put("two");
    line.wait(|notes| notes.iter().any(|note| note == "two 1")).await;
    line.end().await;
}

#[tokio::test]
async fn what_is_refused_leaves_the_old_version_and_is_told_once() {
    let line = Line::start("one", ReloadState::Keep).await;
    for (code, reason) in [
        ("broken", "it does not load"),
        ("unwilling", "it does not want to"),
        ("missing", "it is missing"),
        ("broken again", "it does not load"),
    ] {
        line.code.put(code);
        line.refused(reason).await;
    }
    // back to what runs
    line.code.put("one");
    for _ in 0..1000 {
        if line.board.functions()["vm"].refused.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(line.board.functions()["vm"].refused, None);
    let notes = line.end().await;
    let all = states(&notes);
    assert!(all.iter().copied().eq(1..=all.len() as u32), "{notes:?}");
    assert_eq!(notes.iter().filter(|note| *note == "prepare unwilling").count(), 1, "{notes:?}");
    assert!(notes.iter().all(|note| !note.ends_with("takes over") && !note.ends_with("retires")), "{notes:?}");
}

#[tokio::test]
async fn a_state_that_would_lose_something_waits() {
    let line = Line::start("leaky", ReloadState::Keep).await;
    line.code.put("two");
    line.refused("its state would lose 'lock'; set reload_state = \"reset\" to begin anew, or restart").await;
    let notes = line.end().await;
    assert!(notes.iter().all(|note| !note.starts_with("two ")), "{notes:?}");
}
