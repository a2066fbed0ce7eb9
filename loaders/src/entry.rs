//! Which file of a folder has the entry function.

use crate::refusal::{Refusal, quoted};
use crate::unpack::listed;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Taken in this order where no entry is named.
const USUAL: [&str; 3] = ["main.py", "handler.py", "usermodule.py"];
/// No module that a person wrote is larger; data in `.py` form is not searched for functions.
const MOST_SEARCHED: u64 = 4 << 20;
/// Names that are looked at before anything is loaded.
const MOST_NAMES: usize = 10_000;
/// How deep the list in an error goes.
const DEPTH_SHOWN: usize = 4;

/// The file with the entry function below `root`, absolute if `root` is.
///
/// `entry` is a path, a dotted module or a file stem, relative to `root` or to its only folder; `handler` is the
/// function's name, by which the file is found where neither an entry nor a usual name says it. `title` names the
/// archive or folder in messages.
pub(crate) fn find(root: &Path, entry: Option<&Path>, handler: &str, title: &str) -> Result<PathBuf, Refusal> {
    let mut places = vec![root.to_path_buf()];
    places.extend(only_folder(root));
    match entry.map(trimmed).filter(|entry| !entry.as_os_str().is_empty()) {
        Some(entry) => named(&places, &entry, handler, root, title),
        None => unnamed(&places, handler, root, title),
    }
}

/// The names of the files at the top of a folder, and in the only folder there; what a packer could have wrapped.
pub(crate) fn names(root: &Path) -> Vec<String> {
    let mut places = vec![root.to_path_buf()];
    places.extend(only_folder(root));
    let files = places.iter().flat_map(|place| children(place)).filter(|path| path.is_file());
    files.take(MOST_NAMES).map(|path| relative(&path, root)).collect()
}

/// The shared library that is the entry, by the names of all files: the one that is named, or the only one at the top
/// where there is no Python.
pub(crate) fn library(names: &[String], entry: Option<&Path>) -> Option<String> {
    if let Some(entry) = entry.map(trimmed).filter(|entry| !entry.as_os_str().is_empty()) {
        let named = entry.strip_prefix("./").unwrap_or(&entry);
        return is_library(named).then(|| {
            let inside = names.iter().find(|name| Path::new(name).ends_with(named));
            inside.cloned().unwrap_or_else(|| named.to_string_lossy().into_owned())
        });
    }
    if names.iter().any(|name| is_python(Path::new(name))) {
        return None;
    }
    let mut libraries = names.iter().filter(|name| is_library(Path::new(name)) && name.matches('/').count() < 2);
    libraries.next().filter(|_| libraries.next().is_none()).cloned()
}

/// The file that would be the entry, by the names of all files: enough to tell what would run it. None where that is
/// open.
pub(crate) fn likely(names: &[String], entry: Option<&Path>) -> Option<String> {
    let python = |name: &&String| is_python(Path::new(name));
    library(names, entry).or_else(|| names.iter().find(python).cloned())
}

/// Whether a module of this dotted name is among these files, at the top or in the only folder there.
pub(crate) fn has_module(names: &[String], module: &str) -> bool {
    let path = module.replace('.', "/");
    let tops: BTreeSet<&str> = names.iter().map(|name| name.split('/').next().unwrap_or_default()).collect();
    let wrapped = if tops.len() == 1 { tops.first().map(|top| format!("{top}/{path}")) } else { None };
    [Some(path), wrapped].into_iter().flatten().any(|path| {
        let (file, folder) = (format!("{path}.py"), format!("{path}/"));
        names.iter().any(|name| *name == file || (name.starts_with(&folder) && is_python(Path::new(name))))
    })
}

fn named(places: &[PathBuf], path: &Path, handler: &str, root: &Path, title: &str) -> Result<PathBuf, Refusal> {
    let shown = quoted(&path.to_string_lossy());
    let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside || path.as_os_str().as_bytes().contains(&b'\\') {
        return Err(Refusal::broken(format!(
            "entry {shown} must be a file, module or folder inside: write it relative, with '/', without '..'"
        ))
        .about(title));
    }
    // without `./` and doubled or trailing slashes
    let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    // a name that is no text is no module's
    let module = path.to_str().map(|entry| entry.strip_suffix(".py").unwrap_or(entry).replace('.', "/"));
    for place in places {
        let exact = place.join(&path);
        if exact.is_file() {
            return Ok(exact);
        }
        // appended, as a stem may itself contain a dot
        for stem in [Some(path.as_os_str()), module.as_deref().map(OsStr::new)].into_iter().flatten() {
            let mut file = place.join(stem).into_os_string();
            file.push(".py");
            if Path::new(&file).is_file() {
                return Ok(file.into());
            }
            if let Some(file) = in_package(&place.join(stem), handler) {
                return Ok(file);
            }
        }
    }
    let shown = quoted(&path.to_string_lossy());
    Err(Refusal::broken(format!("has no entry {shown}: there are {}; name one of them", contents(root))).about(title))
}

/// Without white space around it, where it is text.
fn trimmed(entry: &Path) -> PathBuf {
    entry.to_str().map_or(entry, |entry| Path::new(entry.trim())).to_path_buf()
}

/// A folder stands for the module that it is, or else for the usual file in it.
fn in_package(folder: &Path, handler: &str) -> Option<PathBuf> {
    let init = Some(folder.join("__init__.py")).filter(|init| init.is_file());
    init.clone().filter(|init| defines(init, handler)).or_else(|| usual(folder)).or(init)
}

fn unnamed(places: &[PathBuf], handler: &str, root: &Path, title: &str) -> Result<PathBuf, Refusal> {
    for place in places {
        if let Some(file) = usual(place) {
            return Ok(file);
        }
        let modules = modules_at(place);
        let mut having: Vec<_> = modules.into_iter().filter(|module| defines(module, handler)).collect();
        if having.len() > 1 {
            let names = having.iter().map(|file| relative(file, root)).collect();
            return Err(Refusal::broken(format!(
                "has the function {} in several files: {}; set entry to the one to run",
                quoted(handler),
                listed(names)
            ))
            .about(title));
        }
        if let Some(only) = having.pop() {
            return Ok(only);
        }
        if let Some(only) = only_library(place) {
            return Ok(only);
        }
    }
    Err(Refusal::broken(format!(
        "has no {} and no other module at its top with the function {}: there are {}; \
         set entry to the right file, or handler to the function's name",
        USUAL.join(", "),
        quoted(handler),
        contents(root)
    ))
    .about(title))
}

fn usual(place: &Path) -> Option<PathBuf> {
    USUAL.iter().map(|name| place.join(name)).find(|path| path.is_file())
}

/// The only shared library of a folder without Python: it is the function itself, and not a part of one.
fn only_library(place: &Path) -> Option<PathBuf> {
    let children = children(place);
    if children.iter().any(|path| is_python(path)) {
        return None;
    }
    let mut libraries = children.iter().filter(|path| is_library(path) && path.is_file());
    libraries.next().filter(|_| libraries.next().is_none()).cloned()
}

/// The folder that everything else is in, where a packer wrapped the function's folder itself.
fn only_folder(root: &Path) -> Option<PathBuf> {
    let children = children(root);
    let mut folders = children.iter().filter(|path| path.is_dir());
    let only = folders.next()?;
    let wrapped = folders.next().is_none() && !children.iter().any(|path| is_python(path));
    wrapped.then(|| only.clone())
}

/// Files and packages that could be imported from `place`, sorted.
fn modules_at(place: &Path) -> Vec<PathBuf> {
    let packages = |path: PathBuf| if path.is_dir() { path.join("__init__.py") } else { path };
    children(place).into_iter().map(packages).filter(|path| is_python(path) && path.is_file()).collect()
}

/// What is directly in a folder, sorted, without hidden names and byte code. An unreadable folder is empty here:
/// the error then says what was wanted.
fn children(folder: &Path) -> Vec<PathBuf> {
    let mut children: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b".") && entry.file_name() != "__pycache__")
        .map(|entry| entry.path())
        .collect();
    children.sort();
    children
}

fn is_library(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "so")
}

fn is_python(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "py")
}

/// Whether `file` binds `name` at its top level: by `def`, `class`, an assignment or an import. Looks at the text
/// alone, as nothing may run before it is known what to run.
fn defines(file: &Path, name: &str) -> bool {
    let Ok(file) = File::open(file) else { return false };
    let mut lines = BufReader::new(file.take(MOST_SEARCHED));
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return false,
            Ok(_) if binds(String::from_utf8_lossy(&line).trim_start_matches('\u{feff}'), name) => return true,
            Ok(_) => {}
        }
    }
}

fn binds(line: &str, name: &str) -> bool {
    let (first, rest) = word(line);
    match first {
        "async" => matches!(word(rest.trim_start()), ("def", rest) if word(rest.trim_start()).0 == name),
        "def" | "class" => word(rest.trim_start()).0 == name,
        "from" => rest.split_once(" import ").is_some_and(|(_, names)| {
            // the last word of each: `a as b` binds b
            names.split(['(', ')', ',']).any(|item| {
                let item = item.split('#').next().unwrap_or(item);
                item.split_whitespace().last() == Some(name)
            })
        }),
        first if first == name => {
            let rest = rest.trim_start();
            rest.starts_with(':') || rest.starts_with('=') && !rest.starts_with("==")
        }
        _ => false,
    }
}

/// The identifier that `text` starts with (possibly none), and what follows it.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|letter: char| letter != '_' && !letter.is_alphanumeric()).unwrap_or(text.len());
    text.split_at(end)
}

/// What an error offers to choose from: the Python files, or all names where there are none.
fn contents(root: &Path) -> String {
    let mut files = Vec::new();
    collect(root, root, DEPTH_SHOWN, &mut files);
    if files.is_empty() {
        let slash = |path: &PathBuf| if path.is_dir() { "/" } else { "" };
        files = children(root).iter().map(|path| relative(path, root) + slash(path)).collect();
    }
    if files.is_empty() { "no files".to_owned() } else { listed(files) }
}

fn collect(folder: &Path, root: &Path, depth: usize, files: &mut Vec<String>) {
    for child in children(folder) {
        if child.is_dir() && depth > 1 {
            collect(&child, root, depth - 1, files);
        } else if is_python(&child) {
            files.push(relative(&child, root));
        }
    }
}

fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FUNCTION: &str = "def handler(input, context):\n    return {}\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn found(files: &[(&str, &str)], entry: Option<&str>) -> Result<String, String> {
        let root = folder(files);
        find(root.path(), entry.map(Path::new), "handler", "zip f.zip")
            .map(|path| relative(&path, root.path()))
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn usual_names_come_first_and_in_order() {
        let all = [("main.py", ""), ("handler.py", FUNCTION), ("usermodule.py", FUNCTION)];
        assert_eq!(found(&all, None).unwrap(), "main.py");
        assert_eq!(found(&all[1..], None).unwrap(), "handler.py");
        assert_eq!(found(&all[2..], None).unwrap(), "usermodule.py");
        assert_eq!(found(&all, Some("")).unwrap(), "main.py");
    }

    #[test]
    fn the_only_module_with_the_function_is_found() {
        assert_eq!(found(&[("a.py", "x = 1\n"), ("b.py", FUNCTION), ("lib/c.py", FUNCTION)], None).unwrap(), "b.py");
        assert_eq!(
            found(&[("pkg/__init__.py", "from .x import handler\n"), ("a.py", "")], None).unwrap(),
            "pkg/__init__.py"
        );
        assert_eq!(
            found(&[("a.py", FUNCTION), ("b.py", FUNCTION)], None).unwrap_err(),
            "zip f.zip: has the function 'handler' in several files: 'a.py', 'b.py'; set entry to the one to run"
        );
        assert_eq!(
            found(&[("a.py", "x = 1"), ("lib/b.py", "")], None).unwrap_err(),
            "zip f.zip: has no main.py, handler.py, usermodule.py and no other module at its top with the function \
             'handler': there are 'a.py', 'lib/b.py'; set entry to the right file, or handler to the function's name"
        );
    }

    #[test]
    fn one_top_folder_is_looked_through() {
        assert_eq!(found(&[("my-function/main.py", ""), (".dockerignore", "")], None).unwrap(), "my-function/main.py");
        assert_eq!(found(&[("my-function/main.py", ""), ("README", "")], Some("main")).unwrap(), "my-function/main.py");
        assert_eq!(found(&[("f/x.py", FUNCTION), ("f/y.py", "")], None).unwrap(), "f/x.py");
        assert!(found(&[("a/main.py", ""), ("b/main.py", "")], None).is_err());
    }

    #[test]
    fn an_entry_is_a_path_a_module_or_a_stem() {
        let files = [
            ("top.py", ""),
            ("pkg/__init__.py", ""),
            ("pkg/main.py", FUNCTION),
            ("pkg/sub/run.py", ""),
            ("v1.2.py", ""),
        ];
        for (entry, file) in [
            ("top.py", "top.py"),
            ("./top.py", "top.py"),
            ("top", "top.py"),
            ("pkg.main", "pkg/main.py"),
            ("pkg/main", "pkg/main.py"),
            ("pkg/main.py", "pkg/main.py"),
            ("pkg.main.py", "pkg/main.py"),
            ("pkg.sub.run", "pkg/sub/run.py"),
            ("pkg", "pkg/main.py"),
            ("v1.2", "v1.2.py"),
        ] {
            assert_eq!(Path::new(&found(&files, Some(entry)).unwrap()), Path::new(file), "{entry}");
        }
        assert_eq!(
            found(&[("pkg/__init__.py", "handler = print"), ("pkg/main.py", "")], Some("pkg")).unwrap(),
            "pkg/__init__.py"
        );
        assert_eq!(
            found(&files[..3], Some("other.py")).unwrap_err(),
            "zip f.zip: has no entry 'other.py': there are 'pkg/__init__.py', 'pkg/main.py', 'top.py'; name one of them"
        );
        assert_eq!(
            found(&[("notes.txt", "")], Some("main.py")).unwrap_err(),
            "zip f.zip: has no entry 'main.py': there are 'notes.txt'; name one of them"
        );
    }

    #[test]
    fn a_library_is_the_function_where_it_is_named_or_alone() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let all = names(&["lib/vm.so", "README"]);
        assert_eq!(library(&all, None).as_deref(), Some("lib/vm.so"));
        assert_eq!(library(&all, Some(Path::new("vm.so"))).as_deref(), Some("lib/vm.so"));
        assert_eq!(library(&all, Some(Path::new("./lib/vm.so"))).as_deref(), Some("lib/vm.so"));
        assert_eq!(library(&all, Some(Path::new("main.py"))), None);
        assert_eq!(likely(&names(&["lib.so", "x.py"]), Some(Path::new("x"))).as_deref(), Some("x.py"));
        assert_eq!(likely(&names(&["a.so", "b.so"]), None), None);
        assert_eq!(library(&names(&["main.py", "fast.so"]), None), None, "a module imports it");
        assert_eq!(library(&names(&["a.so", "b.so"]), None), None);
        assert_eq!(found(&[("vm.so", ""), ("README", "")], None).unwrap(), "vm.so");
        assert_eq!(found(&[("f/vm.so", "")], None).unwrap(), "f/vm.so");
        assert_eq!(found(&[("f/vm.so", "")], Some("vm.so")).unwrap(), "f/vm.so");
        assert!(found(&[("a.so", ""), ("b.so", "")], None).unwrap_err().contains("'a.so', 'b.so'"));
        assert!(found(&[("a.so", ""), ("x.py", "")], None).is_err());
    }

    #[test]
    fn a_module_is_among_the_files() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let all = names(&["vm.py", "app/__init__.py", "app/vm.py", "ns/deep/x.py", "data/x.txt"]);
        for module in ["vm", "app", "app.vm", "ns", "ns.deep", "ns.deep.x"] {
            assert!(has_module(&all, module), "{module}");
        }
        for module in ["main", "app.main", "data", "x", ""] {
            assert!(!has_module(&all, module), "{module}");
        }
        assert!(has_module(&names(&["my-fn/vm.py", "my-fn/app/x.py"]), "app.x"));
    }

    #[test]
    fn an_entry_stays_inside() {
        for entry in ["../x.py", "/etc/passwd", "a/../../x", "a\\b.py"] {
            let refusal = found(&[("x.py", "")], Some(entry)).unwrap_err();
            assert!(refusal.contains("write it relative"), "{refusal}");
        }
    }

    #[test]
    fn bindings_at_the_top_level_count() {
        for line in [
            "def handler(a, b):\r\n",
            "async  def  handler (a, b):",
            "handler = wrap(f)",
            "handler: Callable = f",
            "class handler:",
            "from impl import a, handler  # here",
            "from impl import (run as handler)",
        ] {
            assert!(binds(line, "handler"), "{line}");
        }
        for line in [
            "    def handler(a):",
            "def handler2(a):",
            "handler == 1",
            "# def handler",
            "from handler import x",
            "handler()",
            "",
        ] {
            assert!(!binds(line, "handler"), "{line}");
        }
    }

    #[test]
    fn a_byte_order_mark_hides_nothing() {
        let root = folder(&[("a.py", "\u{feff}def handler(a, b): pass\n")]);
        assert!(defines(&root.path().join("a.py"), "handler"));
    }
}
