//! One place for a worker. Whatever happens to the worker, the place has another one soon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime_core::Fault;
use runtime_core::contract::{Call, Env, Event, Outcome, Returned};
use runtime_core::isolation::Recycle;
use tokio::task::JoinHandle;

use super::super::protocol::HandedOver;
use super::worker::{Called, Worker};
use super::{Code, Plan, Pool};

/// Workers that ended one after the other, before it counts as a loop.
const LOOP: u32 = 3;

/// The first wait in a loop.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A planned replacement that failed is tried again after this time.
const AGAIN: Duration = Duration::from_secs(30);

pub(super) struct Slot {
    plan: Arc<Plan>,
    pool: Arc<Pool>,
    code: Arc<Code>,
    worker: Option<Worker>,
    /// The next one, which gets ready while nothing is called.
    coming: Option<JoinHandle<Result<Worker, Fault>>>,
    /// Ends without a success in between; kills at a limit do not count, as limits make them slow enough.
    ends: u32,
    recycle_from: Instant,
    kept: Kept,
}

/// What is said of a state that went with its worker.
#[derive(Default)]
struct Kept {
    told: bool,
}

impl Slot {
    /// With its first worker.
    pub(super) async fn start(plan: &Arc<Plan>, pool: &Arc<Pool>, code: &Arc<Code>) -> Result<Self, Fault> {
        let worker = pool.take(code).await?;
        Ok(Self {
            plan: Arc::clone(plan),
            pool: Arc::clone(pool),
            code: Arc::clone(code),
            worker: Some(worker),
            coming: None,
            ends: 0,
            recycle_from: Instant::now(),
            kept: Kept::default(),
        })
    }

    fn function(&self) -> String {
        self.plan.workers.function.to_string()
    }

    /// One outcome for each event, whatever becomes of workers meanwhile.
    pub(super) async fn call(&mut self, events: &[Event], call: &Call) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(events.len());
        let mut fruitless = 0;
        while outcomes.len() < events.len() {
            let plan = Arc::clone(&self.plan);
            let called = self.worker().await.call(&plan, &events[outcomes.len()..], call).await;
            let (done, culprit, fault, killed) = match called {
                Called::Whole(whole) => {
                    outcomes.extend(whole);
                    self.succeeded();
                    break;
                }
                Called::Broken { done, culprit, fault, killed } => (done, culprit, fault, killed),
            };
            self.ended(killed);
            if !done.is_empty() {
                self.succeeded();
            }
            // one that ends twice before it has begun must be ended by the event all the same: its size, say
            fruitless = if done.is_empty() && !culprit { fruitless + 1 } else { 0 };
            outcomes.extend(done);
            if culprit || fruitless > 1 {
                outcomes.push(Returned::Failed(fault).into());
                fruitless = 0;
            } else if outcomes.len() < events.len() {
                tracing::warn!(function = %self.plan.workers.function, "{}; another one goes on", fault.chain());
            }
        }
        self.after().await;
        outcomes
    }

    /// The worker; a new one where there is none, however long that takes.
    async fn worker(&mut self) -> &mut Worker {
        loop {
            // one that ended while nothing ran is nobody's fault
            if let Some(worker) = self.worker.take_if(|worker| !worker.is_alive()) {
                tracing::warn!(function = %self.plan.workers.function, "{worker:?} ended while idle");
                drop(worker);
                self.ended(None);
            }
            if self.worker.is_some() {
                break;
            }
            if self.ends >= LOOP {
                let wait = (FIRST_WAIT * 2_u32.saturating_pow((self.ends - LOOP).min(16))).min(LONGEST_WAIT);
                let trouble = format!("its worker ended {} times in a row", self.ends);
                self.code.brief.health.say(Some(&trouble));
                tokio::time::sleep(wait).await;
            }
            let coming = match self.coming.take() {
                Some(coming) => coming.await.unwrap_or_else(|error| Err(Fault::internal("no worker").caused_by(error))),
                None => self.pool.take(&self.code).await,
            };
            match coming {
                Ok(worker) => {
                    self.worker = Some(worker);
                    self.pool.refill(&self.code);
                }
                Err(fault) => {
                    self.ends += 1;
                    if self.ends == LOOP {
                        tracing::error!(function = %self.plan.workers.function, "no worker can be started: {}", fault.chain());
                    }
                    self.code.brief.health.say(Some(&fault.to_string()));
                }
            }
        }
        match &mut self.worker {
            Some(worker) => worker,
            None => unreachable!("the loop ends with a worker"),
        }
    }

    fn succeeded(&mut self) {
        if self.ends >= LOOP {
            tracing::info!(function = %self.plan.workers.function, "its worker works again");
        }
        if self.ends > 0 {
            self.ends = 0;
            self.code.brief.health.say(None);
        }
    }

    /// A worker is no more.
    fn ended(&mut self, killed: Option<&'static str>) {
        self.worker = None;
        match killed {
            Some(reason) => {
                metrics::counter!("gaugefn_worker_kills_total", "function" => self.function(), "reason" => reason)
                    .increment(1);
            }
            None => self.ends += 1,
        }
        metrics::counter!("gaugefn_worker_restarts_total", "function" => self.function()).increment(1);
        if !std::mem::replace(&mut self.kept.told, true) {
            tracing::warn!(
                function = %self.plan.workers.function,
                "context.env went with the worker, as state in memory does; the next calls begin with an empty one"
            );
        }
    }

    /// Between two batches: measures, and replaces a worker that has ended or is due.
    async fn after(&mut self) {
        let Some(worker) = &mut self.worker else {
            // the outcomes need not wait for the next one; in a loop there is no hurry
            if self.ends < LOOP && self.coming.is_none() {
                let (pool, code) = (Arc::clone(&self.pool), Arc::clone(&self.code));
                self.coming = Some(tokio::spawn(async move { pool.take(&code).await }));
            }
            return;
        };
        let recycle = self.plan.workers.recycle;
        worker.sample();
        metrics::gauge!("gaugefn_worker_resident_bytes", "function" => self.plan.workers.function.to_string())
            .set(worker.resident as f64);
        let Some(reason) = due(&recycle, worker).filter(|_| self.recycle_from <= Instant::now()) else { return };
        match self.recycle().await {
            Ok(lost) => {
                let function = &self.plan.workers.function;
                tracing::info!(%function, "its worker was replaced: {reason}");
                if !lost.is_empty() {
                    tracing::warn!(%function, "replacing the worker lost {}", lost.join(", "));
                }
                metrics::counter!("gaugefn_worker_restarts_total", "function" => self.function()).increment(1);
            }
            Err(fault) => {
                self.recycle_from = Instant::now() + AGAIN;
                tracing::warn!(
                    function = %self.plan.workers.function,
                    "its worker goes on, though {reason}: another one cannot take its place: {}", fault.chain()
                );
            }
        }
    }

    async fn recycle(&mut self) -> Result<Vec<String>, Fault> {
        let mut next = self.pool.take(&self.code).await?;
        let HandedOver { env, lost } = self.hand_over().await?;
        next.take_over(Some(env)).await?;
        if let Some(old) = self.worker.replace(next) {
            tokio::spawn(old.close());
        }
        self.pool.refill(&self.code);
        Ok(lost)
    }

    pub(super) async fn hand_over(&mut self) -> Result<HandedOver, Fault> {
        self.worker().await.hand_over().await
    }

    pub(super) async fn take_over(&mut self, env: Option<Env>) -> Result<(), Fault> {
        self.worker().await.take_over(env).await
    }

    /// Ends the worker.
    pub(super) async fn close(&mut self) -> Result<(), Fault> {
        if let Some(coming) = self.coming.take() {
            coming.abort();
        }
        match self.worker.take() {
            Some(worker) => worker.close().await,
            None => Ok(()),
        }
    }
}

/// Why a worker is to be replaced.
fn due(recycle: &Recycle, worker: &Worker) -> Option<String> {
    if recycle.events.is_some_and(|most| worker.events >= most) {
        return Some(format!("it was called with {} events", worker.events));
    }
    if recycle.resident.is_some_and(|most| worker.resident >= most) {
        return Some(format!("it holds {} MiB", worker.resident >> 20));
    }
    let age = worker.started.elapsed();
    recycle.age.is_some_and(|most| age >= most).then(|| format!("it is {} s old", age.as_secs()))
}
