//! The parent ends, by whatever cause: none of its workers survives it.

use std::thread::sleep;
use std::time::Instant;

use rustix::process::Signal;

use super::*;
use crate::support::bed::bound;
use crate::support::tier::scale;

const IDLE: &str = include_str!("idle.py");

/// How long a worker may live without its parent.
const ORPHANED: Duration = Duration::from_secs(1);

/// What workers of one test have in their environment, also before they are workers.
const MARK: &str = "WORKERS_OF_THE_TEST";

/// A process with a mark of its own that its workers inherit.
fn marked(options: &str) -> ((Bed, File), String) {
    let bed = Bed::bare("");
    let mark = bed.folder.path().file_name().unwrap().to_string_lossy().into_owned();
    let fed = Fed::place(bed.env(MARK, &mark), IDLE, options);
    (fed, format!("{MARK}={mark}"))
}

/// Times that differ from run to run, and are spread evenly within one.
fn moments(count: usize, longest: Duration) -> impl Iterator<Item = Duration> {
    let start = f64::from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos()) / 1e9;
    (0..count).map(move |n| longest.mul_f64((start + n as f64 * 0.618_034) % 1.0))
}

/// Kills the parent; how long it took until nothing was left.
fn killed(vm: &mut Vm, mark: &str) -> Duration {
    let start = Instant::now();
    vm.running.signal(Signal::KILL);
    let mut last = Vec::new();
    let most = bound(ORPHANED);
    let gone = eventually(most, || {
        last = carrying(mark);
        last.is_empty().then_some(())
    });
    assert!(gone.is_some(), "{last:?} live after {most:?}\n{}", vm.running.written());
    start.elapsed()
}

/// One way to be busy, and what is kept ready meanwhile.
fn survives_nothing(way: &str, standby: &str, count: usize) {
    let mut longest = Duration::ZERO;
    for moment in moments(count, Duration::from_millis(60)) {
        let (bed, mark) = marked(&format!("standby = \"{standby}\""));
        let mut fed = Fed::ready(bed);
        if standby != "none" {
            fed.wait_family(2);
        }
        if !way.is_empty() {
            fed.send(&[json!({"n": "busy", "do": way})]);
            fed.call(&json!("busy"));
        }
        if way == "forks" {
            fed.call(&json!("child"));
        }
        sleep(moment);
        let processes = carrying(&mark).len();
        assert!(processes >= 2, "{way}, {standby}: {processes}");
        longest = longest.max(killed(&mut fed.vm, &mark));
    }
    measured(format_args!("{way}, {standby}: the last of {count} was gone after {longest:?} at most"));
}

#[test]
fn no_worker_survives_its_parent_while_it_idles() {
    survives_nothing("", "interpreter", scale(5, 1));
    survives_nothing("", "imported", scale(5, 1));
}

#[test]
fn no_worker_survives_its_parent_while_it_is_busy() {
    survives_nothing("loops", "interpreter", scale(10, 1));
    survives_nothing("computes", "interpreter", scale(10, 1));
}

#[test]
fn no_worker_survives_its_parent_with_all_signals_blocked_or_forked() {
    survives_nothing("masked", "imported", scale(10, 1));
    survives_nothing("forks", "none", scale(10, 1));
}

/// While workers are being started, too.
#[test]
fn no_worker_survives_a_parent_that_is_killed_while_it_starts() {
    let (count, mut longest) = (scale(50, 5), Duration::ZERO);
    for moment in moments(count, Duration::from_millis(300)) {
        let ((bed, _feed), mark) = marked("standby = \"imported\"");
        let mut vm = bed.spawn();
        sleep(moment);
        longest = longest.max(killed(&mut vm, &mark));
    }
    measured(format_args!("starting: the last of {count} was gone after {longest:?} at most"));
}

#[test]
fn a_stop_ends_workers_and_those_kept_ready() {
    for standby in ["interpreter", "imported", "none"] {
        let (bed, mark) = marked(&format!("standby = \"{standby}\""));
        let mut fed = Fed::ready(bed);
        // what is in flight is finished
        fed.send(&[json!({"n": "last", "do": "rests"})]);
        fed.call(&json!("last"));
        fed.vm.running.signal(Signal::TERM);
        let status = fed.vm.running.wait_exit(PATIENCE);
        assert_eq!(status.code(), Some(0), "{}", fed.vm.running.written());
        assert_gone(&mark, Duration::ZERO, &fed.vm);
        assert_eq!(fed.results().last().unwrap()["n"], "last");
        assert_eq!(fed.vm.lines(&["WARN"]) + fed.vm.lines(&["ERROR"]), 0, "{}", fed.vm.running.written());
    }
}

#[test]
fn a_stop_that_is_not_drained_in_time_ends_them_as_well() {
    for way in ["loops", "masked", "forks"] {
        let (bed, mark) = marked("drain = \"300ms\"");
        let mut fed = Fed::ready(bed);
        fed.send(&[json!({"n": "last", "do": way})]);
        fed.call(&json!("last"));
        fed.vm.running.signal(Signal::TERM);
        let status = fed.vm.running.wait_exit(PATIENCE);
        assert_eq!(status.code(), Some(75), "{}", fed.vm.running.written());
        assert_gone(&mark, bound(ORPHANED), &fed.vm);
    }
}
