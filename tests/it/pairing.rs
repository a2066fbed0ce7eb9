//! A loader and an executor that agree by themselves, and pairs that cannot work, by every command that loads a function.

use crate::support::gaugefn::{Gaugefn, Output};
use crate::support::libraries::cc;
use crate::support::project;
use crate::support::wait::eventually;
use std::fs::{File, copy, create_dir, read, read_to_string, write};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

const FUNCTION: &str = "def handler(input, context):\n    return {'n': 1}\n";

/// A folder with one function in every form.
struct Forms {
    folder: tempfile::TempDir,
}

impl Forms {
    fn new() -> Self {
        let forms = Self { folder: tempfile::tempdir().unwrap() };
        let library = forms.path("libvm.so");
        cc("examples/native-c/vm_metrics.c", &library, &[]);
        for name in ["library", "library.py"] {
            copy(&library, forms.path(name)).unwrap();
        }
        create_dir(forms.path("folder")).unwrap();
        copy(&library, forms.path("folder/libvm.so")).unwrap();
        for name in ["f.py", "f", "f.so"] {
            write(forms.path(name), FUNCTION).unwrap();
        }
        forms.zip("library.zip", "libvm.so", &read(&library).unwrap());
        forms.zip("wrapped.zip", "vm/libvm.so", &read(&library).unwrap());
        for name in ["f.zip", "f.pyz", "zipped"] {
            forms.zip(name, "main.py", FUNCTION.as_bytes());
        }
        write(forms.path("f.pyc"), b"\xa7\x0d\x0d\x0a\x00\x00\x00\x00code").unwrap();
        let event = read_to_string(project("tests/data/metrics.jsonl")).unwrap();
        write(forms.path("events.jsonl"), event.lines().next().unwrap().to_owned() + "\n").unwrap();
        forms
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn zip(&self, name: &str, file: &str, content: &[u8]) {
        let mut zip = zip::ZipWriter::new(File::create(self.path(name)).unwrap());
        zip.start_file(file, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
        zip.finish().unwrap();
    }

    /// A command with the config file of this loader, path and executor.
    fn configured(&self, command: &[&str], loader: &str, path: &str, executor: Option<&str>) -> Output {
        let executor = executor.map(|name| format!("[functions.vm.executor]\nuse = '{name}'\n")).unwrap_or_default();
        let text = format!(
            "[functions.vm.source]\nuse = 'file'\npath = 'events.jsonl'\n[functions.vm.loader]\nuse = '{loader}'\n\
             path = '{path}'\n{executor}[functions.vm.sinks.stdout]\n"
        );
        write(self.path("gaugefn.toml"), text).unwrap();
        self.gaugefn(command).args(["--config", "gaugefn.toml"]).output(PATIENCE)
    }

    fn gaugefn(&self, args: &[&str]) -> Gaugefn {
        Gaugefn::command().args(args).current_dir(self.folder.path())
    }
}

#[test]
fn without_an_executor_the_file_decides() {
    let forms = Forms::new();
    let native = forms.gaugefn(&["invoke", "libvm.so", "--event", "events.jsonl"]).output(PATIENCE).stdout;
    assert!(native.starts_with("{\"") && native.ends_with("}\n"), "{native}");
    let python = "{\"n\": 1}\n".to_owned();
    for (loader, path, expected) in [
        ("file", "libvm.so", &native),
        ("file", "library", &native),
        ("file", "library.py", &native),
        ("native", "library", &native),
        ("dir", "folder", &native),
        ("zip", "library.zip", &native),
        ("zip", "wrapped.zip", &native),
        ("file", "f.py", &python),
        ("file", "f", &python),
        ("zip", "f.zip", &python),
    ] {
        let run = forms.configured(&["run"], loader, path, None);
        assert_eq!((run.status.code(), &run.stdout), (Some(0), expected), "{loader} {path}: {}", run.stderr);
        let check = forms.configured(&["check", "--connect"], loader, path, None);
        assert_eq!(check.status.code(), Some(0), "{loader} {path}: {}", check.stderr);
        let invoke = forms.gaugefn(&["invoke", path, "--event", "events.jsonl"]).output(PATIENCE);
        assert_eq!((invoke.status.code(), &invoke.stdout), (Some(0), expected), "{path}: {}", invoke.stderr);
    }
    // the same versions by two ways
    for other in ["library", "folder", "library.zip"] {
        let replay = forms.gaugefn(&["replay", "libvm.so", "--against", other, "--event", "events.jsonl"]);
        let replay = replay.output(PATIENCE);
        assert_eq!(replay.status.code(), Some(0), "{other}: {replay:?}");
    }
}

#[test]
fn a_pair_that_cannot_work_is_refused_with_both_names_before_anything_starts() {
    let forms = Forms::new();
    let library = "which is a shared library: use the executor 'native', or leave it out, so that the file decides";
    let no_library = "which is no shared library: use the executor 'python', or leave it out, so that the file decides";
    for (loader, path, executor, shown, why) in [
        ("file", "libvm.so", Some("python"), "libvm.so", library),
        ("file", "library", Some("python"), "library", library),
        ("file", "missing.so", Some("python"), "missing.so", library),
        ("native", "libvm.so", Some("python"), "libvm.so", library),
        ("dir", "folder", Some("python"), "folder/libvm.so", library),
        ("zip", "library.zip", Some("python"), "libvm.so", library),
        ("file", "f.py", Some("native"), "f.py", no_library),
        ("zip", "f.zip", Some("native"), "main.py", no_library),
        ("file", "f.pyz", None, "f.pyz", "which is a zip: use the loader 'zip'"),
        ("file", "zipped", Some("python"), "zipped", "which is a zip: use the loader 'zip'"),
        ("file", "f.pyc", None, "f.pyc", "which is byte code of Python: name the source file instead"),
    ] {
        let executors = executor.unwrap_or("python");
        let said = format!("the executor '{executors}' cannot run '{shown}' of the loader '{loader}', {why} (from");
        for command in ["check", "run"] {
            let output = forms.configured(&[command], loader, path, executor);
            assert_eq!((output.status.code(), output.stdout.as_str()), (Some(78), ""), "{loader} {path}: {output:?}");
            assert!(output.stderr.contains(&said), "{said}\n{}", output.stderr);
        }
    }
    for executor in [None, Some("native"), Some("python")] {
        let output = forms.configured(&["run"], "native", "f.py", executor);
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        let said = "functions.vm.loader.path: 'f.py' is no shared library, which is all that the loader 'native' loads: \
                    use the loader 'file' (from gaugefn.toml)";
        assert!(output.stderr.contains(said), "{}", output.stderr);
    }
    // no code of anybody is run
    let passed = forms.configured(&["run"], "file", "libvm.so", Some("passthrough"));
    assert_eq!((passed.status.code(), passed.stdout), (Some(0), read_to_string(forms.path("events.jsonl")).unwrap()));
}

#[test]
fn invoke_dev_and_replay_say_the_same() {
    let forms = Forms::new();
    let commands: &[&[&str]] =
        &[&["invoke", "f.pyc"], &["dev", "f.pyc", "--count", "1"], &["replay", "f.pyc", "--against", "f.py"]];
    for command in commands {
        let command = if command[0] == "replay" {
            [command, &["--event", "events.jsonl"][..]].concat()
        } else {
            command.to_vec()
        };
        let output = forms.gaugefn(&command).output(PATIENCE);
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(78), ""), "{output:?}");
        let said = "the executor 'python' cannot run 'f.pyc' of the loader 'file', which is byte code of Python";
        assert!(output.stderr.contains(said), "{}", output.stderr);
    }
    // a text that has a library's name is judged as one, and compiled by nobody
    for command in [&["invoke", "f.so"][..], &["dev", "f.so", "--count", "1"]] {
        let output = forms.gaugefn(command).output(PATIENCE);
        assert_eq!(output.status.code(), Some(65), "{output:?}");
        assert!(output.stderr.contains("f.so: is no ELF file"), "{}", output.stderr);
    }
}

#[test]
fn an_extension_module_is_no_function() {
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("fast.c"), folder.path().join("fast.cpython-311-x86_64-linux-gnu.so"));
    write(&source, "void *PyInit_fast(void);\nvoid *PyInit_fast(void) { return 0; }\n").unwrap();
    cc(&source.display().to_string(), &library, &[]);
    for variables in [false, true] {
        let gaugefn = match variables {
            true => Gaugefn::command().args(["run"]).env("USER_MODULE_PATH", &library),
            false => Gaugefn::command().args([Path::new("invoke"), &library]),
        };
        let output = gaugefn.output(PATIENCE);
        assert_eq!(output.status.code(), Some(65), "{output:?}");
        let said = "is an extension module of Python (PyInit_fast), which is imported by a function and is none itself: \
                    name the .py file that imports it";
        assert!(output.stderr.contains(said), "{}", output.stderr);
    }
}

#[test]
fn a_file_that_becomes_something_else_does_not_take_over() {
    let forms = Forms::new();
    write(forms.path("events.jsonl"), "{}\n".repeat(2000)).unwrap();
    let text = "[functions.vm.source]\nuse = 'file'\npath = 'events.jsonl'\nperiod = '10ms'\n[functions.vm.loader]\n\
                use = 'file'\npath = 'f'\n[functions.vm.sinks.stdout]\n";
    write(forms.path("gaugefn.toml"), text).unwrap();
    let mut running = forms.gaugefn(&["run", "--config", "gaugefn.toml"]).spawn();
    assert!(eventually(PATIENCE, || running.stdout().contains("{\"n\": 1}").then_some(())).is_some());
    std::fs::rename(forms.path("library"), forms.path("f")).unwrap();
    let said = "the executor 'python' cannot run";
    let refused =
        eventually(PATIENCE, || (running.stderr().contains(said) || running.exited().is_some()).then_some(()));
    assert!(refused.is_some() && running.exited().is_none(), "{}", running.written());
    let before = running.stdout().len();
    let goes_on = eventually(PATIENCE, || (running.stdout().len() > before).then_some(()));
    assert!(goes_on.is_some(), "{}", running.written());
    assert!(!running.written().contains("SyntaxError"), "{}", running.written());
}
