//! State in a file: it survives the process, on this machine.
//!
//! The format is that of `docs/state.md`. A file is written beside the old one, brought to the disk, and put in its place;
//! one that is damaged is refused, never loaded in part. With `state.key` there is a file for each value, named by its
//! hash, in the folder `PATH.d`; several of them are replaced together or not at all. One process at a time has the file,
//! by a lock on `PATH.lock`: another one waits.
//!
//! Delivery: a save that was acknowledged survives a power cut. While the disk is full or away the engine tries again.
//!
//! ```toml
//! [functions.vm.state]
//! use = "file"
//! path = "/var/lib/gaugefn/vm.json"
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runtime_core::config::settings::StateOptions;
use runtime_core::config::{Claim, Concern, Hold, os_text};
use runtime_core::contract::{Found, Saved, StateKey, StateStore, Versioned};
use runtime_core::options::{Size, Span};
use runtime_core::{Around, Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::limit;
use place::Place;

mod place;

/// Options of the state store `file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file; made if it is not there. Its folder must exist. With `key`, the folder `PATH.d` holds a file for each
    /// value.
    #[serde(deserialize_with = "os_text::read")]
    path: PathBuf,
    /// How long a state is kept after its last change, at least 100ms; for good without it.
    #[serde(default)]
    ttl: Option<Span>,
    /// The most that one state may have, as text.
    #[serde(default = "limit::default_max_bytes")]
    max_bytes: Size,
}

/// Files have the time of the kernel's last tick, some milliseconds before they were written.
const SHORTEST_TTL: Duration = Duration::from_millis(100);

/// The state store `file`.
pub struct File {
    function: String,
    max_bytes: Size,
    place: Arc<Place>,
}

impl Kind for File {
    type Role = dyn StateStore;
    type Config = Config;
    const NAME: &'static str = "file";
    const SUMMARY: &'static str = "a file on this machine; survives the process";
    const DURABLE: bool = true;

    fn review(config: &Config) -> Vec<Concern> {
        let mut concerns = Vec::new();
        if config.path.file_name().is_none() {
            concerns.push(Concern::new("path", "no name of a file; name the file that keeps the state"));
        }
        if let Some(ttl) = config.ttl.filter(|ttl| ttl.0 < SHORTEST_TTL) {
            let message =
                format!("'{ttl}' is too short; the least is 100ms, and without the option a state is kept for good");
            concerns.push(Concern::new("ttl", message));
        }
        concerns.extend(limit::concern(config.max_bytes));
        concerns
    }

    /// Also with `key`: the lock is one for all states.
    fn claims(config: &Config, _: &StateOptions, _: &Around<'_>) -> Vec<Claim> {
        let alone = Hold::Alone("one of the two functions would wait for it for ever");
        vec![Claim::file("path", alone, &config.path)]
    }

    async fn build(config: Config, site: &Site<'_>) -> Result<Box<dyn StateStore>, Fault> {
        let place = Place::new(site.function, config.path, config.ttl.map(|ttl| ttl.0));
        Ok(Box::new(Self { function: site.function.to_owned(), max_bytes: config.max_bytes, place: Arc::new(place) }))
    }
}

inventory::submit!(Entry::of::<File>());

#[async_trait]
impl StateStore for File {
    fn durable(&self) -> bool {
        true
    }

    async fn load(&self, keys: &[StateKey]) -> Result<Vec<Found>, Fault> {
        let keys = keys.to_vec();
        self.on_disk(move |place| place.load(&keys)).await
    }

    fn ttl(&self) -> Option<Duration> {
        self.place.ttl()
    }

    fn check(&self, states: &[(StateKey, Versioned)]) -> Result<(), Fault> {
        limit::check(&self.function, states, self.max_bytes)
    }

    async fn save(&self, states: &[(StateKey, Versioned)]) -> Result<Saved, Fault> {
        limit::check(&self.function, states, self.max_bytes)?;
        let states = states.to_vec();
        self.on_disk(move |place| place.save(&states)).await
    }
}

impl File {
    /// Waiting for a disk takes milliseconds, for a bad one seconds.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let place = Arc::clone(&self.place);
        tokio::task::spawn_blocking(move || work(&place))
            .await
            .unwrap_or_else(|error| Err(Fault::internal("the work on the state's file broke off").caused_by(error)))
    }
}
