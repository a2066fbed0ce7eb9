//! The parent's side: an executor whose functions live in worker processes.
//!
//! ```text
//!   Processes ── executor ──> Apart ── prepare ──> Function { slots } ── invoke ──> outcomes
//!                               │                      │
//!                             Pool: a process         slot: one worker after the other
//!                             kept ready
//! ```
//!
//! * `worker` - one process: started, asked, killed
//! * `slot` - one place for a worker: replaced when it ends, recycled by plan
//! * `given` - a batch that a slot has
//! * `function` - the engine's view: one slot or several
//! * `ears` - what a worker prints, logs and measures

mod ears;
mod function;
mod given;
mod slot;
mod worker;

use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runtime_core::Fault;
use runtime_core::config::settings::Standby;
use runtime_core::contract::{Brief, Executor, Function, Module};
use runtime_core::isolation::{Isolate, Workers};
use runtime_core::pointer::Pointer;
use tokio::task::JoinHandle;

use super::protocol::Prepare;
use super::reap;
use function::Apart as ApartFunction;
use slot::Slot;
use worker::Worker;

/// How often the statuses of processes are taken that nobody waits for.
const SWEEP: Duration = Duration::from_millis(500);

/// Makes executors whose functions live in worker processes of this binary.
#[derive(Debug, Default)]
pub struct Processes(());

impl Processes {
    /// For this process, whose `main` runs [`guest::run`](super::guest::run) for the command `worker`.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl Isolate for Processes {
    fn executor(&self, workers: Workers) -> Result<Box<dyn Executor>, Fault> {
        static ADOPTED: Once = Once::new();
        ADOPTED.call_once(|| {
            if let Err(error) = reap::adopt_orphans() {
                tracing::warn!("processes that escape a worker cannot be found: {error}");
            }
            tokio::spawn(async {
                loop {
                    tokio::time::sleep(SWEEP).await;
                    // a look at a few files of /proc, if there is any child at all
                    let _ = tokio::task::spawn_blocking(reap::sweep).await;
                }
            });
        });
        let plan = Arc::new(Plan::of(workers));
        Ok(Box::new(Apart { pool: Arc::new(Pool { plan: Arc::clone(&plan), ready: Mutex::default() }), plan }))
    }
}

/// What all workers of one function have in common.
#[derive(Debug)]
struct Plan {
    workers: Workers,
    /// The executor's options, as frames carry them.
    options: serde_json::Value,
}

impl Plan {
    fn of(workers: Workers) -> Self {
        let options = workers.section.to_wire();
        Self { workers, options }
    }

    fn prepare(&self, module: Option<&Module>, brief: &Brief) -> Prepare {
        Prepare::new(self.workers.executor, self.options.clone(), module, brief)
    }
}

/// The executor.
struct Apart {
    plan: Arc<Plan>,
    pool: Arc<Pool>,
}

#[async_trait]
impl Executor for Apart {
    async fn prepare(&self, module: Option<Module>, brief: Brief) -> Result<Box<dyn Function>, Fault> {
        let code = Arc::new(Code { module, brief });
        let mut slots = Vec::new();
        for _ in 0..self.plan.workers.count {
            let slot = Slot::start(&self.plan, &self.pool, &code).await.inspect_err(|_| {
                // what was kept ready went into the attempt, and an older version may need it any time
                if self.plan.workers.standby == Standby::Interpreter {
                    self.pool.refill(&code);
                }
            });
            slots.push(slot?);
        }
        self.pool.refill(&code);
        Ok(Box::new(ApartFunction::new(
            slots,
            Arc::clone(&self.pool),
            code.brief.state_key.as_deref().map(Pointer::new),
        )))
    }
}

/// One version of the function, as workers are told of it. The unpacked module goes with its last user.
#[derive(Debug)]
struct Code {
    module: Option<Module>,
    brief: Brief,
}

/// A process that is kept ready, shared by all slots and all versions of one function.
struct Pool {
    plan: Arc<Plan>,
    ready: Mutex<Option<Waiting>>,
}

/// One that is being started, or waits.
struct Waiting {
    worker: JoinHandle<Result<Worker, Fault>>,
    /// The version that it has imported, if it has.
    code: Option<Arc<Code>>,
}

impl Pool {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Waiting>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker that runs this version: the one that is kept ready, else a new one.
    async fn take(&self, code: &Arc<Code>) -> Result<Worker, Fault> {
        let waiting = self.lock().take();
        let (ready, imported) = match waiting {
            Some(Waiting { worker, code: imported }) => (worker.await.ok().and_then(Result::ok), imported),
            None => (None, None),
        };
        let usable = ready.filter(|_| imported.as_ref().is_none_or(|imported| Arc::ptr_eq(imported, code)));
        let (mut worker, prepared) = match usable.filter(Worker::is_alive) {
            Some(worker) => (worker, imported.is_some()),
            None => (Worker::start(&self.plan, &code.brief).await?, false),
        };
        if !prepared {
            worker.prepare(&self.plan.prepare(code.module.as_ref(), &code.brief)).await?;
        }
        Ok(worker)
    }

    /// Starts what is to be kept ready, where nothing is.
    fn refill(&self, code: &Arc<Code>) {
        let standby = self.plan.workers.standby;
        let mut ready = self.lock();
        if ready.is_some() || standby == Standby::None {
            return;
        }
        let (plan, code) = (Arc::clone(&self.plan), Arc::clone(code));
        let imported = (standby == Standby::Imported).then(|| Arc::clone(&code));
        let worker = tokio::spawn(async move {
            let mut worker = Worker::start(&plan, &code.brief).await?;
            let wanted = plan.prepare(code.module.as_ref(), &code.brief);
            match plan.workers.standby {
                Standby::Imported => worker.prepare(&wanted).await?,
                _ => worker.warm(&wanted).await?,
            }
            Ok(worker)
        });
        *ready = Some(Waiting { worker, code: imported });
    }

    /// Lets go what is kept ready, which ends it.
    fn empty(&self) {
        if let Some(waiting) = self.lock().take() {
            waiting.worker.abort();
        }
    }
}
