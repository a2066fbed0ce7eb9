//! `init`: what it makes works at once, for each language and both ways to the sdk; what it cannot make leaves nothing.

use std::fs::{create_dir, read_dir, read_to_string, remove_dir_all, write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::cargo::cargo;
use crate::support::gaugefn::{Gaugefn, Output};
use crate::support::project;

/// Far above what any of these takes, on a machine that runs every test at once.
const PATIENCE: Duration = Duration::from_secs(20);

fn gaugefn(folder: &Path, args: &[&str]) -> Output {
    Gaugefn::command().current_dir(folder).args(args).output(PATIENCE)
}

/// Its standard output.
fn succeeds(folder: &Path, args: &[&str]) -> String {
    let output = gaugefn(folder, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    output.stdout
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs another program to its end; what it wrote.
fn run(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?}\n{text}");
    text
}

/// The function at `path`, in `folder`: over the events that came with it, over the sample, and live.
fn works(folder: &Path, path: &str) {
    let results: Vec<Value> = succeeds(folder, &["invoke", path, "--event", "events.jsonl"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [first, second, third] = &results[..] else { panic!("{results:?}") };
    assert_eq!(first, &json!({ "timestamp": "2024-05-01 12:00:00.123456", "load": 25.0, "average": 25.0 }));
    assert_eq!((&second["load"], &second["average"]), (&json!(37.5), &json!(31.25)));
    assert_eq!(third["load"], 75.0);
    assert_eq!(succeeds(folder, &["invoke", path]).lines().count(), 1);
    let live = succeeds(folder, &["dev", path, "--count", "3", "--every", "100ms"]);
    assert_eq!(live.lines().filter(|line| line.contains("\"average\":")).count(), 3, "{live}");
}

#[test]
fn a_python_function_works_at_once() {
    let top = tempfile::tempdir().unwrap();
    let said = succeeds(top.path(), &["init", "new/my vm", "--lang", "python"]);
    assert_eq!(
        said,
        "made 'new/my vm', a function in Python:\n  main.py\n  test_main.py\n  events.jsonl\n  README.md\n  .gitignore\n\
         next:\n  cd 'new/my vm'\n  gaugefn invoke main.py --event events.jsonl\n  gaugefn dev main.py\n  \
         python3 -m unittest\n"
    );
    let folder = top.path().join("new/my vm");
    assert_eq!(names(top.path()), ["new"]);
    assert_eq!(names(&folder), [".gitignore", "README.md", "events.jsonl", "main.py", "test_main.py"]);
    let readme = read_to_string(folder.join("README.md")).unwrap();
    for command in ["gaugefn invoke main.py --event events.jsonl", "gaugefn dev main.py", "python3 -m unittest"] {
        assert!(readme.contains(&format!("\n$ {command} ")), "{readme}");
    }

    works(&folder, "main.py");
    works(&folder, ".");
    let mut tests = Command::new(env!("GAUGEFN_PYTHON"));
    tests.args(["-W", "error", "-m", "unittest"]).current_dir(&folder).env_remove("PYTHONPATH");
    let said = run(tests);
    assert!(said.contains("Ran 3 tests") && said.ends_with("OK\n"), "{said}");
    // what is left behind by its own test is nothing that its .gitignore does not know
    assert_eq!(read_to_string(folder.join(".gitignore")).unwrap(), "__pycache__/\n");
}

/// Where packages are made: one place for each, as whatever cargo remembers of a package stays.
fn fresh(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("init").join(name);
    // it is there from the second time on
    let _ = remove_dir_all(&folder);
    folder
}

/// Tests and builds a made package with the versions of this workspace, without a network; the library.
fn build(folder: &Path, config: &[String]) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("native");
    std::fs::copy(project("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let cargo = |verb: &str| {
        let mut command = cargo();
        command.args([verb, "--offline"]).args(config).current_dir(folder).env("CARGO_TARGET_DIR", &target);
        run(command)
    };
    let said = cargo("test");
    assert!(said.contains("test result: ok. 4 passed"), "{said}");
    assert!(!said.contains("warning"), "{said}");
    cargo("build");
    let name = folder.file_name().unwrap().to_str().unwrap().replace('-', "_");
    target.join(format!("debug/lib{name}.so"))
}

#[test]
fn a_rust_function_works_at_once_with_the_sdk_by_path() {
    let folder = fresh("average-by-path");
    let sdk = project("sdk");
    let args = ["init", folder.to_str().unwrap(), "--lang", "rust", "--sdk", sdk.to_str().unwrap()];
    let said = succeeds(Path::new("/"), &args);
    let shown = folder.display();
    assert_eq!(
        said,
        format!(
            "made '{shown}', a function in Rust:\n  Cargo.toml\n  src/lib.rs\n  events.jsonl\n  README.md\n  \
             .gitignore\nnext:\n  cd {shown}\n  cargo test\n  cargo build --release\n  \
             gaugefn invoke target/release/libaverage_by_path.so --event events.jsonl\n  \
             gaugefn dev target/release/libaverage_by_path.so\n"
        )
    );
    let readme = read_to_string(folder.join("README.md")).unwrap();
    for command in said.lines().skip_while(|line| !line.contains("cargo test")) {
        assert!(readme.contains(&format!("\n$ {}", command.trim())), "no {command} in {readme}");
    }
    let library = build(&folder, &[]);
    works(&folder, library.to_str().unwrap());

    // the same function in the other language
    let python = fresh("average-in-python");
    succeeds(Path::new("/"), &["init", python.to_str().unwrap(), "--lang", "python"]);
    let args = ["replay", ".", "--against", library.to_str().unwrap(), "--event", "events.jsonl"];
    let output = gaugefn(&python, &args);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", "3 events, 0 differ\n"));
}

#[test]
fn a_rust_function_works_at_once_with_the_sdk_by_version() {
    let folder = fresh("average-by-version");
    succeeds(Path::new("/"), &["init", folder.to_str().unwrap(), "--lang", "rust"]);
    let manifest: toml::Table = read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap();
    let version = manifest["dependencies"]["gaugefn-sdk"].as_str().unwrap();
    assert!(env!("CARGO_PKG_VERSION").starts_with(&format!("{version}.")), "{version}");
    // the crate as it will be published
    let patch = format!("patch.crates-io.gaugefn-sdk.path={}", toml::Value::from(project("sdk").to_str().unwrap()));
    let library = build(&folder, &["--config".to_owned(), patch]);
    works(&folder, library.to_str().unwrap());
}

#[test]
fn a_relative_path_to_the_sdk_is_relative_to_where_the_command_runs() {
    let top = tempfile::tempdir().unwrap();
    create_dir(top.path().join("sdk")).unwrap();
    write(top.path().join("sdk/Cargo.toml"), "[package]\nname = \"gaugefn-sdk\"\n").unwrap();
    succeeds(top.path(), &["init", "functions/vm", "--lang", "rust", "--sdk", "sdk"]);
    let manifest: toml::Table = read_to_string(top.path().join("functions/vm/Cargo.toml")).unwrap().parse().unwrap();
    assert_eq!(manifest["dependencies"]["gaugefn-sdk"]["path"].as_str(), Some("../../sdk"));
}

#[test]
fn an_empty_folder_is_filled_and_stays_the_working_folder() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("here");
    create_dir(&folder).unwrap();
    let said = succeeds(&folder, &["init", ".", "--lang", "rust"]);
    assert!(!said.contains("  cd ") && said.contains("target/release/libhere.so"), "{said}");
    assert_eq!(names(&folder), [".gitignore", "Cargo.toml", "README.md", "events.jsonl", "src"]);
    assert_eq!(names(top.path()), ["here"]);
}

#[test]
fn what_cannot_be_made_is_refused_and_nothing_is_left() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    create_dir(at("full")).unwrap();
    write(at("full/mine"), "").unwrap();
    write(at("file"), "").unwrap();
    symlink("nowhere", at("link")).unwrap();
    create_dir(at("other")).unwrap();
    write(at("other/Cargo.toml"), "[package]\nname = \"other\"\n").unwrap();
    let before = names(top.path());
    let letter = "name one that begins with a letter of a to z";
    for (args, exit, words) in [
        ("full --lang python", 64, "folder 'full' is not empty; name a new or an empty one".to_owned()),
        ("file --lang python", 64, "'file' is a file; name a new or an empty folder".to_owned()),
        ("link --lang python", 64, "'link' is a link to nothing; name a new or an empty folder".to_owned()),
        (
            "file/vm --lang python",
            64,
            "folder 'file/vm' cannot be made; name one where you may write: not a directory".to_owned(),
        ),
        (
            "/proc/vm --lang python",
            64,
            "folder '/proc/vm' cannot be made; name one where you may write: entity not found".to_owned(),
        ),
        (
            "new/../vm --lang python",
            64,
            "'new/../vm' leads through a folder that does not exist; name it without '..'".to_owned(),
        ),
        ("日本 --lang rust", 64, format!("no rust crate can be named after the folder '日本'; {letter}")),
        ("new/1 --lang rust", 64, format!("no rust crate can be named after the folder '1'; {letter}")),
        (
            "Match --lang rust",
            64,
            "no rust crate can be named after the folder 'Match': 'match' means something else already; \
             name another folder"
                .to_owned(),
        ),
        ("vm --lang python --sdk other", 64, "--sdk 'other' is for --lang rust; leave it out".to_owned()),
        (
            "vm --lang rust --sdk gone",
            66,
            "--sdk 'gone': no Cargo.toml can be read there; name the folder of the crate gaugefn-sdk".to_owned(),
        ),
        (
            "vm --lang rust --sdk other",
            66,
            "--sdk 'other': this is the crate 'other'; name the folder of the crate gaugefn-sdk".to_owned(),
        ),
    ] {
        let args: Vec<_> = ["init"].into_iter().chain(args.split(' ')).collect();
        let output = gaugefn(top.path(), &args);
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(exit), ""), "{args:?}: {output:?}");
        assert_eq!(output.stderr, format!("gaugefn: {words}\n"));
        assert_eq!(names(top.path()), before, "{args:?}");
    }
    assert_eq!(names(&at("full")), ["mine"]);
}
