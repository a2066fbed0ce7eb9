//! Parent side: how a worker ended, awaited without touching any other child of this process.
//!
//! Only this worker is waited for, by a descriptor of its own, so `std::process`, tokio and Python's `subprocess` keep
//! the exit statuses of their children. The worker stays a zombie until [`Watch::reap`]: as long, its number, which is
//! also that of its process group, cannot belong to anybody else, and killing the group is safe.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use rustix::process::{kill_process, pidfd_open, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It left by itself, with this code.
    Code(i32),
    /// A signal killed it.
    Signal {
        /// Its number.
        number: i32,
        /// Whether the kernel wrote a core file.
        core: bool,
    },
}

/// "exited with 3", "killed by SIGSEGV".
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with {code}"),
            Self::Signal { number, core } => {
                match name(*number) {
                    Some(name) => write!(f, "killed by {name}")?,
                    None => write!(f, "killed by signal {number}")?,
                }
                if *core { f.write_str(" (core dumped)") } else { Ok(()) }
            }
        }
    }
}

/// The name of a signal, if it has one: those of real time have numbers only.
#[must_use]
pub fn name(number: i32) -> Option<&'static str> {
    Some(match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGSTKFLT => "SIGSTKFLT",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGVTALRM => "SIGVTALRM",
        libc::SIGPROF => "SIGPROF",
        libc::SIGIO => "SIGIO",
        libc::SIGPWR => "SIGPWR",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

/// What becomes ready when the process has ended.
#[derive(Debug)]
enum Eye {
    Descriptor(AsyncFd<OwnedFd>),
    /// Where the kernel or a sandbox knows no pidfds.
    Thread(watch::Receiver<bool>),
}

/// One child of this process, which nobody else waits for.
#[derive(Debug)]
pub struct Watch {
    pid: Pid,
    eye: Eye,
    reaped: AtomicBool,
}

impl Watch {
    /// Of a child that was just started and has not been waited for. Inside a tokio runtime.
    ///
    /// # Errors
    /// There is no such child, or no descriptor is left.
    pub fn new(pid: Pid) -> io::Result<Self> {
        let eye = match pidfd_open(pid, PidfdFlags::empty()) {
            // SAFETY: an `OwnedFd` stays the same open descriptor until it is dropped
            Ok(fd) => Eye::Descriptor(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?),
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => Self::thread(pid)?,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { pid, eye, reaped: AtomicBool::new(false) })
    }

    fn thread(pid: Pid) -> io::Result<Eye> {
        let (ended, eye) = watch::channel(false);
        let wait = move || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(pid), options), Err(Errno::INTR)) {}
            // nobody may be interested any more
            let _ = ended.send(true);
        };
        thread::Builder::new().name("watch".to_owned()).stack_size(64 << 10).spawn(wait)?;
        Ok(Eye::Thread(eye))
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it has ended. May be asked again, by several, also after [`reap`](Self::reap) once it was answered
    /// before. A future that is dropped loses nothing.
    ///
    /// # Errors
    /// Somebody else has taken its status.
    pub async fn ended(&self) -> io::Result<Exit> {
        match &self.eye {
            Eye::Descriptor(fd) => drop(fd.readable().await?),
            Eye::Thread(ended) => {
                // the thread has sent before it goes, so a closed channel tells the same
                let _ = ended.clone().wait_for(|ended| *ended).await;
            }
        }
        self.status(WaitIdOptions::NOWAIT)?
            .ok_or_else(|| io::Error::other(format!("process {} ended and has no status", self.pid)))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// Somebody else has taken its status.
    pub fn exit(&self) -> io::Result<Option<Exit>> {
        self.status(WaitIdOptions::NOWAIT)
    }

    /// Lets the number go of a process that has ended: nothing can be asked and nobody can be killed through it
    /// afterwards. `None` where it still runs.
    ///
    /// # Errors
    /// Somebody else has taken its status.
    pub fn reap(&self) -> io::Result<Option<Exit>> {
        let exit = self.status(WaitIdOptions::empty())?;
        if exit.is_some() {
            self.reaped.store(true, Ordering::Release);
        }
        Ok(exit)
    }

    /// Whether [`reap`](Self::reap) has let it go.
    #[must_use]
    pub fn is_reaped(&self) -> bool {
        self.reaped.load(Ordering::Acquire)
    }

    /// Sends a signal to the process alone, by its number: those of real time have no names.
    ///
    /// # Errors
    /// It has been reaped, or there is no such signal.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        if self.is_reaped() {
            return Err(Errno::SRCH.into());
        }
        // not reaped, so the number is still this process's
        Ok(kill_process(self.pid, signal(number)?)?)
    }

    fn status(&self, how: WaitIdOptions) -> io::Result<Option<Exit>> {
        let id = match &self.eye {
            Eye::Descriptor(fd) => WaitId::PidFd(fd.as_fd()),
            Eye::Thread(_) => WaitId::Pid(self.pid),
        };
        let status = waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | how)?;
        Ok(status.map(|status| match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, number) => Exit::Signal { number: number.unwrap_or_default(), core: status.dumped() },
        }))
    }
}

fn signal(number: i32) -> io::Result<Signal> {
    if !(1..=libc::SIGRTMAX()).contains(&number) {
        return Err(Errno::INVAL.into());
    }
    // SAFETY: a valid number, and sending one that libc keeps for itself harms at most the worker
    Ok(unsafe { Signal::from_raw_unchecked(number) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::process::Command;

    /// A child that nobody of std waits for.
    #[allow(clippy::zombie_processes)]
    fn shell(script: &str) -> Pid {
        let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        Pid::from_child(&child)
    }

    fn by_thread(pid: Pid) -> Watch {
        Watch { pid, eye: Watch::thread(pid).unwrap(), reaped: AtomicBool::new(false) }
    }

    #[tokio::test]
    async fn every_way_to_end_has_its_words() {
        for (script, words) in [
            ("exit 0", "exited with 0"),
            ("exit 3", "exited with 3"),
            ("ulimit -c 0; kill -SEGV $$", "killed by SIGSEGV"),
            ("ulimit -c 0; kill -ABRT $$", "killed by SIGABRT"),
            ("kill -KILL $$", "killed by SIGKILL"),
            ("kill -40 $$", "killed by signal 40"),
        ] {
            for watch in [Watch::new(shell(script)).unwrap(), by_thread(shell(script))] {
                assert_eq!(watch.ended().await.unwrap().to_string(), words);
                assert!(watch.exit().unwrap().is_some(), "asking takes nothing away");
                assert_eq!(watch.reap().unwrap().unwrap().to_string(), words);
                assert!(watch.is_reaped() && watch.signal(9).is_err() && watch.reap().is_err());
            }
        }
        assert_eq!(Exit::Signal { number: 6, core: true }.to_string(), "killed by SIGABRT (core dumped)");
    }

    #[tokio::test]
    async fn a_running_process_is_waited_for_and_hears_signals() {
        for watch in [Watch::new(shell("exec sleep 999")).unwrap(), by_thread(shell("exec sleep 999"))] {
            assert_eq!((watch.exit().unwrap(), watch.reap().unwrap()), (None, None));
            watch.signal(libc::SIGTERM).unwrap();
            assert_eq!(watch.ended().await.unwrap(), Exit::Signal { number: libc::SIGTERM, core: false });
            watch.reap().unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn others_keep_the_status_of_their_children() {
        let mut theirs = Command::new("sh").args(["-c", "exit 5"]).spawn().unwrap();
        let watch = Watch::new(shell("sleep 0.1; exit 4")).unwrap();
        assert_eq!(watch.ended().await.unwrap(), Exit::Code(4));
        watch.reap().unwrap();
        assert_eq!(theirs.wait().unwrap().code(), Some(5));
        let output = tokio::task::spawn_blocking(|| Command::new("sh").args(["-c", "exit 6"]).output());
        assert_eq!(output.await.unwrap().unwrap().status.code(), Some(6));
    }
}
