//! Results on standard output and in files: whole lines, whatever they lead to.

use super::disk;
use crate::support::bed::{Bed, PATIENCE, Vm};
use crate::support::gaugefn::Gaugefn;
use crate::support::wait::eventually;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::Signal;
use std::fs::{File, OpenOptions, read_to_string, write};
use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// The events 0, 1, 2, …, each a long line, from the file `events` through no code at all to this sink.
fn plain(count: usize, sinks: &str) -> Bed {
    let bed = Bed::bare("");
    write(bed.folder.path().join("events"), events(count)).unwrap();
    bed.more(&format!(
        "[functions.vm]\nsource = {{ use = \"file\", path = \"events\", period = \"2ms\" }}\n\
         executor = {{ use = \"passthrough\" }}\n{sinks}\n"
    ))
}

fn event(number: usize) -> String {
    format!("{{\"n\":{number},\"filler\":\"{}\"}}", "x".repeat(1000))
}

fn events(count: usize) -> String {
    (0..count).map(|number| event(number) + "\n").collect()
}

fn ends(vm: &mut Vm, code: i32) {
    assert_eq!(vm.running.wait_exit(PATIENCE).code(), Some(code), "{}", vm.running.written());
}

#[test]
fn a_pipe_that_does_not_block_gets_every_line_whole() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("fn.py"), "def handler(input, context):\n    return input\n").unwrap();
    write(folder.path().join("events"), events(500)).unwrap();
    let config = "[functions.vm]\nsource = { use = \"file\", path = \"events\" }\nexecutor = { use = \"passthrough\" }\n\
                  sinks.stdout = {}\n";
    write(folder.path().join("gaugefn.toml"), config).unwrap();
    for args in [&["run", "--config", "gaugefn.toml"][..], &["invoke", "fn.py", "--event", "events"]] {
        let (mut read, write) = pipe().unwrap();
        fcntl_setfl(&write, OFlags::WRONLY | OFlags::NONBLOCK).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gaugefn"));
        command.args(args).current_dir(folder.path()).stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = command.stdout(OwnedFd::from(write)).spawn().unwrap();
        drop(command);
        // until it is full
        sleep(Duration::from_millis(700));
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}");
        let numbers: Vec<_> = text.lines().map(|line| line.len()).collect();
        assert!(text.lines().count() == 500 && numbers.iter().all(|length| *length > 1000), "{args:?}: {numbers:?}");
    }
}

#[test]
fn what_a_full_disk_did_not_take_is_written_when_there_is_room() {
    for (sink, name, trouble) in [
        ("sinks.stdout = {}", "out", "standard output cannot be written: File too large"),
        ("sinks.file = { path = \"results\", sync = true }", "results", "file 'results' cannot be written: check its"),
    ] {
        let mut vm = plain(100, sink).under(&["bash", "-c", "exec \"$0\" \"$@\" >out"]).spawn();
        // in the middle of a line
        disk(&vm, Some(30_500));
        vm.running.wait_for_log(trouble, PATIENCE);
        disk(&vm, None);
        ends(&mut vm, 0);
        assert!(read_to_string(vm.folder.path().join(name)).unwrap() == events(100), "{name}");
    }
}

#[test]
fn a_reader_of_results_who_has_gone_is_a_named_end() {
    let mut vm = plain(200, "sinks.stdout = {}").under(&["bash", "-c", "exec \"$0\" \"$@\" > >(true)"]).spawn();
    ends(&mut vm, 69);
    assert_eq!(vm.lines(&["ERROR", "standard output cannot be written, its reader has gone"]), 1);
}

#[test]
fn half_lines_of_those_who_were_killed_take_no_result_along() {
    let sinks = "sinks.stdout = {}\nsinks.file = { path = \"results\" }";
    let bed = plain(3, sinks);
    let folder = bed.folder.path().to_path_buf();
    for name in ["out", "results"] {
        write(folder.join(name), "{\"half\": ").unwrap();
    }
    let mut vm = bed.under(&["bash", "-c", "exec \"$0\" \"$@\" >>out"]).spawn();
    ends(&mut vm, 0);
    for name in ["out", "results"] {
        assert_eq!(read_to_string(folder.join(name)).unwrap(), format!("{{\"half\": \n{}", events(3)), "{name}");
    }
}

/// Lines of one file that several processes append to while its disk is full at times.
#[test]
fn processes_that_share_a_file_cut_off_nothing_of_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared");
    let sinks = format!("sinks.file = {{ path = {:?} }}", shared.display().to_string());
    let mut all: Vec<Vm> = (0..2).map(|_| plain(150, &sinks).spawn()).collect();
    for round in 1..40 {
        let vm = &all[round % 2];
        let length = shared.metadata().map_or(0, |meta| meta.len());
        disk(vm, Some(length + 500));
        sleep(Duration::from_millis(15));
        disk(vm, None);
    }
    all.iter_mut().for_each(|vm| ends(vm, 0));
    let text = read_to_string(&shared).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    let mut expected: Vec<_> = (0..150).flat_map(|number| [event(number), event(number)]).collect();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn a_named_pipe_is_a_file_whose_reader_may_come_late_and_go() {
    let bed = plain(60, "sinks.file = { path = \"pipe\" }");
    let path = bed.folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    let mut vm = bed.spawn();
    vm.running.wait_for_log("nobody reads the pipe 'pipe': start its reader", PATIENCE);
    let (first, rest) = (read_some(&path, 20), read_some(&path, usize::MAX));
    ends(&mut vm, 0);
    assert_eq!(first, (0..20).map(event).collect::<Vec<_>>());
    // what the first one had not read when it went is lost with it, as in any pipe
    let number = |line: &String| (0..60).find(|number| *line == event(*number));
    let numbers: Vec<_> = rest.iter().map(number).collect();
    assert!(numbers.iter().all(Option::is_some) && numbers.is_sorted(), "{numbers:?}");
    assert_eq!(numbers.last(), Some(&Some(59)));
}

/// Reads so many lines, then goes.
fn read_some(path: &Path, lines: usize) -> Vec<String> {
    BufReader::new(File::open(path).unwrap()).lines().take(lines).map(Result::unwrap).collect()
}

#[test]
fn streams_of_the_process_are_refused_as_files() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[functions.vm]\nsource = { use = \"host\" }\nexecutor = { use = \"passthrough\" }\n\
                  sinks.file = { path = \"/dev/stdout\" }\n";
    write(folder.path().join("gaugefn.toml"), config).unwrap();
    let check = Gaugefn::command().current_dir(folder.path()).args(["check", "--config", "gaugefn.toml"]);
    let output = check.output(PATIENCE);
    assert_eq!(output.status.code(), Some(78));
    let sentence = "functions.vm.sinks.file.path: '/dev/stdout' is a stream of the process and no file; for standard \
                    output use the sink `stdout`";
    assert!(output.stderr.contains(sentence), "{output:?}");
}

#[test]
fn a_file_that_is_held_by_somebody_is_waited_for_and_a_stop_does_not_wait() {
    let bed = plain(5, "sinks.file = { path = \"results\" }").more("[functions.vm.errors]\n");
    let mut held = OpenOptions::new().create(true).append(true).open(bed.folder.path().join("results")).unwrap();
    held.lock().unwrap();
    let mut vm = bed.env("GAUGEFN__FUNCTIONS__VM__DRAIN", "300ms").spawn();
    vm.running.wait_for_log("has been locked by another process", PATIENCE);
    held.write_all(b"own\n").unwrap();
    vm.running.signal(Signal::TERM);
    ends(&mut vm, 75);
    assert!(eventually(PATIENCE, || read_to_string(vm.folder.path().join("results")).ok()).unwrap() == "own\n");
}
