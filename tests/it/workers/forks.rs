//! A child that a function has forked ends where it comes back to the runtime, and never speaks for its parent.

use std::thread::sleep;

use super::*;
use crate::support::gaugefn::Gaugefn;

const FORKING: &str = include_str!("forking.py");

/// Ways to fork, and how the child ends.
const WAYS: [(&str, i64); 14] = [
    ("returns", 0),
    ("raises", 1),
    ("exits", 7),
    ("explains", 1),
    ("interrupted", 1),
    ("again", 1),
    ("crashes", -11),
    ("terminal", 0),
    ("thread", 0),
    ("unsaid", 0),
    ("late", 0),
    ("truth", 0),
    ("awaits", 0),
    ("pool", 8),
];

/// The parent answers each event once, whatever its children do.
fn only_the_parent_speaks(mut fed: Fed) {
    for (way, status) in WAYS.into_iter().chain([("process", 5)]) {
        assert_eq!(fed.ask(json!({"n": way, "do": way}))["status"], status, "{way}\n{}", fed.vm.running.written());
    }
    // the one that outlives its call comes back by now
    sleep(Duration::from_millis(400));
    fed.ask(json!({"n": "last"}));
    let names: Vec<_> = fed.results().iter().map(|result| result["n"].as_str().unwrap().to_owned()).collect();
    let asked = ["first"].into_iter().chain(WAYS.map(|(way, _)| way)).chain(["process", "last"]);
    assert_eq!(names, Vec::from_iter(asked));
    fed.vm.wait_lines(&["ValueError: of the child"], 1);
    fed.vm.wait_lines(&["the child's reason"], 1);
    fed.vm.wait_lines(&["the child's last line"], 1);
    for words in ["call failed", "socket", "damaged", "another one goes on", "worker_restarts"] {
        assert_eq!(fed.vm.lines(&[words]), 0, "{}", fed.vm.running.written());
    }
    fed.stop();
}

#[test]
fn a_forked_child_never_speaks_for_its_worker() {
    only_the_parent_speaks(Fed::python(FORKING, ""));
}

/// There, each state that a batch has changed goes with its outcomes.
#[test]
fn a_forked_child_never_speaks_for_a_worker_whose_states_are_kept() {
    let options = "state = { use = \"file\", path = \"state\" }";
    only_the_parent_speaks(Fed::python(FORKING, options));
}

/// It has a copy of the engine, connections and files included.
#[test]
fn a_forked_child_never_goes_on_as_the_runtime() {
    let bed = Bed::bare("").env("GAUGEFN__FUNCTIONS__VM__ISOLATION", "inline");
    only_the_parent_speaks(Fed::ready(Fed::place(bed, FORKING, "")));
}

/// The loop of a latest-value function lives on the thread that forks.
#[test]
fn a_forked_child_never_goes_on_as_dev() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("fn.py");
    write(&module, format!("{NOTING}{FORKING}\ndef dev(event, context):\n    pid = os.fork()\n    return {{'status': status(pid)}} if pid else {{'child': 1}}\n"))
        .unwrap();
    let dev =
        Gaugefn::command().args(["dev"]).args([&module]).args(["--handler", "dev", "--every", "100ms", "--count", "3"]);
    let output = dev.output(PATIENCE);
    assert_eq!(
        (output.status.code(), output.stdout.as_str()),
        (Some(0), "{\"status\": 0}\n".repeat(3).as_str()),
        "{output:?}"
    );
}

#[test]
fn a_forked_child_never_answers_for_invoke() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("fn.py");
    write(&module, format!("{NOTING}{FORKING}")).unwrap();
    let events: String = WAYS.iter().map(|(way, _)| json!({"n": way, "do": way}).to_string() + "\n").collect();
    write(folder.path().join("events"), &events).unwrap();
    for from in ["-", "events"] {
        let invoke = Gaugefn::command().current_dir(folder.path()).args(["invoke", "fn.py", "--event", from]);
        let output = invoke.stdin(events.clone()).output(PATIENCE);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let found: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let wanted: Vec<_> = WAYS.iter().map(|(way, status)| json!({"n": way, "status": status})).collect();
        assert_eq!(found, wanted, "{output:?}");
    }
}

/// Whoever forks while it is imported, or at its end.
#[test]
fn a_child_of_an_import_or_of_an_end_ends_there() {
    const CODE: &str = "import atexit, os\n\
        def fork(place):\n    \
            pid = os.fork()\n    \
            if pid:\n        \
                with open('seen', 'a') as seen: print(place, os.waitpid(pid, 0)[1], file=seen)\n    \
            return pid\n\
        if fork('import') == 0: raise SystemExit(3)\n\
        atexit.register(fork, 'end')\n\
        def handler(event, context):\n    return {'n': event['n']}\n\
        fork('last line')\n";
    for isolation in ["process", "inline"] {
        let bed = Bed::bare("").env("GAUGEFN__FUNCTIONS__VM__ISOLATION", isolation);
        let mut fed = Fed::ready(Fed::place(bed, CODE, ""));
        fed.ask(json!({"n": 1}));
        let (seen, running) = (fed.path("seen"), &mut fed.vm.running);
        running.signal(rustix::process::Signal::TERM);
        assert_eq!(running.wait_exit(PATIENCE).code(), Some(0), "{}", running.written());
        let text = read_to_string(seen).unwrap();
        assert_eq!(text, format!("import {}\nlast line 0\nend 0\n", 3 << 8), "{isolation}");
        assert_eq!(fed.results().len(), 2);
    }
}

#[test]
fn a_child_of_a_library_ends_where_it_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    for isolation in ["process", "inline"] {
        let bed = Bed::bare("").env("GAUGEFN__FUNCTIONS__VM__ISOLATION", isolation);
        let mut fed = Fed::ready(Fed::of(bed, &falls(folder.path()), "native", "native", ""));
        for n in 0..3 {
            fed.ask(json!({"n": n, "do": "fork"}));
        }
        fed.ask(json!({"n": "last"}));
        assert_eq!(fed.results().len(), 5, "{isolation}");
        assert_eq!(fed.vm.lines(&["WARN"]) + fed.vm.lines(&["ERROR"]), 0, "{}", fed.vm.running.written());
        fed.stop();
    }
}
