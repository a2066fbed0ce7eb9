//! What it costs to run: memory at rest and after many events, time until ready, cores that are used.

#![allow(clippy::print_stderr, reason = "figures that a run is made for")]

use crate::support::bed::{Bed, PATIENCE, Vm, bound};
use crate::support::python::interpreter;
use crate::support::tier::{scale, soak};
use crate::support::wait::eventually;
use serde_json::Value;
use std::fs::{read_dir, read_to_string, write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// Bytes of memory that this process has to itself.
fn private(pid: u32) -> u64 {
    let rollup = read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let pages =
        rollup.lines().filter_map(|line| line.strip_prefix("Private_Clean:").or(line.strip_prefix("Private_Dirty:")));
    pages.map(|pages| pages.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024).sum()
}

/// Processes that this one has started.
fn children(parent: u32) -> Vec<u32> {
    let processes = read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // the name in parentheses may hold anything
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.split_whitespace().nth(1) == Some(&parent.to_string()))
    };
    processes.filter(is_child).collect()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

/// `run` of a function in its worker over a file of so many events, with further options of the function.
fn over_events(code: &str, events: usize, source: &str, options: &str) -> Bed {
    let bed = Bed::bare(code);
    let lines: String = (0..events).map(|n| format!("{n}\n")).collect();
    write(bed.folder.path().join("events.jsonl"), lines).unwrap();
    bed.more(&format!(
        "[functions.vm]\n{options}\n\
         loader = {{ use = \"file\", path = \"usermodule.py\" }}\nexecutor = {{ use = \"python\" }}\n\
         source = {{ use = \"file\", path = \"events.jsonl\"{source} }}\nsinks.file = {{ path = \"results.jsonl\" }}\n"
    ))
}

const IDLE: &str = "def handler(input, context):\n    return {'got': input}\n";

/// A function that has been called once and then waits.
fn idle() -> Bed {
    over_events(IDLE, 2, ", period = \"1h\"", "")
}

/// The parent, its worker and what is kept ready beside it, once all three have come to rest.
fn at_rest(vm: &mut Vm) -> Vec<(u32, u64)> {
    let mut last = Vec::new();
    let rest = eventually(PATIENCE, || {
        let mut all = children(vm.running.pid());
        all.insert(0, vm.running.pid());
        let now: Vec<_> = all.into_iter().map(|pid| (pid, private(pid))).collect();
        let rest = now.len() == 3 && now == last;
        last = now;
        std::thread::sleep(Duration::from_millis(200));
        rest.then_some(())
    });
    assert!(rest.is_some(), "no rest: {last:?}\n{}", vm.running.written());
    last
}

#[test]
fn little_memory_is_held_while_idle() {
    let mut vm = idle().start();
    vm.wait_calls(1);
    let all = at_rest(&mut vm);
    let sum = all.iter().map(|(_, bytes)| bytes).sum();
    let each: Vec<_> = all.iter().map(|(_, bytes)| format!("{:.1}", mib(*bytes))).collect();
    eprintln!("idle: {:.1} MiB private; parent, worker and standby {}", mib(sum), each.join(" + "));
    let most = if soak() { 45 * MIB } else { 90 * MIB };
    assert!(sum <= most, "{} MiB: {all:?}", mib(sum));
}

/// Stops now and then, to be looked at.
const COUNTING: &str = "
import os, time

def handler(n, context):
    if n in STOPS:
        open(f'at {n}', 'w').close()
        while not os.path.exists(f'past {n}'):
            time.sleep(0.005)
    return {'n': n, 'text': 'x' * 100}
";

#[test]
fn memory_does_not_grow_with_events() {
    // what is needed once has been needed by the first million; behind the last look there is as much to be read ahead as
    // behind the others
    let count = scale(1_000_000, 30_000);
    let (stops, events) = ([count, 2 * count, 3 * count], 3 * count + count / 5);
    let code = format!("STOPS = {stops:?}\n{COUNTING}");
    let mut vm = over_events(&code, events, "", "").start();
    let folder = vm.folder.path().to_path_buf();
    let looks = stops.map(|at| {
        let arrived = eventually(10 * PATIENCE, || folder.join(format!("at {at}")).exists().then_some(()));
        assert!(arrived.is_some(), "not at {at}\n{}", vm.running.written());
        let memory = at_rest(&mut vm);
        write(folder.join(format!("past {at}")), "").unwrap();
        memory
    });
    let pids = looks.each_ref().map(|look| look.iter().map(|(pid, _)| *pid).collect::<Vec<_>>());
    assert!(pids.iter().all(|all| *all == pids[0]), "{pids:?}");
    let growth = |process: usize| looks.windows(2).map(move |pair| mib(pair[1][process].1) - mib(pair[0][process].1));
    let all: Vec<Vec<f64>> = (0..3).map(|process| growth(process).collect()).collect();
    eprintln!("over {count} events and as many again, parent, worker and standby grew by {all:.2?} MiB");
    // what leaks does so both times; what an allocator gives back later, or earlier, does not
    let least = |process: &Vec<f64>| process.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(all.iter().all(|process| least(process) <= 1.0), "{all:?} MiB: {looks:?}");
    assert_eq!(vm.running.wait_exit(4 * PATIENCE).code(), Some(0));
    let results = read_to_string(folder.join("results.jsonl")).unwrap();
    assert_eq!(results.lines().count(), events);
}

mod timing {
    use super::*;

    #[test]
    fn it_is_ready_soon_after_its_start() {
        let mut taken: Vec<_> = (0..scale(11, 3))
            .map(|_| {
                let bed = idle();
                let start = Instant::now();
                let mut vm = bed.spawn();
                vm.wait_ready(PATIENCE);
                start.elapsed()
            })
            .collect();
        taken.sort();
        eprintln!("ready after {taken:.0?}");
        let median = taken[taken.len() / 2];
        assert!(median <= bound(Duration::from_millis(300)), "{taken:?}");
    }

    /// Costs 2 ms of CPU, and says when it began and ended.
    const BUSY: &str = "
import time

def handler(n, context):
    begin = time.monotonic()
    end = time.thread_time() + 0.002
    while time.thread_time() < end:
        pass
    return {'begin': begin, 'end': time.monotonic()}
";

    /// The same function in a loop of its own, over the events in a file.
    const BARE: &str = "
import json, sys
from usermodule import handler

with open(sys.argv[1]) as events, open(sys.argv[2], 'w') as results:
    for line in events:
        results.write(json.dumps(handler(json.loads(line), None)) + '\\n')
";

    /// From the first event's begin to the last one's end.
    fn rate(results: &[Value]) -> f64 {
        let moments = |key: &str| results.iter().map(|result| result[key].as_f64().unwrap()).collect::<Vec<_>>();
        let begin = moments("begin").into_iter().fold(f64::INFINITY, f64::min);
        let end = moments("end").into_iter().fold(0.0, f64::max);
        results.len() as f64 / (end - begin)
    }

    fn lines(path: &Path) -> Vec<Value> {
        read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn by_workers(events: usize) -> f64 {
        let mut vm = over_events(BUSY, events, "", "workers = 2\nstate.scope = \"worker\"").spawn();
        let status = vm.running.wait_exit(4 * PATIENCE);
        assert_eq!(status.code(), Some(0), "{}", vm.running.written());
        let results = lines(&vm.folder.path().join("results.jsonl"));
        assert_eq!(results.len(), events);
        rate(&results)
    }

    fn by_bare_processes(events: usize) -> f64 {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path().join("usermodule.py"), BUSY).unwrap();
        write(folder.path().join("bare.py"), BARE).unwrap();
        write(folder.path().join("events"), "1\n".repeat(events / 2)).unwrap();
        let start = |results: &str| {
            let mut python = Command::new(interpreter());
            python.current_dir(folder.path()).args(["bare.py", "events", results]).stdin(Stdio::null());
            python.spawn().unwrap()
        };
        let (mut one, mut other) = (start("one"), start("other"));
        assert!(one.wait().unwrap().success() && other.wait().unwrap().success());
        let (one, other) = (lines(&folder.path().join("one")), lines(&folder.path().join("other")));
        rate(&[one, other].concat())
    }

    #[test]
    fn two_workers_use_two_cores() {
        let (rounds, events) = (scale(5, 1), scale(4000, 600));
        let (mut ours, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(by_workers(events));
            bare.push(by_bare_processes(events));
            ratios.push(ours[ours.len() - 1] / bare[bare.len() - 1]);
        }
        for figures in [&mut ours, &mut bare, &mut ratios] {
            figures.sort_by(f64::total_cmp);
        }
        let [ours, bare, ratio] = [&ours, &bare, &ratios].map(|figures| figures[rounds / 2]);
        eprintln!("workers = 2: {ours:.0} events/s, two bare processes: {bare:.0} events/s, ratio {ratio:.2}");
        // a machine that does something else besides has no two cores to compare
        assert!(!soak() || ratio >= 0.9, "{ours} events/s against {bare}");
    }
}
