//! The ABI's rules on memory: `tests/libraries/driver.c` plays the runtime by the letter, under valgrind, and with the
//! sanitizers of the C compiler. No leak and no invalid access in the examples, panics and states included; planted
//! mistakes are found.

use std::fs::{read_to_string, write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::libraries::{cc, keeps, rust, several};
use crate::support::project;
use crate::support::tier::scale;

const EXAMPLE: &str = "examples/native-c/vm_metrics.c";
const PLANTED: &str = "tests/libraries/planted.c";
const SANITIZERS: &[&str] = &["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// A driver and a folder for what it drives.
struct Checked {
    folder: tempfile::TempDir,
    sanitized: bool,
}

impl Checked {
    fn new(sanitized: bool) -> Self {
        let checked = Self { folder: tempfile::tempdir().unwrap(), sanitized };
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-I"]).arg(project("sdk/include"));
        cc.args(if sanitized { SANITIZERS } else { &["-g"] }).arg("-o").arg(checked.path("driver"));
        let output = cc.arg(project("tests/libraries/driver.c")).arg("-ldl").output();
        let output = output.expect("a C compiler: apt-get install gcc libc6-dev");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        checked
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn c(&self, source: &str, definition: &str) -> PathBuf {
        let library = self.path("library.so");
        let flags = if self.sanitized { SANITIZERS } else { &["-g"] };
        cc(source, &library, &[flags, &[definition]].concat());
        library
    }

    fn drive(&self, library: &Path, handler: &str, events: &Path, rounds: usize) -> Output {
        let mut command = if self.sanitized {
            Command::new(self.path("driver"))
        } else {
            let mut valgrind = Command::new("valgrind");
            let kinds = "--errors-for-leak-kinds=definite,indirect,possible";
            valgrind.args(["--quiet", "--error-exitcode=9", "--leak-check=full", kinds]).arg(self.path("driver"));
            valgrind
        };
        command.arg(library).arg(handler).arg(events).arg(rounds.to_string());
        // a stack for each panic takes seconds under valgrind
        command.env("RUST_BACKTRACE", "0");
        command.output().expect("valgrind: apt-get install valgrind libc6-dbg")
    }

    /// Nothing is complained of, and what was done is what was meant.
    fn clean(&self, library: &Path, handler: &str, events: &Path, rounds: usize, wanted: &str) {
        let output = self.drive(library, handler, events, rounds);
        let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && complaints.is_empty(), "{}: {said}{complaints}", library.display());
        let summary = said.lines().last().unwrap_or_default();
        assert!(summary.contains(wanted), "{}: no {wanted:?} in {summary}", library.display());
    }
}

/// The first events of the sample, and two that do not fit.
fn metrics(file: &Path, count: usize) {
    let text = read_to_string(project("tests/data/metrics.jsonl")).unwrap();
    let lines: Vec<_> = text.lines().take(count).chain(["{\"a\": 1", "{}"]).collect();
    write(file, lines.join("\n")).unwrap();
}

#[test]
fn the_examples_neither_leak_nor_reach_beyond() {
    let checked = Checked::new(false);
    let (events, count) = (checked.path("events"), scale(500, 20));
    metrics(&events, count);
    let all = format!("0 unset, 0 empty, {} output", 3 * count);
    checked.clean(&checked.c(EXAMPLE, "-DNONE"), "handler", &events, 3, &format!("{all}, 0 failed, 6 unusable"));
    checked.clean(&rust("typed"), "handler", &events, 3, &format!("{all}, 0 failed, 6 unusable"));
    // `{}` is an event for this one
    let all = format!("0 unset, 0 empty, {} output", 3 * (count + 1));
    checked.clean(&rust("raw"), "handler", &events, 3, &format!("{all}, 3 failed, 0 unusable"));
}

#[test]
fn panics_and_states_neither_leak_nor_reach_beyond() {
    let checked = Checked::new(false);
    let (events, library, rounds) = (checked.path("events"), checked.path("keeps.so"), scale(100, 5));
    write(&events, "\"literal\"\n\"formatted\"\n\"fail\"\n{\"a\": [1.5]}\n{\n").unwrap();
    let panics = format!("{rounds} output, {} failed, {rounds} unusable", 3 * rounds);
    checked.clean(&several(), "handler", &events, rounds, &panics);
    write(&events, "1\n2\n").unwrap();
    let lines = format!("{} logged, {} measured", 2 * rounds, 4 * rounds);
    checked.clean(&several(), "speaks", &events, rounds, &lines);

    keeps(false, &library);
    write(&events, "\"count\"\n\"window\"\n\"pairs\"\n\"fail\"\n\"count\"\n").unwrap();
    // saved twice in each round: `env` and the states of types; those that cannot be written are named
    let states = format!("{} entries, {} lost, {rounds} refused", 4 * rounds, 2 * rounds);
    checked.clean(&library, "handler", &events, rounds, &states);
}

#[test]
fn the_example_in_c_satisfies_the_sanitizers() {
    let checked = Checked::new(true);
    let (events, count) = (checked.path("events"), 500);
    metrics(&events, count);
    let rounds = scale(200, 10);
    let all = format!("0 unset, 0 empty, {} output, 0 failed, {} unusable", rounds * count, 2 * rounds);
    checked.clean(&checked.c(EXAMPLE, "-DNONE"), "handler", &events, rounds, &all);
}

/// The mistakes of `tests/libraries/planted.c`, and what is said of each.
fn finds(sanitized: bool, mistakes: &[(&str, &str)]) {
    let checked = Checked::new(sanitized);
    let events = checked.path("events");
    write(&events, "1\n[2]\n").unwrap();
    checked.clean(&checked.c(PLANTED, "-DNONE"), "handler", &events, 2, "4 output, 0 failed");
    for (definition, words) in mistakes {
        let output = checked.drive(&checked.c(PLANTED, definition), "handler", &events, 2);
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && complaints.contains(words), "{definition}: {words}: {complaints}");
    }
}

#[test]
fn valgrind_finds_planted_mistakes() {
    let (leak, read) = ("definitely lost", "Invalid read");
    finds(false, &[("-DLEAK", leak), ("-DOPEN", leak), ("-DOVERREAD", read), ("-DSTALE", read), ("-DSAVED", read)]);
}

#[test]
fn sanitizers_find_planted_mistakes() {
    let (leak, read) = ("detected memory leaks", "heap-use-after-free");
    let over = ("-DOVERREAD", "heap-buffer-overflow");
    finds(true, &[("-DLEAK", leak), ("-DOPEN", leak), over, ("-DSTALE", read), ("-DSAVED", read)]);
}
