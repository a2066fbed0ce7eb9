//! State in the function's own memory: it lives as long as the process, as in a bare Python loop.
//!
//! Delivery: a restart begins with an empty `context.env`, and a failed call leaves it as the call left it. With `ttl` a
//! state that was not used for so long begins anew; its memory is free with the next event, whoever it is of.
//!
//! ```toml
//! [functions.vm.state]
//! use = "memory"
//! ```

use std::time::Duration;

use async_trait::async_trait;
use runtime_core::config::Concern;
use runtime_core::contract::{Found, Saved, StateKey, StateStore, Versioned};
use runtime_core::options::{Size, Span};
use runtime_core::{Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;

/// Options of the state store `memory`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How long a state stays that is not used; until the end of the process without it.
    #[serde(default)]
    ttl: Option<Span>,
    /// Not available in this version: for `file` and `redis`.
    #[serde(default)]
    max_bytes: Option<Size>,
}

/// The state store `memory`.
pub struct Memory {
    ttl: Option<Span>,
}

impl Kind for Memory {
    type Role = dyn StateStore;
    type Config = Config;
    const NAME: &'static str = "memory";
    const SUMMARY: &'static str = "the function's own memory; gone with the process";

    fn review(config: &Config) -> Vec<Concern> {
        let mut concerns = Vec::new();
        if config.max_bytes.is_some() {
            let message = "not available in this version: memory keeps what the function keeps; use 'file' or 'redis'";
            concerns.push(Concern::new("max_bytes", message));
        }
        if let Some(ttl) = config.ttl.filter(|ttl| ttl.0 < Duration::from_millis(1)) {
            let message = format!(
                "'{ttl}' is too short; the least is 1ms, and without the option a state stays with the process"
            );
            concerns.push(Concern::new("ttl", message));
        }
        concerns
    }

    async fn build(config: Config, _site: &Site<'_>) -> Result<Box<dyn StateStore>, Fault> {
        Ok(Box::new(Self { ttl: config.ttl }))
    }
}

inventory::submit!(Entry::of::<Memory>());

#[async_trait]
impl StateStore for Memory {
    fn durable(&self) -> bool {
        false
    }

    fn ttl(&self) -> Option<Duration> {
        self.ttl.map(|ttl| ttl.0)
    }

    async fn load(&self, keys: &[StateKey]) -> Result<Vec<Found>, Fault> {
        Ok(keys.iter().map(|_| Ok(None)).collect())
    }

    async fn save(&self, _states: &[(StateKey, Versioned)]) -> Result<Saved, Fault> {
        Ok(Saved::Done)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_the_function_keeps_has_no_size() {
        let review = |table: serde_json::Value| {
            let concerns = Memory::review(&serde_json::from_value(table).unwrap());
            concerns.into_iter().map(|concern| concern.message).collect::<Vec<_>>()
        };
        assert_eq!(review(serde_json::json!({ "ttl": "1h" })), Vec::<String>::new());
        assert_eq!(
            review(serde_json::json!({ "ttl": 0, "max_bytes": 10 })),
            [
                "not available in this version: memory keeps what the function keeps; use 'file' or 'redis'",
                "'0s' is too short; the least is 1ms, and without the option a state stays with the process"
            ]
        );
    }
}
