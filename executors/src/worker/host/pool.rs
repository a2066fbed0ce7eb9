//! Workers that are not in a slot: the one that is kept ready, and those that are on their way out. One pool for all
//! slots and all versions of a function.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use runtime_core::Fault;
use runtime_core::config::settings::Standby;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use super::worker::Worker;
use super::{Code, Plan};

/// So many may be on their way out. Where a function's end takes long, they would be more and more.
const MOST_LEAVING: usize = 8;

pub(super) struct Pool {
    plan: Arc<Plan>,
    ready: Mutex<Option<Waiting>>,
    /// Nothing is kept ready any more.
    closed: AtomicBool,
    leaving: Mutex<Vec<Leaving>>,
}

/// A worker that is being started. Dropped before it is taken, it is given up.
pub(super) struct Coming {
    task: JoinHandle<Result<Worker, Fault>>,
    since: Instant,
}

/// One that is kept ready.
struct Waiting {
    coming: Coming,
    /// The version that it has imported, if it has.
    code: Option<Arc<Code>>,
}

/// One that ends.
struct Leaving {
    /// Dropped, its time is over.
    hurry: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

/// A worker that loads the function. Dropped in the middle, it is ended with all that it has started.
struct Loading {
    /// Not held: where a worker hangs, the pool would hold itself.
    pool: Weak<Pool>,
    worker: Option<Worker>,
    code: Arc<Code>,
    begun: Instant,
}

impl Pool {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        Self {
            plan: Arc::clone(plan),
            ready: Mutex::default(),
            closed: AtomicBool::new(false),
            leaving: Mutex::default(),
        }
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, Option<Waiting>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker that runs this version: the one that is kept ready, else a new one.
    pub(super) async fn take(self: &Arc<Self>, code: &Arc<Code>) -> Result<Worker, Fault> {
        let waiting = self.ready().take();
        let ready = match waiting {
            Some(waiting) => waiting.of_use(code).await,
            None => None,
        };
        let (worker, is_loaded) = match ready.filter(|(worker, _)| worker.is_alive()) {
            Some(ready) => ready,
            None => (Worker::start(&self.plan, &code.brief).await?, false),
        };
        if is_loaded { Ok(worker) } else { Loading::new(self, worker, code).finish(&self.plan).await }
    }

    /// Same, beside whatever else is to be done.
    pub(super) fn fetch(self: &Arc<Self>, code: &Arc<Code>) -> Coming {
        let (pool, code) = (Arc::clone(self), Arc::clone(code));
        Coming::of(async move { pool.take(&code).await })
    }

    /// Starts what is to be kept ready, where nothing is.
    pub(super) fn refill(self: &Arc<Self>, code: &Arc<Code>) {
        let standby = self.plan.workers.standby;
        let mut ready = self.ready();
        if ready.is_some() || standby == Standby::None || self.closed.load(Ordering::Relaxed) {
            return;
        }
        let (pool, plan, code) = (Arc::downgrade(self), Arc::clone(&self.plan), Arc::clone(code));
        let imported = (standby == Standby::Imported).then(|| Arc::clone(&code));
        let coming = Coming::of(async move {
            let mut worker = Worker::start(&plan, &code.brief).await?;
            if plan.workers.standby == Standby::Imported {
                return Loading::of(pool, worker, &code).finish(&plan).await;
            }
            worker.warm(&plan.prepare(&code)).await?;
            Ok(worker)
        });
        *ready = Some(Waiting { coming, code: imported });
    }

    /// After an attempt that came to nothing: what was kept ready may have gone into it, and an older version may need it
    /// any time.
    pub(super) fn make_up(self: &Arc<Self>, code: &Arc<Code>) {
        // one that has imported the function would have imported what is not wanted
        if self.plan.workers.standby == Standby::Interpreter {
            self.refill(code);
        }
    }

    /// Lets go what is kept ready, which ends it, for good.
    pub(super) async fn empty(&self) {
        let waiting = {
            let mut ready = self.ready();
            self.closed.store(true, Ordering::Relaxed);
            ready.take()
        };
        if let Some(waiting) = waiting {
            waiting.coming.give_up().await;
        }
    }

    /// Ends a worker that has had its last event. Nobody waits for it.
    pub(super) fn dismiss(&self, worker: Worker, code: &Arc<Code>) {
        let (hurry, hurried) = oneshot::channel::<()>();
        let (code, function) = (code.to_string(), Arc::clone(&self.plan.workers.function));
        let farewell = self.plan.workers.farewell;
        let done = tokio::spawn(async move {
            let limit = async {
                // somebody drops the other half, or the time is over
                let _ = timeout(farewell, hurried).await;
            };
            if let Err(fault) = worker.close(&code, limit).await {
                let report = fault.report().map(|report| format!("\n{}", report.trim_end())).unwrap_or_default();
                tracing::warn!(%function, "a worker that was replaced has not ended cleanly: {}{report}", fault.chain());
            }
        });
        self.see_off(Leaving { hurry, done });
    }

    fn see_off(&self, one: Leaving) {
        let mut leaving = self.leaving();
        if leaving.len() >= MOST_LEAVING {
            // the oldest has had most of the time
            drop(leaving.remove(0).hurry);
        }
        leaving.push(one);
    }

    /// Whether so many are on their way out that one more by plan would be too many.
    pub(super) fn is_crowded(&self) -> bool {
        self.leaving().len() >= MOST_LEAVING
    }

    fn leaving(&self) -> std::sync::MutexGuard<'_, Vec<Leaving>> {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|one| !one.done.is_finished());
        leaving
    }

    /// Waits until all that were let go have ended; after this time they have to.
    pub(super) async fn gone(&self, within: Duration) {
        let all = std::mem::take(&mut *self.leaving());
        let (hurries, ends): (Vec<_>, Vec<_>) = all.into_iter().map(|one| (one.hurry, one.done)).unzip();
        let mut ends = std::pin::pin!(join_all(ends));
        if timeout(within, &mut ends).await.is_err() {
            drop(hurries);
            ends.await;
        }
    }
}

impl Coming {
    fn of(start: impl Future<Output = Result<Worker, Fault>> + Send + 'static) -> Self {
        Self { task: tokio::spawn(start), since: Instant::now() }
    }

    /// The worker, or why there is none. Dropping the future loses nothing.
    pub(super) async fn there(&mut self) -> Result<Worker, Fault> {
        (&mut self.task).await.unwrap_or_else(|error| Err(Fault::internal("no worker").caused_by(error)))
    }

    /// Same, unless it takes longer than it may, counted from its start.
    pub(super) async fn soon(&mut self, patience: Duration) -> Option<Result<Worker, Fault>> {
        let until = self.since + patience;
        timeout_at(until.into(), self.there()).await.ok()
    }

    /// Ends it, and comes back when that has begun.
    pub(super) async fn give_up(mut self) {
        self.task.abort();
        // it was cancelled, or was there already and is dropped here
        let _ = (&mut self.task).await;
    }

    /// Whether it is not there after this time.
    pub(super) fn is_late(&self, patience: Duration) -> bool {
        !self.task.is_finished() && self.since.elapsed() > patience
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Waiting {
    /// The worker and whether it has loaded this version, where it is of use and there soon. Otherwise it is given up:
    /// whatever it hangs on must not keep a new one out.
    async fn of_use(mut self, code: &Arc<Code>) -> Option<(Worker, bool)> {
        if self.code.as_ref().is_some_and(|imported| !Arc::ptr_eq(imported, code)) {
            return None;
        }
        let there = self.coming.soon(code.patience()).await;
        if there.is_none() {
            let (function, waited) = (&code.brief.function, self.coming.since.elapsed().as_secs_f64());
            tracing::warn!(%function, "the worker that is kept ready is not ready after {waited:.1}s: another one is started");
        }
        Some((there?.ok()?, self.code.is_some()))
    }
}

impl Loading {
    fn new(pool: &Arc<Pool>, worker: Worker, code: &Arc<Code>) -> Self {
        Self::of(Arc::downgrade(pool), worker, code)
    }

    fn of(pool: Weak<Pool>, worker: Worker, code: &Arc<Code>) -> Self {
        Self { pool, worker: Some(worker), code: Arc::clone(code), begun: Instant::now() }
    }

    async fn finish(mut self, plan: &Plan) -> Result<Worker, Fault> {
        let gone = || Fault::internal("a worker that was loading has gone");
        let prepared = self.worker.as_mut().ok_or_else(gone)?.prepare(&plan.prepare(&self.code)).await;
        let worker = self.worker.take().ok_or_else(gone)?;
        prepared?;
        self.code.took(self.begun.elapsed());
        Ok(worker)
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        if let (Some(worker), Ok(handle)) = (self.worker.take(), Handle::try_current()) {
            let (code, begun) = (Arc::clone(&self.code), self.begun);
            // which takes no time that could be cut short
            let (hurry, _) = oneshot::channel();
            let done = handle.spawn(async move { worker.give_up(&code.to_string(), begun).await });
            if let Some(pool) = self.pool.upgrade() {
                pool.see_off(Leaving { hurry, done });
                pool.make_up(&self.code);
            }
        }
    }
}
