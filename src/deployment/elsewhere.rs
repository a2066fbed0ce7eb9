//! Where the function's file is missing: what else is there that may be meant, and how to name it.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use config::ValueKind;
use runtime_core::config::os_text;
use runtime_core::config::section::property_names;
use runtime_core::config::settings::FunctionSettings;

/// Folders in which images and charts put code.
const USUAL: &[&str] =
    &["/opt", "/app", "/code", "/function", "/functions", "/src", "/srv", "/mnt", "/data", "/workspace", "/usr/src"];

/// What is mounted below these is the system's own.
const SYSTEM: &[&str] = &["/proc", "/sys", "/dev", "/boot", "/etc", "/run", "/tmp", "/usr", "/var", "/home", "/root"];

/// Folders of installed packages, in which no function of a person is.
const PACKAGES: &[&str] =
    &["bin", "include", "lib", "lib64", "node_modules", "share", "site-packages", "dist-packages"];

/// Levels below a folder, names that are looked at in all, those that are shown, and the time for all of it: a mount
/// that does not answer must not hold up the message.
const DEEPEST: usize = 3;
const MOST_NAMES: usize = 5_000;
const MOST_SHOWN: usize = 8;
const LONGEST: Duration = Duration::from_millis(1_500);

/// The end of the message for code that is not there: the Python files and zips elsewhere, and the variables that name
/// them. None where the code is there, or was named by a config file; a folder in the place of a single file is none.
pub(crate) fn elsewhere(function: &FunctionSettings) -> Option<String> {
    let loader = function.loader.as_ref()?;
    let path = loader.section.get("path")?;
    let ValueKind::String(text) = &path.kind else { return None };
    let named_here = runtime_core::config::tree::from_variable(path);
    let missing = os_text::path(text);
    let may_be_folder = property_names(&(loader.entry.schema)()).iter().any(|name| name == "entry");
    let is_there = if may_be_folder { missing.exists() } else { missing.is_file() };
    if function.name != "default" || !named_here || is_there {
        return None;
    }
    let beside = missing.parent().filter(|folder| *folder != Path::new("/")).map(Path::to_path_buf);
    let mut places: Vec<PathBuf> = beside.into_iter().collect();
    places.extend(USUAL.iter().map(PathBuf::from));
    places.extend(loaders::mount_points().into_iter().filter(|point| !is_system(point)));
    let (sender, found) = mpsc::channel();
    let until = Instant::now() + LONGEST;
    // left behind where a mount does not answer
    std::thread::spawn(move || search(places, until, &sender));
    let mut all = BTreeSet::new();
    while let Ok(path) = found.recv_timeout(until.saturating_duration_since(Instant::now())) {
        all.insert(path);
    }
    Some(told(&all))
}

fn is_system(point: &Path) -> bool {
    point == Path::new("/") || SYSTEM.iter().any(|system| point.starts_with(system))
}

/// Tells of each Python file and zip that it comes upon, nearest to the places first.
fn search(places: Vec<PathBuf>, until: Instant, found: &mpsc::Sender<PathBuf>) {
    let mut seen = BTreeSet::new();
    let mut waiting: VecDeque<(PathBuf, usize)> = places.into_iter().map(|place| (place, 0)).collect();
    let mut names = 0;
    while let Some((path, depth)) = waiting.pop_front() {
        names += 1;
        if names > MOST_NAMES || Instant::now() > until {
            return;
        }
        let Ok(meta) = path.metadata() else { continue };
        if meta.is_file() && is_code(&path) {
            // nobody listens any more
            if found.send(path).is_err() {
                return;
            }
        } else if meta.is_dir() && depth < DEEPEST && seen.insert(path.clone()) && !path.join("pyvenv.cfg").exists() {
            let mut below: Vec<_> = path.read_dir().into_iter().flatten().flatten().take(MOST_NAMES).collect();
            below.sort_by_key(std::fs::DirEntry::file_name);
            let worth = |name: &std::ffi::OsStr| {
                let name = name.to_string_lossy();
                !name.starts_with('.') && name != "__pycache__" && !PACKAGES.contains(&&*name)
            };
            let below = below.into_iter().filter(|entry| worth(&entry.file_name()));
            waiting.extend(below.map(|entry| (entry.path(), depth + 1)));
        }
    }
}

fn is_code(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ["py", "zip", "so"].iter().any(|code| ending.eq_ignore_ascii_case(code)))
}

fn told(found: &BTreeSet<PathBuf>) -> String {
    if found.is_empty() {
        return "there is no Python file and no zip where functions are mounted; mount one, and name it by \
                USER_MODULE_PATH or ZIP_TARGET_PATH"
            .to_owned();
    }
    let mut shown: Vec<_> =
        found.iter().take(MOST_SHOWN).map(|path| format!("'{}'", path.display().to_string().escape_debug())).collect();
    if found.len() > MOST_SHOWN {
        shown.push(format!("{} more", found.len() - MOST_SHOWN));
    }
    let is_zip = |path: &&PathBuf| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("zip"));
    let zips = found.iter().filter(is_zip).count();
    let how = match (zips, found.len() - zips) {
        (0, _) => "name one by USER_MODULE_PATH",
        (_, 0) => "name one by ZIP_TARGET_PATH",
        _ => "name a file by USER_MODULE_PATH, or a zip by ZIP_TARGET_PATH",
    };
    format!("there are {}: {how}", shown.join(", "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(files: &[&str]) -> (tempfile::TempDir, Vec<String>) {
        let root = tempfile::tempdir().unwrap();
        for name in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let (sender, receiver) = mpsc::channel();
        search(vec![root.path().to_path_buf(), root.path().join("a.py")], Instant::now() + LONGEST, &sender);
        drop(sender);
        let all: BTreeSet<_> = receiver.iter().collect();
        let inside = all.iter().map(|path| path.strip_prefix(root.path()).unwrap().display().to_string()).collect();
        (root, inside)
    }

    #[test]
    fn code_of_people_is_found_and_packages_are_not() {
        let files = [
            "a.py",
            "fn/b.zip",
            "fn/deep/c.py",
            "fn/deep/deeper/d.py",
            "notes.txt",
            ".hidden/e.py",
            "venv/pyvenv.cfg",
            "venv/f.py",
            "x/site-packages/g.py",
            "x/__pycache__/h.py",
        ];
        assert_eq!(found(&files).1, ["a.py", "fn/b.zip", "fn/deep/c.py"]);
        let many: Vec<String> = (0..MOST_NAMES + 10).map(|n| format!("f{n}.py")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(found(&many).1.len() <= MOST_NAMES);
    }

    #[test]
    fn what_is_found_is_told_with_its_variable() {
        let told = |paths: &[&str]| super::told(&paths.iter().map(PathBuf::from).collect());
        assert_eq!(told(&["/opt/a.py"]), "there are '/opt/a.py': name one by USER_MODULE_PATH");
        assert_eq!(told(&["/opt/a.zip"]), "there are '/opt/a.zip': name one by ZIP_TARGET_PATH");
        assert_eq!(
            told(&["/opt/a.py", "/opt/b.zip"]),
            "there are '/opt/a.py', '/opt/b.zip': name a file by USER_MODULE_PATH, or a zip by ZIP_TARGET_PATH"
        );
        let many: Vec<String> = (10..30).map(|n| format!("/opt/{n}.py")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(told(&many).contains("'/opt/17.py', 12 more: name one"), "{}", told(&many));
        assert!(told(&[]).starts_with("there is no Python file and no zip"));
    }

    #[test]
    fn mounts_of_the_system_are_left_out() {
        for system in ["/", "/proc", "/proc/x", "/dev/shm", "/etc/hosts", "/run/secrets/kubernetes.io/serviceaccount"] {
            assert!(is_system(Path::new(system)), "{system}");
        }
        assert!(!is_system(Path::new("/opt/usermodule.py")) && !is_system(Path::new("/processor")));
    }
}
