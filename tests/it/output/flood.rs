//! Functions that say very much, and a log that nobody reads.

#![allow(clippy::print_stderr, reason = "figures that a run is made for")]

use super::{held_open, records};
use crate::support::bed::{PATIENCE, Vm, bound};
use crate::support::tier::{scale, soak};
use crate::support::wait::eventually;
use serde_json::Value;
use std::fs::{read_to_string, write};
use std::time::Duration;

/// Waits for a file of this name, or makes one.
const SIGNS: &str = "
import logging, os, sys, time

def wait(name):
    while not os.path.exists(name):
        time.sleep(0.005)
";

/// How many lines were dropped, by the metric.
fn dropped(vm: &mut Vm) -> usize {
    vm.admin.metric("log_lines_dropped_total", "vm").unwrap().unwrap_or_default() as usize
}

/// The messages of the function's lines that have this word.
fn said(vm: &Vm, word: &str) -> Vec<String> {
    let log = vm.running.stderr();
    let whole = log.rfind('\n').map_or("", |end| &log[..=end]);
    let messages = records(whole).into_iter().filter_map(|record| record["message"].as_str().map(str::to_owned));
    messages.filter(|message| message.contains(word)).collect()
}

/// Lets the last call end, and with it the process.
fn results(vm: &mut Vm, events: usize) -> Vec<Value> {
    write(vm.folder.path().join("go"), "").unwrap();
    let status = vm.running.wait_exit(PATIENCE);
    assert_eq!(status.code(), Some(0), "{}", vm.running.stderr().lines().last().unwrap_or_default());
    let text = read_to_string(vm.folder.path().join("results.jsonl")).unwrap();
    let results: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<_> = results.iter().map(|result| result["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events as u64).collect::<Vec<_>>(), "each event has one result");
    records(&vm.running.stderr());
    results
}

mod timing {
    use super::*;

    /// Prints a line at each tick, and every second event into nowhere.
    const TICKING: &str = "
NULL = open(os.devnull, 'w')

def handler(n, context):
    if n == LAST:
        wait('go')
        return {'n': n}
    out = sys.stdout if n % 2 else NULL
    begin = time.perf_counter()
    for i in range(LINES):
        print('line', i, 'of', n, file=out)
        while time.perf_counter() < begin + (i + 1) * TICK:
            pass
    return {'n': n, 'seconds': time.perf_counter() - begin}
";

    #[test]
    fn many_lines_cost_little_and_none_is_lost_unsaid() {
        // 100,000 lines a second; a debug build on a busy machine is asked for a tenth of that
        let (events, lines, tick) = (scale(1000, 200), scale(1000, 100), scale(10, 100));
        let code = format!("{SIGNS}\nLAST, LINES, TICK = {events}, {lines}, {tick} * 1e-6\n{TICKING}");
        let mut vm = held_open(&code, events + 1, "");
        vm.wait_ready(PATIENCE);
        let written = events / 2 * lines;
        let mut last = (0, 0);
        let complete = eventually(4 * PATIENCE, || {
            // parsing the log is the dear part
            if vm.running.stderr().matches("\"message\":\"line ").count() + dropped(&mut vm) < written {
                std::thread::sleep(Duration::from_millis(100));
                return None;
            }
            last = (said(&vm, "line ").len(), dropped(&mut vm));
            (last.0 + last.1 == written).then_some(())
        });
        assert!(complete.is_some(), "of {written} lines came, and were dropped, {last:?}");
        let results = results(&mut vm, events + 1);
        let median = |printing: u64| {
            let own = results.iter().filter(|result| result["n"].as_u64().unwrap() % 2 == printing);
            let mut seconds: Vec<f64> = own.filter_map(|result| result["seconds"].as_f64()).collect();
            seconds.sort_by(f64::total_cmp);
            seconds[seconds.len() / 2]
        };
        let (loud, quiet) = (median(1), median(0));
        eprintln!(
            "{:.0} lines/s printed, {:.0} lines/s into /dev/null: {:+.1} %; {} of {written} lines dropped",
            lines as f64 / loud,
            lines as f64 / quiet,
            100.0 * (loud / quiet - 1.0),
            last.1
        );
        let most = if soak() { 0.10 } else { 0.50 };
        assert!(loud <= quiet * (1.0 + most), "{loud} s against {quiet} s");
    }

    /// Says each line in three ways, and how long the slowest took.
    const MEASURED: &str = "
def to_descriptor(text):
    os.write(2, text.encode() + b'\\n')

def handler(n, context):
    if n == LAST:
        open('flooded', 'w').close()
        wait('read again')
        told = 0
        while not os.path.exists('go'):
            print('told', told)
            to_descriptor(f'told {told}')
            told += 1
            time.sleep(0.05)
        return {'n': n}
    if n == 0:
        wait('unread')
    longest = 0.0
    for i in range(LINES):
        for say in print, to_descriptor, logging.warning:
            begin = time.perf_counter()
            say(f'flood {n} {i} ' + 'x' * 200)
            longest = max(longest, time.perf_counter() - begin)
    return {'n': n, 'longest': longest}
";

    #[test]
    fn a_log_that_nobody_reads_holds_up_no_handler() {
        let (events, lines) = (20, scale(2500, 1000));
        let code = format!("{SIGNS}\nLAST, LINES = {events}, {lines}\n{MEASURED}");
        let mut vm = held_open(&code, events + 1, "");
        vm.wait_ready(PATIENCE);
        vm.running.hold_stderr(true);
        write(vm.folder.path().join("unread"), "").unwrap();
        let flooded = vm.folder.path().join("flooded");
        assert!(eventually(PATIENCE, || flooded.exists().then_some(())).is_some(), "the handler is held up");
        // nor is anything else
        assert_eq!(vm.admin.get("/healthz").unwrap().0, 200);
        vm.running.hold_stderr(false);
        write(vm.folder.path().join("read again"), "").unwrap();
        let written = events * lines * 3;
        let mut last = (0, 0, 0);
        let complete = eventually(2 * PATIENCE, || {
            let (drops, told) = (dropped(&mut vm), said(&vm, "told "));
            let count = told.iter().filter_map(|told| told.rsplit(' ').next()?.parse::<usize>().ok()).max()? + 1;
            last = (said(&vm, "flood ").len(), drops, 2 * count - told.len());
            (last.0 + drops == written + last.2).then_some(())
        });
        assert!(complete.is_some(), "of {written} lines came, were dropped, and are later ones: {last:?}");
        assert!(last.1 > 0, "all of {written} lines fit somewhere: this proves nothing");
        let results = results(&mut vm, events + 1);
        let longest = results.iter().filter_map(|result| result["longest"].as_f64()).fold(0.0, f64::max);
        eprintln!("the longest of {written} writes took {:.2} ms; {} lines dropped", longest * 1e3, last.1);
        assert!(Duration::from_secs_f64(longest) <= bound(Duration::from_millis(10)), "{longest} s");
    }
}
