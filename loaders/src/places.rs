//! Where a change of code would show, and whether it can.

use crate::tree::Tree;
use runtime_core::contract::{Names, Places};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{self, Path, PathBuf};
use std::sync::Arc;

/// More links than any system follows.
const MOST_LINKS: usize = 40;

/// Where the kernel says what is mounted.
const MOUNTS: &str = "/proc/self/mountinfo";

/// The folders in which one of the names stands that lead to the file: its own, and those of links.
pub(crate) fn of_file(path: &Path) -> Places {
    let (folders, names) = leading_to(path);
    Places { folders, names: Names::matching(move |path, _| leads(path, &names)) }
}

/// The folder with what is in it, and the folders in which the names stand that lead to it.
pub(crate) fn of_folder(path: &Path) -> Places {
    let (mut folders, _) = leading_to(path);
    folders.extend(path::absolute(path));
    Places { folders, names: Names::default() }
}

/// The folders of a tree that may hold code, and those in which the names stand that lead to it.
pub(crate) fn of_tree(tree: &Arc<Tree>) -> Places {
    let (mut folders, names) = leading_to(tree.root());
    folders.extend(tree.folders().into_iter().filter_map(|folder| path::absolute(folder).ok()));
    let root = path::absolute(tree.root()).unwrap_or_default();
    let tree = tree.clone();
    let may_be_code = move |path: &Path, is_folder: bool| {
        let include = tree.include();
        let is_code = |below: &Path| match below.file_name() {
            Some(name) if is_folder => include.enters(name),
            Some(_) => include.counts(below),
            None => true,
        };
        leads(path, &names) || path.strip_prefix(&root).is_ok_and(is_code)
    };
    Places { folders, names: Names::matching(may_be_code) }
}

/// Whether it is one of the names that lead to the code, or `..data`, by whose swap a mounted ConfigMap changes.
fn leads(path: &Path, names: &HashSet<OsString>) -> bool {
    path.file_name().is_none_or(|name| name.as_bytes().starts_with(b"..") || names.contains(name))
}

/// The folders in which the names stand that lead to a path, with these names.
fn leading_to(path: &Path) -> (Vec<PathBuf>, HashSet<OsString>) {
    let (mut folders, mut names) = (Vec::new(), HashSet::new());
    let mut next = path::absolute(path).ok();
    for _ in 0..MOST_LINKS {
        let Some(path) = next.take() else { break };
        let Some(folder) = path.parent().map(Path::to_path_buf) else { break };
        names.extend(path.file_name().map(OsStr::to_owned));
        if let Ok(target) = fs::read_link(&path) {
            next = Some(folder.join(target));
        }
        // `..data` is swapped in the folder above it; its own content never changes
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    (folders, names)
}

/// Why this file will stay as it is: it is mounted by itself. A ConfigMap's `subPath`, or a single file bound into a
/// container, shows the content of the start for ever, as updates replace the file.
pub(crate) fn mounted_alone(path: &Path) -> Option<String> {
    let path = path::absolute(path).ok().filter(|path| !path.is_dir())?;
    let mounts = fs::read_to_string(MOUNTS).ok()?;
    is_mount_point(&mounts, &path).then(|| {
        format!(
            "{} is mounted as a single file (subPath), which never shows an update: mount the folder to have changed \
             code loaded, or set reload = false",
            path.display()
        )
    })
}

/// Where something is mounted, a file or a folder.
#[must_use]
pub fn mount_points() -> Vec<PathBuf> {
    let mounts = fs::read_to_string(MOUNTS).unwrap_or_default();
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped).collect()
}

/// Whether one of the mounts stands just there. The fifth field is the mount point, with octal escapes: proc(5).
fn is_mount_point(mounts: &str, path: &Path) -> bool {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points.map(unescaped).any(|point| point == path)
}

fn unescaped(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = (first == b'\\').then(|| after.get(..3)).flatten();
        let code = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

/// Of a path that may be the one or the other.
pub(crate) fn of_either(path: &Path) -> Places {
    if path.is_dir() { of_folder(path) } else { of_file(path) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::include::Include;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_name_on_the_way_counts() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir(root.join("..2026")).unwrap();
        fs::write(root.join("..2026/f.py"), "").unwrap();
        symlink("..2026", root.join("..data")).unwrap();
        symlink("..data/f.py", root.join("f.py")).unwrap();
        assert_eq!(of_file(&root.join("f.py")).folders, [root.to_path_buf(), root.join("..data")]);
        assert_eq!(of_file(&root.join("absent/f.py")).folders, [root.join("absent")]);
        symlink("round", root.join("round")).unwrap();
        assert_eq!(of_file(&root.join("round")).folders, [root.to_path_buf()]);

        symlink(root.join("..2026"), root.join("current")).unwrap();
        let places = of_either(&root.join("current"));
        assert_eq!(places.folders, [root.to_path_buf(), root.join("current")]);
    }

    #[test]
    fn what_lies_beside_the_code_is_no_reason_to_look() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir(root.join("lib")).unwrap();
        fs::write(root.join("lib/a.py"), "").unwrap();
        let tree = Arc::new(Tree::new(root.to_path_buf(), Include::new(&["conf/*.json".to_owned()], None).unwrap()));
        tree.hash().unwrap();
        let places = of_tree(&tree);
        assert_eq!(places.folders[1..], [root.to_path_buf(), root.join("lib")]);
        let holds = |name: &str, is_folder: bool| places.names.hold(&root.join(name), is_folder);
        for (name, is_folder) in [("b.py", false), ("conf/c.json", false), ("new", true), ("..data", false)] {
            assert!(holds(name, is_folder), "{name}");
        }
        for (name, is_folder) in
            [("calls.log", false), ("c.json", false), ("state.db-wal", false), ("__pycache__", true), (".git", true)]
        {
            assert!(!holds(name, is_folder), "{name}");
        }
        let places = of_file(&root.join("lib/a.py"));
        let holds = |name: &str| places.names.hold(&root.join("lib").join(name), false);
        assert!(holds("a.py") && holds("..data") && !holds("a.log") && !holds("b.py"));
    }

    #[test]
    fn a_mount_of_one_file_is_told_by_its_exact_place() {
        let mounts = "\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
96 22 8:1 /x/usermodule.py /opt/usermodule.py ro,relatime - ext4 /dev/sda1 rw\n\
97 22 8:1 /x/y /opt/with\\040space.py ro,relatime - ext4 /dev/sda1 rw\n";
        assert!(is_mount_point(mounts, Path::new("/opt/usermodule.py")));
        assert!(is_mount_point(mounts, Path::new("/opt/with space.py")));
        assert!(!is_mount_point(mounts, Path::new("/opt/other.py")) && !is_mount_point(mounts, Path::new("/opt")));
        assert_eq!(mounted_alone(Path::new("/nowhere/usermodule.py")), None);
    }
}
