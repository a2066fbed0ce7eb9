//! From an entry's name in the archive to a path that stays inside the folder, or a refusal.

use crate::refusal::{Refusal, quoted};

/// Half of PATH_MAX: the rest is for the folder that it is unpacked in.
const LONGEST_NAME: usize = 2048;
/// NAME_MAX of the usual file systems.
const LONGEST_PART: usize = 255;
/// Deeper than any package is nested; folders are what an archive can multiply for free.
const MOST_PARTS: usize = 64;

/// The name split at `/`, without `.` and empty parts; empty for the archive's own top (`./`).
pub(crate) fn parts(name: &str) -> Result<Vec<&str>, Refusal> {
    let refuse = |what: &str| Err(Refusal::broken(format!("entry {} {what}", quoted(name))));
    if name.is_empty() {
        return refuse("has no name: pack the archive again");
    }
    if name.len() > LONGEST_NAME {
        return refuse(&format!("has a name of {} bytes: at most {LONGEST_NAME} are accepted", name.len()));
    }
    if name.contains('\0') {
        return refuse("has a NUL in its name: rename the file and pack the archive again");
    }
    if name.split(['/', '\\']).any(|part| part == "..") {
        return refuse("leads out of the archive with '..': pack the archive again from inside the function's folder");
    }
    let drive = name.as_bytes().get(1) == Some(&b':') && name.as_bytes()[0].is_ascii_alphabetic();
    if drive || name.starts_with(['/', '\\']) {
        return refuse("is an absolute path: pack the archive again with relative paths");
    }
    if name.contains('\\') {
        return refuse(
            "has a backslash in its name: pack the archive again with '/' between folders (python -m zipfile)",
        );
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.len() > MOST_PARTS {
        return refuse(&format!("lies {} folders deep: at most {MOST_PARTS} are accepted", parts.len()));
    }
    if let Some(part) = parts.iter().find(|part| part.len() > LONGEST_PART) {
        return refuse(&format!("has a file name of {} bytes: at most {LONGEST_PART} are possible", part.len()));
    }
    Ok(parts)
}

/// What packers and Pythons leave behind and no function needs: resource forks, Finder's notes,
/// byte code that another Python compiled.
pub(crate) fn is_litter(parts: &[&str]) -> bool {
    parts.iter().any(|part| matches!(*part, "__MACOSX" | "__pycache__")) || parts.last() == Some(&".DS_Store")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_normalised() {
        for (name, path) in [
            ("main.py", "main.py"),
            ("./a//b/./c.py", "a/b/c.py"),
            ("my-function/lib/", "my-function/lib"),
            ("..a/b..", "..a/b.."),
            ("./", ""),
            ("año/ü.py", "año/ü.py"),
            ("ab:c.py", "ab:c.py"),
        ] {
            assert_eq!(parts(name).unwrap().join("/"), path);
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for (name, word) in [
            ("../evil.py", "'..'"),
            ("a/../../evil.py", "'..'"),
            ("..\\evil.py", "'..'"),
            ("a\\..\\..\\evil.py", "'..'"),
            ("a/..", "'..'"),
            ("/etc/passwd", "absolute"),
            ("C:\\evil.py", "absolute"),
            ("c:evil.py", "absolute"),
            ("\\\\server\\share\\x", "absolute"),
            ("pkg\\main.py", "backslash"),
            ("a\0b", "NUL"),
            ("", "no name"),
        ] {
            let refusal = parts(name).unwrap_err().to_string();
            assert!(refusal.contains(word), "{name:?}: {refusal}");
            assert!(!refusal.contains(['\0', '\n']), "{refusal}");
        }
        assert!(parts(&"x".repeat(5000)).unwrap_err().to_string().contains("5000 bytes"));
        assert!(parts(&"x".repeat(300)).unwrap_err().to_string().contains("300 bytes"));
        assert!(parts(&"x/".repeat(100)).unwrap_err().to_string().contains("100 folders deep"));
    }

    #[test]
    fn litter_is_known() {
        assert!(is_litter(&["__MACOSX", "._main.py"]));
        assert!(is_litter(&["pkg", "__pycache__", "a.cpython-38.pyc"]));
        assert!(is_litter(&["pkg", ".DS_Store"]));
        assert!(!is_litter(&[".dockerignore"]));
        assert!(!is_litter(&[".DS_Store", "main.py"]));
    }
}
