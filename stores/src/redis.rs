//! State in a Redis hash: it survives the process and the machine, and any replica can go on with it.
//!
//! One hash for the function, `gaugefn:state:{vm}`; with `state.key` one for each value, `gaugefn:state:{vm}:VALUE`. The
//! braces are a hash tag: in a Cluster all states of a function lie together. Only what has changed is written, and only
//! over the version that it was made of. Fields: `format`, `v` version, `l` which of several states that had the key one
//! after the other, `f` fingerprint of the input, `o` the keys in their order, `e:KEY` an entry, `t` the token of the last
//! save; keys and values are texts of `docs/state.md`.
//!
//! Delivery: what was acknowledged is as durable as the server makes it. While it is away the engine tries again; a save
//! whose answer was lost is recognised.
//!
//! Without `state.key` one process at a time has the state, by a lease in the hash `PREFIX:lease`; the others stand by.
//!
//! ```toml
//! [functions.vm.state]
//! use = "redis"
//! ```

use std::any::Any;
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;
use redis_link::commit::{Commit, Keep, StateWrite, Token, Verdict};
use redis_link::{Link, LinkError, Settings, Trouble};
use runtime_core::config::settings::StateOptions;
use runtime_core::config::{Claim, Concern, Hold};
use runtime_core::contract::{Domain, Found, Lease, Saved, StateKey, StateStore, Versioned};
use runtime_core::options::{Size, Span};
use runtime_core::{Around, Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::limit;
use known::Known;
use lease::RedisLease;

mod hash;
mod known;
mod lease;

/// Options of the state store `redis`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The key of the hash; with `key`, a colon and the value follow. Without the option `gaugefn:state:{NAME}`, NAME
    /// being the function's. Braces are literal: a hash tag keeps the state in one slot with the streams of that tag.
    #[serde(default)]
    prefix: Option<String>,
    /// How long a state is kept after its last change; for good without it.
    #[serde(default)]
    ttl: Option<Span>,
    /// The most that one state may have, as text.
    #[serde(default = "limit::default_max_bytes")]
    max_bytes: Size,
    /// Without `key`: how long a process that has fallen silent still has the state, before another one goes on with
    /// it; at least 100ms. With `key` processes share the states, and it is refused.
    #[serde(default)]
    #[schemars(extend("x-default" = "`10s`"))]
    lease: Option<Span>,
    /// Another server than that of `[redis]`.
    #[schemars(extend("x-secret" = true))]
    #[serde(default)]
    url: Option<String>,
}

/// It is asked for three times as often, so that it outlives a restart of the server or a long pause of the process.
const LEASE: Duration = Duration::from_secs(10);

/// Shorter ones are lost by a slow answer of the server.
const SHORTEST_LEASE: Duration = Duration::from_millis(100);

/// The state store `redis`.
pub struct Redis {
    function: String,
    prefix: String,
    ttl: Option<Duration>,
    max_bytes: Size,
    lease: Duration,
    link: Link,
    /// What the server has, as far as this process knows: what differs from it is written.
    known: Known,
    /// Part of the tokens: two processes, or two lives of one, never have the same.
    incarnation: String,
}

impl Kind for Redis {
    type Role = dyn StateStore;
    type Config = Config;
    const NAME: &'static str = "redis";
    const SUMMARY: &'static str = "a Redis hash; survives the process and the machine";
    const DURABLE: bool = true;

    fn review(config: &Config) -> Vec<Concern> {
        let mut concerns = Vec::new();
        if config.prefix.as_deref() == Some("") {
            concerns.push(Concern::new("prefix", "empty; name the key or leave the option out"));
        }
        if let Some(ttl) = config.ttl.filter(|ttl| ttl.0 < Duration::from_millis(1)) {
            let message =
                format!("'{ttl}' is too short; the least is 1ms, and without the option a state is kept for good");
            concerns.push(Concern::new("ttl", message));
        }
        if let Some(lease) = config.lease.filter(|lease| lease.0 < SHORTEST_LEASE) {
            let message = format!("'{lease}' is too short; the least is 100ms, and some seconds are usual");
            concerns.push(Concern::new("lease", message));
        }
        concerns.extend(limit::concern(config.max_bytes));
        if let Some(url) = config.url.as_deref() {
            let complaints = Settings::default().complaints(Some(url));
            concerns.extend(complaints.into_iter().map(|(_, sentence)| Concern::new("url", sentence)));
        }
        concerns
    }

    fn review_beside(config: &Config, common: &StateOptions) -> Vec<Concern> {
        let both = config.lease.zip(common.key.as_deref());
        both.map(|(lease, key)| {
            let message = format!(
                "'{lease}' has no effect with state.key '{key}': processes share the states of its values; leave one out"
            );
            Concern::new("lease", message)
        })
        .into_iter()
        .collect()
    }

    fn claims(config: &Config, common: &StateOptions, around: &Around<'_>) -> Vec<Claim> {
        let hold = match common.key {
            None => Hold::Alone("one of the two functions would stand by for ever"),
            // versions guard each state
            Some(_) => Hold::Writes,
        };
        let server = around.table::<Settings>("redis").and_then(|redis| redis.server(config.url.as_deref()));
        let prefix = prefix(config, around.function);
        let keyed = common.key.is_some();
        let claim = |server| {
            Claim::new("prefix", hold, &format!("redis {server}"), &prefix, format!("key '{prefix}'")).kept(keyed)
        };
        server.map(claim).into_iter().collect()
    }

    async fn build(config: Config, site: &Site<'_>) -> Result<Box<dyn StateStore>, Fault> {
        let settings: Settings = site.table("redis")?;
        let target = settings.resolve(config.url.as_deref()).map_err(|error| Fault::config(error.to_string()))?;
        let function = site.function.to_owned();
        Ok(Box::new(Self {
            prefix: prefix(&config, &function),
            function,
            ttl: config.ttl.map(|ttl| ttl.0),
            max_bytes: config.max_bytes,
            lease: config.lease.map_or(LEASE, |lease| lease.0),
            link: Link::new(target),
            known: Known::default(),
            incarnation: redis_link::incarnation(),
        }))
    }
}

inventory::submit!(Entry::of::<Redis>());

#[async_trait]
impl StateStore for Redis {
    fn durable(&self) -> bool {
        true
    }

    async fn load(&self, keys: &[StateKey]) -> Result<Vec<Found>, Fault> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut reads = redis::pipe();
        for key in keys {
            reads.cmd("HGETALL").arg(self.key(key)).cmd("PTTL").arg(self.key(key));
        }
        let answers: Vec<_> = self.link.each::<Value>(reads).await.map_err(|error| fault(&error))?;
        let mut answers = answers.into_iter();
        let found = keys.iter().map(|key| {
            let (fields, left) = (answers.next().transpose(), answers.next().transpose());
            let found = self.found(key, fields, left);
            self.known.set(key, found.as_ref().ok().and_then(Option::as_ref));
            found
        });
        Ok(found.collect())
    }

    fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    fn check(&self, states: &[(StateKey, Versioned)]) -> Result<(), Fault> {
        limit::check(&self.function, states, self.max_bytes)
    }

    async fn save(&self, states: &[(StateKey, Versioned)]) -> Result<Saved, Fault> {
        limit::check(&self.function, states, self.max_bytes)?;
        let writes = self.writes(states);
        let Some(first) = writes.first() else {
            return Ok(Saved::Done);
        };
        let value = format!("{}:{:016x}", self.incarnation, hash::digest(states));
        let token = Token { key: first.key.clone(), field: hash::TOKEN.to_owned(), value };
        let commit = Commit { token: Some(token), states: writes, ..Commit::default() };
        match commit.run(&self.link).await.map_err(|error| fault(&error))? {
            Verdict::Done | Verdict::Unheard(_) | Verdict::Again => {
                self.enlisted(states);
                Ok(Saved::Done)
            }
            Verdict::Stale(stale) => {
                let keys = states.iter().map(|(key, _)| key).filter(|key| stale.contains(&self.key(key)));
                Ok(Saved::Stale(keys.cloned().collect()))
            }
            Verdict::Lost(_) | Verdict::Unread(_) | Verdict::Gone | Verdict::Fenced => {
                Err(Fault::internal("a save of states alone was refused"))
            }
        }
    }

    /// A `Vec<redis_link::commit::StateWrite>`.
    fn enlist(&self, states: &[(StateKey, Versioned)]) -> Result<Option<Box<dyn Any + Send>>, Fault> {
        limit::check(&self.function, states, self.max_bytes)?;
        Ok(Some(Box::new(self.writes(states))))
    }

    fn enlisted(&self, states: &[(StateKey, Versioned)]) {
        for (key, state) in states {
            self.known.set(key, Some(state));
        }
    }

    fn domain(&self) -> Option<Domain> {
        Some(Domain::new(self.link.target().endpoint()))
    }

    fn keys(&self) -> Vec<String> {
        vec![self.prefix.clone(), self.lease_key()]
    }

    fn lease(&self) -> Option<Box<dyn Lease>> {
        let process = format!("{}/{}", rustix::system::uname().nodename().to_string_lossy(), std::process::id());
        let holder = self.incarnation.clone();
        let lease = redis_link::Lease::new(self.link.clone(), self.lease_key(), holder, process, self.lease);
        Some(Box::new(RedisLease(lease)))
    }
}

impl Redis {
    /// No key of a state: those are JSON behind the colon.
    fn lease_key(&self) -> String {
        format!("{}:lease", self.prefix)
    }

    fn key(&self, StateKey(key): &StateKey) -> String {
        let prefix = &self.prefix;
        key.as_ref().map_or_else(|| prefix.clone(), |key| format!("{prefix}:{key}"))
    }

    /// What the answers about one key come to.
    fn found(&self, key: &StateKey, fields: Answer, left: Answer) -> Found {
        let fields = fields.map_err(|error| fault(&error))?;
        let fields = fields.map(redis::from_redis_value::<Vec<(Vec<u8>, Vec<u8>)>>).transpose();
        let fields = fields.map_err(|error| self.unusable(key, &format!("cannot be read ({error})")))?;
        let state = hash::read(fields.unwrap_or_default()).map_err(|why| self.unusable(key, &why))?;
        // negative where it is kept for good
        let left = match left {
            Ok(Some(Value::Int(millis))) => u64::try_from(millis).ok().map(Duration::from_millis),
            _ => None,
        };
        Ok(state.map(|state| Versioned { left, ..state }))
    }

    fn unusable(&self, key: &StateKey, why: &str) -> Fault {
        Fault::backend(format!("key '{}' {why}", self.key(key))).permanent()
    }

    fn writes(&self, states: &[(StateKey, Versioned)]) -> Vec<StateWrite> {
        let write = |(key, state): &(StateKey, Versioned)| {
            let base = state.version.saturating_sub(1);
            let before = self.known.get(key).filter(|known| known.version == base && known.life == state.life);
            let keep = match self.ttl {
                Some(ttl) => Keep::For(ttl),
                // the option was taken out since; what is written as a whole has no time any more
                None if before.as_ref().is_some_and(|before| before.left.is_some()) => Keep::ForGood,
                None => Keep::AsBefore,
            };
            let (version, life) = (state.version, state.life);
            StateWrite { key: self.key(key), base, version, life, keep, ..hash::changes(before.as_ref(), state) }
        };
        states.iter().map(write).collect()
    }
}

/// What the server says of one key; nothing where it has not answered.
type Answer = Result<Option<Value>, LinkError>;

/// The key of the hash, and what those of keyed states begin with.
fn prefix(config: &Config, function: &str) -> String {
    config.prefix.clone().unwrap_or_else(|| format!("gaugefn:state:{{{function}}}"))
}

/// Everything but a wrong setting may pass: a password is rotated, a replica promoted, a wrong key removed.
fn fault(error: &LinkError) -> Fault {
    match error.kind() {
        Trouble::Config => Fault::config(error.to_string()),
        Trouble::TooLarge => Fault::of_backend(error).permanent(),
        _ => Fault::of_backend(error),
    }
}
