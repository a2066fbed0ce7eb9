//! One Redis key, read when it changes.
//!
//! Delivery: the latest value. A value that is replaced before it is read is never seen; the one that stands in the
//! key is never missed, whatever happens to notifications and connections, for the key is also read once a period.
//! Missing, empty and malformed values are not delivered and do not count as a change; a malformed one is logged
//! once. While the server is away the engine backs off, and the first thing after it is back is a read.
//!
//! With `lease`, one of several processes reads the key, and the others stand by until it ends or has not been heard of
//! for that long. The lease remembers what the last commit was made of, so that whoever is next does not call for the
//! same value once more; that holds where results can be part of the lease's transaction.
//!
//! ```toml
//! [functions.vm.source]
//! use = "redis_key"
//! key = "metrics"
//! period = "5s"
//! trigger = "change"
//! watch = "auto"
//! ```

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::redis_lease::RedisLease;
use crate::redis_transaction::RedisTransaction;
use crate::shared::{self, fault};
use async_trait::async_trait;
use redis_link::{Lease, Link};
use runtime_core::change::{Change, Fingerprint, Look};
use runtime_core::config::{Claim, Concern, Hold};
use runtime_core::contract::{self, Batch, Delivery, Domain, Event, Facts, Payload, Pull, Source, Transaction};
use runtime_core::options::Span;
use runtime_core::registry::Nothing;
use runtime_core::{Around, Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use ear::Ear;

mod ear;

/// Options of the source `redis_key`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The key that is watched; it holds one JSON value.
    key: String,
    /// Time between two looks at the key, at least 1ms; with `trigger = "always"` also 0, for calls without a pause.
    #[serde(default = "default_period")]
    period: Span,
    /// `change`: the function is called when the value differs from that of the last call. `always`: once a period.
    #[serde(default)]
    trigger: Trigger,
    /// How a change is noticed. `poll`: by looking once a period, and never more often. `notify`: by keyspace
    /// notifications; a server that sends none makes the function not ready. `auto`: by notifications where they
    /// come, by polling otherwise. With `trigger = "always"` the key is polled, and `notify` is refused. The server's
    /// configuration is never changed.
    #[serde(default)]
    watch: WatchMode,
    /// One of several processes with the same function's name reads this key; the others stand by, and the first of
    /// them takes over when it has been silent for this long, at least 100ms. Without it each of them reads the key.
    #[serde(default)]
    lease: Option<Span>,
    /// Another server than that of `[redis]`.
    #[schemars(extend("x-secret" = true))]
    url: Option<String>,
}

/// Shorter ones are lost by a slow answer of the server.
const SHORTEST_LEASE: Duration = Duration::from_millis(100);

const fn default_period() -> Span {
    Span::seconds(5)
}

/// When the function is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Trigger {
    /// When the value changed.
    #[default]
    Change,
    /// Once a period.
    Always,
}

/// How a change is noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum WatchMode {
    /// By notifications where they come.
    #[default]
    Auto,
    /// By notifications.
    Notify,
    /// By looking.
    Poll,
}

/// The source `redis_key`.
pub struct RedisKey {
    function: String,
    key: String,
    period: Duration,
    trigger: Trigger,
    link: Link,
    transaction: Arc<RedisTransaction>,
    lease: Option<Lease>,
    /// Remembers the last delivered value.
    change: Change,
    ear: Ear,
    /// When the key is read also without news.
    due: Instant,
    /// Values that were replaced before they were read, since the last event.
    skipped: u64,
    /// Part of the events' ids, so that they differ between two lives of a process.
    started: u128,
    count: u64,
}

impl Kind for RedisKey {
    type Role = dyn Source;
    type Config = Config;
    const NAME: &'static str = "redis_key";
    const LATEST_VALUE: bool = true;
    const SUMMARY: &'static str = "a Redis key that holds the newest metrics; calls when they change";

    fn review(config: &Config) -> Vec<Concern> {
        let mut concerns = Vec::new();
        if config.key.is_empty() {
            concerns.push(Concern::new("key", "empty; name the key that holds the metrics"));
        }
        // calls without a pause are a way to work through a busy key; looks without a pause only burn the server
        if config.period.0 < Duration::from_millis(1) && config.trigger == Trigger::Change {
            let message = format!("'{}' is too short; the least is 1ms, or 0 with trigger = \"always\"", config.period);
            concerns.push(Concern::new("period", message));
        }
        if config.trigger == Trigger::Always && config.watch == WatchMode::Notify {
            let message = "'notify' has no effect with trigger = \"always\", which calls once a period; leave one out";
            concerns.push(Concern::new("watch", message));
        }
        if let Some(lease) = config.lease.filter(|lease| lease.0 < SHORTEST_LEASE) {
            let message = format!("'{lease}' is too short; the least is 100ms, and some seconds are usual");
            concerns.push(Concern::new("lease", message));
        }
        concerns.extend(shared::concerns_of(config.url.as_deref()));
        concerns
    }

    fn claims(config: &Config, _: &Nothing, around: &Around<'_>) -> Vec<Claim> {
        let Config { key, url, .. } = config;
        shared::claim(around, url.as_deref(), "key", Hold::Reads, key, format!("key '{key}'")).into_iter().collect()
    }

    async fn build(config: Config, site: &Site<'_>) -> Result<Box<dyn Source>, Fault> {
        let target = shared::target(site, config.url.as_deref())?;
        let mode = match config.trigger {
            Trigger::Change => config.watch,
            // a change is no reason for a call
            Trigger::Always => WatchMode::Poll,
        };
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let link = Link::new(target.clone());
        let lease = config.lease.map(|term| {
            let key = lease_key(site.function, &config.key);
            Lease::new(link.clone(), key, redis_link::incarnation(), shared::process(), term.0)
        });
        Ok(Box::new(Self {
            function: site.function.to_owned(),
            ear: Ear::new(site.function, &config.key, target, mode, config.period),
            key: config.key,
            period: config.period.0,
            trigger: config.trigger,
            transaction: RedisTransaction::new(link.clone()),
            link,
            lease,
            change: Change::new(),
            due: Instant::now(),
            skipped: 0,
            started,
            count: 0,
        }))
    }
}

inventory::submit!(Entry::of::<RedisKey>());

#[async_trait]
impl Source for RedisKey {
    fn delivery(&self) -> Delivery {
        Delivery::Latest
    }

    /// Reads the key: connecting alone would not show that this user may not, or that it is no string.
    async fn check(&mut self) -> Result<(), Fault> {
        self.link.get(&self.key).await.map(drop).map_err(|error| fault(&error))
    }

    async fn next_batch(&mut self, _max: usize) -> Result<Pull, Fault> {
        self.ear.listen().await;
        if Instant::now() < self.due && !self.ear.has_news() {
            return Ok(self.later());
        }
        let value = match self.link.get(&self.key).await {
            Ok(value) => value,
            Err(error) => {
                self.ear.not_read();
                return Err(fault(&error));
            }
        };
        let (announced, skipped) = self.ear.read();
        self.skipped += skipped;
        // counted from the answer: one that took long must not bring two calls together
        self.due = Instant::now() + self.period;
        let Some(payload) = value.filter(|bytes| !bytes.is_empty()).map(Payload::from) else {
            return Ok(self.later());
        };
        match self.change.look(&payload) {
            Look::New(fingerprint) => {
                if !announced {
                    self.ear.surprised().await;
                }
                self.change.attempted(payload.clone(), fingerprint);
            }
            Look::Same if self.trigger == Trigger::Always => {}
            Look::Same => return Ok(self.later()),
            Look::Malformed { error, first } => {
                if first {
                    let key = &self.key;
                    tracing::warn!(function = %self.function, "key '{key}' is left alone until it changes: {error}");
                }
                return Ok(self.later());
            }
        }
        self.count += 1;
        let id = format!("{}:{}-{}", self.key, self.started, self.count);
        let event = Event { fingerprint: self.change.fingerprint(), ..Event::new(id, payload) };
        Ok(Pull::Batch(Batch { skipped: std::mem::take(&mut self.skipped), ..Batch::one(event) }))
    }

    async fn woken(&mut self) {
        self.ear.woken().await;
    }

    fn resume(&mut self, fingerprint: Fingerprint) {
        self.change.seen(fingerprint);
    }

    fn complaint(&self) -> Option<String> {
        self.ear.complaint()
    }

    fn domain(&self) -> Option<Domain> {
        Some(Domain::new(self.link.target().endpoint()))
    }

    fn transaction(&self) -> Option<Arc<dyn Transaction>> {
        let transaction = Arc::clone(&self.transaction);
        Some(transaction)
    }

    /// There is nothing to acknowledge: that of the lease.
    fn keys(&self) -> Vec<String> {
        self.lease.iter().map(|lease| lease.key().to_owned()).collect()
    }

    fn lease(&self) -> Option<Box<dyn contract::Lease>> {
        self.lease.clone().map(|lease| Box::new(RedisLease(lease)) as _)
    }

    fn facts(&self) -> Facts {
        let target = self.link.target();
        Facts {
            host: Some(target.host().to_owned()),
            port: Some(target.port()),
            input_key: Some(self.key.clone()),
            output_key: None,
        }
    }

    /// Another process reads the key now. Which of its values have had their call is up to that one, and is told by
    /// [`resume`](Source::resume) where it is known.
    async fn close(&mut self) -> Result<(), Fault> {
        self.ear.rest();
        self.change = Change::new();
        self.skipped = 0;
        self.due = Instant::now();
        Ok(())
    }
}

/// In a Cluster a commit spans the lease, the results and the state, but not the input. The lease lies with the input
/// where that has a hash tag, as results and state can be given the same one; otherwise with the function's default
/// state, `gaugefn:state:{NAME}`.
fn lease_key(function: &str, key: &str) -> String {
    let tag = key.find('{').and_then(|open| key[open + 1..].find('}')).is_some_and(|length| length > 0);
    if tag { format!("gaugefn:lease:{function}:{key}") } else { format!("gaugefn:lease:{{{function}}}:{key}") }
}

impl RedisKey {
    /// Nothing before the period's end, unless there is news or it is time to subscribe.
    fn later(&self) -> Pull {
        let next = self.ear.due().map_or(self.due, |at| at.min(self.due));
        Pull::Again(next.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lies_where_results_and_state_can_lie() {
        assert_eq!(lease_key("vm", "metrics"), "gaugefn:lease:{vm}:metrics");
        assert_eq!(redis_link::slot(&lease_key("vm", "metrics")), redis_link::slot("gaugefn:state:{vm}"));
        for key in ["{host}:metrics", "a{host}"] {
            assert_eq!(redis_link::slot(&lease_key("vm", key)), redis_link::slot("{host}"), "{key}");
        }
        assert_eq!(redis_link::slot(&lease_key("vm", "a{}")), redis_link::slot("{vm}"));
    }
}
