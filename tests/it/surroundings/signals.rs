//! Signals that are no wish to end at once, and terminals that go.

use super::wait_more_calls;
use crate::support::bed::{Bed, PATIENCE, Vm};
use crate::support::gaugefn::Gaugefn;
use crate::support::redis::RedisServer;
use crate::support::wait::eventually;
use redis::Commands;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{read_to_string, write};
use std::time::Duration;

const SLOW: &str = "
import os, time

def handler(input, context):
    open('begun', 'w').close()
    time.sleep(0.7)
    return {'pid': os.getpid()}
";

fn wait_begun(vm: &Vm) {
    let begun = vm.folder.path().join("begun");
    assert!(eventually(PATIENCE, || begun.exists().then_some(())).is_some(), "{}", vm.running.written());
}

#[test]
fn a_hang_up_cuts_off_no_call_of_a_service() {
    let server = RedisServer::start();
    for isolation in ["process", "inline"] {
        let () = server.connection().set("metrics", 1).unwrap();
        let () = server.connection().del("result").unwrap();
        let mut vm = Bed::new(&server, "watch = \"poll\"\nperiod = \"50ms\"", SLOW)
            .env("GAUGEFN__FUNCTIONS__VM__ISOLATION", isolation)
            .start();
        wait_begun(&vm);
        vm.running.signal(Signal::HUP);
        let pid = vm.running.pid();
        // as `pkill -HUP gaugefn` does it
        let children = read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        for child in children.split_whitespace() {
            kill_process(Pid::from_raw(child.parse().unwrap()).unwrap(), Signal::HUP).unwrap();
        }
        vm.wait_calls(1);
        let result: Option<String> = server.connection().get("result").unwrap();
        assert!(result.is_some(), "{}", vm.running.written());
        vm.running.signal(Signal::HUP);
        let () = server.connection().set("metrics", 2).unwrap();
        vm.wait_calls(2);
        vm.wait_lines(&["INFO", "SIGHUP: nothing is cut off"], 1);
        assert_eq!(vm.lines(&["WARN"]) + vm.lines(&["ERROR"]), 0, "{}", vm.running.written());
        vm.running.signal(Signal::TERM);
        assert_eq!(vm.running.wait_exit(PATIENCE).code(), Some(0));
    }
}

/// `gaugefn dev` of a function that takes its time, by way of this program.
fn dev(folder: &std::path::Path, wrapper: &[&str]) -> Gaugefn {
    write(folder.join("fn.py"), SLOW).unwrap();
    let dev = Gaugefn::command().current_dir(folder).args(["dev", "fn.py", "--every", "100ms"]);
    if wrapper.is_empty() { dev } else { dev.under(wrapper) }
}

#[test]
fn a_hang_up_ends_dev_with_its_call_unless_nohup_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = dev(folder.path(), &[]).spawn();
    running.wait_for_log("pid", PATIENCE);
    let begun = folder.path().join("begun");
    std::fs::remove_file(&begun).unwrap();
    assert!(eventually(PATIENCE, || begun.exists().then_some(())).is_some(), "{}", running.written());
    running.signal(Signal::HUP);
    assert_eq!(running.wait_exit(PATIENCE).code(), Some(0), "{}", running.written());
    running.wait_for_log("SIGHUP: stopping", PATIENCE);
    assert!(running.stdout().lines().count() >= 2, "the call in flight is finished: {}", running.written());

    let mut running = dev(folder.path(), &["bash", "-c", "trap '' HUP; exec \"$0\" \"$@\""]).spawn();
    running.wait_for_log("pid", PATIENCE);
    running.signal(Signal::HUP);
    let before = running.stdout().lines().count();
    let further = eventually(PATIENCE, || (running.stdout().lines().count() >= before + 2).then_some(()));
    assert!(further.is_some(), "{}", running.written());
    running.signal(Signal::TERM);
    assert_eq!(running.wait_exit(PATIENCE).code(), Some(0));
}

/// Starts the command on a terminal, waits for the file `begun`, closes the terminal, and tells how it ended.
const TERMINAL: &str = "
import os, pty, sys, time

pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
os.set_blocking(terminal, False)
while not os.path.exists('begun'):
    try:
        os.read(terminal, 65536)
    except BlockingIOError:
        time.sleep(0.01)
os.close(terminal)
status = os.waitpid(pid, 0)[1]
print('ended', os.waitstatus_to_exitcode(status))
";

#[test]
fn a_terminal_that_goes_ends_what_was_started_on_it_with_its_call() {
    let server = RedisServer::start();
    let () = server.connection().set("metrics", 1).unwrap();
    let mut vm = Bed::new(&server, "", SLOW).under(&["python3", "-c", TERMINAL]).spawn();
    vm.running.wait_for_log("ended 0", PATIENCE);
    let result: Option<String> = server.connection().get("result").unwrap();
    assert!(result.is_some(), "{}", vm.running.written());

    let folder = tempfile::tempdir().unwrap();
    let mut running = dev(folder.path(), &["python3", "-c", TERMINAL]).spawn();
    running.wait_for_log("ended 0", PATIENCE);
}

/// The limits that a function and gaugefn itself have.
const LIMITS: &str = "
import resource

def handler(input, context):
    return resource.getrlimit(resource.RLIMIT_NOFILE)
";

#[test]
fn functions_keep_their_limit_of_descriptors() {
    let server = RedisServer::start();
    for (isolation, own) in [("process", "4000"), ("inline", "500")] {
        let () = server.connection().set("metrics", 1).unwrap();
        let bed = Bed::new(&server, "", LIMITS).env("GAUGEFN__FUNCTIONS__VM__ISOLATION", isolation);
        let mut vm = bed.under(&["prlimit", "--nofile=500:4000"]).start();
        vm.wait_result(&mut server.connection(), "[500, 4000]", PATIENCE);
        let limits = read_to_string(format!("/proc/{}/limits", vm.running.pid())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        assert_eq!(line.split_whitespace().nth(3), Some(own), "{line}");
    }
}

#[test]
fn few_descriptors_are_told_once_and_when_there_are_enough_again() {
    let code = "
import os, time
HELD = []

def handler(input, context):
    while not os.path.exists('enough') and len(HELD) < 200:
        HELD.append(os.open('/dev/null', os.O_RDONLY))
    if os.path.exists('enough'):
        while HELD:
            os.close(HELD.pop())
    return len(HELD)
";
    let bed = Bed::bare(code).more(
        "[functions.vm]\nisolation = \"inline\"\nsource = { use = \"host\", period = \"100ms\" }\n\
         loader = { use = \"file\", path = \"usermodule.py\" }\nexecutor = { use = \"python\" }\nsinks.stdout = {}\n",
    );
    let mut vm = bed.under(&["prlimit", "--nofile=240:240"]).start();
    vm.running.wait_for_log("of 240 file descriptors are in use: raise the limit (ulimit -n", PATIENCE);
    std::thread::sleep(Duration::from_secs(2));
    wait_more_calls(&mut vm, 3);
    assert_eq!(vm.lines(&["WARN", "file descriptors are in use"]), 1, "{}", vm.running.written());
    write(vm.folder.path().join("enough"), "").unwrap();
    vm.running.wait_for_log("enough are free again", PATIENCE);
}
