//! Dead letters in a file of JSON lines.
//!
//! One object for each letter, with the keys `id`, `event`, `failed_at` (RFC 3339, UTC), `attempts`, `origin`, `revision`,
//! `error`, `traceback` and `payload`, or `payload_base64` where the payload is no text, and `original` where the payload is
//! not all that the source had. New ones come last. The lock on
//! `PATH.lock` lets one process at a time at the file, for as long as it writes.
//!
//! Delivery: a letter is on the disk before its event is let go; one may be there twice after a crash in between. While
//! the disk is full or away the engine tries again. A line that a power cut has torn is skipped with a warning: its event
//! was not let go.
//!
//! ```toml
//! [functions.vm.dead_letters]
//! use = "file"
//! path = "/var/lib/gaugefn/vm.dead"
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use runtime_core::config::{Claim, Concern, Hold, os_text};
use runtime_core::contract::{DeadLetters, Filed, Letter};
use runtime_core::registry::Nothing;
use runtime_core::{Around, Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Id, SHARED};
use lines::Lines;

mod lines;

/// Options of the dead letters `file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file; made with the first letter. Its folder must exist.
    #[serde(deserialize_with = "os_text::read")]
    path: PathBuf,
}

/// The dead letters `file`.
pub struct File {
    lines: Arc<Lines>,
}

impl Kind for File {
    type Role = dyn DeadLetters;
    type Config = Config;
    const NAME: &'static str = "file";
    const SUMMARY: &'static str = "a file of JSON lines on this machine";

    fn review(config: &Config) -> Vec<Concern> {
        if config.path.file_name().is_none() {
            return vec![Concern::new("path", "no name of a file; name the file that keeps the letters")];
        }
        Vec::new()
    }

    fn claims(config: &Config, _: &Nothing, _: &Around<'_>) -> Vec<Claim> {
        vec![Claim::file("path", Hold::Alone(SHARED), &config.path)]
    }

    async fn build(config: Config, _site: &Site<'_>) -> Result<Box<dyn DeadLetters>, Fault> {
        Ok(Box::new(Self { lines: Arc::new(Lines::new(config.path)) }))
    }
}

inventory::submit!(Entry::of::<File>());

#[async_trait]
impl DeadLetters for File {
    async fn put(&self, letters: &[Letter]) -> Result<(), Fault> {
        let letters = letters.to_vec();
        self.on_disk(move |lines| lines.append(&letters)).await
    }

    async fn check(&self) -> Result<(), Fault> {
        self.on_disk(Lines::check).await
    }

    fn describe(&self) -> String {
        format!("the file '{}'", self.lines.path().display())
    }

    async fn list(&self, after: Option<&str>, max: usize) -> Result<Vec<Filed>, Fault> {
        let after = after.and_then(Id::parse);
        self.on_disk(move |lines| lines.read(|id| after.is_none_or(|after| id > after), max)).await
    }

    async fn get(&self, id: &str) -> Result<Option<Filed>, Fault> {
        let Some(wanted) = Id::parse(id) else { return Ok(None) };
        Ok(self.on_disk(move |lines| lines.read(|id| id == wanted, 1)).await?.pop())
    }

    async fn remove(&self, ids: &[String]) -> Result<u64, Fault> {
        let ids = ids.iter().filter_map(|id| Id::parse(id)).collect();
        self.on_disk(move |lines| lines.remove(&ids)).await
    }
}

impl File {
    /// Waiting for a disk takes milliseconds, for a bad one seconds.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Lines) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let lines = Arc::clone(&self.lines);
        tokio::task::spawn_blocking(move || work(&lines)).await.unwrap_or_else(|error| {
            Err(Fault::internal("the work on the dead letters' file broke off").caused_by(error))
        })
    }
}
