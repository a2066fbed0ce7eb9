//! Executor `passthrough`: the event is the result, byte for byte, and never empty. It does not look inside, so a
//! malformed event passes too. With source `host` and sink `redis_key` it makes a producer of metrics.
//!
//! ```toml
//! [functions.producer.executor]
//! use = "passthrough"
//! ```

use async_trait::async_trait;
use runtime_core::contract::{Brief, Call, Event, Executor, Function, Module, Outcome, Returned};
use runtime_core::{Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;

/// It has no options.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

#[derive(Debug)]
struct Passthrough;

impl Kind for Passthrough {
    type Role = dyn Executor;
    type Config = Config;
    const NAME: &'static str = "passthrough";
    const SUMMARY: &'static str = "no function: each event is its own result";
    const NEEDS_MODULE: bool = false;

    async fn build(_config: Config, _site: &Site<'_>) -> Result<Box<dyn Executor>, Fault> {
        Ok(Box::new(Self))
    }
}

inventory::submit!(Entry::of::<Passthrough>());

#[async_trait]
impl Executor for Passthrough {
    async fn prepare(&self, _module: Option<Module>, _brief: Brief) -> Result<Box<dyn Function>, Fault> {
        Ok(Box::new(Self))
    }
}

#[async_trait]
impl Function for Passthrough {
    async fn invoke(&mut self, events: &[Event], _call: Call) -> Result<Vec<Outcome>, Fault> {
        Ok(events.iter().map(|event| Returned::Output(event.payload.clone()).into()).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_event_passes_unchanged() {
        let brief =
            Brief { function: "f".into(), handler: "handler".into(), facts: Default::default(), ..Brief::default() };
        let mut function = Passthrough.prepare(None, brief).await.unwrap();
        let texts = ["{\"a\": 1.0}", "{}", "null", "not json", ""];
        let events: Vec<_> = texts.iter().map(|text| Event::new("e", text.as_bytes().to_vec())).collect();
        let outcomes = function.invoke(&events, Call::default()).await.unwrap();
        assert_eq!(outcomes.len(), texts.len());
        for (outcome, text) in outcomes.iter().zip(texts) {
            assert!(
                matches!(&outcome.returned, Returned::Output(payload) if payload == text.as_bytes()),
                "{outcome:?}"
            );
        }
    }
}
