//! A Redis stream that gets every result.
//!
//! Delivery: at least once. After a lost connection results may be added twice: each entry has its event's id in the
//! field `id`, by which consumers can tell. While the server is away the engine keeps the results and tries again; the
//! source waits. A key that holds no stream is the trouble of the results that it is made for, which fail with their
//! events, unless it is the key of all: those wait until it is one.
//!
//! ```toml
//! [functions.vm.sinks.results]
//! use = "redis_stream"
//! stream = "results"
//! max_length = 100000
//! ```

use std::any::Any;
use std::sync::Arc;

use crate::shared::{self, fault};
use async_trait::async_trait;
use redis_link::commit::Write;
use redis_link::{Link, LinkError, Trouble};
use runtime_core::config::{Claim, Concern, Hold};
use runtime_core::contract::{Domain, Facts, Output, Route, Sink, one_by_one};
use runtime_core::options::Template;
use runtime_core::registry::Nothing;
use runtime_core::{Around, Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;

/// The field with the id of the event that a result came from.
const ID: &str = "id";

/// Options of the sink `redis_stream`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The key of the stream. `{/pointer}` stands for the value at that JSON pointer of the result, or else of the event.
    stream: Template,
    /// The field that holds the result. The field `id` holds the event's id.
    #[serde(default = "default_field")]
    field: String,
    /// How many entries the stream keeps at least; older ones go, in whole blocks (`MAXLEN ~`). 0 keeps all.
    #[serde(default = "default_max_length")]
    max_length: u64,
    /// Another server than that of `[redis]`.
    #[schemars(extend("x-secret" = true))]
    #[serde(default)]
    url: Option<String>,
}

fn default_field() -> String {
    "data".to_owned()
}

const fn default_max_length() -> u64 {
    100_000
}

/// The sink `redis_stream`.
pub struct RedisStream {
    route: Option<Arc<dyn Route>>,
    stream: Template,
    field: String,
    max_length: u64,
    link: Link,
}

impl Kind for RedisStream {
    type Role = dyn Sink;
    type Config = Config;
    const NAME: &'static str = "redis_stream";
    const SUMMARY: &'static str = "a Redis stream that gets every result";

    fn review(config: &Config) -> Vec<Concern> {
        let mut concerns = Vec::new();
        if config.field.is_empty() {
            concerns.push(Concern::new("field", "empty; give a name or leave the option out"));
        }
        if config.field == ID {
            concerns.push(Concern::new("field", "'id' holds the event's id; give the result another field"));
        }
        concerns.extend(shared::concern_of("stream", &config.stream));
        concerns.extend(shared::concerns_of(config.url.as_deref()));
        concerns
    }

    /// Which key a placeholder leads to is known with each result alone.
    fn claims(config: &Config, _: &Nothing, around: &Around<'_>) -> Vec<Claim> {
        let Config { stream, url, .. } = config;
        let constant = Some(stream.as_str()).filter(|_| stream.is_constant());
        let claim = |key| shared::claim(around, url.as_deref(), "stream", Hold::Writes, key, format!("stream '{key}'"));
        constant.and_then(claim).into_iter().collect()
    }

    async fn build(config: Config, site: &Site<'_>) -> Result<Box<dyn Sink>, Fault> {
        let target = shared::target(site, config.url.as_deref())?;
        Ok(Box::new(Self {
            route: shared::route(site, config.url.as_deref(), &config.stream, "stream")?,
            stream: config.stream,
            field: config.field,
            max_length: config.max_length,
            link: Link::new(target),
        }))
    }
}

inventory::submit!(Entry::of::<RedisStream>());

#[async_trait]
impl Sink for RedisStream {
    async fn write(&mut self, outputs: &[Output]) -> Result<(), Fault> {
        let mut pipeline = redis::pipe();
        for write in self.writes(outputs)? {
            write.add_to(&mut pipeline);
        }
        if pipeline.is_empty() {
            return Ok(());
        }
        self.link.pipeline(&pipeline).await.map_err(|error| fault(&error))
    }

    /// A key that holds no stream takes none of its results; those of other keys are stored.
    async fn store(&mut self, outputs: &[Output]) -> Result<Vec<(usize, Fault)>, Fault> {
        let stored = match self.stream.is_constant() {
            // somebody may put it right, as long as the results are kept
            true => self.write(outputs).await.map(|()| Vec::new()),
            false => self.each(outputs).await,
        };
        match stored {
            Err(fault) if !fault.retry() => one_by_one(self, outputs, fault).await,
            stored => stored,
        }
    }

    /// Also looks whether the key holds a stream, where it is the same for every result.
    async fn check(&mut self) -> Result<(), Fault> {
        if !self.stream.is_constant() {
            return self.link.connection().await.map(drop).map_err(|error| fault(&error));
        }
        let length = self.link.query::<u64>(redis::cmd("XLEN").arg(self.stream.as_str())).await;
        match length {
            // who may only add need not be allowed to look; a stream may be made of the key until the first result
            Err(error) if !matches!(error.kind(), Trouble::Permission) => Err(fault(&error)),
            _ => Ok(()),
        }
    }

    fn route(&self) -> Option<Arc<dyn Route>> {
        self.route.clone()
    }

    fn domain(&self) -> Option<Domain> {
        Some(Domain::new(self.link.target().endpoint()))
    }

    fn keys(&self) -> Option<Vec<String>> {
        self.stream.is_constant().then(|| vec![self.stream.as_str().to_owned()])
    }

    /// A `Vec<redis_link::commit::Write>`.
    fn enlist(&self, outputs: &[Output]) -> Result<Option<Box<dyn Any + Send>>, Fault> {
        Ok(Some(Box::new(self.writes(outputs)?)))
    }

    fn facts(&self) -> Facts {
        Facts { output_key: Some(self.stream.as_str().to_owned()), ..Facts::default() }
    }
}

impl RedisStream {
    /// Adds them; the places of those whose key holds something else.
    async fn each(&self, outputs: &[Output]) -> Result<Vec<(usize, Fault)>, Fault> {
        let mut pipeline = redis::pipe();
        for write in self.writes(outputs)? {
            pipeline.add_command(write.command());
        }
        let answers = self.link.all::<redis::Value>(&pipeline).await.map_err(|error| fault(&error))?;
        let refused = |(place, answer): (usize, Result<_, LinkError>)| Some((place, fault(&answer.err()?)));
        Ok(answers.into_iter().enumerate().filter_map(refused).collect())
    }

    /// What these results come to on the server.
    fn writes(&self, outputs: &[Output]) -> Result<Vec<Write>, Fault> {
        let mut writes = Vec::with_capacity(outputs.len());
        for (key, output) in shared::addressed(&self.stream, outputs)? {
            let fields = vec![
                (self.field.clone().into_bytes(), output.payload.to_vec()),
                (ID.as_bytes().to_vec(), output.event_id.clone().into_bytes()),
            ];
            writes.push(Write::Add { stream: key.into_owned(), max_length: self.max_length, fields });
        }
        Ok(writes)
    }
}
