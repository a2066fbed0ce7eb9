//! The end of a batch's way: sinks, then state, then receipt. A failed step is repeated alone, never the call.

use std::sync::Arc;

use super::backoff::Backoff;
use super::board::Board;
use crate::contract::{Commit, Fault, Saved, Sink, StateStore};

/// Writes commits, one after the other.
pub(super) struct Committer {
    function: Arc<str>,
    sinks: Vec<(String, Box<dyn Sink>, Backoff)>,
    state: Box<dyn StateStore>,
    rest: Backoff,
    board: Board,
}

impl Committer {
    pub(super) fn new(
        function: Arc<str>,
        sinks: Vec<(String, Box<dyn Sink>)>,
        state: Box<dyn StateStore>,
        board: Board,
    ) -> Self {
        let sinks = sinks
            .into_iter()
            .map(|(label, sink)| {
                let part = format!("sink {label}");
                let backoff = Backoff::new(&function, &part);
                (part, sink, backoff)
            })
            .collect();
        let rest = Backoff::new(&function, "commit");
        Self { function, sinks, state, rest, board }
    }

    /// Opens every sink once; the trouble of one that cannot be is noted, and its first write tries again.
    ///
    /// # Errors
    /// A sink that can never work.
    pub(super) async fn check(&mut self) -> Result<(), Fault> {
        for (part, sink, backoff) in &mut self.sinks {
            match sink.check().await {
                Ok(()) => {}
                Err(fault) if fault.retry() => {
                    backoff.failed(&fault);
                    self.board.trouble(&self.function, part, backoff.trouble());
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// Tries the sinks that are in trouble again, so that readiness tells the truth also while nothing is written.
    pub(super) async fn recheck(&mut self) {
        for (part, sink, backoff) in self.sinks.iter_mut().filter(|(_, _, backoff)| backoff.trouble().is_some()) {
            match sink.check().await {
                Ok(()) => backoff.succeeded(),
                Err(fault) => {
                    backoff.failed(&fault);
                }
            }
            self.board.trouble(&self.function, part, backoff.trouble());
        }
    }

    /// What is wrong with the first sink that is in trouble.
    pub(super) fn trouble(&self) -> Option<String> {
        self.sinks.iter().find_map(|(part, _, backoff)| backoff.trouble().map(|trouble| format!("{part}: {trouble}")))
    }

    /// Writes one batch's effects; waits for backends that are away. The caller bounds the time.
    ///
    /// # Errors
    /// A sink that will never work again.
    pub(super) async fn commit(&mut self, mut commit: Commit) -> Result<(), Fault> {
        if !commit.outputs.is_empty() {
            if self.sinks.is_empty() {
                for output in &commit.outputs {
                    let text = String::from_utf8_lossy(&output.payload);
                    tracing::info!(function = %self.function, event = %output.event_id, "result (no sink is configured): {text}");
                }
            }
            for (part, sink, backoff) in &mut self.sinks {
                loop {
                    match sink.write(&commit.outputs).await {
                        Ok(()) => break backoff.succeeded(),
                        Err(fault) if fault.retry() => {
                            let wait = backoff.failed(&fault);
                            self.board.trouble(&self.function, part, backoff.trouble());
                            tokio::time::sleep(wait).await;
                        }
                        Err(fault) if fault.is_fatal() => return Err(fault),
                        Err(fault) => {
                            let first =
                                commit.outputs.first().map(|output| output.event_id.as_str()).unwrap_or_default();
                            tracing::error!(function = %self.function, event = first, part = %part, "result lost: {}", fault.chain());
                            metrics::counter!("gaugefn_write_failures_total", "function" => self.function.to_string(), "sink" => part.trim_start_matches("sink ").to_owned())
                                .increment(commit.outputs.len() as u64);
                            break;
                        }
                    }
                }
                if backoff.trouble().is_none() {
                    self.board.trouble(&self.function, part, None);
                }
            }
        }
        if !commit.states.is_empty() {
            loop {
                // what was built on a state that is not saved must not be acknowledged either
                match self.state.save(&commit.states).await {
                    Ok(Saved::Done) => break,
                    Ok(Saved::Stale(keys)) => {
                        tracing::warn!(function = %self.function, ?keys, "state not saved: somebody else has changed it");
                        return Ok(());
                    }
                    Err(fault) if fault.retry() => self.wait(&fault).await,
                    Err(fault) => {
                        tracing::error!(function = %self.function, "state not saved: {}", fault.chain());
                        return Ok(());
                    }
                }
            }
        }
        loop {
            match commit.receipt.settle(&commit.verdicts).await {
                Ok(()) => break self.rest.succeeded(),
                Err(fault) if fault.retry() => self.wait(&fault).await,
                Err(fault) => {
                    tracing::error!(function = %self.function, "events not acknowledged: {}", fault.chain());
                    break;
                }
            }
        }
        self.board.trouble(&self.function, "commit", None);
        Ok(())
    }

    /// Backs off from the store or the source that did not take its part of the commit.
    async fn wait(&mut self, fault: &Fault) {
        let wait = self.rest.failed(fault);
        self.board.trouble(&self.function, "commit", self.rest.trouble());
        tokio::time::sleep(wait).await;
    }

    pub(super) async fn close(&mut self) {
        for (part, sink, _) in &mut self.sinks {
            if let Err(fault) = sink.close().await {
                tracing::error!(function = %self.function, part = %part, "not closed cleanly: {}", fault.chain());
            }
        }
    }
}
