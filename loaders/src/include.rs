//! Which files below a folder are code: what Python imports, and what the option `include` adds.
//!
//! Everything else that lies there may be the function's own: logs, caches, databases, models. It is neither read nor
//! waited for.

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Endings of what Python imports. Byte code belongs to the module that it was made from.
const IMPORTED: [&[u8]; 2] = [b".py", b".so"];

/// Folders of tools, where no function keeps its modules. Names with a dot in front are such folders, too.
const OF_TOOLS: [&str; 2] = ["__pycache__", "node_modules"];

/// What is code in a folder.
#[derive(Debug, Default)]
pub(crate) struct Include {
    /// Patterns for names that anybody sees.
    plain: GlobSet,
    /// Patterns whose last name has a dot in front; others do not match such a name.
    hidden: GlobSet,
    /// Names that patterns spell out: their folders are looked into, whatever is left out otherwise.
    spelled: HashSet<OsString>,
    /// The entry file, where it is named by its path.
    entry: Option<OsString>,
}

impl Include {
    /// What Python imports, the entry, and what these patterns match: one without `/` in any folder, one with it from the
    /// top; a folder's name stands for all below it.
    ///
    /// # Errors
    /// Which pattern cannot be used, and why.
    pub(crate) fn new(patterns: &[String], entry: Option<&Path>) -> Result<Self, String> {
        let (mut plain, mut hidden) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let mut spelled = HashSet::new();
        for pattern in patterns {
            let path = Path::new(pattern);
            if pattern.trim().is_empty() {
                return Err("has an empty pattern; write one such as '*.json', or leave it out".to_owned());
            }
            if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
                return Err(format!(
                    "'{pattern}' leads outside the folder; write a pattern relative to it, without '..'"
                ));
            }
            let names: Vec<&OsStr> = path.iter().filter(|name| *name != ".").collect();
            let text = names.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join("/");
            let anywhere = if names.len() == 1 { "**/" } else { "" };
            let last_is_hidden = names.last().is_some_and(|name| is_hidden(name));
            for form in [format!("{anywhere}{text}"), format!("{anywhere}{text}/**")] {
                let glob = GlobBuilder::new(&form).literal_separator(true).backslash_escape(true).build();
                let glob = glob.map_err(|error| {
                    format!("'{pattern}' is no pattern ({}); write one such as '*.json'", error.kind())
                })?;
                if last_is_hidden && !form.ends_with("/**") {
                    hidden.add(glob)
                } else {
                    plain.add(glob)
                };
            }
            spelled.extend(names.into_iter().map(OsStr::to_owned));
        }
        let built = |set: GlobSetBuilder| set.build().map_err(|error| format!("cannot be used: {error}"));
        Ok(Self { plain: built(plain)?, hidden: built(hidden)?, spelled, entry: entry.map(entry_path) })
    }

    /// Whether a file is code, by its path below the folder.
    pub(crate) fn counts(&self, below: &Path) -> bool {
        let Some(name) = below.file_name() else { return false };
        if self.entry.as_deref() == Some(below.as_os_str()) {
            return true;
        }
        if is_leftover(name) {
            return false;
        }
        if is_hidden(name) {
            return !self.hidden.is_empty() && self.hidden.is_match_candidate(&Candidate::new(below));
        }
        IMPORTED.iter().any(|ending| name.as_bytes().ends_with(ending))
            || (!self.plain.is_empty() && self.plain.is_match_candidate(&Candidate::new(below)))
    }

    /// Whether there may be code in a folder of this name.
    pub(crate) fn enters(&self, name: &OsStr) -> bool {
        self.spelled.contains(name) || !(is_hidden(name) || OF_TOOLS.iter().any(|tool| name == *tool))
    }

    /// Whether the folder is looked into although it is a virtual environment.
    pub(crate) fn spells(&self, name: &OsStr) -> bool {
        self.spelled.contains(name)
    }
}

/// Without `./` and doubled slashes.
fn entry_path(entry: &Path) -> OsString {
    let parts = entry.components().filter(|part| *part != Component::CurDir);
    parts.collect::<PathBuf>().into_os_string()
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

/// What editors and Python leave beside a file, which a wide pattern would match.
fn is_leftover(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.ends_with(b"~") || (name.starts_with(b"#") && name.ends_with(b"#")) || name.ends_with(b".pyc")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn counting(patterns: &[&str], paths: &[&'static str]) -> Vec<&'static str> {
        let patterns: Vec<_> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let include = Include::new(&patterns, None).unwrap();
        paths.iter().copied().filter(|path| include.counts(Path::new(path))).collect()
    }

    #[test]
    fn modules_count_and_what_tools_leave_does_not() {
        let modules = ["main.py", "lib/a.py", "lib/fast.cpython-312-x86_64-linux-gnu.so"];
        let others = [
            "calls.log",
            "cache.json",
            "state.db",
            "state.db-wal",
            "state.db-journal",
            "main.pyc",
            "main.py~",
            "#main.py#",
            ".#main.py",
            ".main.py.swp",
            "4913",
            "run.pid",
            "model.bin",
            "README",
        ];
        let all: Vec<_> = modules.into_iter().chain(others).collect();
        assert_eq!(counting(&[], &all), modules);
    }

    #[test]
    fn patterns_add_names_anywhere_paths_from_the_top_and_whole_folders() {
        let paths =
            ["a.json", "x/a.json", "x/deep/a.json", "models/m.onnx", "x/models/m.onnx", ".env", "x/.env", "a.json~"];
        assert_eq!(counting(&["*.json"], &paths), ["a.json", "x/a.json", "x/deep/a.json"]);
        assert_eq!(counting(&["x/*.json"], &paths), ["x/a.json"]);
        assert_eq!(counting(&["./x/**/*.json"], &paths), ["x/a.json", "x/deep/a.json"]);
        assert_eq!(counting(&["models"], &paths), ["models/m.onnx", "x/models/m.onnx"]);
        assert_eq!(counting(&["x/models/"], &paths), ["x/models/m.onnx"]);
        assert_eq!(counting(&["*"], &paths), paths[..5]);
        assert_eq!(counting(&[".env"], &paths), [".env", "x/.env"]);
    }

    #[test]
    fn folders_of_tools_are_entered_where_they_are_spelled_out() {
        let none = Include::default();
        let names = [".git", ".venv", ".mypy_cache", ".ipynb_checkpoints", "__pycache__", "node_modules", "..data"];
        assert!(names.iter().all(|name| !none.enters(OsStr::new(name))));
        assert!(none.enters(OsStr::new("lib")));
        let some = Include::new(&[".config/*.toml".to_owned()], None).unwrap();
        assert!(some.enters(OsStr::new(".config")) && !some.enters(OsStr::new(".git")));
        assert!(some.counts(Path::new(".config/a.toml")));
    }

    #[test]
    fn the_entry_counts_whatever_its_name() {
        let include = Include::new(&[], Some(Path::new("./app/run"))).unwrap();
        assert!(include.counts(Path::new("app/run")) && !include.counts(Path::new("run")));
    }

    #[test]
    fn patterns_that_cannot_be_used_are_named() {
        for (pattern, words) in [
            ("", "empty pattern"),
            ("/etc/*", "'/etc/*' leads outside"),
            ("../x", "without '..'"),
            ("[a", "'[a' is no pattern"),
        ] {
            let said = Include::new(&[pattern.to_owned()], None).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
    }
}
