//! State in the function's own memory: it lives as long as the process, as in a bare Python loop.
//!
//! Delivery: a restart begins with an empty `context.env`, and a failed call leaves it as the call left it.
//!
//! ```toml
//! [functions.vm.state]
//! use = "memory"
//! ```

use async_trait::async_trait;
use runtime_core::config::Concern;
use runtime_core::contract::{Found, Saved, StateKey, StateStore, Versioned};
use runtime_core::options::{Size, Span};
use runtime_core::{Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;

/// Options of the state store `memory`: none but those that all stores have.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// For `file` and `redis`; refused here, where the function keeps what it keeps.
    #[serde(default)]
    ttl: Option<Span>,
    /// For `file` and `redis`; refused here, where the function keeps what it keeps.
    #[serde(default)]
    max_bytes: Option<Size>,
}

/// The state store `memory`.
pub struct Memory;

impl Kind for Memory {
    type Role = dyn StateStore;
    type Config = Config;
    const NAME: &'static str = "memory";
    const SUMMARY: &'static str = "the function's own memory; gone with the process";

    fn review(config: &Config) -> Vec<Concern> {
        let given = [("ttl", config.ttl.is_some()), ("max_bytes", config.max_bytes.is_some())];
        let given = given.into_iter().filter(|(_, given)| *given);
        let refuse = |(name, _)| {
            Concern::new(name, format!("memory keeps what the function keeps; {name} is for 'file' and 'redis'"))
        };
        given.map(refuse).collect()
    }

    async fn build(_config: Config, _site: &Site<'_>) -> Result<Box<dyn StateStore>, Fault> {
        Ok(Box::new(Self))
    }
}

inventory::submit!(Entry::of::<Memory>());

#[async_trait]
impl StateStore for Memory {
    fn durable(&self) -> bool {
        false
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
    fn what_the_function_keeps_has_no_limits() {
        let review = |table: serde_json::Value| {
            Memory::review(&serde_json::from_value(table).unwrap())
                .into_iter()
                .map(|concern| concern.message)
                .collect::<Vec<_>>()
        };
        assert_eq!(review(serde_json::json!({})), Vec::<String>::new());
        assert_eq!(
            review(serde_json::json!({ "ttl": "1h", "max_bytes": 10 })),
            ["ttl", "max_bytes"]
                .map(|name| format!("memory keeps what the function keeps; {name} is for 'file' and 'redis'"))
        );
    }
}
