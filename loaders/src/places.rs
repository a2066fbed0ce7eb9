//! Where a change of code would show, and whether it can.

use runtime_core::contract::Places;
use std::fs;
use std::path::{self, Path, PathBuf};

/// More links than any system follows.
const MOST_LINKS: usize = 40;

/// Where the kernel says what is mounted.
const MOUNTS: &str = "/proc/self/mountinfo";

/// The folders in which one of the names stands that lead to the file: its own, and those of links.
pub(crate) fn of_file(path: &Path) -> Places {
    let mut folders = Vec::new();
    let mut next = path::absolute(path).ok();
    for _ in 0..MOST_LINKS {
        let Some(path) = next.take() else { break };
        let Some(folder) = path.parent().map(Path::to_path_buf) else { break };
        if let Ok(target) = fs::read_link(&path) {
            next = Some(folder.join(target));
        }
        // `..data` is swapped in the folder above it; its own content never changes
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    Places { folders, trees: Vec::new() }
}

/// The folder with all below, and the folders in which the names stand that lead to it.
pub(crate) fn of_folder(path: &Path) -> Places {
    let tree = path::absolute(path).ok();
    Places { trees: tree.into_iter().collect(), ..of_file(path) }
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
        assert_eq!(places.trees, [root.join("current")]);
        assert_eq!(places.folders, [root.to_path_buf()]);
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
