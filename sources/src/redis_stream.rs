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
//! While the server is away the engine tries again. Stream and group are made where they are missing, also later: a new
//! group begins after what this process has read, and what of that it has not done is put into it. Needs Redis 6.2 or
//! later; the lag is known from 7.0 on.
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
use redis_link::group::{Entry as StreamEntry, is_gone};
use redis_link::{Blocking, Link, LinkError, Member, Portion};
use runtime_core::config::{Claim, Concern, Hold};
use runtime_core::contract::{Delivery, Domain, Event, Facts, Letter, Pull, Source, Transaction};
use runtime_core::options::Span;
use runtime_core::registry::Nothing;
use runtime_core::{Around, Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use keeper::Keeper;

pub(crate) use held::Held;

mod entry;
mod giving;
mod held;
mod joining;
mod keeper;
mod payload;
mod receipt;

/// One commit acknowledges a whole batch, and a script takes no more ids than this.
const LARGEST_BATCH: usize = 1000;

/// The longest wait for new entries in one go: a server that hangs is noticed two seconds later, and a group that was
/// deleted by an old server, which does not say so, at the end of the wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Servers close connections that were idle for a second at the earliest: before it is used again, one is looked at.
const PAUSE: Duration = Duration::from_millis(500);

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
    /// This process's name in the group, the host's name without it. Of two processes with one name the one that started
    /// first goes on under another.
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
#[schemars(transform = Start::also_as_a_number)]
enum Start {
    /// With the first entry.
    #[default]
    #[serde(rename = "0")]
    First,
    /// With the next entry.
    #[serde(rename = "$")]
    Next,
}

impl Start {
    /// For editors: TOML and YAML read a bare 0 as a number.
    fn also_as_a_number(schema: &mut schemars::Schema) {
        if let Some(words) = schema.get_mut("oneOf").and_then(|words| words.as_array_mut()) {
            words.push(serde_json::json!({ "const": 0, "description": "With the first entry." }));
        }
    }
}

/// A read that waits in the server.
type Reading = Pin<Box<dyn Future<Output = Result<Vec<StreamEntry>, LinkError>> + Send>>;

/// The source `redis_stream`.
pub struct RedisStream {
    function: String,
    field: Option<String>,
    start: Start,
    portion: Portion,
    /// The answer before was late, too: it is not the server that hangs.
    late: bool,
    /// Connections that were closed under a question since something has come, and when the last one was.
    cuts: u32,
    cut_at: Option<Instant>,
    claim_idle: Duration,
    member: Member,
    /// For everything that does not wait in the server; shared with receipts and the keeper.
    link: Link,
    /// For entries that come again: a server that finds them too large closes this connection, and no other.
    fetching: Link,
    transaction: Arc<RedisTransaction>,
    /// For reads that wait; gone after an error.
    reader: Option<Blocking>,
    /// When it was last used.
    rested: Instant,
    /// The last read has failed: the next one does not wait, so that what it comes to is known at once.
    probing: bool,
    /// Kept here, not in `next_batch`: dropping it would not take it back, and what it brings would be unknown.
    reading: Option<Reading>,
    /// From where on own pending entries are still to be looked at; None when there are none that nobody works on.
    own: Option<String>,
    /// Own pending entries are to be looked at as soon as no read is under way, whose entries are among them.
    regrouped: bool,
    /// Entries were left pending, as others of their ids were in work.
    later: bool,
    /// Whether own pending entries are a predecessor's: they were delivered to it, and count as delivered again.
    inherits: bool,
    /// Entries taken over from others, not given out yet: delivered again as well.
    claimed: BTreeSet<String>,
    /// Where the search for abandoned entries goes on, and when.
    cursor: String,
    claim_at: Instant,
    held: Arc<Held>,
    /// An entry that was given alone: nothing else is, as long as it is held.
    alone: Option<String>,
    /// The consumer's name as it is configured.
    consumer: String,
    /// This process has the consumer's name, or has had it, and does not take it from another one.
    named: bool,
    /// It has been in the group.
    joined: bool,
    /// As long as this process reads.
    keeper: Option<Keeper>,
    /// The group was gone at the last read; a second time in a row is a fault.
    gone: bool,
    /// An entry without the configured field is told once.
    told: bool,
    /// And so is that fewer are read at once.
    told_less: bool,
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

    fn claims(config: &Config, _: &Nothing, around: &Around<'_>) -> Vec<Claim> {
        let Config { stream, group, url, .. } = config;
        let group = group.as_deref().unwrap_or(around.function);
        let claim = |option, hold, key: &str, thing| shared::claim(around, url.as_deref(), option, hold, key, thing);
        let alone = Hold::Alone("each entry would go to one of the two functions only");
        [
            claim("stream", Hold::Reads, stream, format!("stream '{stream}'")),
            claim("group", alone, &format!("{stream} {group}"), format!("group '{group}' of stream '{stream}'")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    async fn build(config: Config, site: &Site<'_>) -> Result<Box<dyn Source>, Fault> {
        let target = shared::target(site, config.url.as_deref())?;
        let consumer = config.consumer.unwrap_or_else(shared::host);
        let link = Link::new(target);
        let group = config.group.as_deref().unwrap_or(site.function);
        let member = Member::new(&config.stream, group, &consumer);
        let held = Arc::new(Held::of(&member.consumer));
        Ok(Box::new(Self {
            function: site.function.to_owned(),
            member,
            field: config.field,
            start: config.start,
            portion: Portion::new(config.batch),
            late: false,
            cuts: 0,
            cut_at: None,
            claim_idle: config.claim_idle.0,
            transaction: RedisTransaction::of_stream(link.clone(), Arc::clone(&held)),
            fetching: Link::new(link.target().clone()),
            link,
            reader: None,
            rested: Instant::now(),
            probing: false,
            reading: None,
            own: None,
            regrouped: false,
            later: false,
            inherits: true,
            claimed: BTreeSet::new(),
            cursor: "0-0".to_owned(),
            claim_at: Instant::now(),
            held,
            alone: None,
            consumer,
            named: false,
            joined: false,
            keeper: None,
            gone: false,
            told: false,
            told_less: false,
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
        self.member.check(&self.link).await.map_err(|error| fault(&error))
    }

    async fn next_batch(&mut self, max: usize) -> Result<Pull, Fault> {
        if self.held.is_replaced() {
            self.rename();
        }
        if self.reader.is_some() && self.held.is_regrouped() {
            // the read that is under way is one of the new group, and must not be lost
            self.join().await?;
            self.regrouped = true;
        }
        if self.reading.is_none()
            && self.rested.elapsed() > PAUSE
            && self.reader.as_ref().is_some_and(Blocking::is_over)
        {
            // it was closed while nobody used it, which says nothing of the group
            self.reader = None;
            self.open().await?;
        }
        if self.reader.is_none() {
            self.connect().await?;
            if !self.probing {
                // the engine need not wait for entries to hear that all is well
                return Ok(Pull::Again(Duration::ZERO));
            }
        }
        let count = max.min(self.portion.now());
        let pulled = self.pull(count).await;
        self.rested = Instant::now();
        match pulled {
            Ok(pull) => {
                (self.gone, self.probing) = (false, false);
                if matches!(pull, Pull::Batch(_)) {
                    (self.late, self.cuts) = (false, 0);
                    self.portion.succeed();
                }
                Ok(pull)
            }
            Err(error) => self.failed(&error, count),
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

    /// Of the whole entry, where the letter has it: another field may be the event by now.
    fn event(&self, letter: &Letter) -> Event {
        match letter.original.as_deref().map(entry::read) {
            Some(Ok(fields)) => entry::event(letter.event.clone(), fields, self.field.as_deref()),
            _ => Event::new(letter.event.clone(), letter.payload.clone()),
        }
    }

    /// A `Vec<redis_link::commit::Write>` for each.
    fn feed(&self, letters: &[Letter]) -> Result<Option<Vec<Box<dyn Any + Send>>>, Fault> {
        let part = |letter: &Letter| -> Result<Box<dyn Any + Send>, Fault> {
            let fields = match &letter.original {
                Some(original) => entry::read(original),
                None => payload::fields(&letter.payload, self.field.as_deref()),
            };
            let fields = fields.map_err(|why| {
                let stream = &self.member.stream;
                Fault::event(format!("the event cannot become an entry of stream '{stream}' again: {why}"))
            })?;
            Ok(Box::new(vec![Write::Add { stream: self.member.stream.to_string(), max_length: 0, fields }]))
        };
        letters.iter().map(part).collect::<Result<_, _>>().map(Some)
    }

    async fn also_fed(&mut self) -> Result<Option<String>, Fault> {
        let others = self.member.others(&self.link).await.map_err(|error| fault(&error))?;
        let stream = &self.member.stream;
        Ok(match &others[..] {
            [] => None,
            [one] => Some(format!("another group of stream '{stream}' ({one})")),
            several => Some(format!("{} other groups of stream '{stream}' ({})", several.len(), several.join(", "))),
        })
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
        self.held.expect(untouched.iter().cloned());
        // where the group was deleted meanwhile, what is left has to be in the new one before others can take it over
        let joined = match self.held.open().is_empty() || self.held.is_replaced() {
            true => Ok(()),
            false => self.join().await,
        };
        self.keeper = None;
        if joined.is_ok() && !self.held.open().is_empty() {
            // and where this consumer was deleted from it
            let beat = keeper::beat(&self.function, &self.member, &self.link, &self.held).await;
            // whoever leaves hears of it as well
            beat.unwrap_or_else(|error| tracing::debug!(function = %self.function, "no last heartbeat: {error}"));
        }
        self.claimed.clear();
        "0-0".clone_into(&mut self.cursor);
        self.claim_at = Instant::now();
        self.held.close_all();
        joined?;
        match self.member.leave(&self.link, self.claim_idle + CLAIMABLE, &untouched).await {
            Err(error) if !is_gone(&error) => Err(fault(&error)),
            _ => Ok(()),
        }
    }
}

/// An id as it sorts.
fn number(id: &str) -> Option<(u64, u64)> {
    let (millis, count) = id.split_once('-')?;
    Some((millis.parse().ok()?, count.parse().ok()?))
}
