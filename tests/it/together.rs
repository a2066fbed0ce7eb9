//! Several functions in one gaugefn.

use crate::support::bed::PATIENCE;
use crate::support::gaugefn::Gaugefn;
use crate::support::libraries;
use serde_json::{Value, json};
use std::fs::{File, read_to_string, write};
use std::io::Write;
use std::path::Path;

/// `helper` is imported at the start and, by name, during each call; both have to be the zip's own.
const MAIN: &str = "
import importlib
import helper
from parts import shared

def handler(n, context):
    context.env['calls'] = context.env.get('calls', 0) + 1
    late = importlib.import_module('helper').NAME
    return {'n': n, 'calls': context.env['calls'], 'names': [helper.NAME, late, shared.NAME]}
";

fn zip(path: &Path, name: &str) {
    let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
    let own = format!("NAME = '{name}'\n");
    for (file, text) in [("main.py", MAIN), ("helper.py", &own), ("parts/__init__.py", ""), ("parts/shared.py", &own)] {
        zip.start_file(file, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn modules_of_the_same_name_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut config = String::new();
    let mut function = |name: &str, events: usize, parts: &str| {
        let lines: String = (0..events).map(|n| format!("{n}\n")).collect();
        write(path(&format!("{name}.events")), lines).unwrap();
        config.push_str(&format!(
            "[functions.{name}]\nsource = {{ use = \"file\", path = \"{name}.events\" }}\n{parts}\n\
             sinks.file = {{ path = \"{name}.results\" }}\n"
        ));
    };
    // the last one lives in the process itself, of which there can be one
    let zips = [("one", 30, "process"), ("two", 20, "process"), ("three", 10, "process"), ("four", 25, "inline")];
    for (name, events, isolation) in zips {
        zip(&path(&format!("{name}.zip")), name);
        let parts = format!(
            "isolation = \"{isolation}\"\nloader = {{ use = \"zip\", path = \"{name}.zip\" }}\n\
             executor = {{ use = \"python\" }}"
        );
        function(name, events, &parts);
    }
    let library = libraries::several().display().to_string();
    for (name, isolation) in [("native", "process"), ("native-inline", "inline")] {
        let parts = format!(
            "isolation = \"{isolation}\"\nhandler = \"loud\"\nloader = {{ use = \"native\", path = {library:?} }}\n\
             executor = {{ use = \"native\" }}"
        );
        function(name, 15, &parts);
    }
    function("passing", 5, "executor = { use = \"passthrough\" }");
    write(path("gaugefn.toml"), config).unwrap();

    let output =
        Gaugefn::command().current_dir(folder.path()).args(["run", "--config", "gaugefn.toml"]).output(PATIENCE);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let results = |name: &str| -> Vec<Value> {
        let text = read_to_string(path(&format!("{name}.results"))).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    for (name, events, _) in zips {
        let expected: Vec<_> =
            (0..events).map(|n| json!({"n": n, "calls": n + 1, "names": [name, name, name]})).collect();
        assert_eq!(results(name), expected, "{name}");
    }
    for name in ["native", "native-inline"] {
        // `loud` has no result for 0
        assert_eq!(results(name), (1..15).map(|n| json!(n)).collect::<Vec<_>>(), "{name}");
    }
    assert_eq!(results("passing"), (0..5).map(|n| json!(n)).collect::<Vec<_>>());
}
