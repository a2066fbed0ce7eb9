//! How a worker ends: it is asked to, and given time; then it is killed with all that it has started.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use runtime_core::Fault;
use runtime_core::options::Span;
use tokio::time::timeout;

use super::super::super::dump;
use super::super::super::exit::Exit;
use super::super::super::protocol::Kind;
use super::super::super::reap::kill_tree;
use super::{FAREWELL, Gone, Worker, bare};

/// How long a process that has run its end may take to be gone, also where its time is over.
const LAST: Duration = Duration::from_millis(500);

impl Worker {
    /// Ends it, after its function has run what it has registered for that, and what its language waits for. What has
    /// not ended when `limit` is there is killed with all that it has started. `code` is for people.
    pub(in super::super) async fn close(mut self, code: &str, limit: impl Future<Output = ()>) -> Result<(), Fault> {
        let (begun, mut limit) = (Instant::now(), pin!(limit));
        let closing = async {
            self.out.queue(|out| bare(out, Kind::Close))?;
            self.answer(Kind::Closed, "closing").await
        };
        let closed = tokio::select! {
            biased;
            closed = closing => Some(closed.map(drop)),
            () = &mut limit => None,
        };
        let has_ended = match &closed {
            Some(_) => {
                let early = tokio::select! {
                    exit = self.exited(FAREWELL) => exit,
                    () = limit => None,
                };
                early.is_some() || self.exited(LAST).await.is_some()
            }
            None => false,
        };
        if has_ended {
            // also what it leaves behind
            self.bury().await;
            return closed.unwrap_or(Ok(()));
        }
        metrics::counter!("gaugefn_worker_kills_total", "function" => self.ears.function.to_string(), "reason" => "end")
            .increment(1);
        let after = begun.elapsed().as_secs_f64();
        let (place, report) = self.whereabouts().await;
        let pid = self.process.pid();
        self.bury().await;
        let fault = Fault::function(format!(
            "worker process {pid} of {code} did not end within {after:.1}s and was killed with all that it had \
             started{place}"
        ));
        Err(if report.is_empty() { fault } else { fault.with_report(report) })
    }

    /// Kills it, as it has not answered in this time; what to say of it.
    pub(in super::super) async fn silent(&mut self, after: Duration) -> Fault {
        let (place, report) = self.whereabouts().await;
        let (pid, after) = (self.process.pid(), Span(after));
        self.bury().await;
        let fault = Fault::function(format!(
            "worker process {pid} has not handed its state over within {after} and was killed{place}"
        ));
        if report.is_empty() { fault } else { fault.with_report(report) }
    }

    /// Ends it in the middle of loading the function, which nobody waits for any more.
    pub(in super::super) async fn give_up(mut self, code: &str, begun: Instant) {
        let after = begun.elapsed().as_secs_f64();
        let (place, _) = self.whereabouts().await;
        let (function, worker) = (self.ears.function.clone(), self.process.pid());
        self.bury().await;
        tracing::info!(%function, worker, "loading {code} was given up after {after:.1}s{place}");
    }

    /// Where it is, in words to be appended, and its stacks; both empty where it cannot tell.
    async fn whereabouts(&self) -> (String, String) {
        if self.dump_signal.is_none() {
            return Default::default();
        }
        let report = dump::ask(self.process.watch(), &self.dump).await;
        (dump::doing(&report).map(|doing| format!("; it was {doing}")).unwrap_or_default(), report)
    }

    /// Kills what is left of it and of all that it has started, and hears its last words.
    pub(super) async fn bury(&mut self) -> Option<Exit> {
        let root = self.process.root().clone();
        if let Ok(killed) = tokio::task::spawn_blocking(move || kill_tree(&root)).await
            && !killed.survivors.is_empty()
        {
            tracing::error!("processes of a worker cannot be killed: {:?}", killed.survivors);
        }
        let exit = self.exited(FAREWELL).await;
        // its number may be another's from now on
        let _ = self.process.watch().reap();
        self.ears.finish().await;
        exit
    }

    /// How its process ended, if it does within this time. On a busy machine the notice of an end has come 200 ms after
    /// it, so it is looked for as well.
    pub(super) async fn exited(&self, within: Duration) -> Option<Exit> {
        const LOOK: Duration = Duration::from_millis(2);
        let latest = Instant::now() + within;
        loop {
            match self.process.watch().exit() {
                Ok(Some(exit)) => return Some(exit),
                Ok(None) if Instant::now() < latest => drop(timeout(LOOK, self.process.watch().ended()).await),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// What to say of a worker that ended while it was asked for something else than a call.
    pub(super) async fn lost(&mut self, gone: Gone, doing: &str) -> Fault {
        let exit = self.bury().await;
        let gone = match (gone, exit) {
            (Gone::Exit(_), Some(exit)) => Gone::Exit(exit),
            (gone, _) => gone,
        };
        let report = dump::rest(&self.dump);
        let fault = gone.fault(doing);
        if report.is_empty() { fault } else { fault.with_report(report) }
    }
}
