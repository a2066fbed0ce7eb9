//! State in the function's own memory: it lives as long as the process, as in a bare Python loop.
//!
//! Delivery: a restart begins with an empty `context.env`, and a failed call leaves it as the call left it.
//!
//! ```toml
//! [functions.vm.state]
//! use = "memory"
//! ```

use async_trait::async_trait;
use runtime_core::config::reserved;
use runtime_core::contract::{Saved, StateKey, StateStore, Versioned};
use runtime_core::{Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;

/// Options of the state store `memory`: none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// The state store `memory`.
pub struct Memory;

impl Kind for Memory {
    type Role = dyn StateStore;
    type Config = Config;
    const NAME: &'static str = "memory";
    const SUMMARY: &'static str = "the function's own memory; gone with the process";
    const RESERVED: &'static [&'static str] = reserved::STATE;

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

    async fn load(&self, keys: &[StateKey]) -> Result<Vec<Option<Versioned>>, Fault> {
        Ok(keys.iter().map(|_| None).collect())
    }

    async fn save(&self, _states: &[(StateKey, Versioned)]) -> Result<Saved, Fault> {
        Ok(Saved::Done)
    }
}
