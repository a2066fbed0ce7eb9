//! What becomes of the process when what it writes to, and what it was started on, stops working.

mod lines;
mod signals;

use crate::support::bed::{Bed, PATIENCE, Vm, bound};
use crate::support::gaugefn::Gaugefn;
use crate::support::wait::eventually;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::Value;
use std::fs::{read_to_string, write};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Says much with each event, and fails with every second one: lines of the function and of gaugefn itself.
const NOISY: &str = "
import os

def handler(input, context):
    for _ in range(300):
        print('x' * 1000)
    os.write(2, b'y' * 1000 + b'\\n')
    if input % 2:
        raise ValueError('z' * 1000)
    return {'n': input}
";

/// A function of a number every 5 ms, to the file `results`.
fn noisy(isolation: &str, more: &str) -> Bed {
    let bed = Bed::bare(NOISY);
    let events: String = (0..100_000).map(|number| format!("{number}\n")).collect();
    write(bed.folder.path().join("events"), events).unwrap();
    bed.more(&format!(
        "{more}\n[functions.vm]\nisolation = \"{isolation}\"\ndrain = \"5s\"\n\
         source = {{ use = \"file\", path = \"events\", period = \"5ms\" }}\n\
         loader = {{ use = \"file\", path = \"usermodule.py\" }}\nexecutor = {{ use = \"python\" }}\n\
         sinks.file = {{ path = \"results\" }}\n"
    ))
}

/// A shell that becomes the process, with these redirections.
fn redirected(bed: Bed, redirections: &str) -> Vm {
    bed.under(&["bash", "-c", &format!("exec \"$0\" \"$@\" {redirections}")]).start()
}

/// Waits for so many further calls.
fn wait_more_calls(vm: &mut Vm, more: u64) {
    let before = vm.calls();
    let arrived = eventually(PATIENCE, || (vm.calls() >= before + more).then_some(()));
    assert!(arrived.is_some(), "{} calls, {before} before\n{}", vm.calls(), vm.running.written());
}

fn dropped(vm: &mut Vm) -> f64 {
    vm.admin.metric("log_lines_dropped_total", "vm").unwrap().unwrap_or_default()
}

fn stops(vm: &mut Vm) {
    let begin = Instant::now();
    vm.running.signal(Signal::TERM);
    let status = vm.running.wait_exit(PATIENCE);
    assert_eq!(status.code(), Some(0), "{}", vm.running.written());
    assert!(begin.elapsed() < bound(Duration::from_secs(3)), "{:?}", begin.elapsed());
}

#[test]
fn a_log_whose_reader_has_gone_or_whose_disk_is_full_ends_nothing() {
    for redirections in ["2> >(head -n 1 >/dev/null)", "2>/dev/full", "2>&-"] {
        for isolation in ["process", "inline"] {
            let mut vm = redirected(noisy(isolation, ""), redirections);
            wait_more_calls(&mut vm, 10);
            // what is closed from the start is /dev/null to any program in Rust
            assert!(dropped(&mut vm) > 0.0 || redirections == "2>&-", "{redirections}");
            stops(&mut vm);
        }
    }
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing_and_the_rest_says_what_is_missing() {
    for (isolation, more) in
        [("process", "log.format = \"json\""), ("inline", "log.format = \"json\""), ("process", "")]
    {
        let mut vm = noisy(isolation, more).start();
        vm.running.hold_stderr(true);
        wait_more_calls(&mut vm, 3);
        assert!(eventually(PATIENCE, || (dropped(&mut vm) > 0.0).then_some(())).is_some(), "nothing was dropped");
        // past every queue
        wait_more_calls(&mut vm, 10);
        assert_eq!(vm.admin.get("/healthz").unwrap().0, 200);
        vm.running.hold_stderr(false);
        vm.running.wait_for_log("of the log were dropped: not read in time", PATIENCE);
        vm.running.hold_stderr(true);
        wait_more_calls(&mut vm, 10);
        let begin = Instant::now();
        vm.running.signal(Signal::TERM);
        sleep(Duration::from_millis(300));
        vm.running.hold_stderr(false);
        assert_eq!(vm.running.wait_exit(PATIENCE).code(), Some(0));
        assert!(begin.elapsed() < bound(Duration::from_secs(3)), "{:?}", begin.elapsed());
        if more.contains("json") {
            let log = vm.running.stderr();
            // the end of a process that is not heard may fall into a line
            let whole = log.lines().take(log.lines().count() - 1);
            whole.for_each(|line| assert!(serde_json::from_str::<Value>(line).is_ok(), "{line:?}"));
        }
    }
}

#[test]
fn with_a_log_that_nobody_reads_the_second_signal_leaves_at_once() {
    let code = "
import os

def handler(input, context):
    for _ in range(5000):
        print('x' * 1000)
    open('begun', 'w').close()
    while True:
        pass
";
    for isolation in ["process", "inline"] {
        let bed = Bed::bare(code).more(&format!(
            "[functions.vm]\nisolation = \"{isolation}\"\nsource = {{ use = \"host\" }}\n\
             loader = {{ use = \"file\", path = \"usermodule.py\" }}\nexecutor = {{ use = \"python\" }}\n\
             sinks.file = {{ path = \"results\" }}\n"
        ));
        let mut vm = bed.start();
        vm.running.hold_stderr(true);
        let begun = vm.folder.path().join("begun");
        assert!(eventually(PATIENCE, || begun.exists().then_some(())).is_some(), "the handler is held up");
        vm.running.signal(Signal::TERM);
        vm.wait_unready("stopping", PATIENCE);
        sleep(Duration::from_millis(200));
        let begin = Instant::now();
        vm.running.signal(Signal::TERM);
        sleep(Duration::from_millis(400));
        // the harness waits for the streams of a process that has ended
        vm.running.hold_stderr(false);
        assert_eq!(vm.running.wait_exit(PATIENCE).code(), Some(75));
        assert!(begin.elapsed() < bound(Duration::from_secs(1)), "{:?}", begin.elapsed());
    }
}

/// The size beyond which the process must not write files: a full disk of its own.
fn disk(vm: &Vm, size: Option<u64>) {
    let pid = Pid::from_raw(vm.running.pid().cast_signed());
    prlimit(pid, Resource::Fsize, Rlimit { current: size, maximum: None }).unwrap();
}

#[test]
fn a_log_on_a_disk_that_fills_up_goes_on_in_whole_lines_when_there_is_room() {
    let mut vm = redirected(noisy("process", "log.format = \"json\""), "2>log");
    disk(&vm, Some(100_500));
    let full = eventually(PATIENCE, || (dropped(&mut vm) > 0.0).then_some(()));
    assert!(full.is_some(), "nothing was dropped");
    disk(&vm, None);
    let log = vm.folder.path().join("log");
    let told = "of the log were dropped: could not be written: File too large";
    let said = eventually(PATIENCE, || read_to_string(&log).unwrap().contains(told).then_some(()));
    assert!(said.is_some(), "{}", read_to_string(&log).unwrap());
    stops(&mut vm);
    let text = read_to_string(&log).unwrap();
    let broken = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).count();
    assert!(broken <= 1, "{broken} of {} lines", text.lines().count());
    assert!(text.ends_with('\n'));
}

#[test]
fn what_invoke_says_holds_up_no_result() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("fn.py"), "def handler(input, context):\n    raise ValueError('z' * 20_000)\n").unwrap();
    write(folder.path().join("events"), "1\n".repeat(500)).unwrap();
    let invoke = || Gaugefn::command().current_dir(folder.path()).args(["invoke", "fn.py", "--event", "events"]);
    let mut running = invoke().spawn();
    running.hold_stderr(true);
    let all = eventually(PATIENCE, || (running.stdout().lines().count() == 500).then_some(()));
    assert!(all.is_some(), "{} results", running.stdout().lines().count());
    running.hold_stderr(false);
    assert_eq!(running.wait_exit(PATIENCE).code(), Some(1));
    // where somebody reads nothing of it is missing
    let output = invoke().output(PATIENCE);
    assert_eq!(output.stderr.matches("ValueError: zzz").count(), 1000, "two for each event");
}
