//! One place for a worker. Whatever happens to the worker, the place has another one soon.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime_core::Fault;
use runtime_core::contract::{Call, Env, Event, Outcome, Returned};
use runtime_core::isolation::{Recycle, Restarts};
use tokio::time::{sleep, sleep_until, timeout};

use super::super::protocol::HandedOver;
use super::given::{Given, often};
use super::pool::{Coming, Pool};
use super::worker::{Called, Worker};
use super::{Code, Plan};

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
    /// Batches that are not taken yet.
    given: VecDeque<Given>,
    /// The next one, which gets ready while nothing is called.
    coming: Option<Coming>,
    /// It is to replace a worker that goes on meanwhile.
    by_plan: bool,
    /// In a loop, when the next one is started.
    not_before: Option<Instant>,
    /// Ends without a success in between; kills at a limit do not count, as limits make them slow enough.
    ends: u32,
    /// A worker has ended, and with it the states that somebody else keeps: they have to be given anew.
    lost: bool,
    /// The first event of a batch of such a call that ended workers before any event was running, and how many.
    fruitless: Option<(String, u32)>,
    recycle_from: Instant,
    /// Why the worker is to be replaced as soon as it has no batch.
    due: Option<String>,
}

impl Slot {
    /// With its first worker.
    pub(super) async fn start(plan: &Arc<Plan>, pool: &Arc<Pool>, code: &Arc<Code>) -> Result<Self, Fault> {
        let mut worker = pool.take(code).await?;
        // known before the first event, too
        measure(plan, &mut worker);
        Ok(Self {
            plan: Arc::clone(plan),
            pool: Arc::clone(pool),
            code: Arc::clone(code),
            worker: Some(worker),
            given: VecDeque::new(),
            coming: None,
            by_plan: false,
            not_before: None,
            ends: 0,
            lost: false,
            fruitless: None,
            recycle_from: Instant::now(),
            due: None,
        })
    }

    /// One outcome for each event, whatever becomes of workers meanwhile. Nothing else is given.
    pub(super) async fn call(&mut self, events: &[Event], call: &Call) -> Vec<Outcome> {
        self.give(events.into(), call.clone());
        self.take().await
    }

    /// Gives a batch, to be taken later.
    pub(super) fn give(&mut self, events: Arc<[Event]>, call: Call) {
        self.given.push_back(Given::new(events, call));
        // one that has to be started first gets it when it is asked for
        if self.worker.is_some() {
            self.send();
        }
    }

    /// Sends what the worker has not got yet.
    fn send(&mut self) {
        let Some(worker) = &mut self.worker else { return };
        if self.due.is_some() {
            // its successor gets it
            return;
        }
        for given in self.given.iter_mut().filter(|given| given.batch.is_none() && !given.is_whole()) {
            if self.lost && given.builds_on_others() {
                given.hand_back();
                continue;
            }
            self.lost = false;
            match worker.give(&self.plan, &given.events[given.outcomes.len()..], &given.call) {
                Ok(batch) => given.batch = Some(batch),
                Err(error) => {
                    // no worker could be given it
                    let failed = || Returned::Failed(Fault::event(error.to_string())).into();
                    given.outcomes.resize_with(given.events.len(), failed);
                    // nor what came with it
                    self.lost = given.call.keep;
                }
            }
        }
    }

    /// Resolves when it is time to take the oldest batch. May be dropped at any time.
    pub(super) async fn answered(&mut self) {
        match (self.given.front(), &mut self.worker) {
            (Some(Given { batch: Some(batch), .. }), Some(worker)) => worker.answered(&self.plan, *batch).await,
            (Some(given), _) if given.is_whole() || self.lost && given.builds_on_others() => {}
            // there is something to do first, which must not be dropped
            (Some(_), Some(worker)) if worker.is_alive() => {}
            (Some(_), _) => self.ready().await,
            (None, _) => std::future::pending().await,
        }
    }

    /// The outcomes of the oldest batch.
    pub(super) async fn take(&mut self) -> Vec<Outcome> {
        let plan = Arc::clone(&self.plan);
        loop {
            let Some(first) = self.given.front_mut() else { return Vec::new() };
            if self.lost && first.batch.is_none() && first.builds_on_others() {
                first.hand_back();
            }
            if first.is_whole() {
                break;
            }
            let (left, keep) = (first.events.len() - first.outcomes.len(), first.call.keep);
            // one that has ended with a batch is not idle: that batch may be its end
            if first.batch.is_none() {
                self.recycle_if_due().await;
                self.ready().await;
                self.send();
            }
            let batch = self.given.front().and_then(|given| given.batch);
            let (Some(worker), Some(batch)) = (&mut self.worker, batch) else { continue };
            let called = worker.take(&plan, batch, left, keep).await;
            let Some(first) = self.given.front_mut() else { return Vec::new() };
            match called {
                Called::Whole(whole) => {
                    first.outcomes.extend(whole);
                    self.fruitless = None;
                    self.succeeded();
                }
                Called::Broken { done, culprit, fault, killed } => {
                    let how = fault.to_string();
                    let some_done = !done.is_empty();
                    if keep && !some_done {
                        let blamed = culprit.or_else(|| often(&mut self.fruitless, &first.events).then_some(0));
                        first.hand_back();
                        match blamed.and_then(|index| first.outcomes.get_mut(index)) {
                            Some(outcome) => {
                                self.fruitless = None;
                                outcome.returned = Returned::Failed(fault);
                            }
                            None => tracing::warn!(
                                function = %plan.workers.function,
                                "{}; its batch is called again", fault.chain()
                            ),
                        }
                        self.save_later_ones();
                        self.ended(killed, &how);
                        continue;
                    }
                    // one that ends twice before it has begun must be ended by the event all the same: its size, say
                    first.fruitless = if some_done || culprit.is_some() { 0 } else { first.fruitless + 1 };
                    let is_blamed = culprit.is_some() || first.fruitless > 1;
                    first.outcomes.extend(done);
                    if is_blamed && first.outcomes.len() < first.events.len() {
                        first.outcomes.push(Returned::Failed(fault).into());
                        first.fruitless = 0;
                    } else if first.outcomes.len() < first.events.len() {
                        tracing::warn!(function = %plan.workers.function, "{}; another one goes on", fault.chain());
                    }
                    self.save_later_ones();
                    self.ended(killed, &how);
                    if some_done {
                        self.succeeded();
                    }
                }
            }
        }
        let outcomes = self.given.pop_front().map(|given| given.outcomes).unwrap_or_default();
        self.after().await;
        outcomes
    }

    /// While a worker is about to be killed for one event, that may end after all, and the next batch begin.
    fn save_later_ones(&mut self) {
        let Some(worker) = &self.worker else { return };
        for given in self.given.iter_mut().skip(1) {
            let left = given.events.len() - given.outcomes.len();
            let keep = given.call.keep;
            given.outcomes.extend(given.batch.into_iter().flat_map(|batch| worker.finished(batch, left, keep)));
        }
    }

    /// The worker; a new one where there is none, however long that takes.
    async fn worker(&mut self) -> &mut Worker {
        while self.worker.is_none() {
            self.ready().await;
        }
        match &mut self.worker {
            Some(worker) => worker,
            None => unreachable!("the loop ends with a worker"),
        }
    }

    /// Waits until there is a worker. Where none can be started, batches go back to whoever keeps their states, as they
    /// hold up what came before them, and code that could be started. May be dropped at any time.
    async fn ready(&mut self) {
        loop {
            self.bury_idle();
            if self.worker.is_some() {
                return;
            }
            if let Some(at) = self.not_before {
                sleep_until(at.into()).await;
                self.not_before = None;
            }
            // one that was started beside a worker that has ended since, and hangs: the next may find things otherwise
            let patience = self.code.patience();
            if std::mem::take(&mut self.by_plan) && self.coming.as_ref().is_some_and(|coming| coming.is_late(patience))
            {
                self.coming = None;
            }
            let (pool, code) = (&self.pool, &self.code);
            let started = self.coming.get_or_insert_with(|| pool.fetch(code)).there().await;
            self.coming = None;
            match started {
                Ok(worker) => {
                    self.worker = Some(worker);
                    self.pool.refill(&self.code);
                }
                Err(fault) if self.is_a_commands() => {
                    self.given.iter_mut().for_each(|given| given.fail(&fault));
                    return;
                }
                Err(fault) => {
                    self.ends += 1;
                    if self.ends == LOOP {
                        tracing::error!(function = %self.plan.workers.function, "no worker can be started: {}", fault.chain());
                    }
                    self.code.brief.health.say(Some(&fault.to_string()));
                    self.rest();
                    if self.ends >= LOOP && self.given.iter().any(|given| given.call.keep) {
                        self.given.iter_mut().for_each(Given::hand_back);
                        return;
                    }
                }
            }
        }
    }

    /// Whether a batch waits that nobody wants to wait for.
    fn is_a_commands(&self) -> bool {
        self.plan.workers.restarts == Restarts::AtOnce && !self.given.is_empty()
    }

    /// In a loop the next one has to wait.
    fn rest(&mut self) {
        if self.ends >= LOOP && !self.is_a_commands() {
            let wait = (FIRST_WAIT * 2_u32.saturating_pow((self.ends - LOOP).min(16))).min(LONGEST_WAIT);
            self.not_before = Some(Instant::now() + wait);
        }
    }

    fn succeeded(&mut self) {
        if self.ends >= LOOP {
            tracing::info!(function = %self.plan.workers.function, "its worker works again");
        }
        if self.ends > 0 {
            self.ends = 0;
            self.not_before = None;
            self.code.brief.health.say(None);
        }
    }

    /// A worker is no more; `how` is for people.
    fn ended(&mut self, killed: Option<&'static str>, how: &str) {
        let entries = self.worker.take().map(|worker| worker.entries);
        let mut keep = false;
        for given in &mut self.given {
            keep |= given.call.keep;
            // the next worker knows nothing of what this one was given
            if given.batch.take().is_some() && given.builds_on_others() {
                given.hand_back();
            }
        }
        self.lost = true;
        match killed {
            Some(reason) => {
                metrics::counter!("gaugefn_worker_kills_total", "function" => self.plan.workers.function.to_string(), "reason" => reason)
                    .increment(1);
            }
            None => self.ends += 1,
        }
        self.rest();
        if self.ends >= LOOP {
            let trouble = format!("its worker ended {} times in a row, the last time so: {how}", self.ends);
            self.code.brief.health.say(Some(&trouble));
        }
        metrics::counter!("gaugefn_worker_restarts_total", "function" => self.plan.workers.function.to_string())
            .increment(1);
        if let Some(entries @ 1..) = entries.filter(|_| !keep) {
            tracing::warn!(
                function = %self.plan.workers.function,
                "{entries} entries of context.env went with the worker, as state in memory does; the next call begins \
                 with an empty one"
            );
        }
    }

    /// Between two batches: measures, and sees to a worker that has ended or is due.
    async fn after(&mut self) {
        let Some(worker) = &mut self.worker else {
            // the outcomes need not wait for the next one; in a loop there is no hurry
            let later = self.plan.workers.restarts == Restarts::Later;
            if later && self.ends < LOOP && self.coming.is_none() {
                self.coming = Some(self.pool.fetch(&self.code));
            }
            return;
        };
        measure(&self.plan, worker);
        // while many have not ended yet, it goes on
        if self.due.is_none() && self.recycle_from <= Instant::now() && !self.pool.is_crowded() {
            self.due = due(&self.plan.workers.recycle, worker);
        }
        self.recycle_if_due().await;
    }

    /// Replaces a worker that is due, unless it has a batch at the moment.
    async fn recycle_if_due(&mut self) {
        let is_busy = self.given.iter().any(|given| given.batch.is_some());
        let Some(reason) = self.due.take_if(|_| !is_busy) else { return };
        if self.worker.is_none() {
            return;
        }
        let function = Arc::clone(&self.plan.workers.function);
        match self.recycle().await {
            Ok(lost) => {
                tracing::info!(%function, "its worker was replaced: {reason}");
                if !lost.is_empty() {
                    tracing::warn!(%function, "replacing the worker lost {}", lost.join(", "));
                }
                metrics::counter!("gaugefn_worker_restarts_total", "function" => function.to_string()).increment(1);
            }
            Err(fault) => {
                self.recycle_from = Instant::now() + AGAIN;
                tracing::warn!(
                    %function,
                    "its worker goes on, though {reason}: another one cannot take its place: {}", fault.chain()
                );
            }
        }
    }

    async fn recycle(&mut self) -> Result<Vec<String>, Fault> {
        let patience = self.code.patience();
        // events wait for it as long as loading usually takes; what takes longer goes on beside them
        let (pool, code) = (&self.pool, &self.code);
        let Some(next) = self.coming.get_or_insert_with(|| pool.fetch(code)).soon(patience).await else {
            self.by_plan = true;
            return Err(Fault::function("it has not loaded the function yet"));
        };
        (self.coming, self.by_plan) = (None, false);
        let mut next = next?;
        let HandedOver { env, lost } = self.hand_over().await?;
        next.take_over(Some(env)).await?;
        if let Some(old) = self.worker.replace(next) {
            self.pool.dismiss(old, &self.code);
        }
        self.pool.refill(&self.code);
        Ok(lost)
    }

    /// Its state. That of a worker that has ended is gone, and another one would begin without.
    pub(super) async fn hand_over(&mut self) -> Result<HandedOver, Fault> {
        self.bury_idle();
        let Some(worker) = &mut self.worker else {
            self.lost = true;
            return Ok(HandedOver::default());
        };
        // large states take their time
        let patience = self.plan.workers.farewell * 3;
        if let Ok(handed) = timeout(patience, worker.hand_over()).await {
            return handed;
        }
        // it is as good as ended: a call would get no answer either
        let fault = worker.silent(patience).await;
        let report = fault.report().map(|report| format!("\n{}", report.trim_end())).unwrap_or_default();
        tracing::error!(function = %self.plan.workers.function, "{}{report}", fault.chain());
        self.ended(Some("timeout"), &fault.to_string());
        Ok(HandedOver::default())
    }

    /// A worker that ended while nothing ran is nobody's fault.
    fn bury_idle(&mut self) {
        if let Some(worker) = self.worker.as_ref().filter(|worker| !worker.is_alive()) {
            tracing::warn!(function = %self.plan.workers.function, "{worker:?} ended while idle");
            self.ended(None, "the worker ended while idle");
        }
    }

    /// Whether what it hands over lacks what somebody else keeps.
    pub(super) const fn has_lost(&self) -> bool {
        self.lost
    }

    /// Begins with what another slot has handed over, which may have lost its states.
    pub(super) async fn take_over(&mut self, env: Option<Env>, lost: bool) -> Result<(), Fault> {
        self.worker().await.take_over(env).await?;
        self.lost = lost;
        // whatever trouble there was, it was the older version's
        self.code.brief.health.say(None);
        Ok(())
    }

    /// Ends the worker.
    pub(super) async fn close(&mut self, within: Duration) -> Result<(), Fault> {
        if let Some(coming) = self.coming.take() {
            coming.give_up().await;
        }
        match self.worker.take() {
            Some(worker) => worker.close(&self.code.to_string(), sleep(within)).await,
            None => Ok(()),
        }
    }

    /// Same, without waiting for it.
    pub(super) fn dismiss(&mut self) {
        self.coming = None;
        if let Some(worker) = self.worker.take() {
            self.pool.dismiss(worker, &self.code);
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

/// Shows how much memory it has, unless that was just done.
fn measure(plan: &Plan, worker: &mut Worker) {
    if worker.sample() {
        let function = plan.workers.function.to_string();
        metrics::gauge!("gaugefn_worker_resident_bytes", "function" => function).set(worker.resident as f64);
    }
}
