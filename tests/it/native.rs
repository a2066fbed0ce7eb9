//! Shared libraries: the yardstick in Rust and C, what is refused before any code of it runs, and panics.
//!
//! * `memory` - the ABI's rules on memory, under valgrind and sanitizers

mod memory;

use std::fs::{copy, create_dir_all, read, read_to_string, write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::Commands;
use serde_json::Value;

use crate::support::bed::{Bed, PATIENCE};
use crate::support::gaugefn::{Gaugefn, Output};
use crate::support::libraries::{cc, package, rust, several};
use crate::support::project;
use crate::support::redis::RedisServer;
use crate::support::tier::scale;
use crate::support::wait::eventually;

const EVENTS: &str = "tests/data/metrics.jsonl";
const YARDSTICK: &str = "benches/peers/handler_vm.py";

fn invoke(path: &Path, args: &[&str]) -> Gaugefn {
    Gaugefn::command().args(["invoke"]).args([path]).args(args)
}

fn lines(output: &Output) -> Vec<Value> {
    output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_yardstick_gives_equal_results_in_every_language() {
    let folder = tempfile::tempdir().unwrap();
    let c = folder.path().join("libvm.so");
    cc("examples/native-c/vm_metrics.c", &c, &[]);
    let events = project(EVENTS);
    let results = |path: &Path| {
        let output = invoke(path, &["--event", events.to_str().unwrap()]).output(PATIENCE);
        assert_eq!(output.status.code(), Some(0), "{}: {}", path.display(), output.stderr);
        lines(&output)
    };
    let expected = results(&project(YARDSTICK));
    assert_eq!(expected.len(), 500);
    for library in [rust("typed"), rust("raw"), c.clone()] {
        let found = results(&library);
        for (n, (expected, found)) in expected.iter().zip(&found).enumerate() {
            assert_eq!(found, expected, "event {} of {}", n + 1, library.display());
        }
        assert_eq!(found.len(), expected.len());
    }

    // what does not fit is a failure of that event alone
    for (library, words) in [(rust("typed"), "missing field"), (rust("raw"), "EOF"), (c, "flat json object")] {
        let event = if words == "missing field" { "{\"a\": 1}" } else { "{\"a\": 1" };
        let input = format!("{event}\n{}\n", read_to_string(&events).unwrap().lines().next().unwrap());
        let output = invoke(&library, &["--event", "-"]).stdin(input).output(PATIENCE);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stderr.contains("event 1: ") && output.stderr.contains(words), "{}", output.stderr);
        assert_eq!(lines(&output)[1], expected[0]);
    }
}

#[test]
fn four_functions_of_one_process_agree_on_redis() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let folder = tempfile::tempdir().unwrap();
    let c = folder.path().join("libvm.so");
    cc("examples/native-c/vm_metrics.c", &c, &[]);
    let mut bed = Bed::bare("").more(&format!("[redis]\nurl = \"{}\"", server.url()));
    let native = |path: PathBuf| ("native", path);
    let functions = [("python", project(YARDSTICK)), native(rust("typed")), native(rust("raw")), native(c)];
    let names = ["py", "typed", "raw", "c"];
    for (name, (executor, path)) in names.iter().zip(&functions) {
        let loader = if *executor == "python" { "file" } else { "native" };
        bed = bed.more(&format!(
            "[functions.{name}.source]\nuse = \"redis_key\"\nkey = \"metrics\"\nperiod = \"10ms\"\n\
             [functions.{name}.loader]\nuse = \"{loader}\"\npath = \"{}\"\n\
             [functions.{name}.executor]\nuse = \"{executor}\"\n\
             [functions.{name}.sinks.result]\nuse = \"redis_key\"\nkey = \"{name}\"",
            path.display()
        ));
    }
    let vm = bed.start();
    let text = read_to_string(project(EVENTS)).unwrap();
    for (n, event) in text.lines().take(scale(500, 100)).enumerate() {
        let _: () = redis.del(&names).unwrap();
        let _: () = redis.set("metrics", event).unwrap();
        let mut found = Vec::new();
        let arrived = eventually(PATIENCE, || {
            found = redis.mget::<_, Vec<Option<String>>>(&names).unwrap();
            found.iter().all(Option::is_some).then_some(())
        });
        assert!(arrived.is_some(), "event {n}: {found:?}\n{}", vm.running.written());
        let found: Vec<Value> = found.iter().flatten().map(|text| serde_json::from_str(text).unwrap()).collect();
        assert!(found.iter().all(|value| *value == found[0]), "event {n}: {found:#?}");
    }
}

#[test]
fn a_library_in_the_default_deployment() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let _: () = redis.set("metrics", "{\"a\": [1.0, \"b\"]}").unwrap();
    let vm = Gaugefn::command()
        .args(["run"])
        .env("REDIS_URL", server.url())
        .env("REDIS_OUTPUT_KEY", "result")
        .env("USER_MODULE_PATH", several())
        .env("USER_HANDLER_NAME", "loud")
        .spawn();
    let mut last: Option<String> = None;
    let arrived = eventually(PATIENCE, || {
        last = redis.get("result").unwrap();
        last.as_ref().map(|_| ())
    });
    assert!(arrived.is_some(), "{}", vm.written());
    assert_eq!(last.as_deref(), Some("{\"A\": [1.0, \"B\"]}"));
}

#[test]
fn the_examples_pass_tests_of_their_own_without_a_library() {
    for form in ["typed", "raw"] {
        package(&format!("examples/native-rust-{form}"), "test", &["--lib"]);
    }
}

/// Builds of `tests/libraries/matrix.c`, whose constructor leaves a mark.
struct Matrix {
    folder: tempfile::TempDir,
}

impl Matrix {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn mark(&self) -> PathBuf {
        self.folder.path().join("constructed")
    }

    fn build(&self, name: &str, definitions: &[&str]) -> PathBuf {
        let library = self.folder.path().join(format!("{name}.so"));
        let mark = format!("-DMARK=\"{}\"", self.mark().display());
        let mut flags = vec![mark.as_str()];
        flags.extend(definitions);
        cc("tests/libraries/matrix.c", &library, &flags);
        library
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let library = self.folder.path().join(format!("{name}.so"));
        write(&library, bytes).unwrap();
        library
    }

    /// It is refused in one line that says this, by `invoke` and by `run`, and none of its code has run.
    fn refused(&self, library: &Path, words: &str) {
        let config = format!(
            "[functions.vm.source]\nuse = \"host\"\n\
             [functions.vm.loader]\nuse = \"native\"\npath = \"{}\"\n[functions.vm.executor]\nuse = \"native\"\n",
            library.display()
        );
        let file = self.folder.path().join("gaugefn.toml");
        write(&file, config).unwrap();
        let run = Gaugefn::command().args(["run", "--config"]).args([&file]);
        for (command, output) in [("invoke", invoke(library, &[]).output(PATIENCE)), ("run", run.output(PATIENCE))] {
            let told: Vec<_> = output.stderr.lines().filter(|line| line.contains("library ")).collect();
            assert_eq!(output.status.code(), Some(65), "{command} {}: {output:?}", library.display());
            assert_eq!(output.stdout, "", "{command}");
            assert!(
                told.len() == 1 && told[0].contains(&format!("library {}: ", library.display())),
                "{command}: not one line that names the library: {}",
                output.stderr
            );
            assert!(told[0].contains(words), "{command}: no {words:?} in {}", told[0]);
            assert!(!self.mark().exists(), "{command}: code of {} has run", library.display());
        }
    }

    fn accepted(&self, library: &Path) {
        let output = invoke(library, &["--event", "-"]).stdin("1\n\"unset\"\n2\n").output(PATIENCE);
        assert_eq!(output.stdout, "\"called\"\nnull\n\"called\"\n", "{}: {}", library.display(), output.stderr);
        assert!(output.stderr.contains("event 2: the library gave this event no outcome"), "{}", output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(self.mark().exists(), "the mark shows what it is to show");
        std::fs::remove_file(self.mark()).unwrap();
    }
}

#[test]
fn what_cannot_work_is_refused_before_any_of_it_runs() {
    let matrix = Matrix::new();
    let good = read(matrix.build("good", &[])).unwrap();
    matrix.accepted(&matrix.put("copy", &good));

    for (name, definitions, words) in [
        ("major-below", &["-DMAJOR=0"][..], "speaks ABI 0.2 (sdk 9.8.7), this gaugefn speaks 1.2: build it with"),
        ("major-above", &["-DMAJOR=2"], "speaks ABI 2.2 (sdk 9.8.7), this gaugefn speaks 1.2: build it with"),
        ("target", &["-DGAUGEFN_TARGET=\"moon-linux-gnu\""], "is built for moon-linux-gnu, this gaugefn for "),
        ("aborting", &["-DPANIC=2"], "is built with panic = \"abort\""),
        ("panicking", &["-DPANIC=7"], "has the panic strategy 7, which is unknown"),
        ("hidden", &["-DHIDDEN"], "has no symbol gaugefn_library: "),
        ("no-note", &["-DNO_NOTE"], "has no gaugefn note, so it is no library of functions: "),
        ("half-note", &["-DCUT"], "has an incomplete gaugefn note (40 of at least 112 bytes"),
    ] {
        matrix.refused(&matrix.build(name, definitions), words);
    }

    let patched = |name: &str, at: usize, bytes: &[u8]| {
        let mut library = good.clone();
        library[at..at + bytes.len()].copy_from_slice(bytes);
        matrix.put(name, &library)
    };
    // e_machine: s390x; class: 32 bits; e_type: an executable
    matrix.refused(&patched("machine", 18, &[22, 0]), "is built for s390x (64 bits, little endian), this process is ");
    matrix.refused(&patched("class", 4, &[1]), "(32 bits, little endian), this process is ");
    matrix.refused(&patched("type", 16, &[2, 0]), "is an ELF file, but no shared library: ");

    let note = good.windows(8).position(|bytes| bytes == b"gaugefn\0").unwrap();
    let half = good.len() / 2;
    assert!(note + 200 < half, "the note is intact in half of the file");
    for (name, length) in [("half", half), ("all-but-one", good.len() - 1), ("header", 40), ("segments", 100)] {
        matrix.refused(&matrix.put(name, &good[..length]), "is truncated: ");
    }
    matrix.refused(&matrix.put("empty", b""), "is empty: copy it again");
    matrix.refused(&matrix.put("text", b"def handler(input, context): pass\n"), "is no ELF file");
    matrix.refused(&matrix.put("magic", b"\x7fELF"), "is truncated: its header ends at byte 64");
    // zeros after the header: no segments
    let zeros: Vec<u8> = good[..32].iter().copied().chain(std::iter::repeat_n(0, 4096)).collect();
    matrix.refused(&matrix.put("zeros", &zeros), "has no segment to load");

    matrix.refused(&matrix.build("needy", &["-DNEEDS"]), "cannot be loaded: undefined symbol: nowhere_to_be_found");
}

#[test]
fn a_library_that_aborts_on_panic_is_refused() {
    let products = package("tests/libraries", "rustc", &["--example", "aborts", "--", "-C", "panic=abort"]);
    let output = invoke(&products.join("examples/libaborts.so"), &[]).output(PATIENCE);
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    assert!(output.stderr.contains("is built with panic = \"abort\""), "{}", output.stderr);
}

#[test]
fn older_and_newer_minors_are_accepted() {
    let matrix = Matrix::new();
    matrix.accepted(&matrix.build("first", &["-DMINOR=0", "-DOLDER=0"]));
    matrix.accepted(&matrix.build("older", &["-DMINOR=1", "-DOLDER=1"]));
    matrix.accepted(&matrix.build("newer", &["-DMINOR=9", "-DNEWER"]));
    matrix.accepted(&matrix.build("same", &[]));
}

#[test]
fn the_handler_chooses_among_the_functions_of_a_library() {
    let library = several();
    let call = |handler: &str, event: &str| {
        invoke(&library, &["--handler", handler, "--event", "-"]).stdin(event).output(PATIENCE)
    };
    assert_eq!(call("loud", "{\"a\":1.0}\n0\nnull\n").stdout, "{\"A\":1.0}\nnull\nNULL\n");
    assert_eq!(call("handler", "{\"a\":1.0}\n\"calls\"\n").stdout, "{\"a\":1.0}\n2\n");
    let threads = call("handler", "\"thread\"\n\"thread\"\n\"thread\"\n");
    assert!(lines(&threads).iter().all(|thread| *thread == lines(&threads)[0]), "{threads:?}");

    let speaks = call("speaks", "1");
    assert_eq!(speaks.stdout, "null\n", "what a library prints is no result");
    assert!(speaks.stderr.contains("printed by a library\n") && speaks.stderr.contains("about 1"), "{}", speaks.stderr);

    let near = call("handlr", "1");
    assert_eq!(near.status.code(), Some(65));
    let wanted = "no function 'handlr', it exports handler, loud, facts, speaks; did you mean 'handler'?\n";
    assert!(near.stderr.ends_with(wanted), "{}", near.stderr);
    assert!(call("main", "1").stderr.ends_with("; set handler to one of them\n"));
}

#[test]
fn a_function_knows_its_surroundings() {
    let args = ["--handler", "facts", "--event", "-", "--context", "host=h", "--context", "port=7"];
    let output =
        invoke(&several(), &[&args[..], &["--context", "input_key=in"]].concat()).stdin("1\n2\n").output(PATIENCE);
    let [first, second] = &lines(&output)[..] else { panic!("{output:?}") };
    let mut expected = serde_json::json!({
        "function_name": "default", "host": "h", "port": 7, "input_key": "in", "output_key": null, "event_id": "1",
        "attempt": 1, "limited": false, "called_before": false, "built_lately": true,
    });
    assert_eq!(*first, expected);
    expected["event_id"] = "2".into();
    expected["called_before"] = true.into();
    assert_eq!(*second, expected);
}

#[test]
fn lines_and_measurements_of_a_function_arrive() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("events"), "1\n2\n").unwrap();
    let mut vm = Bed::bare("")
        .more(&format!(
            "[functions.speaker]\nhandler = \"speaks\"\n\
             [functions.speaker.source]\nuse = \"redis_key\"\nkey = \"metrics\"\nperiod = \"10ms\"\n\
             [functions.speaker.loader]\nuse = \"native\"\npath = \"{}\"\n\
             [functions.speaker.executor]\nuse = \"native\"",
            several().display()
        ))
        .more("[redis]");
    let server = RedisServer::start();
    vm = vm.more(&format!("url = \"{}\"", server.url()));
    let mut redis = server.connection();
    let _: () = redis.set("metrics", "1").unwrap();
    let mut vm = vm.start();
    vm.wait_lines(&["WARN", "about ", "speaker"], 1);
    vm.wait_lines(&["WARN", "metric 'spoken' is not recorded: the name was used for another kind before"], 1);
    let counted = eventually(PATIENCE, || vm.admin.metric("function_spoken", "speaker").ok().flatten());
    assert_eq!(counted, Some(2.0), "{}", vm.running.written());
}

#[test]
fn a_panic_is_one_failed_event_with_text_file_and_line() {
    let library = several();
    let output =
        invoke(&library, &["--event", "-"]).stdin("1\n\"literal\"\n2\n\"formatted\"\n\"fail\"\n3\n").output(PATIENCE);
    assert_eq!(output.stdout, "1\nnull\n2\nnull\nnull\n3\n");
    assert_eq!(output.status.code(), Some(1));
    let source = read_to_string(project("tests/libraries/several.rs")).unwrap();
    let line = |text: &str| source.lines().position(|line| line.contains(text)).unwrap() + 1;
    let first = |n: usize, text: &str| format!("event {n}: panicked at several.rs:{}:", line(text));
    for (start, end) in [
        (first(2, "panic!(\"boom\")"), ": boom"),
        (first(4, "panic!(\"no luck"), ": no luck with event 4"),
        ("event 5: ".to_owned(), "as asked"),
    ] {
        let found = output.stderr.lines().any(|line| line.starts_with(&start) && line.ends_with(end));
        assert!(found, "no {start}…{end} in {}", output.stderr);
    }
    assert!(output.stderr.contains("\nno luck with event 4\nand more\n"), "{}", output.stderr);
    assert!(!output.stderr.contains("thread '"), "the panic is not printed a second time: {}", output.stderr);
}

#[test]
fn many_panics_leak_nothing() {
    const PAGE: u64 = 4096;
    let folder = tempfile::tempdir().unwrap();
    let (warm, many) = (500, scale(10_000, 2_000));
    let panics = |count: usize| "\"literal\"\n\"formatted\"\n".repeat(count / 2);
    let events = format!("{}\"resident\"\n{}\"resident\"\n", panics(warm), panics(many));
    let file = folder.path().join("events");
    write(&file, events).unwrap();
    let output = invoke(&several(), &["--event", file.to_str().unwrap()]).output(Duration::from_secs(120));
    let resident: Vec<u64> = lines(&output).iter().filter_map(Value::as_u64).collect();
    let [before, after] = resident[..] else { panic!("{resident:?}") };
    assert!(after * PAGE < before * PAGE + (4 << 20), "{before} pages became {after}");
    assert_eq!(lines(&output).len(), warm + many + 2);
}

#[test]
fn a_file_that_is_overwritten_does_not_disturb_a_running_function() {
    let folder = tempfile::tempdir().unwrap();
    create_dir_all(folder.path()).unwrap();
    let library = folder.path().join("lib.so");
    copy(several(), &library).unwrap();
    let server = RedisServer::start();
    let mut redis = server.connection();
    let _: () = redis.set("metrics", "1").unwrap();
    let bed = Bed::bare("").more(&format!(
        "[redis]\nurl = \"{}\"\n[functions.vm.source]\nuse = \"redis_key\"\nkey = \"metrics\"\nperiod = \"10ms\"\n\
         [functions.vm.loader]\nuse = \"native\"\npath = \"{}\"\n[functions.vm.executor]\nuse = \"native\"\n\
         [functions.vm.sinks.result]\nuse = \"redis_key\"\nkey = \"result\"",
        server.url(),
        library.display()
    ));
    let mut vm = bed.start();
    vm.wait_result(&mut redis, "1", PATIENCE);
    // in place: the same file, cut to nothing
    write(&library, "").unwrap();
    let _: () = redis.set("metrics", "\"literal\"").unwrap();
    vm.wait_calls(2);
    let _: () = redis.set("metrics", "{\"after\":2}").unwrap();
    vm.wait_result(&mut redis, "{\"after\":2}", PATIENCE);
}
