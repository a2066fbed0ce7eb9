//! Processes that run the same function side by side, are killed and stopped, and start again under their names.

use super::admin::Admin;
use super::bed::PATIENCE;
use super::gaugefn::{Gaugefn, Running};
use super::wait::eventually;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::{read, read_dir, read_to_string, write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// One of the processes, in all of its lives. The code finds its name and the number of its life in the variable
/// `REPLICA` (`a1`, `a2`, …), and its folder in `FOLDER`.
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) admin: Admin,
    folder: PathBuf,
    config: PathBuf,
    life: usize,
    /// A program that starts it, with its first arguments.
    wrapper: Vec<String>,
    running: Option<Running>,
    /// What the lives before this one wrote.
    past: String,
}

impl Replica {
    /// Starts nothing yet. Replicas may share a folder: each has a configuration of its own there.
    pub(crate) fn place(folder: &Path, name: &str, config: &str) -> Self {
        let file = folder.join(format!("{name}.toml"));
        write(&file, config).unwrap();
        Self {
            name: name.to_owned(),
            admin: Admin::reserve(),
            folder: folder.to_path_buf(),
            config: file,
            life: 0,
            wrapper: Vec::new(),
            running: None,
            past: String::new(),
        }
    }

    /// From its next start on it is started by another program, whose first arguments these are and which becomes it.
    pub(crate) fn under<S: Into<String>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// Starts it, the life before this one being over, and waits for nothing.
    pub(crate) fn start(&mut self) {
        self.end();
        self.life += 1;
        // a worker that was being started when its parent was killed may hold the port for a moment
        self.admin = Admin::reserve();
        let command = Gaugefn::command()
            .args(["run", "--config"])
            .args([&self.config])
            .current_dir(&self.folder)
            .env("GAUGEFN__ADMIN__LISTEN", self.admin.listen())
            .env("REPLICA", self.life())
            .env("FOLDER", &self.folder);
        let wrapper: Vec<_> = self.wrapper.iter().map(String::as_str).collect();
        self.running = Some(if wrapper.is_empty() { command } else { command.under(&wrapper) }.spawn());
    }

    /// What the code finds in `REPLICA`.
    pub(crate) fn life(&self) -> String {
        format!("{}{}", self.name, self.life)
    }

    pub(crate) fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("a replica that was started")
    }

    /// SIGKILL, which ends its workers too.
    pub(crate) fn kill(&mut self) {
        self.running().signal(Signal::KILL);
        self.end();
    }

    fn end(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.wait_exit(PATIENCE);
            self.past.push_str(&running.written());
        }
    }

    /// Those that work, and those that are kept ready.
    pub(crate) fn workers(&mut self) -> Vec<Pid> {
        let mark = format!("GAUGEFN_WORKER={}-", self.running().pid());
        let pids = read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| {
            let environ = read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|entry| entry.starts_with(mark.as_bytes()))
        })
        .filter_map(Pid::from_raw)
        .collect()
    }

    pub(crate) fn process(&mut self) -> Process {
        Process::of(Pid::from_raw(self.running().pid().cast_signed()).unwrap()).expect("it was not waited for")
    }

    /// Everything that all of its lives wrote, for the message of a failed test.
    pub(crate) fn written(&self) -> String {
        let now = self.running.as_ref().map(Running::written).unwrap_or_default();
        format!("=== {}\n{}{now}", self.name, self.past)
    }

    /// Lines that contain all of these texts, of all of its lives.
    pub(crate) fn lines(&self, texts: &[&str]) -> usize {
        self.written().lines().filter(|line| texts.iter().all(|text| line.contains(text))).count()
    }

    pub(crate) fn wait_line(&self, texts: &[&str]) {
        let found = eventually(PATIENCE, || (self.lines(texts) > 0).then_some(()));
        assert!(found.is_some(), "no line with {texts:?}\n{}", self.written());
    }

    pub(crate) fn wait_ready(&mut self) {
        let mut last = None;
        let ready = eventually(PATIENCE, || {
            last = self.admin.get("/readyz").ok();
            last.as_ref().filter(|(status, _)| *status == 200).map(drop)
        });
        assert!(ready.is_some(), "not ready: {last:?}\n{}", self.written());
    }

    /// A metric of this life; 0 where nobody answers or there is no such series yet.
    pub(crate) fn metric(&mut self, name: &str) -> u64 {
        self.admin.metric(name, "vm").ok().flatten().unwrap_or_default() as u64
    }
}

/// A process that may end at any time: its number is never mistaken for that of another one.
pub(crate) struct Process {
    pid: Pid,
    descriptor: OwnedFd,
    stopped: bool,
}

impl Process {
    /// None where it has ended.
    pub(crate) fn of(pid: Pid) -> Option<Self> {
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        Some(Self { pid, descriptor, stopped: false })
    }

    /// Whether it was still there.
    pub(crate) fn signal(&mut self, signal: Signal) -> bool {
        pidfd_send_signal(&self.descriptor, signal).is_ok()
    }

    /// SIGSTOP until this value is gone; whether it was still there. Waits until none of its threads runs any more, which
    /// takes its time on a busy machine.
    pub(crate) fn stop(&mut self) -> bool {
        self.stopped = self.signal(Signal::STOP);
        let stops = |stat: &str| stat.rsplit_once(") ").is_some_and(|(_, rest)| !"RSD".contains(&rest[..1]));
        let all_stop = || {
            let tasks = read_dir(format!("/proc/{}/task", self.pid.as_raw_nonzero())).into_iter().flatten().flatten();
            tasks
                .filter_map(|task| read_to_string(task.path().join("stat")).ok())
                .all(|stat| stops(&stat))
                .then_some(())
        };
        assert!(!self.stopped || eventually(PATIENCE, all_stop).is_some(), "process {:?} does not stop", self.pid);
        self.stopped
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // whoever is stopped would outlive the test
        if self.stopped {
            self.signal(Signal::CONT);
        }
    }
}
