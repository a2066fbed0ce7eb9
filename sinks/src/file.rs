//! Lines of a file: one result each, appended.
//!
//! Delivery: at least once; with `sync`, a line that was acknowledged survives a power cut. A write that fails part
//! way (a full disk) is cut off again, and the engine tries again. Half a line that a kill or a power cut has left stays
//! and is ended before the next one, so it takes no other along: who reads the file skips what is no JSON. Several
//! processes may append to one file, if its file system has locks.
//!
//! A named pipe may stand in the file's place: what it does not take is written when it does, and without a reader the
//! engine waits for one.
//!
//! ```toml
//! [functions.vm.sinks.archive]
//! use = "file"
//! path = "/var/lib/gaugefn/results.jsonl"
//! sync = true
//! ```

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use runtime_core::config::{Claim, Concern, Hold, os_text};
use runtime_core::contract::{Output, Sink};
use runtime_core::registry::Nothing;
use runtime_core::{Around, Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::stdout::lines;
use place::Place;

mod place;

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
    place: Arc<Mutex<Place>>,
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
        // in this process they lead to the log: descriptor 1 is kept away from user code
        let streams = ["/dev/stdout", "/dev/stderr", "/dev/stdin", "/dev/fd", "/proc/self/fd"];
        if let Some(stream) = streams.iter().find(|stream| config.path.starts_with(stream)) {
            let shown = config.path.display();
            let remedy = match *stream {
                "/dev/stdout" => "for standard output use the sink `stdout`",
                _ => "name a file, or use the sink `stdout`",
            };
            return vec![Concern::new("path", format!("'{shown}' is a stream of the process and no file; {remedy}"))];
        }
        Vec::new()
    }

    fn claims(config: &Config, _: &Nothing, _: &Around<'_>) -> Vec<Claim> {
        vec![Claim::file("path", Hold::Writes, &config.path)]
    }

    async fn build(config: Config, _site: &Site<'_>) -> Result<Box<dyn Sink>, Fault> {
        Ok(Box::new(Self::at(config.path, config.sync)))
    }
}

inventory::submit!(Entry::of::<Lines>());

#[async_trait]
impl Sink for Lines {
    async fn write(&mut self, outputs: &[Output]) -> Result<(), Fault> {
        let lines = lines(outputs);
        self.on_disk(move |place| place.append(&lines)).await
    }

    async fn check(&mut self) -> Result<(), Fault> {
        self.on_disk(Place::check).await
    }
}

impl Lines {
    fn at(path: PathBuf, sync: bool) -> Self {
        Self { place: Arc::new(Mutex::new(Place::new(path, sync))) }
    }

    /// Waiting for a disk takes milliseconds, for a bad one seconds, for a pipe as long as its reader likes.
    async fn on_disk(&self, work: impl FnOnce(&mut Place) -> Result<(), Fault> + Send + 'static) -> Result<(), Fault> {
        let place = Arc::clone(&self.place);
        let done = tokio::task::spawn_blocking(move || work(&mut place.lock().unwrap_or_else(PoisonError::into_inner)));
        done.await.unwrap_or_else(|error| Err(Fault::internal("writing a file was interrupted").caused_by(error)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{File, read_to_string, rename, write};
    use std::io::Read;

    use rustix::fs::{CWD, FlockOperation, Mode, flock, mkfifoat};

    use super::*;

    fn output(payload: &'static str) -> Output {
        Output { event_id: "1".into(), event: "".into(), payload: payload.into() }
    }

    #[tokio::test]
    async fn results_are_appended_to_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        write(&path, "1\n").unwrap();
        let mut sink = Lines::at(path.clone(), true);
        runtime_core::testkit::sink_contract(&mut sink, &["2"]).await;
        assert_eq!(read_to_string(&path).unwrap(), "1\n2\n2\n");
    }

    #[tokio::test]
    async fn half_a_line_takes_no_other_along() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        // a power cut may leave what was never written
        for half in ["{\"n\": 1", "{\"n\": 1}", "\0\0\0"] {
            write(&path, format!("0\n{half}")).unwrap();
            let mut sink = Lines::at(path.clone(), false);
            sink.write(&[output("2")]).await.unwrap();
            // while it is open as well
            let mut other = File::options().append(true).open(&path).unwrap();
            std::io::Write::write_all(&mut other, b"half").unwrap();
            sink.write(&[output("3"), output("4")]).await.unwrap();
            assert_eq!(read_to_string(&path).unwrap(), format!("0\n{half}\n2\nhalf\n3\n4\n"));
        }
    }

    #[tokio::test]
    async fn a_file_that_was_rotated_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let [path, old] = ["results", "results.1"].map(|name| folder.path().join(name));
        let mut sink = Lines::at(path.clone(), true);
        sink.write(&[output("1")]).await.unwrap();
        rename(&path, &old).unwrap();
        sink.write(&[output("2")]).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        sink.write(&[output("3")]).await.unwrap();
        assert_eq!([&old, &path].map(|path| read_to_string(path).unwrap()), ["1\n", "3\n"]);
    }

    #[tokio::test]
    async fn one_at_a_time_is_at_the_end_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results");
        let held = File::create(&path).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        let mut sink = Lines::at(path.clone(), false);
        let fault = sink.write(&[output("1")]).await.unwrap_err();
        assert!(fault.retry() && fault.to_string().contains("has been locked by another process"), "{fault}");
        drop(held);
        sink.write(&[output("1")]).await.unwrap();
        assert_eq!(read_to_string(&path).unwrap(), "1\n");
    }

    #[tokio::test]
    async fn a_named_pipe_is_waited_for_and_its_reader_sees_no_end_between_batches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        mkfifoat(CWD, &path, Mode::RWXU).unwrap();
        let mut sink = Lines::at(path.clone(), false);
        for fault in [sink.check().await.unwrap_err(), sink.write(&[output("1")]).await.unwrap_err()] {
            assert!(fault.retry() && fault.to_string().starts_with("nobody reads the pipe"), "{fault}");
        }
        let (opened, open) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let options = File::options().read(true).write(true).open(&path);
            // as a reader that is there before the writer
            let mut pipe = options.unwrap();
            opened.send(()).unwrap();
            let mut text = vec![0; 2 + 200_001];
            pipe.read_exact(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        });
        open.recv().unwrap();
        sink.write(&[output("1")]).await.unwrap();
        // more than a pipe holds
        let long: String = "2".repeat(200_000);
        let output = Output { payload: long.clone().into(), ..output("") };
        sink.write(&[output]).await.unwrap();
        assert_eq!(reader.join().unwrap(), format!("1\n{long}\n"));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_named_and_tried_again() {
        for path in ["/proc/no/such", "/proc", "/dev/full"] {
            let fault = Lines::at(path.into(), false).write(&[output("1")]).await.unwrap_err();
            assert!(fault.retry());
            assert!(fault.to_string().starts_with(&format!("file '{path}' cannot be written")), "{fault}");
        }
    }

    #[test]
    fn streams_of_the_process_are_no_files() {
        for (path, remedy) in [("/dev/stdout", "use the sink `stdout`"), ("/proc/self/fd/1", "name a file")] {
            let concerns = Lines::review(&Config { path: path.into(), sync: false });
            assert!(concerns.len() == 1 && format!("{concerns:?}").contains(remedy), "{concerns:?}");
        }
        assert!(Lines::review(&Config { path: "/dev/null".into(), sync: false }).is_empty());
    }
}
