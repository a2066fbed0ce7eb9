//! Lines of a file: one result each, appended.
//!
//! Delivery: at least once; with `sync`, a line that was acknowledged survives a power cut. A write that fails part
//! way (a full disk) is cut off again, so that the file never holds half a line; the engine tries again.
//!
//! ```toml
//! [functions.vm.sinks.archive]
//! use = "file"
//! path = "/var/lib/gaugefn/results.jsonl"
//! sync = true
//! ```

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use runtime_core::config::{Claim, Concern, Hold, os_text};
use runtime_core::contract::{Output, Sink};
use runtime_core::registry::Nothing;
use runtime_core::{Around, Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::stdout::lines;

/// Options of the sink `file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file; made if it is not there. Its folder must exist.
    #[serde(deserialize_with = "os_text::read")]
    path: PathBuf,
    /// Whether each batch is on the disk before its events count as done.
    #[serde(default)]
    sync: bool,
}

/// The sink `file`.
pub struct Lines {
    path: PathBuf,
    sync: bool,
}

impl Kind for Lines {
    type Role = dyn Sink;
    type Config = Config;
    const NAME: &'static str = "file";
    const SUMMARY: &'static str = "lines of a file, one result each, appended";

    fn review(config: &Config) -> Vec<Concern> {
        if config.path.as_os_str().is_empty() {
            return vec![Concern::new("path", "empty; name the file that results are appended to")];
        }
        Vec::new()
    }

    fn claims(config: &Config, _: &Nothing, _: &Around<'_>) -> Vec<Claim> {
        vec![Claim::file("path", Hold::Writes, &config.path)]
    }

    async fn build(config: Config, _site: &Site<'_>) -> Result<Box<dyn Sink>, Fault> {
        Ok(Box::new(Self { path: config.path, sync: config.sync }))
    }
}

inventory::submit!(Entry::of::<Lines>());

#[async_trait]
impl Sink for Lines {
    async fn write(&mut self, outputs: &[Output]) -> Result<(), Fault> {
        let lines = lines(outputs);
        let sync = self.sync;
        self.with_file(move |file| append(file, &lines, sync)).await
    }

    async fn check(&mut self) -> Result<(), Fault> {
        self.with_file(|_| Ok(())).await
    }
}

impl Lines {
    /// Opened for each batch: the file may have been rotated away.
    async fn with_file(
        &self,
        work: impl FnOnce(&mut File) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), Fault> {
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || open(&path).and_then(|mut file| work(&mut file))).await;
        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let path = self.path.display();
                Err(Fault::backend(format!(
                    "file '{path}' cannot be written: check its folder, permissions and free space"
                ))
                .caused_by(error))
            }
            Err(error) => Err(Fault::internal("writing a file was interrupted").caused_by(error)),
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn append(file: &mut File, lines: &[u8], sync: bool) -> std::io::Result<()> {
    let before = file.metadata()?;
    let written = file.write_all(lines).and_then(|()| if sync { file.sync_data() } else { Ok(()) });
    if written.is_err() && before.is_file() {
        file.set_len(before.len())?;
    }
    written
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_are_appended_to_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        std::fs::write(&path, "1\n").unwrap();
        let mut sink = Lines { path: path.clone(), sync: true };
        runtime_core::testkit::sink_contract(&mut sink, &["2"]).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n2\n");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_named_and_tried_again() {
        let mut sink = Lines { path: "/proc/no/such".into(), sync: false };
        let output = Output { event_id: "1".into(), event: "".into(), payload: "1".into() };
        let fault = sink.write(&[output]).await.unwrap_err();
        assert!(fault.retry());
        assert!(fault.to_string().starts_with("file '/proc/no/such' cannot be written"), "{fault}");
    }
}
