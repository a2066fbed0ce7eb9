//! A Redis stream, read through a consumer group: every entry counts.
//!
//! Delivery: at least once. An entry is acknowledged after its result is stored; until then it stays pending under this
//! consumer's name. After a restart, or a connection that broke, the consumer's own pending entries come first.
//! Entries of a consumer that is gone are taken over once nobody has touched them for `claim_idle`; those in flight
//! here are touched three times as often, however long a call takes. Several processes share the work: same stream,
//! same group, each with a consumer name of its own, by default its host's (in Kubernetes the pod's).
//!
//! An entry that was delivered five times and never done may be what ends the processes that handle it: it is given
//! alone, while nothing else of this source is in flight, so that it takes no others with it.
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

use std::any::Any;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::redis_transaction::RedisTransaction;
use crate::shared::{self, fault};
use async_trait::async_trait;
use redis_link::commit::Write;
use redis_link::group::{Entry as StreamEntry, Joined, is_gone};
use redis_link::{Blocking, Link, LinkError, Member};
use runtime_core::config::Concern;
use runtime_core::contract::{Delivery, Domain, Facts, Payload, Pull, Source, Transaction};
use runtime_core::options::Span;
use runtime_core::{Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use held::Held;
use keeper::Keeper;

mod giving;
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
    transaction: Arc<RedisTransaction>,
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
    /// An entry that was given alone: nothing else is, as long as it is held.
    alone: Option<String>,
    /// This process has had the consumer's name before, and does not take it from another one.
    joined: bool,
    /// As long as this process reads.
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
    const KEEPS_EVENTS: bool = true;

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
        let consumer = config.consumer.unwrap_or_else(shared::host);
        let link = Link::new(target);
        let group = config.group.as_deref().unwrap_or(site.function);
        Ok(Box::new(Self {
            function: site.function.to_owned(),
            member: Member::new(&config.stream, group, &consumer),
            field: config.field,
            start: config.start,
            batch: config.batch,
            claim_idle: config.claim_idle.0,
            transaction: RedisTransaction::new(link.clone()),
            link,
            reader: None,
            reading: None,
            own: None,
            inherits: true,
            claimed: BTreeSet::new(),
            cursor: "0-0".to_owned(),
            claim_at: Instant::now(),
            last: None,
            held: Arc::default(),
            alone: None,
            joined: false,
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
            Ok(pull) => {
                self.gone = false;
                Ok(pull)
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

    fn transaction(&self) -> Option<Arc<dyn Transaction>> {
        let transaction = Arc::clone(&self.transaction);
        Some(transaction)
    }

    fn keys(&self) -> Vec<String> {
        vec![self.member.stream.to_string(), self.member.register()]
    }

    /// A `Vec<redis_link::commit::Write>` for each.
    fn feed(&self, payloads: &[Payload]) -> Result<Option<Vec<Box<dyn Any + Send>>>, Fault> {
        let part = |payload: &Payload| -> Result<Box<dyn Any + Send>, Fault> {
            let fields = payload::fields(payload, self.field.as_deref()).map_err(|why| {
                let stream = &self.member.stream;
                Fault::event(format!("the event cannot become an entry of stream '{stream}' again: {why}"))
            })?;
            Ok(Box::new(vec![Write::Add { stream: self.member.stream.to_string(), max_length: 0, fields }]))
        };
        payloads.iter().map(part).collect::<Result<_, _>>().map(Some)
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

    /// What is left goes to the other consumers at once, instead of after `claim_idle`. What is still this one's when
    /// it is asked again comes first then.
    async fn close(&mut self) -> Result<(), Fault> {
        // not joined: there is nothing to leave, and the server may be away
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
        self.claimed.clear();
        "0-0".clone_into(&mut self.cursor);
        self.claim_at = Instant::now();
        match self.member.leave(&self.link, self.claim_idle + CLAIMABLE, &untouched).await {
            Err(error) if !is_gone(&error) => Err(fault(&error)),
            _ => Ok(()),
        }
    }
}

impl RedisStream {
    /// Makes what is missing on the server and registers this incarnation; the first time over any other.
    async fn join(&mut self) -> Result<(), Fault> {
        let first = !self.joined;
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
            self.joined = true;
            tracing::debug!(function = %self.function, %stream, %group, %consumer, made, "joined the consumer group");
        } else if made {
            tracing::warn!(function = %self.function, "group '{group}' of stream '{stream}' was gone; a new one begins after {from}");
        }
        if self.keeper.is_none() {
            let (member, link, held) = (self.member.clone(), self.link.clone(), Arc::clone(&self.held));
            self.keeper = Some(Keeper::start(&self.function, member, link, held, self.claim_idle));
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
