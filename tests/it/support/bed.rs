//! One Python function `vm` from the Redis key `metrics` to the Redis key `result`, with its admin endpoint.

use super::admin::Admin;
use super::gaugefn::{Gaugefn, Running};
use super::redis::RedisServer;
use super::tier::soak;
use super::wait::eventually;
use redis::Commands;
use std::fs::{read_to_string, write};
use std::path::PathBuf;
use std::time::Duration;

/// Nothing waits this long unless the machine is in trouble or the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A handler that returns its input and writes it, with the time, into the file `calls`.
pub(crate) const RECORDING: &str = r#"
import json, os, time

CALLS = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "calls"), "a", buffering=1)


def handler(input, context):
    CALLS.write(json.dumps([time.monotonic(), input]) + "\n")
    return {"got": input}
"#;

/// A bound on a measured time: as the product promises in the long run, five times that on a busy machine.
pub(crate) fn bound(promised: Duration) -> Duration {
    if soak() { promised } else { promised * 5 }
}

/// What is to be started.
pub(crate) struct Bed {
    pub(crate) folder: tempfile::TempDir,
    config: String,
    gaugefn: Gaugefn,
    admin: Admin,
}

/// The process, once it has been started.
pub(crate) struct Vm {
    pub(crate) running: Running,
    pub(crate) admin: Admin,
    pub(crate) folder: tempfile::TempDir,
}

impl Bed {
    /// `source` holds lines of the source's table, `code` the function's file.
    pub(crate) fn new(server: &RedisServer, source: &str, code: &str) -> Self {
        let bed = Self::bare(code);
        let module = bed.folder.path().join("usermodule.py");
        let config = format!(
            "[redis]\nurl = \"{}\"\n\
             [functions.vm.source]\nuse = \"redis_key\"\nkey = \"metrics\"\n{source}\n\
             [functions.vm.loader]\nuse = \"file\"\npath = \"{}\"\n\
             [functions.vm.executor]\nuse = \"python\"\n\
             [functions.vm.sinks.result]\nuse = \"redis_key\"\nkey = \"result\"\n",
            server.url(),
            module.display()
        );
        bed.more(&config)
    }

    /// Only the function's file, and `run --config` with nothing in it yet.
    pub(crate) fn bare(code: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path().join("usermodule.py"), code).unwrap();
        let admin = Admin::reserve();
        let gaugefn = Gaugefn::command()
            .args(["run", "--config"])
            .args([folder.path().join("gaugefn.toml")])
            .current_dir(folder.path())
            .env("GAUGEFN__ADMIN__LISTEN", admin.listen());
        Self { folder, config: String::new(), gaugefn, admin }
    }

    /// Further lines of the configuration; the table that is open belongs to the sink `result`.
    pub(crate) fn more(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.gaugefn = self.gaugefn.env(name, value);
        self
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.gaugefn = self.gaugefn.args(args);
        self
    }

    pub(crate) fn under(mut self, wrapper: &[&str]) -> Self {
        self.gaugefn = self.gaugefn.under(wrapper);
        self
    }

    /// Starts the process and waits for nothing.
    pub(crate) fn spawn(self) -> Vm {
        write(self.folder.path().join("gaugefn.toml"), &self.config).unwrap();
        Vm { running: self.gaugefn.spawn(), admin: self.admin, folder: self.folder }
    }

    /// Starts the process and waits until it is ready.
    pub(crate) fn start(self) -> Vm {
        let mut vm = self.spawn();
        vm.wait_ready(PATIENCE);
        vm
    }
}

impl Vm {
    /// Status and body of `/readyz`; `None` while nobody answers there.
    pub(crate) fn readiness(&mut self) -> Option<(u16, String)> {
        self.admin.get("/readyz").ok()
    }

    pub(crate) fn wait_ready(&mut self, timeout: Duration) {
        let mut last = None;
        let ready = eventually(timeout, || {
            last = self.readiness();
            let ready = last.as_ref().is_some_and(|(status, _)| *status == 200);
            (ready || self.running.exited().is_some()).then_some(ready)
        });
        assert!(ready == Some(true), "not ready: {last:?}\n{}", self.running.written());
    }

    /// Waits until it is not ready for a reason that contains `reason`; the whole answer.
    pub(crate) fn wait_unready(&mut self, reason: &str, timeout: Duration) -> String {
        let mut last = None;
        let found = eventually(timeout, || {
            last = self.readiness();
            let body = last.as_ref().filter(|(status, body)| *status == 503 && body.contains(reason));
            body.map(|(_, body)| body.clone())
        });
        found.unwrap_or_else(|| panic!("no {reason:?} in {last:?}\n{}", self.running.written()))
    }

    /// Calls that have ended.
    pub(crate) fn calls(&mut self) -> u64 {
        self.admin.metric("invocations_total", "vm").unwrap().unwrap_or_default() as u64
    }

    /// Waits until that many calls have ended and the last one is committed.
    pub(crate) fn wait_calls(&mut self, calls: u64) {
        // one look after the other: within one look the gauge may have been read before the call began
        for (name, least, most) in [("invocations_total", calls, u64::MAX), ("in_flight", 0, 0)] {
            let mut last = None;
            let arrived = eventually(PATIENCE, || {
                last = self.admin.metric(name, "vm").ok().flatten();
                last.is_some_and(|value| (least..=most).contains(&(value as u64))).then_some(())
            });
            assert!(arrived.is_some(), "{name} is {last:?}, not {calls} calls\n{}", self.running.written());
        }
    }

    /// Waits until the key `result` holds this text.
    pub(crate) fn wait_result(&mut self, redis: &mut redis::Connection, text: &str, timeout: Duration) {
        let mut last: Option<String> = None;
        let arrived = eventually(timeout, || {
            last = redis.get("result").unwrap();
            (last.as_deref() == Some(text)).then_some(())
        });
        assert!(
            arrived.is_some(),
            "the result is {last:?}, not {text:?} within {timeout:?}\n{}",
            self.running.written()
        );
    }

    /// Lines of the log that contain every one of these texts.
    pub(crate) fn lines(&self, texts: &[&str]) -> usize {
        let log = self.running.stderr();
        log.lines().filter(|line| texts.iter().all(|text| line.contains(text))).count()
    }

    /// Waits for so many [`lines`](Self::lines): what was written may not have been read yet.
    pub(crate) fn wait_lines(&self, texts: &[&str], count: usize) {
        let mut last = 0;
        let arrived = eventually(PATIENCE, || {
            last = self.lines(texts);
            (last >= count).then_some(())
        });
        assert!(
            arrived.is_some() && last == count,
            "{last} lines with {texts:?}, not {count}\n{}",
            self.running.written()
        );
    }

    /// Times and inputs of the calls of a [`RECORDING`] function.
    pub(crate) fn recorded(&self) -> Vec<(f64, serde_json::Value)> {
        let path: PathBuf = self.folder.path().join("calls");
        let text = read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// How often the server has been asked for a value, by the test too.
pub(crate) fn looks(redis: &mut redis::Connection) -> u64 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(redis).unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or_default()
}

/// Waits until the server has been asked for a value that many more times.
pub(crate) fn wait_looks(redis: &mut redis::Connection, more: u64) {
    let wanted = looks(redis) + more;
    let arrived = eventually(PATIENCE, || (looks(redis) >= wanted).then_some(()));
    assert!(arrived.is_some(), "nobody asks redis for a value");
}
