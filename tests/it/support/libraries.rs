//! Shared libraries, built as their authors would build them, in a folder of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::cargo::cargo;
use super::project;

/// Where libraries are built; dependencies are compiled once for all of them.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("native")
}

/// Builds a package of its own with its own lock file, and returns the folder of its products.
pub(crate) fn package(folder: &str, verb: &str, args: &[&str]) -> PathBuf {
    let mut build = cargo();
    build
        .args([verb, "--locked", "--offline"])
        .args(args)
        .current_dir(project(folder))
        .env("CARGO_TARGET_DIR", target());
    let output = build.output().unwrap();
    assert!(output.status.success(), "{folder} is not built\n{}", String::from_utf8_lossy(&output.stderr));
    target().join("debug")
}

/// The example in Rust, `typed` or `raw`.
pub(crate) fn rust(form: &str) -> PathBuf {
    package(&format!("examples/native-rust-{form}"), "build", &[]).join(format!("libvm_metrics_{form}.so"))
}

/// `tests/libraries/several.rs`.
pub(crate) fn several() -> PathBuf {
    package("tests/libraries", "build", &["--lib"]).join("libseveral.so")
}

/// Compiles one file to a shared library.
pub(crate) fn cc(source: &str, library: &Path, flags: &[&str]) {
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I"]).arg(project("sdk/include"));
    let output = cc.args(flags).arg("-o").arg(library).arg(project(source)).output();
    let output = output.expect("a C compiler: apt-get install gcc libc6-dev");
    assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `tests/libraries/keeps.rs` as it was, or newer, under this path.
pub(crate) fn keeps(newer: bool, library: &Path) {
    // two crates of one name, whose products have one path: whoever builds holds the lock until it has its copy
    std::fs::create_dir_all(target()).unwrap();
    let lock = std::fs::File::create(target().join("keeps.lock")).unwrap();
    lock.lock().unwrap();
    let features: &[&str] =
        if newer { &["--example", "keeps", "--features", "newer"] } else { &["--example", "keeps"] };
    std::fs::copy(package("tests/libraries", "build", features).join("examples/libkeeps.so"), library).unwrap();
}
