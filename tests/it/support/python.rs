//! The Python of the test functions: a venv of the interpreter that the binary's libpython belongs to.

use super::project;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The folder of the venv with `tests/functions/requirements.txt`, made by the first caller; others wait.
/// A binary started with `VIRTUAL_ENV` set to it uses it.
///
/// # Panics
/// When the packages cannot be installed.
pub(crate) fn venv() -> &'static Path {
    static VENV: OnceLock<PathBuf> = OnceLock::new();
    VENV.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let venv = target.join("test-venv");
        // isolated and without site: this runs in every test and costs 15 ms this way
        let made = Command::new(env!("GAUGEFN_PYTHON"))
            .args(["-I", "-S"])
            .arg(project("tests/reference/venv.py"))
            .arg(&venv)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "the venv of the test functions cannot be made:\n{}",
            String::from_utf8_lossy(&made.stderr)
        );
        venv
    })
}

/// The venv's interpreter.
pub(crate) fn python() -> PathBuf {
    venv().join("bin/python")
}

/// The interpreter that the binary's libpython belongs to.
pub(crate) const fn interpreter() -> &'static str {
    env!("GAUGEFN_PYTHON")
}
