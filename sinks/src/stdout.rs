//! Lines on standard output: one result each.
//!
//! Delivery: at least once, as far as whoever reads goes. Output of user code never gets in between: the sink has the
//! process's real standard output, which the function does not. Every line is whole: one that does not fit at the
//! moment is ended later, and while a disk is full the engine tries again. A reader who has gone, or a terminal, ends
//! the function.
//!
//! ```toml
//! [functions.vm.sinks.stdout]
//! ```

use std::fs::File;
use std::io::ErrorKind;
use std::sync::Arc;

use async_trait::async_trait;
use runtime_core::contract::{Output, Sink};
use runtime_core::stdout::{self, Unwritten};
use runtime_core::{Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;

/// Options of the sink `stdout`: none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// The sink `stdout`.
pub struct Stdout {
    out: Arc<File>,
    /// Lines of which a part could not be written, and how much of them is done.
    begun: Option<(Vec<u8>, usize)>,
}

impl Kind for Stdout {
    type Role = dyn Sink;
    type Config = Config;
    const NAME: &'static str = "stdout";
    const SUMMARY: &'static str = "lines on standard output, one result each";

    async fn build(_config: Config, site: &Site<'_>) -> Result<Box<dyn Sink>, Fault> {
        Ok(Box::new(Self { out: Arc::clone(&site.stdout), begun: None }))
    }
}

inventory::submit!(Entry::of::<Stdout>());

#[async_trait]
impl Sink for Stdout {
    async fn write(&mut self, outputs: &[Output]) -> Result<(), Fault> {
        let out = Arc::clone(&self.out);
        let lines = lines(outputs);
        let before = self.begun.take().filter(|(begun, _)| *begun == lines).map_or(0, |(_, done)| done);
        // a pipe whose reader is slow blocks
        let written = tokio::task::spawn_blocking(move || {
            let written = stdout::write(&out, &lines[before..]);
            written.map_err(|Unwritten { done, error }| (lines, before + done, error))
        });
        let (lines, done, error) = match written.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(unwritten)) => unwritten,
            Err(error) => return Err(Fault::internal("writing to standard output was interrupted").caused_by(error)),
        };
        self.begun = Some((lines, done));
        Err(match error.kind() {
            ErrorKind::BrokenPipe => {
                Fault::backend("standard output cannot be written, its reader has gone").caused_by(error).fatal()
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Fault::backend("standard output cannot be written").caused_by(error)
            }
            _ => Fault::internal("standard output cannot be written").caused_by(error).fatal(),
        })
    }
}

/// One line per result. Line breaks are only legal between the tokens of JSON, where a blank means the same.
pub(crate) fn lines(outputs: &[Output]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(outputs.iter().map(|output| output.payload.len() + 1).sum());
    for output in outputs {
        lines.extend(output.payload.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        lines.push(b'\n');
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    #[tokio::test]
    async fn each_result_is_one_line() {
        let mut file = tempfile::tempfile().unwrap();
        let mut sink = Stdout { out: Arc::new(file.try_clone().unwrap()), begun: None };
        runtime_core::testkit::sink_contract(&mut sink, &["{\"a\": 1}", "[1,\n2]"]).await;
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "{\"a\": 1}\n{\"a\": 1}\n[1, 2]\n[1, 2]\n");
    }
}
