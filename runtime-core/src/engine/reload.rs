//! New code takes over from old code while the function runs.
//!
//! ```text
//!   change ──> revision ──> load ──> prepare ──> revision again ──> Successor ──> between two batches: take over
//!                 same: nothing       fails: the old version goes on, until the content changes once more
//!                                     changes meanwhile: given up, and the newest is loaded
//! ```
//!
//! Everything up to the last step happens beside the calls of the old version, and so does its end. What decides is the
//! content: touching a file, or writing the same bytes again, is no change.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::board::Board;
use super::look::Look;
use crate::config::settings::{ReloadOptions, ReloadState};
use crate::contract::{Brief, Executor, Fault, Function, Legacy, Loader, Revision};

/// Loading that takes longer than this is spoken of, and after twice the time again, and so on.
const LONG: Duration = Duration::from_secs(10);

/// Between two attempts, where the code changes while it is loaded.
const SOON: Duration = Duration::from_millis(100);

/// What it takes to replace a function's code.
pub struct Reload {
    /// Has the code.
    pub loader: Box<dyn Loader>,
    /// Makes functions of it.
    pub executor: Box<dyn Executor>,
    /// For the executor.
    pub brief: Brief,
    /// The version that runs.
    pub serving: Revision,
    /// Whether at all, and what becomes of the state.
    pub options: ReloadOptions,
    /// How long an old version may take to end.
    pub farewell: Duration,
}

/// A new version that is proven to load, on its way to the second stage.
pub(super) struct Successor {
    function: Box<dyn Function>,
    state: ReloadState,
    /// Gets the old version, or the reason why it stays.
    reply: oneshot::Sender<Result<Box<dyn Function>, Fault>>,
}

impl Successor {
    /// Takes over from `old`, or leaves it as it is. To be called between two batches. What has become of the state,
    /// where it has taken over.
    pub(super) async fn take_over(mut self, old: &mut Box<dyn Function>) -> Option<ReloadState> {
        let taken = match self.state {
            ReloadState::Reset => self.function.take_over(None).await,
            ReloadState::Keep => match old.hand_over().await.and_then(whole) {
                Ok(legacy) => self.function.take_over(Some(legacy)).await,
                Err(fault) => Err(fault),
            },
        };
        let answer = taken.map(|()| std::mem::replace(old, self.function));
        let state = answer.is_ok().then_some(self.state);
        // nobody waits for it where the run is ending
        let _ = self.reply.send(answer);
        state
    }
}

/// Nothing may be lost without being asked for.
fn whole(legacy: Legacy) -> Result<Legacy, Fault> {
    match &legacy {
        Legacy::Encoded { lost, .. } if !lost.is_empty() => Err(Fault::function(format!(
            "its state would lose {}; set reload_state = \"reset\" to begin anew, or restart",
            lost.join(", ")
        ))),
        _ => Ok(legacy),
    }
}

/// Watches one function's code.
pub(super) struct Reloader<'a> {
    name: &'a str,
    board: &'a Board,
    reload: Reload,
    /// What was refused: the version if it could be told, and what was said.
    refused: Option<(Option<Revision>, String)>,
    /// Old versions on their way out.
    retiring: JoinSet<()>,
}

/// What came of a look.
enum Turn {
    /// A new version has taken over.
    Taken,
    /// There is nothing to do until the next change.
    Nothing,
    /// What was being loaded is not the newest any more.
    Again,
}

impl<'a> Reloader<'a> {
    pub(super) fn new(name: &'a str, board: &'a Board, reload: Reload) -> Self {
        Self { name, board, reload, refused: None, retiring: JoinSet::new() }
    }

    /// Looks for changes until it is dropped.
    pub(super) async fn run(&mut self, successors: mpsc::Sender<Successor>) -> Infallible {
        let places = self.reload.loader.places();
        if !self.reload.options.reload || places.folders.is_empty() {
            return std::future::pending().await;
        }
        if let Some(reason) = self.reload.loader.fixed() {
            tracing::warn!(function = self.name, "{reason}");
        }
        let outcomes = ["ok", "failed"];
        let [ok, failed] = outcomes.map(|outcome| metrics::counter!("gaugefn_reloads_total", "function" => self.name.to_owned(), "outcome" => outcome));
        let mut look = Look::at(self.name, places);
        // it may have changed between loading and looking
        loop {
            let revision = self.reload.loader.revision().await;
            match self.turn(revision, &mut look, &successors).await {
                Ok(Turn::Taken) => ok.increment(1),
                Ok(Turn::Nothing) => {}
                Ok(Turn::Again) => {
                    sleep(SOON).await;
                    continue;
                }
                Err((revision, fault)) => {
                    if self.refuse(revision, &fault) {
                        failed.increment(1);
                    }
                }
            }
            // what came to be in a new folder before it was watched is found by another look
            if !look.follow(self.reload.loader.places().folders) {
                look.next().await;
            }
            while self.retiring.try_join_next().is_some() {}
        }
    }

    /// One look.
    async fn turn(
        &mut self,
        revision: Result<Revision, Fault>,
        look: &mut Look<'_>,
        successors: &mpsc::Sender<Successor>,
    ) -> Result<Turn, (Option<Revision>, Fault)> {
        let revision = revision.map_err(|fault| (None, fault))?;
        if revision == self.reload.serving {
            if self.refused.take().is_some() {
                tracing::info!(function = self.name, revision = %revision, "the code is again the one that runs");
                self.board.update(self.name, |status| status.refused = None);
            }
            return Ok(Turn::Nothing);
        }
        if self.refused.as_ref().is_some_and(|(refused, _)| refused.as_ref() == Some(&revision)) {
            return Ok(Turn::Nothing);
        }
        let Reload { loader, executor, brief, .. } = &self.reload;
        // of `module.name`, the loader looks for the name
        let module = loader.load(wanted(brief)).await.map_err(|fault| (Some(revision), fault))?;
        let loaded = module.revision.clone();
        if loaded == self.reload.serving {
            // somebody was in the middle of writing the same once more
            return Ok(Turn::Nothing);
        }
        let refused = |fault| (Some(loaded.clone()), fault);
        let begun = Instant::now();
        let function = tokio::select! {
            prepared = executor.prepare(Some(module), brief.clone()) => prepared.map_err(refused)?,
            () = outdated(&**loader, look, &loaded) => {
                let after = begun.elapsed().as_secs_f64();
                tracing::warn!(
                    function = self.name,
                    "the code has changed once more while {loaded} was still loading after {after:.1}s; that one is given up"
                );
                return Ok(Turn::Again);
            }
            never = lament(self.name, &loaded) => match never {},
        };
        if loader.revision().await.map_err(refused)? != loaded {
            // what was imported may be a bit of each; whoever is writing will be done soon
            return Ok(Turn::Again);
        }
        let (reply, answer) = oneshot::channel();
        let successor = Successor { function, state: self.reload.options.reload_state, reply };
        if successors.send(successor).await.is_err() {
            return std::future::pending().await;
        }
        let Ok(answer) = answer.await else { return std::future::pending().await };
        let mut old = answer.map_err(refused)?;
        let before = std::mem::replace(&mut self.reload.serving, loaded.clone());
        self.refused = None;
        tracing::info!(
            function = self.name, from = %before, to = %loaded,
            "new code of {} runs", self.reload.loader.describe()
        );
        announce(self.board, self.name, Some(&before), &loaded);
        // it may take its time, and must not keep the next one out
        let (name, farewell) = (self.name.to_owned(), self.reload.farewell);
        self.retiring.spawn(async move {
            if let Err(fault) = old.retire(farewell).await {
                let report = fault.report().map(|report| format!("\n{}", report.trim_end())).unwrap_or_default();
                tracing::warn!(function = name, "version {before} did not end cleanly: {}{report}", fault.chain());
            }
        });
        Ok(Turn::Taken)
    }

    /// Notes why the old version goes on; whether this was not known yet.
    fn refuse(&mut self, revision: Option<Revision>, fault: &Fault) -> bool {
        let text = fault.chain();
        let known = self.refused.as_ref().is_some_and(|(before, said)| *before == revision && *said == text);
        if known {
            return false;
        }
        let report = fault.report().map(|report| format!("\n{}", report.trim_end())).unwrap_or_default();
        let which = revision.as_ref().map(|revision| format!(" {revision}")).unwrap_or_default();
        tracing::error!(
            function = self.name, runs = %self.reload.serving,
            "the new code{which} is not taken, the old one goes on: {text}{report}"
        );
        self.board.update(self.name, |status| status.refused = Some(text.clone()));
        self.refused = Some((revision, text));
        true
    }
}

/// Resolves when there is other code than that of this version.
async fn outdated(loader: &dyn Loader, look: &mut Look<'_>, loading: &Revision) {
    loop {
        if !look.follow(loader.places().folders) {
            look.next().await;
        }
        // what cannot be read at the moment is no other version yet
        if loader.revision().await.is_ok_and(|revision| revision != *loading) {
            return;
        }
    }
}

/// Says that a version takes long to load, less and less often.
async fn lament(function: &str, loading: &Revision) -> Infallible {
    let (begun, mut wait) = (Instant::now(), LONG);
    loop {
        sleep(wait).await;
        let after = begun.elapsed().as_secs();
        tracing::warn!(function, "the new code {loading} has been loading for {after}s; the old one goes on meanwhile");
        wait *= 2;
    }
}

/// The name that a loader has to look for: of `module.name`, the name.
pub(super) fn wanted(brief: &Brief) -> &str {
    brief.handler.rsplit('.').next().unwrap_or_default()
}

/// Shows which version runs.
pub(super) fn announce(board: &Board, name: &str, before: Option<&Revision>, now: &Revision) {
    let info = |revision: &Revision| metrics::gauge!("gaugefn_function_info", "function" => name.to_owned(), "hash" => revision.to_string());
    if let Some(before) = before {
        info(before).set(0.0);
    }
    info(now).set(1.0);
    board.update(name, |status| {
        status.revision = Some(now.to_string());
        status.refused = None;
    });
}
