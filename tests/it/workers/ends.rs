//! What does not end keeps nothing out and does not pile up; what ends finishes what it has begun.

use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;

use super::*;
use crate::support::bed::bound;
use crate::support::gaugefn::Gaugefn;
use crate::support::python::interpreter;

/// A plain function of this version, after some lines of its own.
fn version(version: usize, before: &str) -> String {
    format!(
        "{before}\ndef handler(event, context):\n    return {{'n': event['n'], 'v': {version}, 'pid': os.getpid()}}\n"
    )
}

/// Ways not to end, with where each is said to be.
const ENDLESS: [(&str, &str, &str); 5] = [
    (
        "an atexit function of Python's own",
        "import atexit\natexit.register(time.sleep, 3000)",
        "it was in an atexit function",
    ),
    (
        "an atexit function",
        "import atexit\n@atexit.register\ndef bye():\n    while True: time.sleep(1)  # stuck",
        "it was at usermodule.py:LINE in bye",
    ),
    (
        "a thread",
        "import threading\ndef beat():\n    while True: time.sleep(1)  # stuck\nthreading.Thread(target=beat).start()",
        "it was at usermodule.py:LINE in beat",
    ),
    (
        "a job of a pool",
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)\n\
         def job():\n    time.sleep(3000)  # stuck\npool.submit(job)",
        "it was at usermodule.py:LINE in job",
    ),
    (
        "a process that is no daemon",
        "import multiprocessing\ndef child():\n    os.setsid()\n    time.sleep(3000)\n\
         multiprocessing.get_context('fork').Process(target=child).start()",
        "did not end within",
    ),
];

impl Fed {
    /// Waits until so many new versions have been taken, and this one answers.
    fn wait_version(&mut self, taken: usize, version: usize) {
        self.wait_count("reloads_total", "outcome=\"ok\"", taken);
        let result = self.ask(json!({"n": format!("{taken} taken")}));
        assert_eq!(result["v"], version, "{}", self.vm.running.written());
    }

    /// Waits for so many lines in a file that the function writes.
    fn wait_written(&self, file: &'static str, count: usize) {
        let there = eventually(PATIENCE, || (self.lines(file).len() == count).then_some(()));
        assert!(there.is_some(), "{file}: {:?}\n{}", self.lines(file), self.vm.running.written());
    }
}

#[test]
fn an_old_version_that_never_ends_keeps_no_later_one_out_and_is_killed() {
    for (what, lines, place) in ENDLESS {
        let endless = |number| version(number, lines);
        let mut fed = Fed::python(&endless(1), "drain = \"1s\"");
        for number in 2..=3 {
            fed.replace(&endless(number));
            fed.wait_version(number - 1, number);
        }
        fed.replace(&version(4, ""));
        fed.wait_version(3, 4);
        let line =
            format!("{NOTING}{}", endless(1)).lines().position(|line| line.contains("# stuck")).map_or(0, |n| n + 1);
        let place = place.replace("LINE", &line.to_string());
        let texts = ["WARN", "function=vm", "worker process", "of version", "did not end within 1.", "was killed"];
        // paths stand before the names of files
        let place = place.split("usermodule.py").last().unwrap();
        fed.vm.wait_lines(&texts, 3);
        assert_eq!(fed.vm.lines(&[&texts[..], &[place]].concat()), 3, "{what}\n{}", fed.vm.running.written());
        // one that works, one that is kept ready
        fed.wait_family(2);
        fed.stop();
    }
}

#[test]
fn a_version_whose_import_hangs_gives_way_to_the_next() {
    let mut fed = Fed::python(&version(1, ""), "");
    fed.wait_family(2);
    let hanging = "import subprocess\nsubprocess.Popen(['sleep', '999'], start_new_session=True)\nnote('hangs')\ntime.sleep(3000)";
    for (n, next) in [2, 3].into_iter().enumerate() {
        fed.replace(&version(9, hanging));
        fed.wait_written("hangs", n + 1);
        // which goes on meanwhile
        assert_eq!(fed.ask(json!({"n": n}))["v"], n + 1);
        fed.replace(&version(next, ""));
        fed.wait_version(n + 1, next);
        fed.wait_family(2);
    }
    // back to what runs
    fed.replace(&version(9, hanging));
    fed.wait_written("hangs", 3);
    fed.replace(&version(3, ""));
    fed.vm.wait_lines(&["WARN", "the code has changed once more while", "that one is given up"], 3);
    fed.wait_family(2);
    let line = format!("{NOTING}{hanging}").lines().count();
    fed.vm.wait_lines(&["INFO", "loading version", "was given up", &format!("usermodule.py:{line} in <module>")], 3);
    fed.wait_count("reloads_total", "outcome=\"ok\"", 2);
    fed.wait_count("reloads_total", "outcome=\"failed\"", 0);
    // and a stop does not wait for one either
    fed.replace(&version(9, hanging));
    fed.wait_written("hangs", 4);
    let start = Instant::now();
    let pid = fed.vm.running.pid();
    fed.vm.running.signal(Signal::TERM);
    assert_eq!(fed.vm.running.wait_exit(PATIENCE).code(), Some(0), "{}", fed.vm.running.written());
    assert!(start.elapsed() < bound(Duration::from_secs(1)), "{:?}", start.elapsed());
    assert_gone(&format!("GAUGEFN_WORKER={pid}-"), bound(Duration::from_secs(1)), &fed.vm);
}

/// Every second import hangs.
const MOODY: &str = "note('imports')\nif len(open('imports').readlines()) % 2 == 0: time.sleep(3000)";

#[test]
fn a_standby_whose_import_hangs_is_given_up() {
    let code = version(1, MOODY).replace("    return", "    if event.get('do') == 'die': os._exit(3)\n    return");
    let mut fed = Fed::python(&code, "standby = \"imported\"");
    fed.wait_written("imports", 2);
    fed.send(&[json!({"n": "dies", "do": "die"}), json!({"n": 1})]);
    fed.result(&1.into());
    fed.vm.wait_lines(&["WARN", "the worker that is kept ready is not ready after"], 1);
    // the next one hangs as well, and must not keep new code out
    fed.wait_written("imports", 4);
    fed.replace(&version(2, ""));
    fed.wait_version(1, 2);
    fed.vm.wait_lines(&["WARN", "the worker that is kept ready is not ready after"], 1);
    fed.wait_family(2);
    fed.stop();
}

#[test]
fn a_worker_goes_on_where_the_one_that_is_to_replace_it_hangs() {
    let mut fed = Fed::python(&version(1, MOODY), "max_events = 3\nstandby = \"none\"");
    let first = fed.find("results.jsonl", &json!("first")).unwrap()["pid"].clone();
    for n in 0..9 {
        assert_eq!(fed.ask(json!({"n": n}))["pid"], first, "{}", fed.vm.running.written());
    }
    fed.vm.wait_lines(
        &["WARN", "its worker goes on, though it was called with 3 events", "it has not loaded the function yet"],
        1,
    );
    fed.wait_family(2);
    // when it ends, another one is started
    let pid = rustix::process::Pid::from_raw(first.as_i64().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    assert_ne!(fed.ask(json!({"n": "after"}))["pid"], first);
    fed.wait_family(1);
    fed.stop();
}

/// It does not even hear that it is to end, or what is asked for.
#[test]
fn a_worker_that_was_stopped_keeps_neither_new_code_out_nor_a_stop_up() {
    let mut fed = Fed::python(&version(1, ""), "drain = \"500ms\"");
    for taken in 1..=2 {
        let pid = fed.ask(json!({"n": taken}))["pid"].as_i64().unwrap() as i32;
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
        fed.replace(&version(taken + 1, ""));
        fed.wait_version(taken, taken + 1);
        fed.wait_family(2);
    }
    fed.vm.wait_lines(&["ERROR", "function=vm", "has not handed its state over within 1500ms and was killed"], 2);
    let pid = fed.ask(json!({"n": "last"}))["pid"].as_i64().unwrap() as i32;
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    fed.stop();
}

#[test]
fn replaced_workers_that_never_end_do_not_pile_up() {
    let lines = "import atexit, subprocess\nsubprocess.Popen(['sleep', '999'], start_new_session=True)\natexit.register(time.sleep, 3000)";
    let mut fed = Fed::python(&version(1, lines), "max_events = 1\ndrain = \"1s\"");
    let mut most = 0;
    for n in 0..12 {
        fed.ask(json!({"n": n}));
        most = most.max(fed.family().len());
    }
    // eight on their way out, one that works, each with its child, and one that is kept ready
    assert!(most <= 2 * 10 + 1, "{most}");
    let killed = ["WARN", "a worker that was replaced has not ended cleanly", "it was in an atexit function"];
    // while so many have not ended, the worker goes on
    let replaced = fed.vm.lines(&["INFO", "its worker was replaced"]);
    assert!((8..=13).contains(&replaced), "{replaced}\n{}", fed.vm.running.written());
    fed.vm.wait_lines(&killed, replaced);
    fed.wait_count("worker_kills_total", "reason=\"end\"", replaced);
    fed.wait_family(3);
    fed.stop();
}

#[test]
fn a_stop_does_not_wait_longer_than_it_may_for_an_end() {
    for (n, (what, lines, _)) in ENDLESS.into_iter().enumerate() {
        // there is one way for all in this process
        for isolation in ["process", "inline"].into_iter().take(if n < 2 { 2 } else { 1 }) {
            let bed = Bed::bare("").env("GAUGEFN__FUNCTIONS__VM__ISOLATION", isolation);
            let mut fed = Fed::ready(Fed::place(bed, &version(1, lines), "drain = \"1s\""));
            let (pid, start) = (fed.vm.running.pid(), Instant::now());
            fed.vm.running.signal(Signal::TERM);
            // nothing was in flight
            assert_eq!(
                fed.vm.running.wait_exit(PATIENCE).code(),
                Some(0),
                "{what}, {isolation}\n{}",
                fed.vm.running.written()
            );
            let time = start.elapsed();
            assert!(
                time > Duration::from_millis(400) && time < bound(Duration::from_millis(2500)),
                "{what}, {isolation}: {time:?}"
            );
            let said = if isolation == "process" { "was killed" } else { "its end takes longer than" };
            assert_eq!(fed.vm.lines(&["function=vm", said]), 1, "{what}, {isolation}\n{}", fed.vm.running.written());
            assert_gone(&format!("GAUGEFN_WORKER={pid}-"), bound(Duration::from_secs(1)), &fed.vm);
        }
    }
}

/// The loop of a latest-value function lives on the thread that its end holds.
#[test]
fn a_stop_does_not_wait_longer_for_an_end_on_the_thread_of_the_loop() {
    let code = version(1, "import os" /* as no note is taken */).replace("event['n']", "1");
    let code = format!("{code}\nimport atexit, time\n@atexit.register\ndef bye():\n    time.sleep(3000)\n");
    let bed = Bed::bare(&code);
    let config = format!(
        "[functions.vm]\nisolation = \"inline\"\ndrain = \"1s\"\nsource = {{ use = \"host\" }}\n\
         loader = {{ use = \"file\", path = \"{}\" }}\n",
        bed.folder.path().join("usermodule.py").display()
    );
    let mut vm = bed.more(&config).start();
    vm.wait_calls(1);
    let start = Instant::now();
    vm.running.signal(Signal::TERM);
    assert_eq!(vm.running.wait_exit(PATIENCE).code(), Some(0), "{}", vm.running.written());
    assert!(start.elapsed() < bound(Duration::from_secs(2)), "{:?}", start.elapsed());
    vm.wait_lines(&["WARN", "function=vm", "its end takes longer than", "usermodule.py:8 in bye"], 1);
}

#[test]
fn a_stop_does_not_wait_longer_than_it_may_for_a_library() {
    let folder = tempfile::tempdir().unwrap();
    for (isolation, said) in [("process", "did not end within"), ("inline", "has not closed its instance within")] {
        let bed = Bed::bare("").env("GAUGEFN__FUNCTIONS__VM__ISOLATION", isolation);
        let mut fed = Fed::ready(Fed::of(bed, &falls(folder.path()), "native", "native", "drain = \"1s\""));
        fed.ask(json!({"n": "clings", "do": "cling"}));
        let (pid, start) = (fed.vm.running.pid(), Instant::now());
        fed.vm.running.signal(Signal::TERM);
        assert_eq!(fed.vm.running.wait_exit(PATIENCE).code(), Some(0), "{isolation}\n{}", fed.vm.running.written());
        assert!(start.elapsed() < bound(Duration::from_secs(2)), "{isolation}: {:?}", start.elapsed());
        assert_eq!(fed.vm.lines(&["ERROR", "function=vm", said]), 1, "{isolation}\n{}", fed.vm.running.written());
        assert_gone(&format!("GAUGEFN_WORKER={pid}-"), bound(Duration::from_secs(1)), &fed.vm);
    }
}

/// Writes down what runs in which order.
const FINISHING: &str = r#"
import atexit, multiprocessing, os, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

SEEN = os.open("seen", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def done(what, after=0):
    time.sleep(after)
    os.write(SEEN, what.encode() + b"\n")


fork = multiprocessing.get_context("fork")
pool = ThreadPoolExecutor(1)
processes = ProcessPoolExecutor(1, fork)
atexit.register(done, "atexit")


def handler(event, context):
    fork.Process(target=done, args=("process", 1.0)).start()
    pool.submit(done, "pool", 0.3)
    processes.submit(done, "pool of processes", 0.1)
    threading.Thread(target=done, args=("thread", 0.6)).start()
    threading.Thread(target=done, args=("daemon", 3000), daemon=True).start()
    return {"n": event.get("n")}
"#;

#[test]
fn a_clean_end_finishes_what_python_finishes_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let (module, seen) = (folder.path().join("fn.py"), folder.path().join("seen"));
    write(&module, FINISHING).unwrap();
    let take = |path: &Path| {
        let text = read_to_string(path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        text
    };
    // as any Python does it
    let script = format!("{FINISHING}\nhandler({{}}, None)\n");
    let status = Command::new(interpreter()).args(["-c", &script]).current_dir(folder.path()).status().unwrap();
    assert!(status.success());
    let wanted = take(&seen);
    assert_eq!(wanted.lines().count(), 5, "{wanted}");

    for args in [&["invoke", "fn.py"][..], &["dev", "fn.py", "--count", "1", "--every", "100ms"]] {
        let output = Gaugefn::command().current_dir(folder.path()).args(args).output(PATIENCE);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(take(&seen), wanted, "{args:?}");
    }
    for isolation in ["process", "inline"] {
        let bed = Bed::bare("").env("GAUGEFN__FUNCTIONS__VM__ISOLATION", isolation);
        let mut fed = Fed::ready(Fed::place(bed, FINISHING, ""));
        fed.vm.running.signal(Signal::TERM);
        assert_eq!(fed.vm.running.wait_exit(PATIENCE).code(), Some(0), "{}", fed.vm.running.written());
        assert_eq!(take(&fed.path("seen")), wanted, "{isolation}");
        assert_eq!(fed.vm.lines(&["WARN"]) + fed.vm.lines(&["ERROR"]), 0, "{}", fed.vm.running.written());
    }
    // an old version and one that was replaced by plan, too, while nobody waits for them
    let mut fed = Fed::python(FINISHING, "standby = \"none\"");
    fed.replace(&version(2, ""));
    fed.wait_version(1, 2);
    fed.wait_family(1);
    assert_eq!(take(&fed.path("seen")), wanted);
    fed.stop();
}

/// Those that were let go before are finished as well.
#[test]
fn a_stop_waits_for_what_was_replaced_before() {
    let lines = "import atexit\n@atexit.register\ndef bye():\n    time.sleep(0.7)\n    note('ends')";
    let mut fed = Fed::python(&version(1, lines), "max_events = 1\nstandby = \"none\"");
    for n in 0..2 {
        fed.ask(json!({"n": n}));
    }
    fed.vm.running.signal(Signal::TERM);
    assert_eq!(fed.vm.running.wait_exit(PATIENCE).code(), Some(0), "{}", fed.vm.running.written());
    assert_eq!(fed.lines("ends").len(), 4, "{}", fed.vm.running.written());
}
