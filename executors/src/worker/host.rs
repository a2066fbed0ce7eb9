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
//! * `pool` - what is kept ready, and what is on its way out
//! * `slot` - one place for a worker: replaced when it ends, recycled by plan
//! * `given` - a batch that a slot has
//! * `function` - the engine's view: one slot or several
//! * `ears` - what a worker prints, logs and measures

mod ears;
mod function;
mod given;
mod pool;
mod slot;
mod worker;

use std::fmt;
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use runtime_core::Fault;
use runtime_core::contract::{Brief, Executor, Function, Module};
use runtime_core::isolation::{Isolate, Workers};
use runtime_core::pointer::Pointer;

use super::protocol::Prepare;
use super::reap;
use function::Apart as ApartFunction;
use pool::Pool;
use slot::Slot;

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
        Ok(Box::new(Apart { pool: Arc::new(Pool::new(&plan)), plan }))
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

    fn prepare(&self, code: &Code) -> Prepare {
        Prepare::new(self.workers.executor, self.options.clone(), code.module.as_ref(), &code.brief)
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
        let code = Arc::new(Code { module, brief, took: OnceLock::new() });
        let mut slots = Vec::new();
        for _ in 0..self.plan.workers.count {
            let slot = Slot::start(&self.plan, &self.pool, &code).await;
            slots.push(slot.inspect_err(|_| self.pool.make_up(&code))?);
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
    /// How long it took to load the first time.
    took: OnceLock<Duration>,
}

impl Code {
    fn took(&self, time: Duration) {
        self.took.get_or_init(|| time);
    }

    /// How long a worker that nobody needs yet may take to load it, before it counts as stuck.
    fn patience(&self) -> Duration {
        const LEAST: Duration = Duration::from_secs(5);
        LEAST + 4 * self.took.get().copied().unwrap_or_default()
    }
}

/// As it is called in the log.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module {
            Some(module) => write!(f, "version {}", module.revision),
            None => f.write_str("the function"),
        }
    }
}
