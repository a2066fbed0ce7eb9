//! Workers that end by themselves, or at a limit of memory.

use super::*;
use crate::support::gaugefn::Gaugefn;
use crate::support::libraries::several;

const CRASHING: &str = include_str!("crashing.py");

#[test]
fn a_leak_ends_at_the_limit_of_memory() {
    let mut fed = Fed::python(CRASHING, "memory_limit = \"150MiB\"");
    let parent = fed.vm.running.pid();
    let ways = ["leaks", "recurses", "leaks_in_a_child"];
    for (n, way) in ways.into_iter().enumerate() {
        fed.send(&[json!({"n": format!("{n} leaks"), "do": way}), json!({"n": n})]);
        // one worker has gone, and the next one's state begins anew
        assert_eq!(fed.result(&n.into())["calls"], 1, "{way}");
        let worker = fed.call(&json!(format!("{n} leaks")))["worker"].clone();
        assert_eq!(carrying(&format!("GAUGEFN_WORKER={}", worker.as_str().unwrap())), [] as [i32; 0], "{way}");
        fed.vm.wait_lines(
            &["ERROR", "the worker was killed at ", " MiB of resident memory; memory_limit is 150MiB"],
            n + 1,
        );
    }
    assert_eq!((fed.vm.running.pid(), fed.vm.running.exited().is_none()), (parent, true));
    fed.wait_count("worker_kills_total", "reason=\"memory\"", ways.len());
    fed.wait_count("invocations_total", "outcome=\"failed\"", ways.len());
    fed.wait_count("invocations_total", "outcome=\"ok\"", ways.len() + 1);
    fed.stop();
}

#[test]
fn a_crash_while_importing_ends_the_start_with_its_reason() {
    for (code, words) in [
        ("os._exit(7)", "the worker process exited with 7 while loading the function"),
        ("os._exit(0)", "the worker process exited with 0 while loading the function"),
        ("os.abort()", "the worker process was killed by SIGABRT while loading the function"),
        ("import ctypes\nctypes.string_at(0)", "the worker process was killed by SIGSEGV while loading the function"),
    ] {
        for standby in ["interpreter", "imported", "none"] {
            let folder = tempfile::tempdir().unwrap();
            let module = folder.path().join("usermodule.py");
            write(&module, format!("{NOTING}{code}\ndef handler(event, context):\n    return 1\n")).unwrap();
            let config = folder.path().join("gaugefn.toml");
            let text = format!(
                "[functions.vm]\nstandby = \"{standby}\"\nloader = {{ use = \"file\", path = \"{}\" }}\n\
                 executor = {{ use = \"python\" }}\nsource = {{ use = \"host\" }}\n",
                module.display()
            );
            write(&config, text).unwrap();
            let output = Gaugefn::command().args(["run", "--config"]).args([&config]).output(PATIENCE);
            assert_eq!(output.status.code(), Some(65), "{code}: {}", output.stderr);
            let said = output.stderr.lines().filter(|line| line.contains("ERROR") && line.ends_with(words));
            assert_eq!(said.count(), 1, "{code}: {}", output.stderr);
            if code.contains("ctypes") {
                assert!(output.stderr.contains("usermodule.py\", line 11 in <module>"), "{}", output.stderr);
            }
        }
    }
}

#[test]
fn new_code_that_crashes_while_importing_leaves_the_old_one() {
    let mut fed = Fed::python(CRASHING, "");
    fed.replace("os._exit(7)\n");
    fed.wait_count("reloads_total", "outcome=\"failed\"", 1);
    fed.vm
        .wait_lines(&["ERROR", "the old one goes on: the worker process exited with 7 while loading the function"], 1);
    assert_eq!(fed.ask(json!({"n": 1}))["calls"], 2, "with its state");
    fed.replace(&CRASHING.replace("\"pid\": os.getpid()", "\"new\": 1"));
    fed.wait_count("reloads_total", "outcome=\"ok\"", 1);
    let result = fed.ask(json!({"n": 2}));
    assert_eq!((&result["calls"], &result["new"]), (&json!(3), &json!(1)));
    fed.stop();
}

/// Readiness goes and comes back, and a loop of crashes becomes slower and slower.
#[test]
fn a_loop_of_crashes_backs_off_until_the_code_is_mended() {
    const CRASHES: &str = "def handler(event, context):\n    note(n=event['n'])\n    os._exit(9)\n";
    let mut fed = Fed::python(CRASHING, "");
    fed.replace(CRASHES);
    fed.wait_count("reloads_total", "outcome=\"ok\"", 1);
    let events: Vec<_> = (0..30).map(|n| json!({"n": n})).collect();
    // one at a time, as they come
    for event in &events[..6] {
        fed.send(std::slice::from_ref(event));
        fed.call(&event["n"]);
    }
    let trouble =
        "function 'vm', worker: its worker ended 6 times in a row, the last time so: the worker exited with 9";
    let unready = fed.vm.wait_unready(trouble, PATIENCE);
    assert!(unready.starts_with("{\"ready\":false"), "{unready}");
    let times: Vec<_> = fed.calls().iter().map(|call| call["at"].as_f64().unwrap()).collect();
    let gaps: Vec<_> = times.windows(2).skip(1).map(|pair| pair[1] - pair[0]).collect();
    for (n, least) in [(2, 0.1), (3, 0.2), (4, 0.4)] {
        assert!(gaps[n] >= least && gaps[n] < least + 5.0, "{gaps:?}");
    }
    assert_eq!(fed.vm.running.exited(), None);
    // mended, while nothing comes
    fed.replace(CRASHING);
    fed.wait_count("reloads_total", "outcome=\"ok\"", 2);
    fed.vm.wait_ready(PATIENCE);
    assert_eq!(fed.ask(json!({"n": "after"}))["calls"], 1);
    fed.wait_count("invocations_total", "outcome=\"failed\"", 6);
    fed.stop();
}

#[test]
fn a_worker_that_is_killed_while_idle_is_nobodys_failure() {
    let mut fed = Fed::python(CRASHING, "");
    for n in 1..=3 {
        let worker = fed.call(&json!(if n == 1 { json!("first") } else { json!(n - 1) }))["pid"].as_i64().unwrap();
        let pid = rustix::process::Pid::from_raw(worker as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        assert_eq!(fed.ask(json!({"n": n}))["calls"], 1);
    }
    fed.wait_count("invocations_total", "outcome=\"failed\"", 0);
    fed.wait_count("invocations_total", "outcome=\"ok\"", 4);
    fed.wait_count("worker_restarts_total", "function=\"vm\"", 3);
    // noticed before or after it was given the event
    let said = ["ended while idle", "the worker was killed by SIGKILL; another one goes on"];
    assert_eq!(
        said.map(|words| fed.vm.lines(&["WARN", words])).iter().sum::<usize>(),
        3,
        "{}",
        fed.vm.running.written()
    );
    fed.stop();
}

mod timing {
    use super::*;
    use crate::support::bed::bound;
    use crate::support::tier::scale;

    /// From the crash's event to the next one's result.
    const NEXT: Duration = Duration::from_millis(300);

    /// Has the function end so many times in one way, each time with a good event after it.
    fn crash(fed: &mut Fed, poison: &Value, words: &str) {
        let rounds = scale(100, 5);
        let parent = fed.vm.running.pid();
        let texts = ["ERROR", "call failed: the worker ", words];
        let before = (fed.vm.lines(&texts), fed.count("invocations_total", "outcome=\"failed\""));
        let restarts = fed.count("worker_restarts_total", "function=\"vm\"");
        let called = |fed: &Fed| fed.calls().iter().filter(|call| call["n"] == poison["n"]).count();
        let calls = called(fed);
        let mut took = Vec::new();
        for round in 0..rounds {
            let good = json!(format!("{poison} {round}"));
            let start = now();
            fed.send(&[poison.clone(), json!({"n": good})]);
            fed.result(&good);
            let time = now() - start;
            assert!(time <= bound(NEXT).as_secs_f64(), "{poison} {round}: {time} s\n{}", fed.last_words());
            took.push(time);
        }
        took.sort_by(f64::total_cmp);
        let (middle, most) = (took[rounds / 2] * 1e3, took[rounds - 1] * 1e3);
        measured(format_args!("{poison}: {rounds} times, next result after {middle:.1} ms (most {most:.1})"));
        fed.vm.wait_lines(&texts, before.0 + rounds);
        fed.wait_count("invocations_total", "outcome=\"failed\"", before.1 + rounds);
        fed.wait_count("worker_restarts_total", "function=\"vm\"", restarts + rounds);
        // libraries note nothing
        assert!([0, calls + rounds].contains(&called(fed)), "{poison}: {} calls", called(fed));
        assert_eq!((fed.vm.running.pid(), fed.vm.running.exited().is_none()), (parent, true));
    }

    #[test]
    fn a_python_function_that_ends_its_process_costs_one_event() {
        let mut fed = Fed::python(CRASHING, "");
        for (way, words) in [
            ("exits", "exited with 3"),
            ("reads", "was killed by SIGSEGV"),
            ("aborts", "was killed by SIGABRT"),
            ("kills", "was killed by SIGKILL"),
            ("terminates", "was killed by SIGTERM"),
            ("overflows", "was killed by SIGSEGV"),
        ] {
            crash(&mut fed, &json!({"n": "crash", "do": way}), words);
        }
        // where it crashed stands with it
        let line = line_of(&format!("{NOTING}{CRASHING}"), "ctypes.string_at(0)");
        assert_eq!(fed.vm.lines(&[&format!("usermodule.py\", line {line} in reads")]), scale(100, 5));
        fed.stop();
    }

    #[test]
    fn a_library_that_ends_its_process_costs_one_event() {
        let folder = tempfile::tempdir().unwrap();
        let mut fed = Fed::native(&falls(folder.path()), "");
        for (way, words) in [
            ("null", "was killed by SIGSEGV"),
            ("abort", "was killed by SIGABRT"),
            // Rust's own handler, which says so
            ("overflow", "was killed by SIGABRT"),
            ("exit", "exited with 0"),
        ] {
            crash(&mut fed, &json!({"do": way}), words);
        }
        assert_eq!(fed.vm.lines(&["WARN", "has overflowed its stack"]), scale(100, 5), "{}", fed.vm.running.written());
        fed.stop();
    }

    #[test]
    fn a_panic_within_a_panic_costs_one_event() {
        let mut fed = Fed::native(&several(), "");
        crash(&mut fed, &json!("twice"), "was killed by SIGABRT");
        // and a plain one nothing but its own
        let restarts = fed.count("worker_restarts_total", "function=\"vm\"");
        fed.send(&[json!("literal"), json!({"n": "after"})]);
        fed.result(&json!("after"));
        fed.vm.wait_lines(&["ERROR", "panicked at several.rs", "boom"], 1);
        fed.wait_count("worker_restarts_total", "function=\"vm\"", restarts);
        fed.stop();
    }
}
