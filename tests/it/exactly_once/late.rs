//! A process is stopped in the middle of a call, others do its work, and then it goes on.

use super::*;
use crate::support::bed::PATIENCE;
use crate::support::replica::Process;
use crate::support::tier::inline;
use std::fs::File;

/// Says by a file that it was called, and returns when there is a file that lets it.
const GATED: &str = r#"
import os
import time

FOLDER, REPLICA = os.environ["FOLDER"], os.environ["REPLICA"]


def handler(event, context):
    name = f"{REPLICA}-{event['i']}"
    context.env["n"] = context.env.get("n", 0) + 1
    open(os.path.join(FOLDER, f"called-{name}"), "w").close()
    while not any(os.path.exists(os.path.join(FOLDER, f"go-{who}")) for who in (REPLICA, name)):
        time.sleep(0.002)
    return {"i": event["i"], "n": context.env["n"], "by": REPLICA}
"#;

/// Who stops: the process alone, or its workers with it.
#[derive(Clone, Copy, PartialEq)]
enum Stops {
    Parent,
    Family,
}

/// `owner` is stopped in its second call, `other` does what is left; then `owner` goes on, and is late. Its third call is
/// in flight until the late result has been counted.
fn late(server: &RedisServer, folder: &Path, state: &str, names: [&str; 2], stops: Stops) -> [Replica; 2] {
    code(folder, GATED);
    let [mut owner, mut other] = [(0, names[0], "owner"), (1, names[1], "other")].map(|(_, consumer, name)| {
        // one batch for each
        let source = "batch = 1\nclaim_idle = \"300ms\"";
        Replica::place(folder, name, &config(server, folder, consumer, source, state))
    });
    let mut redis = server.connection();
    let flag = |name: &str| drop(File::create(folder.join(name)).unwrap());
    owner.start();
    owner.wait_ready();
    add(&mut redis, 0..3);
    let read = eventually(PATIENCE, || (owner.metric("in_flight") == 3).then_some(()));
    assert!(read.is_some(), "{}", owner.written());
    // with its result there, the worker has got the two others
    flag("go-owner1-0");
    let done = eventually(PATIENCE, || (results(&mut redis).len() == 1).then_some(()));
    assert!(done.is_some(), "{}", owner.written());
    wait_called(folder, "owner1-1", &owner);
    let mut stopped = vec![owner.process()];
    if stops == Stops::Family {
        stopped.extend(owner.workers().into_iter().filter_map(Process::of));
    }
    for process in &mut stopped {
        assert!(process.stop());
    }
    if stops == Stops::Parent && !inline() {
        // its worker ends the call meanwhile
        flag("go-owner1-1");
        wait_called(folder, "owner1-2", &owner);
    }
    flag("go-other1");
    other.start();
    wait_done(server, 3, PATIENCE, &[&owner, &other]);
    drop(stopped);
    flag("go-owner1-1");
    let mut last = 0;
    let counted = eventually(PATIENCE, || {
        last = last.max(owner.metric("fenced_total"));
        (last > 0).then_some(())
    });
    assert!(counted.is_some(), "fenced_total is {last}\n{}{}", owner.written(), other.written());
    flag("go-owner1");
    [owner, other]
}

fn wait_called(folder: &Path, call: &str, owner: &Replica) {
    let called = eventually(PATIENCE, || folder.join(format!("called-{call}")).exists().then_some(()));
    assert!(called.is_some(), "no call {call}\n{}", owner.written());
}

const STATES: [(&str, Option<&str>); 3] = [
    ("use = \"memory\"", None),
    ("use = \"redis\"\nkey = \"/none\"", Some("gaugefn:state:{vm}")),
    ("use = \"redis\"\nlease = \"1s\"", Some("gaugefn:state:{vm}")),
];

/// One result for each entry, those after the first by the other one; the state knows of no further call.
fn check(server: &RedisServer, entries: usize, state: Option<&str>, replicas: &[&Replica]) {
    let results = check_results(server, entries, replicas);
    let written = || replicas.iter().map(|replica| replica.written()).collect::<String>();
    if let Some(state) = state {
        assert_eq!(count(&mut server.connection(), state), Some(entries as u64), "{}", written());
        let counts: BTreeSet<_> = results.iter().map(|result| result["n"].as_u64().unwrap()).collect();
        assert_eq!(counts, (1..=entries as u64).collect(), "{}", written());
    }
    for result in results.iter().filter(|result| (1..3).contains(&result["i"].as_u64().unwrap())) {
        assert_eq!(result["by"], "other1", "{}", written());
    }
}

fn is_late_after_a_claim(stops: Stops) {
    for (state, key) in STATES {
        let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
        let [owner, mut other] = late(&server, folder.path(), state, ["a", "b"], stops);
        check(&server, 3, key, &[&owner, &other]);
        // and it can do the work again
        other.kill();
        add(&mut server.connection(), 3..40);
        wait_done(&server, 40, PATIENCE, &[&owner, &other]);
        check(&server, 40, key, &[&owner, &other]);
    }
}

fn is_late_after_its_name_has_gone(stops: Stops) {
    for (state, key) in STATES {
        let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
        let [owner, mut other] = late(&server, folder.path(), state, ["a", "a"], stops);
        check(&server, 3, key, &[&owner, &other]);
        add(&mut server.connection(), 3..40);
        wait_done(&server, 40, PATIENCE, &[&owner, &other]);
        check(&server, 40, key, &[&owner, &other]);
        // and under a name of its own it can do the work again
        other.kill();
        add(&mut server.connection(), 40..60);
        wait_done(&server, 60, PATIENCE, &[&owner, &other]);
        check(&server, 60, key, &[&owner, &other]);
    }
}

#[test]
fn the_result_of_a_process_whose_event_was_claimed_is_fenced() {
    is_late_after_a_claim(Stops::Parent);
}

#[test]
fn the_result_of_a_process_and_workers_whose_event_was_claimed_is_fenced() {
    is_late_after_a_claim(Stops::Family);
}

#[test]
fn the_result_of_a_process_whose_name_was_taken_over_is_fenced() {
    is_late_after_its_name_has_gone(Stops::Parent);
}

#[test]
fn the_result_of_a_process_and_workers_whose_name_was_taken_over_is_fenced() {
    is_late_after_its_name_has_gone(Stops::Family);
}
