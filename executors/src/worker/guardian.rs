//! Child side: nothing of a worker outlives gaugefn, however that ends.
//!
//! The parent holds the write end of a pipe, the lifeline, and writes nothing. When it is gone, by whatever cause, the
//! kernel closes that end, and a thread of the child that waits for it kills the child's whole process group.
//! `PR_SET_PDEATHSIG` would not do: it fires when the parent's *thread* ends that started the child, and spares
//! grandchildren. A thread works whatever user code does: it takes no lock of Python, and no signal mask stops SIGKILL.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, kill_current_process_group};

/// Enough for a loop around one system call, and for the handler of the dump signal, which may land here.
const STACK: usize = 64 << 10;

/// The thread that watches. It ends with the process.
#[derive(Debug)]
pub struct Guardian(());

impl Guardian {
    /// Begins to watch the read end of the lifeline. The process must lead a process group of its own, which
    /// [`Start::spawn`](super::spawn::Start::spawn) has seen to: the whole group is killed.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(lifeline: OwnedFd) -> io::Result<Self> {
        thread::Builder::new().name("guardian".to_owned()).stack_size(STACK).spawn(move || watch(&lifeline))?;
        Ok(Self(()))
    }
}

fn watch(lifeline: &OwnedFd) {
    loop {
        let mut wait = [PollFd::new(lifeline, PollFlags::IN)];
        match poll(&mut wait, None) {
            // nobody writes: whatever there is to be read is the end
            Ok(1..) => break,
            Ok(0) | Err(Errno::INTR | Errno::AGAIN) => {}
            // a child that nobody guards must not live either
            Err(_) => break,
        }
    }
    // this process is a member of the group, so it does not come back
    let _ = kill_current_process_group(Signal::KILL);
}
