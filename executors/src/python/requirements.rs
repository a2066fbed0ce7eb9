//! A function's own packages: pip installs them into a private folder, once for each content of the file and of what it
//! includes.
//!
//! pip's settings of the surroundings say where packages come from, as they do for everybody; where to install is said
//! here alone.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use runtime_core::Fault;
use runtime_core::records::{self, Record};
use tracing::Level;

use super::interpreter::python_variable;

mod content;

/// As many of pip's lines as show a failure with its reason.
const LAST_LINES: usize = 12;

/// What an installation that was cut off has left is removed when it is so old that nobody can still be at it.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// What a folder is called until it is whole.
const FRESH: &str = "new-";

/// The folder with what `file` asks for, for `sys.path`. pip's output goes to the log.
///
/// # Errors
/// There is no such file, its folder cannot be made, or pip fails.
pub(super) async fn install(file: &Path, python: &Path, function: &Arc<str>) -> Result<PathBuf, Fault> {
    let (file, python, function) = (file.to_owned(), python.to_owned(), function.clone());
    tokio::task::spawn_blocking(move || installed(&file, &python, &function, &std::env::temp_dir()))
        .await
        .map_err(|error| Fault::internal("installing requirements was cut short").caused_by(error))?
}

fn installed(file: &Path, python: &Path, function: &str, temporary: &Path) -> Result<PathBuf, Fault> {
    let key = content::key(file, python, &python_variable).map_err(|error| {
        Fault::file(format!("the requirements file {} cannot be read; mount it or unset it", file.display()))
            .caused_by(error)
    })?;
    let parent = private_folder(temporary)?;
    let target = parent.join(key);
    if target.is_dir() {
        tracing::debug!(function, folder = %target.display(), "requirements are installed already");
        return Ok(target);
    }
    let failed = |error: io::Error| {
        Fault::function(format!("{} cannot be filled with requirements; give it room to write", parent.display()))
            .caused_by(error)
    };
    remove_abandoned(&parent);
    // under another name until it is whole
    let fresh = tempfile::Builder::new().prefix(FRESH).tempdir_in(&parent).map_err(failed)?;
    tracing::info!(function, file = %file.display(), folder = %target.display(), "installing requirements");
    pip(file, python, function, fresh.path())?;
    match fs::rename(fresh.path(), &target) {
        Ok(()) => {
            // renamed: nothing is left to remove
            let _ = fresh.keep();
            Ok(target)
        }
        // another process was faster
        Err(_) if target.is_dir() => Ok(target),
        Err(error) => Err(failed(error)),
    }
}

fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
        if entry.file_name().as_encoded_bytes().starts_with(FRESH.as_bytes()) && age.is_some_and(|age| age > ABANDONED)
        {
            // somebody else may be at it as well
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Code is imported from it, so nobody else may write there, whoever made it first.
fn private_folder(temporary: &Path) -> Result<PathBuf, Fault> {
    let user = rustix::process::getuid().as_raw();
    let folder = temporary.join(format!("gaugefn-requirements-{user}"));
    let made = fs::DirBuilder::new().mode(0o700).create(&folder);
    let found = match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::symlink_metadata(&folder),
    };
    match found {
        Ok(found) if found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0 => Ok(folder),
        Ok(_) => Err(Fault::function(format!(
            "{} is not a folder that only this user can enter; remove it, or set TMPDIR to a private folder",
            folder.display()
        ))),
        Err(error) => Err(Fault::function(format!(
            "{} cannot be made for the requirements; mount a writable folder there, or set TMPDIR to one",
            folder.display()
        ))
        .caused_by(error)),
    }
}

fn pip(file: &Path, python: &Path, function: &str, target: &Path) -> Result<(), Fault> {
    let failed =
        |error: io::Error| Fault::function(format!("pip of {} does not run", python.display())).caused_by(error);
    let (reader, writer) = io::pipe().map_err(failed)?;
    let mut command = Command::new(python);
    command
        .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--target"])
        .arg(target)
        .arg("-r")
        .arg(file)
        // over what a file of settings says: neither can go together with a target
        .args(["--prefix=", "--root=/"])
        .envs(["PIP_USER", "PIP_REQUIRE_VIRTUALENV", "PIP_DRY_RUN"].map(|name| (name, "0")))
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(failed)?)
        .stderr(writer);
    for name in ["PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON"] {
        command.env_remove(name);
    }
    let mut child = command.spawn().map_err(failed)?;
    // it holds the writing ends, and the end of the output would never come
    drop(command);
    let mut last = VecDeque::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line.map_err(failed)?).trim_end().to_owned();
        records::write(Level::INFO, Record { function, event: "", stream: "pip", worker: None, text: &line });
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let reason = last.iter().rev().find(|line| line.starts_with("ERROR:")).or(last.back());
    let reason = reason.map_or("it printed nothing", |line| line.trim_start_matches("ERROR: "));
    let line =
        format!("pip cannot install {}: {reason}; correct the file or the access to its packages", file.display());
    Err(Fault::function(line).with_report(Vec::from(last).join("\n")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A `python` that notes its calls and does as told.
    fn python(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("python");
        let calls = folder.join("calls");
        fs::write(&path, format!("#!/bin/sh\necho \"$@\" >>{}\n{script}\n", calls.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    #[test]
    fn equal_content_is_installed_once() {
        let folder = tempfile::tempdir().unwrap();
        let python = python(folder.path(), "shift 5; shift; touch \"$1/package.py\"");
        let file = folder.path().join("requirements.txt");
        fs::write(&file, "package==1\n").unwrap();
        let first = installed(&file, &python, "f", folder.path()).unwrap();
        assert!(first.join("package.py").is_file());
        assert_eq!(installed(&file, &python, "f", folder.path()).unwrap(), first);
        fs::write(&file, "package==2\n").unwrap();
        assert_ne!(installed(&file, &python, "f", folder.path()).unwrap(), first);
        let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
        assert_eq!(calls.lines().count(), 2, "{calls}");
        assert!(calls.starts_with("-m pip install --disable-pip-version-check --no-input --target "), "{calls}");
    }

    #[test]
    fn a_failure_has_pips_reason_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let python = python(folder.path(), "echo 'ERROR: No matching distribution found for nope' >&2; exit 1");
        let file = folder.path().join("requirements.txt");
        fs::write(&file, "nope\n").unwrap();
        let fault = installed(&file, &python, "f", folder.path()).unwrap_err();
        assert_eq!(fault.blame().exit_code(), 65);
        assert!(fault.to_string().contains("No matching distribution found for nope"), "{fault}");
        let parent = private_folder(folder.path()).unwrap();
        assert_eq!(fs::read_dir(parent).unwrap().count(), 0);
    }

    #[test]
    fn what_was_cut_off_long_ago_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let python = python(folder.path(), "");
        let file = folder.path().join("requirements.txt");
        fs::write(&file, "package==1\n").unwrap();
        let parent = private_folder(folder.path()).unwrap();
        for (name, hours) in [("new-old", 25), ("new-now", 1), ("other", 25)] {
            fs::create_dir(parent.join(name)).unwrap();
            let made = std::time::SystemTime::now() - Duration::from_secs(hours * 60 * 60);
            fs::File::open(parent.join(name)).unwrap().set_modified(made).unwrap();
        }
        installed(&file, &python, "f", folder.path()).unwrap();
        let there = |name: &str| parent.join(name).exists();
        assert!(!there("new-old") && there("new-now") && there("other"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let fault = installed(&folder.path().join("none.txt"), Path::new("python"), "f", folder.path()).unwrap_err();
        assert_eq!(fault.blame().exit_code(), 66);
        assert!(fault.to_string().contains("none.txt"), "{fault}");
    }

    #[test]
    fn a_folder_of_somebody_elses_making_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("gaugefn-requirements-{}", rustix::process::getuid().as_raw());
        symlink("/tmp", folder.path().join(&name)).unwrap();
        assert!(private_folder(folder.path()).unwrap_err().to_string().contains("only this user"));
    }
}
