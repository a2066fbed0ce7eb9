//! The walk-through of docs/adding-a-source.md, as it stands: its file and its `mod` line go into a copy of the crate
//! `sources`, which is built, tested, and named by a binary of its own.
//!
//! The copy shares the target folder, and with it nearly all dependencies, with the workspace.

use std::fs::{create_dir_all, read_dir, read_to_string, write};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::support::cargo::cargo;
use crate::support::project;

/// What a binary has to do to have the new source: name the crate once.
const PROBE: &str = r#"
use runtime_core::Registry;
use runtime_core::config::Section;
use runtime_core::contract::Source;
use sources as _;

fn main() {
    for entry in Registry::<dyn Source>::collect().unwrap().entries() {
        println!("{}: {}", entry.name, entry.summary);
        for problem in (entry.check)(&Section::empty("source")) {
            println!("  {problem}");
        }
    }
}
"#;

#[test]
fn one_file_and_one_line_make_a_source() {
    let page = read_to_string(project("docs/adding-a-source.md")).unwrap();
    let (lines, parts): (Vec<_>, Vec<_>) = blocks(&page).partition(|block| block.starts_with("pub mod "));
    assert_eq!(lines, ["pub mod json_file;\n"], "the page has one `mod` line");

    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("adding-a-source");
    copy_of_sources(&copy);
    let library = copy.join("sources/src/lib.rs");
    put(&copy.join("sources/src/json_file.rs"), &parts.join("\n"));
    put(&library, &(read_to_string(project("sources/src/lib.rs")).unwrap() + &lines[0]));

    let tests = run(&copy, &["test", "--package", "sources", "--lib", "--", "json_file::"]);
    assert!(tests.contains("test result: ok. 3 passed"), "{tests}");

    let listed = run(&copy, &["run", "--quiet", "--package", "probe"]);
    let expected = "json_file: the newest content of a JSON file\n  source.path: missing; it has no default\n";
    assert!(listed.contains(expected), "{listed}");
    assert!(listed.contains("\nredis_key: "), "the other sources are still there: {listed}");
}

/// The Rust blocks of a page, each with its final line break.
fn blocks(page: &str) -> impl Iterator<Item = String> + '_ {
    page.split("\n```rust\n").skip(1).map(|rest| {
        let end = rest.find("\n```\n").expect("a block that begins also ends");
        format!("{}\n", &rest[..end])
    })
}

/// A workspace of the crate `sources` and the probe, with everything else of the crate's taken from here.
fn copy_of_sources(copy: &Path) {
    let manifest: Table = read_to_string(project("Cargo.toml")).unwrap().parse().unwrap();
    let mut workspace = manifest["workspace"].as_table().unwrap().clone();
    workspace.insert("members".to_owned(), Value::from(vec!["sources", "probe"]));
    for (name, dependency) in workspace["dependencies"].as_table_mut().unwrap() {
        if let Some(path) = dependency.get_mut("path").filter(|_| name != "sources") {
            *path = Value::from(project(path.as_str().unwrap()).to_str().unwrap());
        }
    }
    let mut dev = manifest["profile"]["dev"].as_table().unwrap().clone();
    // no members here, but code of ours: compiled as it is in the workspace
    for name in ["runtime-core", "redis-link"] {
        let ours = Table::from_iter([("opt-level".to_owned(), Value::from(0))]);
        dev["package"].as_table_mut().unwrap().insert(name.to_owned(), Value::from(ours));
    }
    let root = Table::from_iter([
        ("workspace".to_owned(), Value::from(workspace)),
        ("profile".to_owned(), Value::from(Table::from_iter([("dev".to_owned(), Value::from(dev))]))),
    ]);
    put(&copy.join("Cargo.toml"), &root.to_string());
    // cargo takes out what the copy does not need
    put(&copy.join("Cargo.lock"), &read_to_string(project("Cargo.lock")).unwrap());
    // the features of the workspace's own build, so that the same artifacts serve
    put(
        &copy.join("probe/Cargo.toml"),
        "[package]\nname = \"probe\"\nedition = \"2024\"\n\n[dependencies]\nsources.workspace = true\n\
         runtime-core = { workspace = true, features = [\"testkit\"] }\n\
         tokio = { workspace = true, features = [\"test-util\"] }\n",
    );
    put(&copy.join("probe/src/main.rs"), PROBE);
    for file in files(&project("sources")) {
        if !file.ends_with("src/lib.rs") {
            let target = copy.join("sources").join(file.strip_prefix(project("sources")).unwrap());
            put(&target, &read_to_string(&file).unwrap());
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Writes what differs: cargo goes by times.
fn put(path: &Path, text: &str) {
    if read_to_string(path).is_ok_and(|present| present == text) {
        return;
    }
    create_dir_all(path.parent().unwrap()).unwrap();
    write(path, text).unwrap();
}

/// What a cargo command in the copy writes to standard output.
fn run(copy: &Path, args: &[&str]) -> String {
    let (command, rest) = args.split_first().unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = cargo();
    cargo.args([command, "--offline", "--target-dir"]).arg(target).args(rest).current_dir(copy);
    let output = cargo.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {}:\n{stderr}", args.join(" "));
    String::from_utf8(output.stdout).unwrap()
}
