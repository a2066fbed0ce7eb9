//! A Redis stream, read through a consumer group: every entry counts.
//!
//! Delivery: at least once. An entry is acknowledged after its result is stored; until then it stays pending under this
//! consumer's name. After a restart, or a connection that broke, the consumer's own pending entries come first.
//! Entries of a consumer that is gone are taken over once nobody has touched them for `claim_idle`; those in flight
//! here are touched three times as often, however long a call takes. Several processes share the work: same stream,
//! same group, each with a consumer name of its own, by default its host's (in Kubernetes the pod's).
//!
//! While the server is away the engine tries again. Stream and group are made where they are missing, also later: after
//! a server came back empty, a new group begins where this process stood. Needs Redis 6.2 or later; the lag is known
//! from 7.0 on.
//!
//! ```toml
//! [functions.vm.source]
//! use = "redis_stream"
//! stream = "metrics"
//! field = "data"
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::shared::{self, fault};
use async_trait::async_trait;
use redis_link::group::{Entry as StreamEntry, Joined, Pending, is_gone};
use redis_link::{Blocking, Link, LinkError, Member};
use runtime_core::config::Concern;
use runtime_core::contract::{Batch, Delivery, Domain, Event, Facts, Pull, Receipt, Source};
use runtime_core::options::Span;
use runtime_core::{Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use held::Held;
use keeper::Keeper;
use payload::payload;
use receipt::Acknowledge;

mod held;
mod keeper;
mod payload;
mod receipt;

/// One commit acknowledges a whole batch, and a script takes no more ids than this.
const LARGEST_BATCH: usize = 1000;

/// The longest wait for new entries in one go: a server that hangs is noticed two seconds later, and a group that was
/// deleted by an old server, which does not say so, at the end of the wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Looking for abandoned entries costs the server little, but every consumer of the group does it.
const CLAIM_AT_LEAST: Duration = Duration::from_secs(10);

/// More than any consumer of the group waits before it claims.
const CLAIMABLE: Duration = Duration::from_secs(86_400);

/// Options of the source `redis_stream`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The key of the stream.
    stream: String,
    /// The consumer group; the function's name without it. Every group gets every entry.
    #[serde(default)]
    group: Option<String>,
    /// This process's name in the group, the host's name without it. Two processes must not have the same: the one
    /// that started first ends.
    #[serde(default)]
    consumer: Option<String>,
    /// The field of an entry that holds the event. Without it the event is an object of all fields, with texts as values.
    #[serde(default)]
    field: Option<String>,
    /// Where a group that does not exist yet begins. `0`: with the first entry that is there. `$`: with the next one.
    #[serde(default)]
    start: Start,
    /// The most entries of one read, 1 to 1000. The engine takes at most 100 at once.
    #[serde(default = "default_batch")]
    batch: usize,
    /// How long an entry of another consumer must lie untouched before it is taken over, at least 100ms.
    #[serde(default = "default_claim_idle")]
    claim_idle: Span,
    /// Another server than that of `[redis]`.
    #[schemars(extend("x-secret" = true))]
    #[serde(default)]
    url: Option<String>,
}

const fn default_batch() -> usize {
    100
}

const fn default_claim_idle() -> Span {
    Span::seconds(30)
}

/// Where a new group begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
enum Start {
    /// With the first entry.
    #[default]
    #[serde(rename = "0")]
    First,
    /// With the next entry.
    #[serde(rename = "$")]
    Next,
}

/// A read that waits in the server.
type Reading = Pin<Box<dyn Future<Output = Result<Vec<StreamEntry>, LinkError>> + Send>>;

/// The source `redis_stream`.
pub struct RedisStream {
    function: String,
    field: Option<String>,
    start: Start,
    batch: usize,
    claim_idle: Duration,
    member: Member,
    /// For everything that does not wait in the server; shared with receipts and the keeper.
    link: Link,
    /// For reads that wait; gone after an error.
    reader: Option<Blocking>,
    /// Kept here, not in `next_batch`: dropping it would not take it back, and what it brings would be unknown.
    reading: Option<Reading>,
    /// From where on own pending entries are still to be looked at; None when there are none that nobody works on.
    own: Option<String>,
    /// Whether own pending entries are a predecessor's: they were delivered to it, and count as delivered again.
    inherits: bool,
    /// Entries taken over from others, not given out yet: delivered again as well.
    claimed: BTreeSet<String>,
    /// Where the search for abandoned entries goes on, and when.
    cursor: String,
    claim_at: Instant,
    /// The newest entry that was read, or that there was when the group was made: where a new group would begin.
    last: Option<(u64, u64)>,
    held: Arc<Held>,
    keeper: Option<Keeper>,
    /// The group was gone at the last read; a second time in a row is a fault.
    gone: bool,
    /// An entry without the configured field is told once.
    told: bool,
}

impl Kind for RedisStream {
    type Role = dyn Source;
    type Config = Config;
    const NAME: &'static str = "redis_stream";
    const SUMMARY: &'static str = "a Redis stream through a consumer group; every entry counts, processes share them";

    fn review(config: &Config) -> Vec<Concern> {
        let mut concerns = Vec::new();
        if config.stream.is_empty() {
            concerns.push(Concern::new("stream", "empty; name the key of the stream"));
        }
        for (name, value) in [("group", &config.group), ("consumer", &config.consumer), ("field", &config.field)] {
            if value.as_deref() == Some("") {
                concerns.push(Concern::new(name, "empty; give a name or leave the option out"));
            }
        }
        if !(1..=LARGEST_BATCH).contains(&config.batch) {
            concerns.push(Concern::new("batch", format!("{} is not from 1 to {LARGEST_BATCH}", config.batch)));
        }
        if config.claim_idle.0 < Duration::from_millis(100) {
            let message = format!("'{}' is too short; the least is 100ms", config.claim_idle);
            concerns.push(Concern::new("claim_idle", message));
        }
        concerns.extend(shared::concerns_of(config.url.as_deref()));
        concerns
    }

    async fn build(config: Config, site: &Site<'_>) -> Result<Box<dyn Source>, Fault> {
        let target = shared::target(site, config.url.as_deref())?;
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let consumer = config.consumer.unwrap_or_else(host);
        let group = config.group.as_deref().unwrap_or(site.function);
        Ok(Box::new(Self {
            function: site.function.to_owned(),
            member: Member::new(&config.stream, group, &consumer),
            field: config.field,
            start: config.start,
            batch: config.batch,
            claim_idle: config.claim_idle.0,
            link: Link::new(target),
            reader: None,
            reading: None,
            own: None,
            inherits: true,
            claimed: BTreeSet::new(),
            cursor: "0-0".to_owned(),
            claim_at: Instant::now(),
            last: None,
            held: Arc::default(),
            keeper: None,
            gone: false,
            told: false,
        }))
    }
}

inventory::submit!(Entry::of::<RedisStream>());

#[async_trait]
impl Source for RedisStream {
    fn delivery(&self) -> Delivery {
        Delivery::Queue
    }

    /// Looks at the stream: connecting alone would not show that this user may not, or that the key holds no stream.
    /// Joining the group would take the consumer's name from a process that is at work.
    async fn check(&mut self) -> Result<(), Fault> {
        self.member.last_id(&self.link).await.map(drop).map_err(|error| fault(&error))
    }

    async fn next_batch(&mut self, max: usize) -> Result<Pull, Fault> {
        if self.held.is_replaced() {
            return Err(self.replaced());
        }
        if self.reader.is_none() {
            self.connect().await?;
            // the engine takes back its complaint about the last connection before this one waits
            return Ok(Pull::Again(Duration::ZERO));
        }
        match self.pull(max.min(self.batch)).await {
            Ok(batch) => {
                self.gone = false;
                Ok(batch.map_or(Pull::Again(Duration::ZERO), Pull::Batch))
            }
            Err(error) => {
                self.reader = None;
                self.reading = None;
                if is_gone(&error) && !std::mem::replace(&mut self.gone, true) {
                    return Ok(Pull::Again(Duration::ZERO));
                }
                Err(fault(&error))
            }
        }
    }

    fn domain(&self) -> Option<Domain> {
        Some(Domain::new(self.link.target().endpoint()))
    }

    fn facts(&self) -> Facts {
        let target = self.link.target();
        Facts {
            host: Some(target.host().to_owned()),
            port: Some(target.port()),
            input_key: Some(self.member.stream.to_string()),
            output_key: None,
        }
    }

    /// What is left goes to the other consumers at once, instead of after `claim_idle`.
    async fn close(&mut self) -> Result<(), Fault> {
        // never joined: there is nothing to leave, and the server may be away
        if self.keeper.take().is_none() {
            return Ok(());
        }
        let mut untouched = Vec::new();
        if let (Some(reader), Some(reading)) = (self.reader.take(), self.reading.take()) {
            reader.unblock(&self.link).await;
            // where the user may not unblock, the end of the connection does
            if let Ok(Ok(entries)) = tokio::time::timeout(Duration::from_secs(1), reading).await {
                untouched.extend(entries.into_iter().map(|entry| entry.id));
            }
        }
        match self.member.leave(&self.link, self.claim_idle + CLAIMABLE, &untouched).await {
            Err(error) if !is_gone(&error) => Err(fault(&error)),
            _ => Ok(()),
        }
    }
}

impl RedisStream {
    /// Makes what is missing on the server and registers this incarnation; the first time over any other.
    async fn join(&mut self) -> Result<(), Fault> {
        let first = self.keeper.is_none();
        let from = match (first, self.start) {
            (true, Start::First) => "0".to_owned(),
            (true, Start::Next) => "$".to_owned(),
            (false, _) => self.resumption().await.map_err(|error| fault(&error))?,
        };
        let joined = self.member.join(&self.link, &from, first).await.map_err(|error| fault(&error))?;
        let Joined::Ours { made } = joined else {
            return Err(self.replaced());
        };
        let Member { stream, group, consumer, .. } = &self.member;
        if first {
            if made && self.start == Start::Next {
                self.last = self.member.last_id(&self.link).await.ok().flatten().and_then(|id| number(&id));
            }
            tracing::debug!(function = %self.function, %stream, %group, %consumer, made, "joined the consumer group");
            let held = Arc::clone(&self.held);
            self.keeper =
                Some(Keeper::start(&self.function, self.member.clone(), self.link.clone(), held, self.claim_idle));
        } else if made {
            tracing::warn!(function = %self.function, "group '{group}' of stream '{stream}' was gone; a new one begins after {from}");
        }
        Ok(())
    }

    /// Where a group begins that takes the place of one that is gone: after the newest entry that was read. A stream
    /// that has not come that far yet is a new one, and counts from its first entry.
    async fn resumption(&mut self) -> Result<String, LinkError> {
        let newest = self.member.last_id(&self.link).await?.and_then(|id| number(&id));
        Ok(match (self.last, newest) {
            (Some(last), Some(newest)) if newest >= last => format!("{}-{}", last.0, last.1),
            _ => "0".to_owned(),
        })
    }

    async fn connect(&mut self) -> Result<(), Fault> {
        self.join().await?;
        self.reader = Some(Blocking::open(self.link.target()).await.map_err(|error| fault(&error))?);
        // an answer that was lost with the last connection left its entries pending
        self.own = Some("-".to_owned());
        Ok(())
    }

    /// Own pending entries, then abandoned ones, then new ones; None where there are none for a while.
    async fn pull(&mut self, count: usize) -> Result<Option<Batch>, LinkError> {
        loop {
            while self.own.is_some() {
                if let Some(batch) = self.pull_own(count).await? {
                    return Ok(Some(batch));
                }
            }
            if self.reading.is_some() || Instant::now() < self.claim_at || !self.claim(count).await? {
                break;
            }
        }
        let Some(reader) = &self.reader else {
            return Ok(None);
        };
        let wait = self.claim_at.saturating_duration_since(Instant::now()).min(LONGEST_WAIT);
        let reading = self.reading.get_or_insert_with(|| Box::pin(self.member.read(reader, count, wait)));
        let read = reading.as_mut().await;
        self.reading = None;
        let entries = read?;
        if let Some(newest) = entries.last().and_then(|entry| number(&entry.id)) {
            self.last = Some(newest);
        }
        self.batch(entries, &BTreeMap::new()).await
    }

    /// The next of this consumer's pending entries that nobody here works on.
    async fn pull_own(&mut self, count: usize) -> Result<Option<Batch>, LinkError> {
        let Some(start) = self.own.clone() else {
            return Ok(None);
        };
        let held = self.held.ids();
        let most = count + held.len();
        let page = self.member.own(&self.link, &start, most).await?;
        let complete = page.len() < most;
        let last = page.last().map(|pending| format!("({}", pending.id));
        let mut left: Vec<Pending> = page.into_iter().filter(|pending| !held.contains(&pending.id)).collect();
        let cut = left.len() > count;
        left.truncate(count);
        let next = if cut { left.last().map(|pending| format!("({}", pending.id)) } else { last };
        let mut found = Vec::new();
        if !left.is_empty() {
            let raised = |pending: &Pending| self.inherits || self.claimed.contains(&pending.id);
            found = self.member.again(&self.link, &left, raised).await?;
        }
        let attempts = left
            .iter()
            .map(|pending| {
                let raise = self.inherits || self.claimed.contains(&pending.id);
                (pending.id.clone(), pending.deliveries + u64::from(raise))
            })
            .collect();
        self.own = next.filter(|_| cut || !complete);
        if self.own.is_none() {
            self.inherits = false;
            self.claimed.clear();
        }
        self.batch(found, &attempts).await
    }

    /// Takes over abandoned entries; whether there were any, which are this consumer's own then.
    async fn claim(&mut self, count: usize) -> Result<bool, LinkError> {
        let (cursor, ids, deleted) = self.member.claim(&self.link, self.claim_idle, &self.cursor, count).await?;
        self.cursor = cursor;
        if self.cursor == "0-0" {
            self.claim_at = Instant::now() + (self.claim_idle / 2).min(CLAIM_AT_LEAST);
        }
        self.trimmed(deleted);
        // its own, where a call took so long that the heartbeat was late
        let held = self.held.ids();
        let before = self.claimed.len();
        self.claimed.extend(ids.into_iter().filter(|id| !held.contains(id)));
        let claimed = self.claimed.len() - before;
        if claimed > 0 {
            metrics::counter!("gaugefn_stream_claimed_total", "function" => self.function.clone())
                .increment(claimed as u64);
            self.own = Some("-".to_owned());
        }
        Ok(claimed > 0)
    }

    /// Entries as events, `attempts` being how often those were delivered that are not new. Entries that were deleted
    /// while they were pending have nothing left to deliver: they are acknowledged.
    async fn batch(
        &mut self,
        entries: Vec<StreamEntry>,
        attempts: &BTreeMap<String, u64>,
    ) -> Result<Option<Batch>, LinkError> {
        let (entries, deleted): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.fields.is_some());
        if !deleted.is_empty() {
            let ids: Vec<String> = deleted.into_iter().map(|entry| entry.id).collect();
            self.member.acknowledge(&self.link, &ids).await?;
            self.trimmed(ids.len());
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let mut events = Vec::with_capacity(entries.len());
        for StreamEntry { id, fields } in entries {
            let payload = payload(&fields.unwrap_or_default(), self.field.as_deref());
            if payload.is_none() && !std::mem::replace(&mut self.told, true) {
                let (stream, field) = (&self.member.stream, self.field.as_deref().unwrap_or_default());
                tracing::warn!(function = %self.function, "entry {id} of stream '{stream}' has no field '{field}': its event is empty, and fails; check the option 'field'");
            }
            let attempt = attempts.get(&id).map_or(1, |count| u32::try_from(*count).unwrap_or(u32::MAX).max(1));
            events.push(Event { attempt, ..Event::new(id, payload.unwrap_or_default()) });
        }
        let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
        self.held.add(&ids);
        let receipt = Acknowledge::new(self.member.clone(), self.link.clone(), Arc::clone(&self.held), ids);
        Ok(Some(Batch { events, receipt: Receipt::new(receipt), skipped: 0 }))
    }

    fn trimmed(&self, count: usize) {
        if count > 0 {
            metrics::counter!("gaugefn_stream_trimmed_total", "function" => self.function.clone())
                .increment(count as u64);
            let stream = &self.member.stream;
            tracing::warn!(function = %self.function, "{count} entries of stream '{stream}' were deleted before they were done; let the stream keep more of them");
        }
    }

    /// Trying again could only take the name back, and then the other process would be the one that ends.
    fn replaced(&self) -> Fault {
        let Member { group, consumer, .. } = &self.member;
        Fault::backend(format!(
            "consumer '{consumer}' of group '{group}' was taken over by another process: give each process an option \
             'consumer' of its own"
        ))
        .permanent()
    }
}

/// An id as it sorts.
fn number(id: &str) -> Option<(u64, u64)> {
    let (millis, count) = id.split_once('-')?;
    Some((millis.parse().ok()?, count.parse().ok()?))
}
