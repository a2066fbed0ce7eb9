//! Deployments described by the environment alone: the real binary and a real redis-server, and nothing else set.
//!
//! * `zips` - every form of a zip that is in use
//! * `single` - every form of a single file
//! * `aliases` - the other names of the variables
//! * `connection` - users, passwords, sockets, encryption
//! * `composed` - sources, executors and sinks put together by `GAUGEFN__…`

mod aliases;
mod composed;
mod connection;
mod single;
mod zips;

pub(crate) use zips::extension;

use crate::support::gaugefn::{Gaugefn, Running};
use crate::support::redis::RedisServer;
use crate::support::wait::eventually;
use redis::Commands;
use std::fs::{File, create_dir_all, write};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Far above what a start and a call take, on a machine that runs every test at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the functions of these tests are called with.
const EVENT: &str = r#"{"n": 20, "host": "node-1"}"#;

/// Gives `n + 1` where it is called with [`EVENT`].
const FUNCTION: &str = "def handler(input, context):\n    return {'n': input['n'] + 1}\n";

/// A server with the event in its input key, and a folder for the function.
struct Bed {
    server: RedisServer,
    folder: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let bed = Self { server: RedisServer::start(), folder: tempfile::tempdir().unwrap() };
        let () = bed.redis().set("metrics", EVENT).unwrap();
        bed
    }

    fn redis(&self) -> redis::Connection {
        self.server.connection()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file below the folder.
    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        create_dir_all(path.parent().unwrap()).unwrap();
        write(&path, content).unwrap();
        path
    }

    /// The variables of the replaced image's deployments, and a period that suits a test.
    fn gaugefn(&self) -> Gaugefn {
        self.elsewhere("127.0.0.1").env("REDIS_MONITOR_PERIOD", "0.02")
    }

    /// The same with another host and the default period.
    fn elsewhere(&self, host: &str) -> Gaugefn {
        Gaugefn::command()
            .args(["run"])
            .env("REDIS_HOST", host)
            .env("REDIS_PORT", self.server.port().to_string())
            .env("REDIS_INPUT_KEY", "metrics")
            .env("REDIS_OUTPUT_KEY", "result")
    }

    /// What the started binary stores first; what another one left is removed.
    fn result(&self, gaugefn: Gaugefn) -> String {
        let () = self.redis().del("result").unwrap();
        self.stored(&mut gaugefn.spawn())
    }

    /// The result, once it is there.
    fn stored(&self, running: &mut Running) -> String {
        self.stored_in("result", running)
    }

    fn stored_in(&self, key: &str, running: &mut Running) -> String {
        let mut redis = self.redis();
        let found = eventually(PATIENCE, || {
            let ended = running.exited().is_some();
            let value: Option<String> = redis.get(key).unwrap();
            value.map(Some).or(ended.then_some(None))
        });
        found.flatten().unwrap_or_else(|| panic!("nothing is stored in '{key}'\n{}", running.written()))
    }
}

/// A zip as packers write it.
pub(crate) fn zip(path: &Path, files: &[(&str, &[u8])]) {
    let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
    for (name, content) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
}

/// The base64 text of a file, in lines of 76 letters as `base64` writes it.
fn base64_of(path: &Path) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let text = BASE64_STANDARD.encode(std::fs::read(path).unwrap());
    let lines: Vec<&str> = text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    lines.join("\n") + "\n"
}
