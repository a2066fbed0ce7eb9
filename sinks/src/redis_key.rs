//! A Redis key that holds the newest result.
//!
//! Delivery: at least once. SET may be repeated without harm; a channel that is published to may get a result twice.
//! While the server is away the engine keeps the result and tries again; the source waits.
//!
//! ```toml
//! [functions.vm.sinks.result]
//! use = "redis_key"
//! key = "vm-result"
//! ttl = "1m"
//! publish = "vm-results"
//! ```

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use crate::shared::{self, fault};
use async_trait::async_trait;
use redis_link::Link;
use redis_link::commit::Write;
use runtime_core::config::{Claim, Concern, Hold};
use runtime_core::contract::{Domain, Facts, Output, Route, Sink};
use runtime_core::options::{Span, Template};
use runtime_core::registry::Nothing;
use runtime_core::{Around, Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;

/// Options of the sink `redis_key`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The key that is set. `{/pointer}` stands for the value at that JSON pointer of the result, or else of the event.
    key: Template,
    /// How long the result is kept; for good without it.
    #[serde(default)]
    ttl: Option<Span>,
    /// A channel that gets each result as well, in the same transaction.
    #[serde(default)]
    publish: Option<String>,
    /// Another server than that of `[redis]`.
    #[schemars(extend("x-secret" = true))]
    #[serde(default)]
    url: Option<String>,
}

/// The sink `redis_key`.
pub struct RedisKey {
    route: Option<Arc<dyn Route>>,
    key: Template,
    ttl: Option<Duration>,
    publish: Option<String>,
    link: Link,
}

impl Kind for RedisKey {
    type Role = dyn Sink;
    type Config = Config;
    const NAME: &'static str = "redis_key";
    const SUMMARY: &'static str = "a Redis key that holds the newest result";

    fn review(config: &Config) -> Vec<Concern> {
        let mut concerns = Vec::new();
        if let Some(ttl) = config.ttl.filter(|ttl| ttl.0 < Duration::from_millis(1)) {
            let message =
                format!("'{ttl}' is too short; the least is 1ms, and without the option a result is kept for good");
            concerns.push(Concern::new("ttl", message));
        }
        if config.publish.as_deref() == Some("") {
            concerns.push(Concern::new("publish", "empty; name the channel or leave the option out"));
        }
        concerns.extend(shared::concern_of("key", &config.key));
        concerns.extend(shared::concerns_of(config.url.as_deref()));
        concerns
    }

    /// Which key a placeholder leads to is known with each result alone.
    fn claims(config: &Config, _: &Nothing, around: &Around<'_>) -> Vec<Claim> {
        let Config { key, url, .. } = config;
        let constant = Some(key.as_str()).filter(|_| key.is_constant());
        let claim = |key| shared::claim(around, url.as_deref(), "key", Hold::Writes, key, format!("key '{key}'"));
        constant.and_then(claim).into_iter().collect()
    }

    async fn build(config: Config, site: &Site<'_>) -> Result<Box<dyn Sink>, Fault> {
        let target = shared::target(site, config.url.as_deref())?;
        Ok(Box::new(Self {
            route: shared::route(site, config.url.as_deref(), &config.key, "key")?,
            key: config.key,
            ttl: config.ttl.map(|ttl| ttl.0),
            publish: config.publish,
            link: Link::new(target),
        }))
    }
}

inventory::submit!(Entry::of::<RedisKey>());

#[async_trait]
impl Sink for RedisKey {
    async fn write(&mut self, outputs: &[Output]) -> Result<(), Fault> {
        let mut pipeline = redis::pipe();
        if self.publish.is_some() {
            pipeline.atomic();
        }
        for write in self.writes(outputs)? {
            write.add_to(&mut pipeline);
        }
        if pipeline.is_empty() {
            return Ok(());
        }
        self.link.pipeline(&pipeline).await.map_err(|error| fault(&error))
    }

    async fn check(&mut self) -> Result<(), Fault> {
        self.link.connection().await.map(drop).map_err(|error| fault(&error))
    }

    fn route(&self) -> Option<Arc<dyn Route>> {
        self.route.clone()
    }

    fn domain(&self) -> Option<Domain> {
        Some(Domain::new(self.link.target().endpoint()))
    }

    fn keys(&self) -> Option<Vec<String>> {
        self.key.is_constant().then(|| vec![self.key.as_str().to_owned()])
    }

    /// A `Vec<redis_link::commit::Write>`.
    fn enlist(&self, outputs: &[Output]) -> Result<Option<Box<dyn Any + Send>>, Fault> {
        Ok(Some(Box::new(self.writes(outputs)?)))
    }

    fn facts(&self) -> Facts {
        Facts { output_key: Some(self.key.as_str().to_owned()), ..Facts::default() }
    }
}

impl RedisKey {
    /// What these results come to on the server.
    fn writes(&self, outputs: &[Output]) -> Result<Vec<Write>, Fault> {
        let mut writes = Vec::with_capacity(outputs.len());
        for (key, output) in shared::addressed(&self.key, outputs)? {
            writes.push(Write::Set { key: key.into_owned(), value: output.payload.to_vec(), ttl: self.ttl });
            if let Some(channel) = &self.publish {
                writes.push(Write::Publish { channel: channel.clone(), message: output.payload.to_vec() });
            }
        }
        Ok(writes)
    }
}
