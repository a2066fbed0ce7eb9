//! What is logged has nowhere to go, in the middle of the work: nothing of the work depends on it.

use super::*;
use crate::support::bed::PATIENCE;
use crate::support::tier::scale;
use rustix::process::Signal;
use std::fs::{metadata, remove_file};
use std::path::PathBuf;

/// Says more than the log can take, and fails now and then, of which gaugefn itself says something.
const SPEAKING: &str = "import os\nimport sys\n\n\n\
    def handler(event, context):\n    \
        context.env['n'] = context.env.get('n', 0) + 1\n    \
        for stream in sys.stdout, sys.stderr:\n        \
            print('x' * 4000, file=stream)\n    \
        if event['i'] % 50 == 7 and context.attempt == 1:\n        \
            raise ValueError('once')\n    \
        return {'i': event['i'], 'k': event['k'], 'n': context.env['n'], 'by': os.environ['REPLICA']}\n";

/// What the disk holds that the log of one process is on.
const DISK: usize = 256 << 10;

/// A shell that mounts a disk of its own, which goes with it, has the log there, and becomes gaugefn.
fn on_a_small_disk(folder: &Path) -> [String; 6] {
    let script = format!(
        "mount -t tmpfs -o size={DISK} none {0} && head -c {1} /dev/zero > {0}/others && exec \"$0\" \"$@\" 2> {0}/log",
        folder.display(),
        DISK / 2
    );
    // a name space of users as well, in which whoever is not root may mount
    ["unshare", "--map-root-user", "--mount", "sh", "-c", &script].map(str::to_owned)
}

/// The disk as its process sees it.
fn disk(replica: &mut Replica, folder: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{}", replica.running().pid(), folder.display()))
}

fn wait(what: &str, replica: &Replica, done: impl FnMut() -> Option<()>) {
    assert!(eventually(PATIENCE, done).is_some(), "{what}\n{}", replica.written());
}

#[test]
fn a_log_that_is_stuck_then_closed_and_a_disk_that_fills_up_cost_no_event() {
    let entries = scale(10_000, 1000);
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("disk");
    std::fs::create_dir(&small).unwrap();
    code(folder.path(), SPEAKING);
    let place = |name: &str| {
        let config =
            config(&server, folder.path(), name, "batch = 20\nclaim_idle = \"500ms\"", "use = \"redis\"\nkey = \"/k\"");
        Replica::place(folder.path(), name, &config)
    };
    let mut piped = place("piped");
    let mut stored = place("stored").under(on_a_small_disk(&small));
    for replica in [&mut piped, &mut stored] {
        replica.start();
        replica.wait_ready();
    }
    let mut redis = server.connection();
    let part = |number| entries * number / 4..entries * (number + 1) / 4;

    // nobody reads the pipe, and the disk fills up
    piped.running().hold_stderr(true);
    add(&mut redis, part(0));
    let log = disk(&mut stored, &small).join("log");
    let full = |room: u64| metadata(&log).is_ok_and(|log| log.len() + room > (DISK / 2) as u64).then_some(());
    wait("the disk is full", &stored, || full(8 << 10));
    wait_done(&server, entries / 4, PATIENCE, &[&piped, &stored]);

    // the reader of the pipe goes away, and both have something of their own to say
    piped.running().close_stderr();
    add(&mut redis, part(1));
    server.restart();
    let mut redis = server.connection();
    wait_done(&server, entries / 2, PATIENCE, &[&piped, &stored]);

    // one starts again, and there is room on the disk of the other
    piped.kill();
    piped.start();
    add(&mut redis, part(2));
    let length = metadata(&log).unwrap().len();
    remove_file(disk(&mut stored, &small).join("others")).unwrap();
    add(&mut redis, part(3));
    wait("the log goes on when there is room", &stored, || (metadata(&log).unwrap().len() > length).then_some(()));
    wait_done(&server, entries, PATIENCE, &[&piped, &stored]);

    check_results(&server, entries, &[&piped, &stored]);
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    (0..entries).for_each(|number| *expected.entry(key(number)).or_default() += 1);
    for (key, expected) in expected {
        assert_eq!(count(&mut redis, &format!("gaugefn:state:{{vm}}:\"{key}\"")), Some(expected), "{key}");
    }
    for replica in [&mut piped, &mut stored] {
        assert_eq!(replica.admin.get("/healthz").unwrap().0, 200);
        if replica.name == "stored" {
            assert_ne!(replica.metric("log_lines_dropped_total"), 0, "lines that had no room are counted");
        }
        replica.running().signal(Signal::TERM);
        assert_eq!(replica.running().wait_exit(PATIENCE).code(), Some(0));
    }
}
