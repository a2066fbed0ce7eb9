//! Which Python: one absolute executable, and it must belong to the libpython in this process.

use std::path::{Path, PathBuf};

use runtime_core::Fault;
use rustix::fs::Access;

use super::interpreter::python_variable;

/// The interpreter that this binary was built with.
const BUILT_WITH: &str = env!("GAUGEFN_PYTHON");

/// Where that one's library and programs are.
const BASE: &str = env!("GAUGEFN_PYTHON_BASE");

/// The interpreter of the configured environment, else of `VIRTUAL_ENV`, else the one of the build.
///
/// # Errors
/// There is none, or it was made from another Python: that would start, and then miss modules.
pub(super) fn executable(configured: Option<&Path>) -> Result<PathBuf, Fault> {
    let named = match configured {
        Some(folder) => Some((folder.to_owned(), "executor option venv")),
        None => python_variable("VIRTUAL_ENV").map(|folder| (folder.into(), "VIRTUAL_ENV")),
    };
    let Some((folder, origin)) = named else {
        return runnable(Path::new(BUILT_WITH)).ok_or_else(|| {
            Fault::config(format!(
                "{BUILT_WITH}, the python that this binary was built with, is not on this machine; \
                 install it, or name a virtual environment made from it in VIRTUAL_ENV"
            ))
        });
    };
    inside(&folder).map_err(|reason| Fault::config(format!("{origin} {}: {reason}", folder.display())))
}

fn inside(folder: &Path) -> Result<PathBuf, String> {
    let absolute = std::path::absolute(folder).map_err(|error| error.to_string())?;
    let settings = std::fs::read_to_string(absolute.join("pyvenv.cfg")).map_err(|error| {
        format!("is no virtual environment ({error} for pyvenv.cfg in it); make one with {BUILT_WITH} -m venv")
    })?;
    let program = ["bin/python3", "bin/python"]
        .iter()
        .find_map(|name| runnable(&absolute.join(name)))
        .ok_or("has no bin/python that can be run; make it anew")?;
    let home = settings
        .lines()
        .filter_map(|line| line.split_once('='))
        .find_map(|(key, value)| key.trim().eq_ignore_ascii_case("home").then(|| PathBuf::from(value.trim())))
        .ok_or("its pyvenv.cfg has no line 'home = …'; make it anew")?;
    let real = |path: &Path| path.canonicalize().ok();
    let programs = real(&Path::new(BASE).join("bin"));
    // `home` may be a folder of links to that program
    let belongs = |path: &Path| real(path).is_some_and(|path| path.parent() == programs.as_deref());
    if real(&home).is_some() && real(&home) == programs || belongs(&program) {
        return Ok(program);
    }
    Err(format!(
        "was made from the python in {}, but this binary needs the one in {BASE}; make it anew with {BUILT_WITH} -m venv",
        home.display()
    ))
}

fn runnable(program: &Path) -> Option<PathBuf> {
    let usable = program.is_file() && rustix::fs::access(program, Access::EXEC_OK).is_ok();
    usable.then(|| program.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn venv(home: &str, target: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        symlink(target, folder.path().join("bin/python3")).unwrap();
        fs::write(folder.path().join("pyvenv.cfg"), format!("home = {home}\nversion = 3\n")).unwrap();
        folder
    }

    #[test]
    fn the_own_python_is_accepted() {
        let folder = venv(&format!("{BASE}/bin"), "/bin/sh");
        assert_eq!(executable(Some(folder.path())).unwrap(), folder.path().join("bin/python3"));
    }

    #[test]
    fn another_python_is_refused_with_both_places() {
        let folder = venv("/nowhere/bin", "/proc/self/exe");
        let fault = executable(Some(folder.path())).unwrap_err();
        let text = fault.to_string();
        assert!(text.contains("was made from the python in /nowhere/bin") && text.contains(BASE), "{text}");
        assert_eq!(fault.blame().exit_code(), 78);
    }

    #[test]
    fn a_folder_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let text = executable(Some(folder.path())).unwrap_err().to_string();
        assert!(text.contains("is no virtual environment") && text.contains("-m venv"), "{text}");
    }
}
