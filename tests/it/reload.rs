//! New code takes over while the function runs: nothing is lost, nothing runs twice, a bad version changes nothing.

mod beside;
mod python;
mod swaps;

use std::fs::{create_dir, read_to_string, remove_dir_all, rename, write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::bed::{Bed, PATIENCE, Vm};
use crate::support::project;
use crate::support::wait::eventually;

/// A handler that counts in `context.env`, and says which version it is.
fn counting(version: usize) -> String {
    format!(
        "def handler(input, context):\n    \
             context.env['calls'] = context.env.get('calls', 0) + 1\n    \
             return {{'v': {version}, 'calls': context.env['calls'], 'event': input}}\n"
    )
}

/// A library that does the same.
fn library(folder: &Path, version: usize, more: &[&str]) -> PathBuf {
    let path = folder.join(format!("libcounter{version}.so"));
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I"]).arg(project("sdk/include"));
    cc.arg(format!("-DVERSION={version}")).args(more).arg("-o").arg(&path).arg(project("tests/libraries/counter.c"));
    let output = cc.output().expect("a C compiler: apt-get install gcc libc6-dev");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}

/// A folder as Kubernetes mounts a ConfigMap: the names are links through `..data`, which is swapped as a whole.
struct ConfigMap {
    folder: PathBuf,
    written: usize,
}

impl ConfigMap {
    fn mount(folder: PathBuf, files: &[(&str, &[u8])]) -> Self {
        create_dir(&folder).unwrap();
        let mut map = Self { folder, written: 0 };
        map.swap(files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), map.folder.join(name)).unwrap();
        }
        map
    }

    fn swap(&mut self, files: &[(&str, &[u8])]) {
        let old = self.folder.join(format!("..2026_{}", self.written));
        self.written += 1;
        let name = format!("..2026_{}", self.written);
        create_dir(self.folder.join(&name)).unwrap();
        for (file, content) in files {
            write(self.folder.join(&name).join(file), content).unwrap();
        }
        symlink(&name, self.folder.join("..data_tmp")).unwrap();
        rename(self.folder.join("..data_tmp"), self.folder.join("..data")).unwrap();
        if self.written > 1 {
            remove_dir_all(old).unwrap();
        }
    }
}

/// A function that gets one event every 20 ms from a file, and appends its results to another.
struct Paced {
    vm: Vm,
}

impl Paced {
    /// `loader` and `executor` are tables in one line.
    fn start(loader: &str, executor: &str) -> Self {
        Self::start_with(loader, executor, "")
    }

    fn start_with(loader: &str, executor: &str, more: &str) -> Self {
        let bed = Bed::bare("");
        let folder = bed.folder.path().to_path_buf();
        let events: String = (0..100_000).map(|n| format!("{n}\n")).collect();
        write(folder.join("events.jsonl"), events).unwrap();
        let config = format!(
            "[functions.vm]\nloader = {loader}\nexecutor = {{ use = \"{executor}\" }}\n{more}\n\
             source = {{ use = \"file\", path = \"events.jsonl\", period = \"20ms\" }}\n\
             sinks.result = {{ use = \"file\", path = \"results.jsonl\" }}\n"
        );
        let mut paced = Self { vm: bed.more(&config).start() };
        paced.wait_for("the first result", |result| result["calls"] == 1);
        paced
    }

    fn results(&self) -> Vec<Value> {
        let text = read_to_string(self.vm.folder.path().join("results.jsonl")).unwrap_or_default();
        // the last line may be half written
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits for a result.
    fn wait_for(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) {
        let found = eventually(PATIENCE, || self.results().iter().rev().take(100).any(&is_it).then_some(()));
        assert!(found.is_some(), "no {what}: last {:?}\n{}", self.results().last(), self.vm.running.written());
    }

    fn wait_version(&mut self, version: usize) {
        self.wait_for(&format!("result of version {version}"), |result| result["v"] == version);
    }

    /// Waits for so many further results.
    fn wait_more(&mut self, more: usize) {
        let wanted = self.results().len() + more;
        let arrived = eventually(PATIENCE, || (self.results().len() >= wanted).then_some(()));
        assert!(arrived.is_some(), "no more results\n{}", self.vm.running.written());
    }

    fn reloads(&mut self, outcome: &str) -> usize {
        let (_, body) = self.vm.admin.get("/metrics").unwrap();
        let wanted = format!("outcome=\"{outcome}\"");
        let line = body.lines().find(|line| line.starts_with("gaugefn_reloads_total{") && line.contains(&wanted));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    fn wait_reloads(&mut self, outcome: &str, count: usize) {
        let mut last = 0;
        let arrived = eventually(PATIENCE, || {
            last = self.reloads(outcome);
            (last >= count).then_some(())
        });
        assert!(
            arrived.is_some() && last == count,
            "{last} reloads '{outcome}', not {count}\n{}",
            self.vm.running.written()
        );
    }

    /// Every event once, in order, and one state for all of them.
    fn assert_whole(&self) {
        for (n, result) in self.results().iter().enumerate() {
            assert_eq!((&result["event"], &result["calls"]), (&n.into(), &(n + 1).into()), "line {}", n + 1);
        }
    }

    fn stop(mut self) -> Self {
        self.vm.running.signal(rustix::process::Signal::TERM);
        let status = self.vm.running.wait_exit(PATIENCE);
        assert_eq!(status.code(), Some(0), "{}", self.vm.running.written());
        self
    }
}

/// Long enough for a change to be noticed, were it one.
const SOON: Duration = Duration::from_millis(300);
