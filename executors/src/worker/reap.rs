//! Parent side: nothing of a worker outlives the worker.
//!
//! A worker's process group dies with one signal. What has left it, by `setsid` or by a double fork, is found in two
//! ways: by the tree of parents, as it was before the kill and whenever [`sweep`] looked, and by the variable that the
//! worker and all its descendants have in their environment. This process is a child subreaper, so descendants that
//! lose their parent become its children: it takes their statuses, so that they do not stay as zombies, and only theirs.
//!
//! A descendant that has removed the variable, and left group and tree before anybody looked, is not found.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use procfs::process::{Process, Stat, all_processes};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, waitid};
use rustix::process::{kill_process, kill_process_group, pidfd_open, pidfd_send_signal, set_child_subreaper};

use super::spawn::{VARIABLE, WorkerId};

/// How long [`kill_tree`] goes on. Only a process that the kernel cannot end takes longer than a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(1);

/// A process for good: a number alone is given to another one some time.
type Being = (i32, u64);

/// What is known of workers, whose descendants become children of this process. One for the process, as children are.
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

#[derive(Default)]
struct Known {
    /// Workers that are watched elsewhere, with the descendants that were seen alive. Each number is that of a process
    /// group, too.
    workers: HashMap<i32, HashSet<Being>>,
    /// Children of this process that were seen alive and are descendants of any worker.
    orphans: HashSet<Being>,
    /// Workers that nobody watches any more.
    abandoned: HashSet<Being>,
}

fn known<T>(with: impl FnOnce(&mut Known) -> T) -> T {
    with(KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// Descendants of workers that lose their parent become children of this process from now on. Once, before the first
/// worker is started.
///
/// # Errors
/// The kernel refuses.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// A worker as [`kill_tree`] finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its number, also that of its process group.
    pub pid: Pid,
    /// When it started, in ticks of the kernel.
    pub start: u64,
    /// What the environment of its descendants has.
    pub id: WorkerId,
}

impl Root {
    /// Of a child that has just been started.
    ///
    /// # Errors
    /// There is no such process, or no `/proc`.
    pub(super) fn new(pid: Pid, id: WorkerId) -> io::Result<Self> {
        let number = pid.as_raw_nonzero().get();
        let start = Process::new(number).and_then(|process| process.stat()).map_err(io::Error::other)?.starttime;
        known(|known| known.workers.insert(number, HashSet::new()));
        Ok(Self { pid, start, id })
    }

    /// Nobody watches it any more; [`sweep`] takes its status.
    pub(super) fn abandon(&self) {
        let number = self.pid.as_raw_nonzero().get();
        known(|known| {
            if known.workers.remove(&number).is_some() {
                known.abandoned.insert((number, self.start));
            }
        });
    }

    /// Its status was taken.
    pub(super) fn forget(&self) {
        known(|known| known.workers.remove(&self.pid.as_raw_nonzero().get()));
    }
}

/// What [`kill_tree`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Killed {
    /// Processes that had left the group and were killed one by one.
    pub escaped: usize,
    /// Processes that would not die: the kernel is busy with something for them.
    pub survivors: Vec<i32>,
}

/// Kills a worker and all its descendants, and takes the statuses of those that have become children of this process;
/// the worker's own stays for its watch. Blocks for a few milliseconds, at most two seconds.
///
/// To be called before the worker is reaped: its number is also its group's, and afterwards it might be another's.
pub fn kill_tree(root: &Root) -> Killed {
    let number = root.pid.as_raw_nonzero().get();
    let mut family = known(|known| known.workers.get(&number).cloned().unwrap_or_default());
    family.insert((number, root.start));
    let mut escaped: HashSet<Being> = HashSet::new();
    let stopped = Instant::now() + PATIENCE;
    // the tree has to be known before its root dies
    let mut alive = members(root, &mut family);
    // the worker itself, dead or alive, keeps the number of the group
    if started(number) == Some(root.start) {
        let _ = kill_process_group(root.pid, Signal::KILL);
    }
    loop {
        for (being, stat) in &alive {
            if stat.pgrp != number {
                escaped.insert(*being);
            }
            kill(*being);
        }
        reap_orphans(&family, number);
        alive = members(root, &mut family);
        if alive.is_empty() || Instant::now() > stopped {
            break;
        }
        thread::sleep(PAUSE);
    }
    reap_orphans(&family, number);
    let survivors = alive.iter().map(|((pid, _), _)| *pid).collect();
    Killed { escaped: escaped.len(), survivors }
}

/// The members of the family that are alive. The family grows by children of members, members of the group, and
/// processes with the variable.
fn members(root: &Root, family: &mut HashSet<Being>) -> Vec<(Being, Stat)> {
    let number = root.pid.as_raw_nonzero().get();
    let being = |stat: &Stat| (stat.pid, stat.starttime);
    let mut younger: HashMap<i32, Stat> = HashMap::new();
    // a process that goes while it is looked at is one less
    for process in all_processes().into_iter().flatten().flatten() {
        let Ok(stat) = process.stat() else { continue };
        if stat.starttime >= root.start {
            if !family.contains(&being(&stat)) && carries(&process, |value| value == root.id.as_str()) {
                family.insert(being(&stat));
            }
            younger.insert(stat.pid, stat);
        }
    }
    // without its first process, the group may be another one of the same number
    let group = younger.get(&number).is_some_and(|stat| stat.starttime == root.start);
    loop {
        let before = family.len();
        for stat in younger.values() {
            let parent = younger.get(&stat.ppid).is_some_and(|parent| family.contains(&being(parent)));
            if parent || group && stat.pgrp == number {
                family.insert(being(stat));
            }
        }
        if family.len() == before {
            break;
        }
    }
    let alive = younger.into_values().filter(|stat| family.contains(&being(stat)) && is_alive(stat));
    alive.map(|stat| (being(&stat), stat)).collect()
}

/// A process whose first thread has ended looks like a zombie while its other threads run.
fn is_alive(stat: &Stat) -> bool {
    !matches!(stat.state, 'Z' | 'X' | 'x') || stat.num_threads > 1
}

/// Whether the environment of a process has our variable with a value like this. That of a zombie is gone, and that
/// of another user cannot be read.
fn carries(process: &Process, like: impl Fn(&str) -> bool) -> bool {
    let Ok(environ) = process.environ() else { return false };
    environ.get(OsStr::new(VARIABLE)).and_then(|value| value.to_str()).is_some_and(like)
}

/// When the process of this number started, if there is one.
fn started(number: i32) -> Option<u64> {
    Some(Process::new(number).and_then(|process| process.stat()).ok()?.starttime)
}

/// Kills this very process and no later one of the same number.
fn kill((number, start): Being) {
    let Some(pid) = Pid::from_raw(number) else { return };
    // opened first: what is found behind it then is what the signal goes to
    let fd = pidfd_open(pid, PidfdFlags::empty());
    if started(number) != Some(start) {
        return;
    }
    // one that has just ended is as good as killed
    let _ = match fd {
        Ok(fd) => pidfd_send_signal(&fd, Signal::KILL),
        Err(Errno::NOSYS | Errno::PERM) => kill_process(pid, Signal::KILL),
        Err(error) => Err(error),
    };
}

/// Takes the statuses of dead members of a family that have become children of this process.
fn reap_orphans(family: &HashSet<Being>, root: i32) {
    for being in family.iter().filter(|being| being.0 != root) {
        reap(*being);
    }
    known(|known| known.orphans.retain(|being| !family.contains(being)));
}

/// Takes the status of a dead child of this process. Whether it did.
fn reap((number, start): Being) -> bool {
    let Ok(stat) = Process::new(number).and_then(|process| process.stat()) else { return false };
    let ours = stat.ppid == getpid().as_raw_nonzero().get() && stat.starttime == start && stat.state == 'Z';
    let Some(pid) = Pid::from_raw(number).filter(|_| ours) else { return false };
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).is_ok_and(|status| status.is_some())
}

/// Takes the statuses of orphans that ended by themselves while their worker lives, answers how many there were, and
/// remembers who belongs to which worker.
///
/// To be called every second or so, while there are workers; costs a few reads for each of their processes. Recognised
/// are orphans that stayed in their worker's group, and those that an earlier call has seen alive.
pub fn sweep() -> usize {
    let mut count = 0;
    known(|known| {
        for (worker, family) in &mut known.workers {
            family.retain(|(number, start)| started(*number) == Some(*start));
            // members that have left the tree have children as well
            let mut next: Vec<i32> = family.iter().map(|(number, _)| *number).chain([*worker]).collect();
            let mut visited = HashSet::new();
            while let Some(number) = next.pop() {
                let unseen = if visited.insert(number) { children(number) } else { Vec::new() };
                for child in unseen {
                    family.extend(started(child).map(|start| (child, start)));
                    next.push(child);
                }
            }
        }
        let mut seen = HashSet::new();
        for number in children(getpid().as_raw_nonzero().get()) {
            let Ok(process) = Process::new(number) else { continue };
            let Ok(stat) = process.stat() else { continue };
            let being = (number, stat.starttime);
            if known.workers.contains_key(&number) {
                continue;
            }
            let ours = known.orphans.contains(&being)
                || known.abandoned.contains(&being)
                || known.workers.contains_key(&stat.pgrp)
                || known.workers.values().any(|family| family.contains(&being));
            if ours && stat.state == 'Z' && reap(being) {
                count += 1;
                known.abandoned.remove(&being);
            } else if ours || carries(&process, WorkerId::is_own) {
                // also a zombie whose other threads are still ending: its status comes with the last one
                seen.insert(being);
            }
        }
        known.orphans = seen;
    });
    count
}

/// The children of a process. The list of a kernel without `CONFIG_PROC_CHILDREN` is made by looking at everybody.
pub(super) fn children(parent: i32) -> Vec<i32> {
    let lists = Process::new(parent).and_then(|process| {
        // threads come and go, and so do their lists
        let tasks = process.tasks()?.flatten();
        Ok(tasks.map(|task| task.children()).collect::<Vec<_>>())
    });
    let Ok(lists) = lists else { return Vec::new() };
    if lists.iter().any(Result::is_ok) {
        return lists.into_iter().flatten().flatten().map(u32::cast_signed).collect();
    }
    let stats = all_processes().into_iter().flatten().flatten().filter_map(|process| process.stat().ok());
    stats.filter(|stat| stat.ppid == parent).map(|stat| stat.pid).collect()
}
