//! Signals, draining, exit codes.

use crate::support::bed::{Bed, PATIENCE, Vm, bound};
use crate::support::redis::RedisServer;
use crate::support::wait::eventually;
use redis::Commands;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, create_dir, read_dir, read_to_string, write};
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

const ECHO: &str = "def handler(input, context):\n    return {'got': input}\n";

/// Far below every time that a test could be waiting for instead.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Between two signals that are to count as two.
const TWO_WISHES: Duration = Duration::from_millis(200);

/// A function whose call writes the file `begun` and then does this.
fn begins_and(then: &str) -> String {
    format!(
        "import os, time\n\nBEGUN = os.path.join(os.getcwd(), 'begun')\n\n\n\
         def handler(input, context):\n    open(BEGUN, 'w').close()\n    {then}\n    return {{'got': input}}\n"
    )
}

fn wait_file(vm: &Vm, name: &str) {
    let path = vm.folder.path().join(name);
    let there = eventually(PATIENCE, || path.exists().then_some(()));
    assert!(there.is_some(), "no file '{name}'\n{}", vm.running.written());
}

/// Waits for the end with this code; the time from `start`.
fn ends(vm: &mut Vm, start: Instant, code: i32) -> Duration {
    let status = vm.running.wait_exit(PATIENCE);
    let time = start.elapsed();
    assert_eq!(status.code(), Some(code), "{status}\n{}", vm.running.written());
    time
}

fn stops(vm: &mut Vm, signal: Signal, code: i32) -> Duration {
    let start = Instant::now();
    vm.running.signal(signal);
    ends(vm, start, code)
}

fn stops_at_once(vm: &mut Vm, signal: Signal, code: i32) {
    let time = stops(vm, signal, code);
    assert!(time < bound(AT_ONCE), "{time:?}\n{}", vm.running.written());
}

#[test]
fn idle_it_stops_at_once() {
    let server = RedisServer::start();
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        for source in ["", "watch = \"poll\""] {
            let () = server.connection().set("metrics", 1).unwrap();
            let mut vm = Bed::new(&server, source, ECHO).start();
            vm.wait_calls(1);
            stops_at_once(&mut vm, signal, 0);
            vm.wait_lines(&["INFO", &format!("{name}: stopping")], 1);
            assert_eq!(vm.lines(&["WARN"]) + vm.lines(&["ERROR"]), 0, "{}", vm.running.written());
        }
    }
}

#[test]
fn it_stops_at_once_without_a_server() {
    let mut server = RedisServer::start();
    server.kill9();
    let mut vm = Bed::new(&server, "", ECHO).spawn();
    vm.wait_unready("refuses the connection", PATIENCE);
    stops_at_once(&mut vm, Signal::TERM, 0);
}

#[test]
fn it_stops_without_a_server_that_answers() {
    let server = RedisServer::start();
    let mut vm = Bed::new(&server, "period = \"10ms\"", ECHO).start();
    server.stop_signal();
    vm.wait_unready("does not answer in time", PATIENCE);
    stops_at_once(&mut vm, Signal::TERM, 0);
    server.cont();
}

#[test]
fn a_function_that_handles_signals_itself_does_not_take_them_away() {
    let server = RedisServer::start();
    let code =
        "import signal\n\n\ndef handler(input, context):\n    return {'got': str(signal.getsignal(signal.SIGINT))}\n";
    for signal in [Signal::INT, Signal::TERM] {
        let () = server.connection().set("metrics", 1).unwrap();
        let mut vm = Bed::new(&server, "", code).start();
        vm.wait_calls(1);
        stops_at_once(&mut vm, signal, 0);
    }
}

#[test]
fn as_process_1_it_stops_at_once() {
    let server = RedisServer::start();
    let () = server.connection().set("metrics", 1).unwrap();
    let wrapper: &[&str] = if rustix::process::geteuid().is_root() {
        &["unshare", "--pid", "--fork", "--mount-proc"]
    } else {
        &["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    };
    for (signal, isolation, parent) in [
        (Signal::TERM, "inline", 0),
        (Signal::INT, "inline", 0),
        (Signal::TERM, "process", 1),
        (Signal::INT, "process", 1),
    ] {
        let code = "import os\n\n\ndef handler(input, context):\n    return {'got': os.getppid()}\n";
        let inline = Bed::new(&server, "", code).env("GAUGEFN__FUNCTIONS__VM__ISOLATION", isolation);
        let mut vm = inline.under(wrapper).spawn();
        let ready = eventually(PATIENCE, || {
            let ready = vm.readiness().is_some_and(|(status, _)| status == 200);
            (ready || vm.running.exited().is_some()).then_some(ready)
        });
        assert!(
            ready == Some(true),
            "this test needs a process namespace of its own: run it as root, or where user namespaces are allowed\n{}",
            vm.running.written()
        );
        vm.wait_calls(1);
        vm.wait_result(&mut server.connection(), &format!("{{\"got\": {parent}}}"), PATIENCE);
        let parent = vm.running.pid();
        let children = read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        let child = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
        let start = Instant::now();
        kill_process(child, signal).unwrap();
        let time = ends(&mut vm, start, 0);
        assert!(time < bound(AT_ONCE), "{time:?}");
    }
}

#[test]
fn what_is_in_flight_is_finished_and_stored() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    for signal in [Signal::TERM, Signal::INT] {
        let () = redis.del("result").unwrap();
        let () = redis.set("metrics", 1).unwrap();
        let mut vm = Bed::new(&server, "", &begins_and("time.sleep(1)")).start();
        wait_file(&vm, "begun");
        let time = stops(&mut vm, signal, 0);
        assert!(time > Duration::from_millis(500) && time < Duration::from_secs(6), "{time:?}");
        let result: String = redis.get("result").unwrap();
        assert_eq!(result, r#"{"got": 1}"#);
    }
}

#[test]
fn what_does_not_end_in_time_is_left() {
    let server = RedisServer::start();
    let () = server.connection().set("metrics", 1).unwrap();
    for then in ["time.sleep(1000)", "while True: pass"] {
        let mut vm = Bed::new(&server, "", &begins_and(then)).env("GAUGEFN__FUNCTIONS__VM__DRAIN", "300ms").start();
        wait_file(&vm, "begun");
        let time = stops(&mut vm, Signal::TERM, 75);
        assert!(time >= Duration::from_millis(290), "{time:?}");
        assert!(time < Duration::from_millis(300) + bound(AT_ONCE), "{time:?}");
        assert_eq!(vm.lines(&["ERROR", "stopped before everything in flight was finished"]), 1);
    }
}

#[test]
fn the_second_signal_leaves_at_once() {
    let server = RedisServer::start();
    let () = server.connection().set("metrics", 1).unwrap();
    // a loop, a wait, one C call that never lets go of the interpreter, and one that swallows every exception
    for then in [
        "while True: pass",
        "time.sleep(1000)",
        "7 ** (7 ** 9)",
        "exec('while True:\\n  try: time.sleep(0.01)\\n  except BaseException: pass')",
    ] {
        for second in [Signal::TERM, Signal::INT] {
            let mut vm = Bed::new(&server, "", &begins_and(then)).start();
            wait_file(&vm, "begun");
            vm.running.signal(Signal::TERM);
            vm.running.wait_for_log("SIGTERM: stopping", PATIENCE);
            vm.wait_unready("stopping", PATIENCE);
            sleep(TWO_WISHES);
            stops_at_once(&mut vm, second, 75);
        }
    }
}

#[test]
fn two_signals_in_one_breath_are_one_wish() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let () = redis.set("metrics", 1).unwrap();
    let mut vm = Bed::new(&server, "", &begins_and("time.sleep(1)")).start();
    wait_file(&vm, "begun");
    vm.running.signal(Signal::INT);
    stops(&mut vm, Signal::TERM, 0);
    let result: String = redis.get("result").unwrap();
    assert_eq!(result, r#"{"got": 1}"#);
}

#[test]
fn a_result_whose_server_comes_back_while_draining_is_stored() {
    let (server, mut other) = (RedisServer::start(), RedisServer::start());
    let mut vm = Bed::new(&server, "period = \"10ms\"\nwatch = \"poll\"", ECHO)
        .more(&format!("url = \"{}\"", other.url()))
        .start();
    other.kill9();
    let () = server.connection().set("metrics", 1).unwrap();
    vm.wait_unready("sink result: redis at", PATIENCE);
    vm.running.signal(Signal::TERM);
    vm.running.wait_for_log("SIGTERM: stopping", PATIENCE);
    sleep(Duration::from_millis(300));
    assert!(vm.running.exited().is_none(), "{}", vm.running.written());
    let start = Instant::now();
    other.restart();
    let time = ends(&mut vm, start, 0);
    assert!(time < bound(Duration::from_secs(2)), "{time:?}");
    let result: String = other.connection().get("result").unwrap();
    assert_eq!(result, r#"{"got": 1}"#);
}

#[test]
fn a_result_whose_server_stays_away_is_left() {
    let (server, mut other) = (RedisServer::start(), RedisServer::start());
    let mut vm = Bed::new(&server, "period = \"10ms\"\nwatch = \"poll\"", ECHO)
        .more(&format!("url = \"{}\"", other.url()))
        .env("GAUGEFN__FUNCTIONS__VM__DRAIN", "500ms")
        .start();
    other.kill9();
    let () = server.connection().set("metrics", 1).unwrap();
    vm.wait_unready("sink result: redis at", PATIENCE);
    let time = stops(&mut vm, Signal::TERM, 75);
    assert!((Duration::from_millis(490)..Duration::from_millis(500) + bound(AT_ONCE)).contains(&time), "{time:?}");
}

#[test]
fn a_long_import_is_left_at_once() {
    let server = RedisServer::start();
    for import in ["time.sleep(1000)", "while True: pass"] {
        let code = format!("import time\nopen('begun', 'w').close()\n{import}\n{ECHO}");
        let mut vm = Bed::new(&server, "", &code).spawn();
        wait_file(&vm, "begun");
        stops_at_once(&mut vm, Signal::TERM, 0);
    }
}

/// A zip whose function is this, unpacked below the folder `tmp`.
fn zipped(server: &RedisServer, code: &str) -> Bed {
    let bed = Bed::bare("");
    let folder = bed.folder.path().to_owned();
    let mut archive = zip::ZipWriter::new(File::create(folder.join("function.zip")).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    archive.start_file("main.py", options).unwrap();
    archive.write_all(code.as_bytes()).unwrap();
    archive.start_file("data/table.txt", options).unwrap();
    archive.finish().unwrap();
    create_dir(folder.join("tmp")).unwrap();
    bed.env("TMPDIR", folder.join("tmp").to_str().unwrap()).more(&format!(
        "[redis]\nurl = \"{}\"\n\
         [functions.vm.source]\nuse = \"redis_key\"\nkey = \"metrics\"\n\
         [functions.vm.loader]\nuse = \"zip\"\npath = \"{}\"\n\
         [functions.vm.executor]\nuse = \"python\"\n\
         [functions.vm.sinks.result]\nuse = \"redis_key\"\nkey = \"result\"\n",
        server.url(),
        folder.join("function.zip").display()
    ))
}

fn entries(folder: &Path) -> Vec<String> {
    read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_unpacked_folder_of_a_zip_goes_with_the_process() {
    let server = RedisServer::start();
    let () = server.connection().set("metrics", 1).unwrap();
    let long_import = format!("import time\nopen('begun', 'w').close()\ntime.sleep(1000)\n{ECHO}");
    for (code, signals, exit) in [
        (begins_and("pass"), 1, 0),
        (long_import, 1, 0),
        (begins_and("time.sleep(1000)"), 2, 75),
        ("def handler(input, context)\n".to_owned(), 0, 65),
    ] {
        let mut vm = zipped(&server, &code).spawn();
        let place = vm.folder.path().join("tmp");
        if signals > 0 {
            wait_file(&vm, "begun");
            assert_eq!(entries(&place).len(), 1, "{}", vm.running.written());
            vm.running.signal(Signal::TERM);
        }
        if signals > 1 {
            vm.running.wait_for_log("SIGTERM: stopping", PATIENCE);
            sleep(TWO_WISHES);
            vm.running.signal(Signal::TERM);
        }
        ends(&mut vm, Instant::now(), exit);
        assert_eq!(entries(&place), [""; 0], "exit {exit} after {signals} signals\n{}", vm.running.written());
    }
}

#[test]
fn atexit_functions_run() {
    let server = RedisServer::start();
    let code = format!(
        "import atexit, os\n\nPLACE = os.path.join(os.getcwd(), 'ended')\natexit.register(lambda: open(PLACE, 'w').close())\n\
         atexit.register(print, 'the end')\n\n\n{ECHO}"
    );
    let mut vm = Bed::new(&server, "", &code).start();
    stops_at_once(&mut vm, Signal::TERM, 0);
    assert!(vm.folder.path().join("ended").exists());
    vm.wait_lines(&["the end"], 1);
}

/// A function from the lines 1 to 5 to the file `results`.
fn lines(code: &str, more: &str) -> Bed {
    let bed = Bed::bare(code);
    let folder = bed.folder.path().to_owned();
    write(folder.join("events"), "1\n2\n3\n4\n5\n").unwrap();
    bed.more(&format!(
        "[functions.vm.source]\nuse = \"file\"\npath = \"events\"\n\
         [functions.vm.loader]\nuse = \"file\"\npath = \"usermodule.py\"\n\
         [functions.vm.executor]\nuse = \"python\"\n\
         [functions.vm.sinks.file]\npath = \"results\"\n{more}"
    ))
}

#[test]
fn the_end_of_the_source_is_the_end() {
    let code = format!("import atexit\n\natexit.register(print, 'the end')\n\n\n{ECHO}");
    let mut vm = lines(&code, "").spawn();
    ends(&mut vm, Instant::now(), 0);
    let results = read_to_string(vm.folder.path().join("results")).unwrap();
    assert_eq!(results, "{\"got\": 1}\n{\"got\": 2}\n{\"got\": 3}\n{\"got\": 4}\n{\"got\": 5}\n");
    vm.wait_lines(&["the source is exhausted"], 1);
    vm.wait_lines(&["the end"], 1);
}

const RAISING: &str = "def handler(input, context):\n    if input == 3:\n        raise ValueError('no threes')\n    \
                       return {'got': input}\n";

#[test]
fn the_policy_stop_ends_with_76() {
    let mut vm = lines(RAISING, "[functions.vm.errors]\nthen = \"stop\"").spawn();
    ends(&mut vm, Instant::now(), 76);
    let results = read_to_string(vm.folder.path().join("results")).unwrap();
    assert_eq!(results, "{\"got\": 1}\n{\"got\": 2}\n");
    vm.wait_lines(&["ERROR", "the error policy is 'stop'"], 1);

    // also where the source has nothing more to say
    let server = RedisServer::start();
    let () = server.connection().set("metrics", 3).unwrap();
    let errors = "[functions.vm.errors]\nthen = \"stop\"\nretries = 2\nbackoff = \"10ms\"";
    let mut vm = Bed::new(&server, "period = \"1h\"", RAISING).more(errors).spawn();
    ends(&mut vm, Instant::now(), 76);
    vm.wait_lines(&["ERROR", "call failed"], 3);
}

/// Two producers of host metrics beside the function `vm`.
fn producers(server: &RedisServer) -> String {
    let url = server.url();
    let table = |name: &str, key: &str| {
        format!(
            "[functions.{name}.source]\nuse = \"host\"\nperiod = \"100ms\"\n\
             [functions.{name}.executor]\nuse = \"passthrough\"\n\
             [functions.{name}.sinks.out]\nuse = \"redis_key\"\nkey = \"{key}\"\nurl = \"{url}\"\n"
        )
    };
    table("here", "metrics") + &table("there", "copy")
}

#[test]
fn several_functions_stop_together() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    for signal in [Signal::TERM, Signal::INT] {
        let () = redis::cmd("FLUSHALL").query(&mut redis).unwrap();
        let mut vm = Bed::new(&server, "period = \"50ms\"\nwatch = \"poll\"", ECHO).more(&producers(&server)).start();
        let filled = eventually(PATIENCE, || (redis.exists::<_, u64>(&["copy", "result"]).unwrap() == 2).then_some(()));
        assert!(filled.is_some(), "{}", vm.running.written());
        stops_at_once(&mut vm, signal, 0);
    }
}

#[test]
fn a_function_that_ends_by_policy_takes_the_others_along() {
    let server = RedisServer::start();
    let () = server.connection().set("metrics", 3).unwrap();
    let code = RAISING.replace("input == 3", "True");
    let more = producers(&server) + "[functions.vm.errors]\nthen = \"stop\"";
    let mut vm = Bed::new(&server, "period = \"50ms\"\nwatch = \"poll\"", &code).more(&more).spawn();
    ends(&mut vm, Instant::now(), 76);
}

#[test]
fn an_exhausted_source_leaves_the_others_alone() {
    let server = RedisServer::start();
    let mut vm = lines(ECHO, &producers(&server)).spawn();
    vm.running.wait_for_log("the source is exhausted", PATIENCE);
    let mut redis = server.connection();
    let () = redis.del("copy").unwrap();
    let filled = eventually(PATIENCE, || redis.exists::<_, bool>("copy").unwrap().then_some(()));
    assert!(filled.is_some(), "{}", vm.running.written());
    stops_at_once(&mut vm, Signal::TERM, 0);
}
