//! File descriptors: as many as the system grants, and a word before they run out.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than any number of workers and connections takes; programs that close every number up to the limit still end.
const ENOUGH: u64 = 65_536;

/// Raises the limit of this process as far as it may, and as is sensible; what functions run in keeps the old one, as
/// `select` bears no numbers beyond 1,024.
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current else { return };
    let wanted = limit.maximum.map_or(ENOUGH, |most| most.min(ENOUGH));
    if current < wanted && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).is_ok() {
        crate::components::worker_descriptors(current);
    }
}

/// As many as clients may take altogether.
pub(crate) fn share() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 4).unwrap_or(usize::MAX)
}

/// Says when they become few, and when that has passed.
#[derive(Default)]
pub(crate) struct Descriptors {
    few: bool,
}

impl Descriptors {
    pub(crate) fn look(&mut self) {
        let Some(limit) = getrlimit(Resource::Nofile).current else { return };
        let open = match std::fs::read_dir("/proc/self/fd") {
            // one is for this very look
            Ok(all) => all.count() as u64 - 1,
            // there is none left to look with
            Err(_) => limit,
        };
        match (self.few, open * 10) {
            (false, tenths) if tenths >= limit * 9 => {
                self.few = true;
                tracing::warn!(
                    "{open} of {limit} file descriptors are in use: raise the limit (ulimit -n, LimitNOFILE=, \
                     docker run --ulimit nofile=), or look for what does not close its files"
                );
            }
            (true, tenths) if tenths < limit * 8 => {
                self.few = false;
                tracing::info!("{open} of {limit} file descriptors are in use: enough are free again");
            }
            _ => {}
        }
    }
}
