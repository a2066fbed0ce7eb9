//! Rules that no compiler checks: who may import whom, where `unsafe` stands, who reads the environment, who ends the
//! process, what a component's file looks like, and that generated pages are fresh.

use crate::support::gaugefn::Gaugefn;
use crate::support::project;
use std::collections::BTreeSet;
use std::fs::{read, read_dir, read_to_string};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Each crate of ours with those of ours that it may name. A new crate is added here, with a look at the house's plan.
const IMPORTS: &[(&str, &[&str])] = &[
    ("runtime-core", &[]),
    ("redis-link", &[]),
    ("sdk", &[]),
    ("loaders", &["runtime-core"]),
    ("sources", &["runtime-core", "redis-link"]),
    ("sinks", &["runtime-core", "redis-link"]),
    ("stores", &["runtime-core", "redis-link", "stores/codec"]),
    ("stores/codec", &[]),
    ("executors", &["runtime-core", "sdk", "stores/codec"]),
    (".", &["runtime-core", "redis-link", "loaders", "sources", "sinks", "stores", "stores/codec", "executors", "sdk"]),
];

/// Files in which `unsafe` may stand, with the reason.
const UNSAFE: &[(&str, &str)] = &[
    ("executors/src/python/interpreter.rs", "pyo3 has no safe face for PyConfig"),
    ("executors/src/forked.rs", "a forked child ends without what is its parent's"),
    ("executors/src/native/instance.rs", "calls into libraries"),
    ("executors/src/native/host.rs", "calls from libraries"),
    ("executors/src/native/library.rs", "loads libraries"),
    ("executors/src/native/state.rs", "calls from libraries that tell or take a state"),
    ("executors/src/worker/exit.rs", "signals of real time, and a descriptor in tokio's loop"),
    ("executors/src/worker/shared.rs", "memory that two processes map"),
    ("executors/src/worker/spawn.rs", "descriptors by their numbers, between fork and exec"),
    ("sdk/src/abi.rs", "the border between library and runtime"),
    ("sdk/src/shim.rs", "calls from the runtime"),
    ("sdk/src/export.rs", "names of symbols and sections"),
];

/// Files that may read the process's environment, with the reason.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("runtime-core/src/config/layers.rs", "the environment layer of the settings"),
    ("executors/src/python/interpreter.rs", "VIRTUAL_ENV and PYTHONPATH, which belong to Python"),
    ("build.rs", "what cargo tells a build script"),
    ("executors/build.rs", "what cargo tells a build script"),
];

/// Files that may ask for the folder of temporary files, which is a look into the environment as well.
const TEMPORARY: &[(&str, &str)] = &[
    ("loaders/src/file.rs", "source text from a variable becomes a file"),
    ("loaders/src/zip.rs", "archives are unpacked there"),
    ("executors/src/python/requirements.rs", "packages are installed there"),
];

/// A file with more lines than this says why in its header, in a line that begins with [`REASON`].
const LONGEST: usize = 600;

const REASON: &str = "//! This file is long because ";

/// A Rust file of the product or its tests.
struct Source {
    /// Below the project's folder, with `/`.
    path: String,
    text: String,
    /// Without comments, the content of string literals, and the unit tests at the foot.
    code: String,
}

impl Source {
    fn header(&self) -> impl Iterator<Item = &str> {
        self.text.lines().take_while(|line| line.starts_with("//!"))
    }

    /// Whether it runs in tests alone.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.starts_with("benches/")
    }

    /// The folder of its crate, `.` for the package of the binary.
    fn member(&self) -> &str {
        let holds = |name: &&str| self.path.strip_prefix(*name).is_some_and(|rest| rest.starts_with('/'));
        // a crate may lie in the folder of another
        names().into_iter().filter(holds).max_by_key(|name| name.len()).unwrap_or(".")
    }

    /// Whether a word stands in the code, not as a part of a longer one.
    fn says(&self, word: &str) -> bool {
        let part = |letter: char| letter.is_alphanumeric() || letter == '_';
        self.code
            .match_indices(word)
            .any(|(at, _)| !self.code[..at].ends_with(part) && !self.code[at + word.len()..].starts_with(part))
    }
}

/// Every Rust file, without those that are modules of unit tests.
fn sources() -> Vec<Source> {
    let mut all: Vec<Source> = files(&project(""))
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .map(|path| {
            let text = read_to_string(project(&path)).unwrap();
            let code = product(&code(&text));
            Source { path, text, code }
        })
        .collect();
    let modules: BTreeSet<String> = all.iter().flat_map(test_modules).collect();
    all.retain(|source| !modules.contains(&source.path));
    assert!(all.len() > 100, "only {} files were found", all.len());
    all
}

/// Paths below `root` of everything but build products, caches and version control.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in read_dir(root.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && !["target", ".git", "__pycache__"].contains(&name.as_str()) {
                folders.push(path);
            } else if kind.is_file() {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Rust without comments, and with empty string and character literals.
fn code(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let starts =
        |at: usize, word: &str| word.chars().enumerate().all(|(n, letter)| letters.get(at + n) == Some(&letter));
    let mut out = String::new();
    let mut at = 0;
    while at < letters.len() {
        let word_before = at > 0 && (letters[at - 1].is_alphanumeric() || letters[at - 1] == '_');
        let hashes = letters[at..].iter().skip(1).take_while(|letter| **letter == '#').count();
        let raw = letters[at] == 'r' && letters.get(at + 1 + hashes) == Some(&'"');
        // of `br"…"` the b was taken as code
        let raw = raw && (!word_before || letters[at - 1] == 'b' || letters[at - 1] == 'c');
        if starts(at, "//") {
            at += letters[at..].iter().take_while(|letter| **letter != '\n').count();
        } else if starts(at, "/*") {
            let mut depth = 1;
            at += 2;
            while at < letters.len() && depth > 0 {
                depth = if starts(at, "/*") {
                    depth + 1
                } else if starts(at, "*/") {
                    depth - 1
                } else {
                    depth
                };
                at += if starts(at, "/*") || starts(at, "*/") { 2 } else { 1 };
            }
        } else if raw {
            let end = format!("\"{}", "#".repeat(hashes));
            at += 2 + hashes;
            while at < letters.len() && !starts(at, &end) {
                at += 1;
            }
            at += end.len();
            out.push_str("\"\"");
        } else if letters[at] == '"' {
            at += 1;
            while at < letters.len() && letters[at] != '"' {
                at += if letters[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
            out.push_str("\"\"");
        } else if letters[at] == '\'' && (letters.get(at + 1) == Some(&'\\') || letters.get(at + 2) == Some(&'\'')) {
            // not a lifetime
            at += if letters[at + 1] == '\\' { 3 } else { 2 };
            while at < letters.len() && letters[at] != '\'' {
                at += 1;
            }
            at += 1;
            out.push_str("''");
        } else {
            out.push(letters[at]);
            at += 1;
        }
    }
    out
}

/// Code up to the module of unit tests at the foot.
fn product(code: &str) -> String {
    let cut = code.match_indices("#[cfg(test)]").map(|(at, _)| at).find(|at| {
        let next = code[*at..].lines().skip(1).find(|line| !line.trim().is_empty() && !line.trim().starts_with("#["));
        next.is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    });
    code[..cut.unwrap_or(code.len())].to_owned()
}

/// Files that are declared as `#[cfg(test)] mod x;`, and what lies below them.
fn test_modules(source: &Source) -> Vec<String> {
    let (folder, file) = source.path.rsplit_once('/').unwrap_or((".", &source.path));
    let stem = file.trim_end_matches(".rs");
    let own = if ["mod", "lib", "main"].contains(&stem) { folder.to_owned() } else { format!("{folder}/{stem}") };
    let all = code(&source.text);
    let lines: Vec<&str> = all.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines
        .windows(2)
        .filter(|pair| pair[0] == "#[cfg(test)]")
        .filter_map(|pair| pair[1].strip_prefix("mod ")?.strip_suffix(';'))
        .flat_map(|name| [format!("{own}/{name}.rs"), format!("{own}/{name}/mod.rs")])
        .collect()
}

fn manifest(member: &str) -> toml::Table {
    read_to_string(project(member).join("Cargo.toml")).unwrap().parse().unwrap()
}

/// The name that a crate has elsewhere than in this workspace, by its folder.
fn package(member: &str) -> &str {
    match member {
        "sdk" => "gaugefn-sdk",
        "stores/codec" => "state-codec",
        _ => member,
    }
}

fn names() -> Vec<&'static str> {
    IMPORTS.iter().map(|(name, _)| *name).filter(|name| *name != ".").collect()
}

/// Fails with every complaint at once, and the rule.
fn hold(rule: &str, complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{rule}:\n  {}", complaints.join("\n  "));
}

#[test]
fn manifests_name_only_what_a_crate_may_import() {
    let members = manifest(".")["workspace"]["members"].as_array().unwrap().clone();
    let members: BTreeSet<_> = members.iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(members, names().into_iter().collect(), "a member of the workspace is not in IMPORTS, or the other way");
    let mut complaints = Vec::new();
    for (member, allowed) in IMPORTS {
        let manifest = manifest(member);
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for name in manifest.get(table).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys) {
                let Some(ours) = names().into_iter().find(|ours| package(ours) == name) else { continue };
                // a crate may name itself: its own features in its tests
                if ours != *member && !allowed.contains(&ours) {
                    complaints.push(format!("{member}/Cargo.toml: [{table}] {name}"));
                }
            }
        }
        if manifest["lints"]["workspace"].as_bool() != Some(true) {
            complaints.push(format!("{member}/Cargo.toml: [lints] workspace = true is missing"));
        }
    }
    hold("dependencies against the direction of the house", complaints);
}

/// Packages with lock files of their own are built without a network: what the workspace was built from is there.
#[test]
fn lock_files_beside_the_workspace_agree_with_its_own() {
    let locked = |folder: &str| -> BTreeSet<(String, String)> {
        let file: toml::Table = read_to_string(project(folder).join("Cargo.lock")).unwrap().parse().unwrap();
        let packages = file["package"].as_array().unwrap().iter().filter(|package| package.get("source").is_some());
        let text = |package: &toml::Value, key: &str| package[key].as_str().unwrap().to_owned();
        packages.map(|package| (text(package, "name"), text(package, "version"))).collect()
    };
    let ours = locked(".");
    let mut complaints = Vec::new();
    for folder in ["examples/native-rust-typed", "examples/native-rust-raw", "tests/libraries"] {
        for (name, version) in locked(folder).difference(&ours) {
            complaints.push(format!(
                "{folder}: {name} {version}; to mend it: cp Cargo.lock {folder}/ && cargo metadata --offline \
                 --format-version 1 --manifest-path {folder}/Cargo.toml >/dev/null"
            ));
        }
    }
    hold("lock files that differ from Cargo.lock", complaints);
}

#[test]
fn code_names_only_what_its_crate_may_import() {
    let mut complaints = Vec::new();
    for source in sources() {
        let (_, allowed) = IMPORTS.iter().find(|(name, _)| *name == source.member()).unwrap();
        for name in names() {
            let ident = package(name).replace('-', "_");
            let named = source.says(&format!("use {ident}")) || source.code.contains(&format!("{ident}::"));
            let local = source.code.contains(&format!("mod {ident};")) || source.member() == name;
            // a module of the same name is no crate: `crate::loaders::…`, `self::sinks::…`
            let crates = ["crate::", "self::", "super::", "config::"]
                .iter()
                .any(|start| source.code.contains(&format!("{start}{ident}::")));
            if named && !local && !crates && !allowed.contains(&name) {
                complaints.push(format!("{}: {ident}", source.path));
            }
        }
    }
    hold("imports against the direction of the house", complaints);
}

#[test]
fn the_contract_knows_neither_engine_nor_config() {
    let mut complaints = Vec::new();
    let contract: Vec<_> =
        sources().into_iter().filter(|source| source.path.starts_with("runtime-core/src/contract/")).collect();
    assert!(contract.len() > 5, "the contract has moved: this rule looks in runtime-core/src/contract");
    for source in contract {
        let code: String = source.code.split_whitespace().collect::<Vec<_>>().join(" ");
        for statement in code.split(';').filter(|statement| statement.contains("crate::")) {
            let words: Vec<&str> = statement.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
            for room in ["engine", "config", "registry", "testkit"] {
                if words.windows(2).any(|pair| pair == ["crate", room])
                    || statement.contains("crate::{") && words.contains(&room)
                {
                    complaints.push(format!("{}: crate::{room}", source.path));
                }
            }
        }
    }
    hold("the contract imports what is built on it", complaints);
}

#[test]
fn unsafe_stands_in_the_listed_files_only() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.says("unsafe")) {
        if !UNSAFE.iter().any(|(path, _)| *path == source.path) {
            complaints.push(format!("{}: not listed", source.path));
        }
        if !source.text.contains("// SAFETY:") {
            complaints.push(format!("{}: no SAFETY comment", source.path));
        }
    }
    for (path, _) in UNSAFE {
        if !sources().iter().any(|source| source.path == *path && source.says("unsafe")) {
            complaints.push(format!("{path}: is listed without need"));
        }
    }
    hold("unsafe code", complaints);
}

#[test]
fn the_environment_is_read_in_one_place() {
    let mut complaints = Vec::new();
    let all = sources();
    for (calls, listed) in
        [(&["env::var", "env::vars", "env::var_os", "env::vars_os"][..], ENVIRONMENT), (&["temp_dir"], TEMPORARY)]
    {
        for source in all.iter().filter(|source| !source.is_test()) {
            let reads = calls.iter().any(|call| source.says(call));
            let allowed = listed.iter().any(|(path, _)| *path == source.path);
            if reads && !allowed {
                complaints.push(format!("{}: {}", source.path, calls[0]));
            }
            if allowed && !reads {
                complaints.push(format!("{}: is listed without need", source.path));
            }
        }
    }
    for source in all.iter().filter(|source| source.says("set_var") || source.says("remove_var")) {
        complaints.push(format!("{}: changes the environment, which other threads read", source.path));
    }
    hold("the environment is read by runtime-core/src/config/layers.rs alone", complaints);
}

#[test]
fn only_main_ends_the_process() {
    // a forked child is not the process
    let may_end = ["src/main.rs", "executors/src/forked.rs"];
    let ends = ["process::exit", "process::abort", "exit_group", "_exit"];
    let complaints = sources()
        .into_iter()
        .filter(|source| !may_end.contains(&&*source.path) && !source.is_test())
        .filter(|source| ends.iter().any(|end| source.says(end)))
        .map(|source| source.path)
        .collect();
    hold("the process is ended elsewhere than in src/main.rs", complaints);
}

/// Files that register a component.
fn components() -> Vec<Source> {
    let registers = |source: &Source| source.code.contains("inventory::submit!(Entry::of::<") && !source.is_test();
    let found: Vec<_> = sources().into_iter().filter(registers).collect();
    assert!(found.len() >= 12, "only {} components were found", found.len());
    found
}

#[test]
fn a_component_begins_with_an_example_of_itself() {
    let mut complaints = Vec::new();
    for source in components() {
        let mut complain = |text: &str| complaints.push(format!("{}: {text}", source.path));
        let header: Vec<_> = source.header().map(|line| line[3..].strip_prefix(' ').unwrap_or(&line[3..])).collect();
        let fence = header.iter().position(|line| *line == "```toml");
        let Some(example) = fence.map(|at| header[at + 1..].iter().take_while(|line| **line != "```")) else {
            complain("its header has no example between ```toml and ```");
            continue;
        };
        let example = example.copied().collect::<Vec<_>>().join("\n");
        let stem = source.path.rsplit('/').next().unwrap().trim_end_matches(".rs");
        match example.parse::<toml::Table>() {
            Err(error) => complain(&format!("its example is no TOML: {error}")),
            Ok(_) if !example.contains(&format!("\"{stem}\"")) && !example.contains(&format!(".{stem}]")) => {
                complain(&format!("its example does not name '{stem}'"));
            }
            Ok(_) => {}
        }
        // one name per thing
        if !source.text.contains(&format!("const NAME: &'static str = \"{stem}\";")) {
            complain("its NAME is not the name of the file");
        }
    }
    hold("component files", complaints);
}

#[test]
fn the_parts_of_a_component_stand_in_one_order() {
    let mut complaints = Vec::new();
    for source in components() {
        let parts = ["struct Config", "impl Kind for ", "inventory::submit!", "#[async_trait]\nimpl "];
        let places: Vec<_> = parts.iter().map(|part| source.code.find(part)).collect();
        for pair in places.windows(2).zip(parts.windows(2)) {
            if let ([Some(first), Some(second)], [before, after]) = pair
                && first > second
            {
                complaints.push(format!("{}: '{after}' stands before '{before}'", source.path));
            }
        }
        if places[1].is_none() {
            complaints.push(format!("{}: no '{}'", source.path, parts[1]));
        }
    }
    hold("header, Config, struct, Kind, submit, the role's impl", complaints);
}

#[test]
fn files_say_what_they_are_and_stay_short() {
    let mut complaints = Vec::new();
    for source in sources() {
        if source.header().next().is_none() {
            complaints.push(format!("{}: begins without a header '//! …'", source.path));
        }
        let lines = source.text.lines().count();
        if lines > LONGEST && !source.header().any(|line| line.starts_with(REASON)) {
            complaints.push(format!("{}: {lines} lines; split it, or give the reason: '{REASON}…'", source.path));
        }
    }
    hold("headers and sizes", complaints);
}

#[test]
fn nothing_is_left_for_later() {
    // in two pieces, as this file is looked at as well
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!("), concat!("unimplemented", "!(")];
    let mut complaints = Vec::new();
    for source in sources() {
        for (n, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                complaints.push(format!("{}:{}: {}", source.path, n + 1, line.trim()));
            }
        }
    }
    hold("notes for later", complaints);
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let places = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("../sha", "red")];
    let mut complaints = Vec::new();
    for path in files(&project("")) {
        let Ok(text) = String::from_utf8(read(project(&path)).unwrap()) else { continue };
        for (n, line) in text.lines().enumerate() {
            if places.iter().any(|place| line.contains(place)) {
                complaints.push(format!("{path}:{}: {}", n + 1, line.trim()));
            }
        }
    }
    hold("paths of one machine", complaints);
}

#[test]
fn the_table_of_contents_of_these_tests_is_complete() {
    let contents = read_to_string(project("tests/it/main.rs")).unwrap();
    let mut complaints = Vec::new();
    for entry in read_dir(project("tests/it")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".rs").filter(|name| *name != "main") else { continue };
        if !contents.contains(&format!("//! * `{name}` - ")) {
            complaints.push(format!("the header has no line for `{name}`"));
        }
        if !contents.contains(&format!("\nmod {name};\n")) {
            complaints.push(format!("no 'mod {name};'"));
        }
    }
    hold("tests/it/main.rs", complaints);
}

#[test]
fn lints_back_these_rules() {
    let lints = &manifest(".")["workspace"]["lints"];
    assert_eq!(lints["rust"]["unsafe_code"].as_str(), Some("deny"));
    for lint in [
        "unwrap_used",
        "await_holding_lock",
        "undocumented_unsafe_blocks",
        "print_stdout",
        "print_stderr",
        "dbg_macro",
        "exit",
    ] {
        assert!(lints["clippy"].get(lint).is_some(), "the workspace's lints have no clippy::{lint}");
    }
    let clippy: toml::Table = read_to_string(project("clippy.toml")).unwrap().parse().unwrap();
    let banned = clippy["disallowed-methods"].as_array().unwrap();
    for method in ["std::env::var", "std::env::set_var", "std::process::exit"] {
        let entry = banned.iter().find(|entry| entry["path"].as_str() == Some(method));
        let reason = entry.and_then(|entry| entry.get("reason")?.as_str());
        assert!(reason.is_some_and(|reason| !reason.is_empty()), "clippy.toml bans {method} without a reason, or not");
    }
}

#[test]
fn generated_pages_are_fresh() {
    for (page, format) in [("docs/config.schema.json", "json"), ("docs/configuration.md", "markdown")] {
        let output = Gaugefn::command().args(["schema", "--format", format]).output(Duration::from_secs(20));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let written = read_to_string(project(page)).unwrap_or_default();
        let differs = written.lines().zip(output.stdout.lines()).position(|(old, new)| old != new);
        assert!(
            written == output.stdout,
            "{page} differs from the registered types, from line {} on; to mend it: scripts/docs",
            differs.unwrap_or(written.lines().count().min(output.stdout.lines().count())) + 1
        );
    }
}

#[test]
fn code_is_told_from_words() {
    let text = "let a = \"unsafe \\\" // x\"; // unsafe\nlet b = r#\"unsafe \" \"#; /* a /* b */ unsafe */ let c = '\"';\nfn f<'a>(x: &'a str) { '\\'' }\n";
    let left = code(text);
    assert!(!left.contains("unsafe"), "{left}");
    assert!(left.contains("let c = '';") && left.contains("fn f<'a>(x: &'a str) { '' }"), "{left}");
    assert_eq!(product("a\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n b\n}\n"), "a\n");
    assert_eq!(product("a\n#[cfg(test)]\nmod samples;\nb\n"), "a\n#[cfg(test)]\nmod samples;\nb\n");
    let source =
        |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned(), code: text.to_owned() };
    let lib = source("loaders/src/unpack/mod.rs", "#[cfg(test)]\nmod samples;\n#[cfg(test)]\nmod tests;\nmod plan;\n");
    assert!(test_modules(&lib).contains(&"loaders/src/unpack/tests.rs".to_owned()));
    assert!(!test_modules(&lib).contains(&"loaders/src/unpack/plan.rs".to_owned()));
    assert!(test_modules(&source("a/src/b.rs", "#[cfg(test)]\nmod c;\n")).contains(&"a/src/b/c.rs".to_owned()));
    let words = source("a.rs", "unsafe_code unsafes x.unsafe");
    assert!(words.says("unsafe") && !words.says("code"), "a word of its own");
}
