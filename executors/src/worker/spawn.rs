//! How a worker process is started, and how it finds what it was given.
//!
//! | descriptor | in the child | in the parent |
//! |---|---|---|
//! | 0 | `/dev/null` | |
//! | 1, 2 | pipes, for whatever writes there | read, see [`output`](super::output) |
//! | 3 | socket: the [`protocol`](super::protocol) | its other end |
//! | 4 | dump pipe: stacks, see [`dump`](super::dump) | read |
//! | 5 | lifeline, watched by the [`guardian`](super::guardian) | held and never written |
//! | 6 | records pipe, see [`records`](super::records) | read |
//! | 7 | [`shared`](super::shared) area | mapped |
//! | 8 | socket: which series of metrics may be | its other end |
//!
//! Nothing else gets into the child, and what it starts gets none of these but 0, 1 and 2.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as BlockingSocket;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio, id};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{FileType, OFlags, fcntl_setfl, fstat};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::runtime::Handle;

use super::clock;
use super::exit::Watch;
use super::reap::{Root, kill_tree};
use super::shared::{Area, Writer};

/// The variable in the environment of a worker and of everything that it starts.
pub const VARIABLE: &str = "GAUGEFN_WORKER";

const FIRST: RawFd = 3;
const NAMES: [&str; 6] = ["socket", "dump pipe", "lifeline", "records pipe", "shared area", "socket"];

/// What pipes of output and records can hold, where the kernel allows as much; it is taken as it is filled. A handler
/// that prints 100,000 lines a second is not stopped by a parent that looks away for a tenth of one.
const PIPE: usize = 1 << 20;

/// The soft limit of descriptors of all workers; 0 for that of this process.
static DESCRIPTORS: AtomicU64 = AtomicU64::new(0);

/// Workers that are started from now on have this limit of open descriptors, where they may have as many.
pub fn limit_descriptors(soft: u64) {
    DESCRIPTORS.store(soft, Ordering::Relaxed);
}

/// Names a worker among all processes of the machine, for good.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkerId(String);

impl WorkerId {
    fn next() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        Self(format!("{}{}", Self::prefix(), COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    /// All workers of this process have it, and those of no other.
    fn prefix() -> &'static str {
        static PREFIX: OnceLock<String> = OnceLock::new();
        PREFIX.get_or_init(|| format!("{}-{:x}-", id(), clock::now()))
    }

    /// As it stands in the environment.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the value of a worker of this process.
    pub(super) fn is_own(value: &str) -> bool {
        value.starts_with(Self::prefix())
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The program.
    pub program: PathBuf,
    /// What it is called in lists of processes.
    pub name: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables besides those of this process, all of which it gets.
    pub env: Vec<(OsString, OsString)>,
}

impl Start {
    /// `gaugefn worker`, of the very file that this process runs, even if another one has its name by now.
    #[must_use]
    pub fn own() -> Self {
        Self { program: "/proc/self/exe".into(), name: "gaugefn".into(), args: vec!["worker".into()], env: Vec::new() }
    }

    /// Starts it in a process group of its own. Inside a tokio runtime.
    ///
    /// # Errors
    /// No process, descriptor or memory is left, or the program cannot be run.
    pub fn spawn(&self) -> io::Result<Spawned> {
        let id = WorkerId::next();
        let (socket, child_socket) = BlockingSocket::pair()?;
        socket.set_nonblocking(true)?;
        let (dump, child_dump) = pipe_with(PipeFlags::CLOEXEC)?;
        let (child_lifeline, lifeline) = pipe_with(PipeFlags::CLOEXEC)?;
        let (records, child_records) = wide_pipe()?;
        // a record is dropped rather than waited for
        fcntl_setfl(&child_records, OFlags::NONBLOCK)?;
        let (area, child_area) = Area::create()?;
        let (series, child_series) = BlockingSocket::pair()?;
        series.set_nonblocking(true)?;
        let (stdout, child_stdout) = wide_pipe()?;
        let (stderr, child_stderr) = wide_pipe()?;
        // made before there is a child that would have to be ended again
        let (socket, series) = (UnixStream::from_std(socket)?, UnixStream::from_std(series)?);
        let [dump, records, stdout, stderr] = [dump, records, stdout, stderr].map(Receiver::from_owned_fd);
        let (dump, records, stdout, stderr) = (dump?, records?, stdout?, stderr?);

        let series_end = OwnedFd::from(child_series);
        let given = [OwnedFd::from(child_socket), child_dump, child_lifeline, child_records, child_area, series_end];
        let numbers = given.each_ref().map(AsRawFd::as_raw_fd);
        let mut command = Command::new(&self.program);
        command
            .arg0(&self.name)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env(VARIABLE, id.as_str())
            .stdin(Stdio::null())
            .stdout(child_stdout)
            .stderr(child_stderr)
            .process_group(0);
        let descriptors = DESCRIPTORS.load(Ordering::Relaxed);
        // SAFETY: nothing but system calls, as there may be locks in the child that nobody will ever release
        unsafe { command.pre_exec(move || place(numbers).map(|()| limit(descriptors))) };
        let child = command.spawn()?;
        // the command holds the child's ends of the output pipes
        drop((command, given));
        let process = Process::new(&child, id).inspect_err(|_| discard(child))?;
        Ok(Spawned { process, socket, dump, records, stdout, stderr, area, series, lifeline: Lifeline(lifeline) })
    }
}

/// A pipe that holds more than usual, if the kernel allows.
fn wide_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    // refused where this user's pipes hold much already
    let _ = fcntl_setpipe_size(&write, PIPE);
    Ok((read, write))
}

/// Gives the descriptors their numbers in the child, before exec.
fn place(mut numbers: [RawFd; NAMES.len()]) -> io::Result<()> {
    // a worker is in the background of whatever terminal there is: reading that is an error, and no stop for ever
    // SAFETY: a system call without memory
    unsafe { libc::signal(libc::SIGTTIN, libc::SIG_IGN) };
    let end = FIRST + NAMES.len() as RawFd;
    let check = |result: libc::c_int| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    // all out of the way first: one may have the number that another one gets. Should std's own pipe, by which it hears
    // of a failed exec, have one of the numbers, then that failure shows as a child that ends at once
    for number in &mut numbers {
        // SAFETY: a system call without memory
        *number = check(unsafe { libc::fcntl(*number, libc::F_DUPFD_CLOEXEC, end) })?;
    }
    for (number, target) in numbers.iter().zip(FIRST..) {
        // SAFETY: as above
        check(unsafe { libc::dup2(*number, target) })?;
    }
    // what foreign code has opened without closing on exec; kernels before 5.11 refuse
    // SAFETY: as above
    unsafe { libc::syscall(libc::SYS_close_range, end, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Ok(())
}

/// Sets the soft limit of descriptors, before exec. A refusal changes nothing that a function could rely on.
fn limit(soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a system call that fills this structure
    if soft == 0 || unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return;
    }
    limit.rlim_cur = soft.min(limit.rlim_max);
    // SAFETY: a system call that reads it
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

/// Ends a child that cannot be used.
fn discard(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// As long as it is held, the child's guardian is content. Dropped, the whole process group is killed.
#[derive(Debug)]
pub struct Lifeline(#[expect(dead_code, reason = "held for its descriptor")] OwnedFd);

/// A started worker: the process, and the parent's ends of everything.
#[derive(Debug)]
pub struct Spawned {
    /// The process.
    pub process: Process,
    /// The protocol.
    pub socket: UnixStream,
    /// Stacks.
    pub dump: Receiver,
    /// Records.
    pub records: Receiver,
    /// The child's descriptor 1.
    pub stdout: Receiver,
    /// The child's descriptor 2.
    pub stderr: Receiver,
    /// Progress.
    pub area: Area,
    /// Which series of metrics may be.
    pub series: UnixStream,
    /// To be dropped last.
    pub lifeline: Lifeline,
}

/// A worker's process. Dropped, its group is killed, and beside whatever comes next what has left it;
/// [`sweep`](super::reap::sweep) takes its status.
#[derive(Debug)]
pub struct Process {
    root: Root,
    watch: Watch,
}

impl Process {
    fn new(child: &Child, id: WorkerId) -> io::Result<Self> {
        let pid = Pid::from_child(child);
        let watch = Watch::new(pid)?;
        Ok(Self { root: Root::new(pid, id)?, watch })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.root.pid.as_raw_nonzero().get()
    }

    /// Its name for good.
    #[must_use]
    pub fn id(&self) -> &WorkerId {
        &self.root.id
    }

    /// For [`kill_tree`], which blocks, on another thread.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Its end, and signals to it alone. Reaped through [`reap`](Self::reap) only.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// The last step: lets its number go, after its tree was killed.
    ///
    /// # Errors
    /// It has not ended, or somebody else has taken its status.
    pub fn reap(self) -> io::Result<super::exit::Exit> {
        let exit = self.watch.reap()?;
        exit.ok_or_else(|| io::Error::other(format!("worker process {} has not ended yet", self.pid())))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.watch.is_reaped() {
            self.root.forget();
        } else {
            // not reaped, so the number of the group is still its own
            let _ = kill_process_group(self.root.pid, Signal::KILL);
            let root = self.root.clone();
            let rest = move || {
                let _ = kill_tree(&root);
                root.abandon();
            };
            match Handle::try_current() {
                // a look at all processes
                Ok(runtime) => drop(runtime.spawn_blocking(rest)),
                Err(_) => self.root.abandon(),
            }
        }
    }
}

/// What a worker process was given, on its side.
#[derive(Debug)]
pub struct Inherited {
    /// The protocol. Blocking.
    pub socket: BlockingSocket,
    /// For stacks.
    pub dump: OwnedFd,
    /// For the [`Guardian`](super::guardian::Guardian).
    pub lifeline: OwnedFd,
    /// For the [`Sender`](super::records::Sender) of records.
    pub records: OwnedFd,
    /// Progress.
    pub area: Writer,
    /// Which series of metrics may be. Blocking.
    pub series: BlockingSocket,
}

impl Inherited {
    /// Takes the descriptors by their numbers. To be called once, as the first thing in `main`: nothing else may have
    /// been opened.
    ///
    /// # Errors
    /// This process was not started by [`Start::spawn`], or this has been called before.
    pub fn take() -> io::Result<Self> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Err(io::Error::other("the descriptors of this worker have been taken already"));
        }
        use FileType::{Fifo, RegularFile, Socket};
        let kinds = [Socket, Fifo, Fifo, Fifo, RegularFile, Socket];
        let mut found = Vec::new();
        for (number, (kind, name)) in (FIRST..).zip(kinds.into_iter().zip(NAMES)) {
            let foreign = || {
                let text =
                    format!("descriptor {number} is not a {name}: worker processes are started by gaugefn itself");
                io::Error::new(io::ErrorKind::InvalidInput, text)
            };
            // for whatever user code starts
            // SAFETY: a system call without memory; fails where the descriptor is not open
            if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
                return Err(foreign());
            }
            // SAFETY: open, and nobody's: it was there before the first line of this process
            let file = unsafe { File::from_raw_fd(number) };
            if !fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == kind) {
                // somebody's after all
                let _ = file.into_raw_fd();
                return Err(foreign());
            }
            found.push(OwnedFd::from(file));
        }
        let Ok([socket, dump, lifeline, records, area, series]) = <[OwnedFd; NAMES.len()]>::try_from(found) else {
            return Err(io::Error::other("as many descriptors as names"));
        };
        Ok(Self { socket: socket.into(), dump, lifeline, records, area: Area::open(area)?, series: series.into() })
    }
}
