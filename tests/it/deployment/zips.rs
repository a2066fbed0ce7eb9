//! Forms of a zip in use. Each gives the same result, so that what is checked is that the right file ran with what it
//! imports.

use super::{Bed, base64_of, zip};
use crate::support::gaugefn::Gaugefn;
use redis::Commands;
use std::fs::{create_dir, read, rename};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Imports `helper` from its own folder.
const MAIN: &[u8] = b"from helper import more\n\ndef handler(input, context):\n    return {'n': more(input['n'])}\n";
const HELPER: &[u8] = b"def more(n):\n    return n + 1\n";
const EXPECTED: &str = r#"{"n": 21}"#;

/// A bed with a zip of these files, and the binary told of it.
fn packed(files: &[(&str, &[u8])]) -> (Bed, Gaugefn) {
    let bed = Bed::new();
    zip(&bed.path("function.zip"), files);
    let gaugefn = bed.gaugefn().env("ZIP_TARGET_PATH", bed.path("function.zip"));
    (bed, gaugefn)
}

#[test]
fn flat() {
    let (bed, gaugefn) = packed(&[("main.py", MAIN), ("helper.py", HELPER)]);
    assert_eq!(bed.result(gaugefn), EXPECTED);
}

#[test]
fn one_top_folder_with_a_hyphen() {
    let files: &[(&str, &[u8])] = &[("my-function/main.py", MAIN), ("my-function/helper.py", HELPER)];
    let (bed, gaugefn) = packed(files);
    assert_eq!(bed.result(gaugefn), EXPECTED);
    for entry in ["my-function/main.py", "main.py", "main"] {
        let (bed, gaugefn) = packed(files);
        assert_eq!(bed.result(gaugefn.env("ZIP_ENTRY_RELATIVE_FILE_PATH", entry)), EXPECTED, "{entry}");
    }
}

#[test]
fn the_entry_in_a_folder_imports_from_its_parent_through_its_file() {
    let entry = b"\
import os, sys
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from helper import more

def handler(input, context):
    return {'n': more(input['n'])}
";
    for name in ["code/handlers/vm.py", "code.handlers.vm"] {
        let (bed, gaugefn) = packed(&[("code/handlers/vm.py", entry), ("code/helper.py", HELPER), ("notes.txt", b"x")]);
        assert_eq!(bed.result(gaugefn.env("ZIP_ENTRY_RELATIVE_FILE_PATH", name)), EXPECTED, "{name}");
    }
}

#[test]
fn a_package_imports_itself_absolutely_and_relatively() {
    let entry = b"\
from vmstats.core import more
from . import core

def handler(input, context):
    assert core.more is more and __name__ == 'vmstats.main', __name__
    return {'n': more(input['n'])}
";
    for name in ["vmstats/main.py", "vmstats.main", "vmstats"] {
        let (bed, gaugefn) = packed(&[
            ("vmstats/__init__.py", b"from vmstats.core import more\n"),
            ("vmstats/core.py", HELPER),
            ("vmstats/main.py", entry),
            ("README.md", b"x"),
        ]);
        assert_eq!(bed.result(gaugefn.env("ZIP_ENTRY_RELATIVE_FILE_PATH", name)), EXPECTED, "{name}");
    }
}

#[test]
fn a_namespace_package_without_init() {
    let entry =
        b"from ns.tools.helper import more\n\ndef handler(input, context):\n    return {'n': more(input['n'])}\n";
    let (bed, gaugefn) = packed(&[("main.py", entry), ("ns/tools/helper.py", HELPER)]);
    assert_eq!(bed.result(gaugefn), EXPECTED);
}

#[test]
fn what_packers_leave_behind_does_no_harm() {
    let junk: &[(&str, &[u8])] = &[
        ("__MACOSX/._main.py", b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "),
        ("__MACOSX/fn/._main.py", b"\x00\x05\x16\x07"),
        (".DS_Store", b"\x00\x00\x00\x01Bud1"),
        (".dockerignore", b"**/*.pyc\n"),
    ];
    for folder in ["", "fn/"] {
        let name = |file: &str| format!("{folder}{file}");
        let names = [
            name("main.py"),
            name("helper.py"),
            name("__pycache__/main.cpython-27.pyc"),
            name("__pycache__/helper.cpython-38.pyc"),
            name("__pycache__/helper.cpython-311.pyc"),
            name("__pycache__/helper.cpython-313.pyc"),
        ];
        let contents: [&[u8]; 6] = [MAIN, HELPER, b"\x03\xf3\r\n", b"\x55\r\r\n", b"\xff\xff\r\n", b"\xf3\r\r\n"];
        let files: Vec<(&str, &[u8])> =
            names.iter().map(String::as_str).zip(contents).chain(junk.iter().copied()).collect();
        let (bed, gaugefn) = packed(&files);
        assert_eq!(bed.result(gaugefn), EXPECTED, "in '{folder}'");
    }
}

#[test]
fn base64_text_in_a_mounted_file_and_in_a_variable() {
    let (bed, _) = packed(&[("main.py", MAIN), ("helper.py", HELPER)]);
    let text = base64_of(&bed.path("function.zip"));
    let file = bed.put("mount/zipped", &text);
    assert_eq!(bed.result(bed.gaugefn().env("ZIP_TARGET_PATH", file)), EXPECTED);
    for text in [text.clone(), text.replace('\n', "")] {
        assert_eq!(bed.result(bed.gaugefn().env("ZIP_BASE64", text)), EXPECTED);
    }
}

#[test]
fn a_folder_with_exactly_one_zip() {
    let (bed, _) = packed(&[("main.py", MAIN), ("helper.py", HELPER)]);
    bed.put("mount/readme.txt", "not a zip");
    rename(bed.path("function.zip"), bed.path("mount/function-v2.zip")).unwrap();
    assert_eq!(bed.result(bed.gaugefn().env("ZIP_TARGET_PATH", bed.path("mount"))), EXPECTED);
}

/// Kubernetes keeps the files of a mounted ConfigMap behind hidden links.
#[test]
fn binary_data_of_a_config_map() {
    let (bed, _) = packed(&[("main.py", MAIN), ("helper.py", HELPER)]);
    bed.put("mount/..2026_01_01/function.zip", read(bed.path("function.zip")).unwrap());
    symlink("..2026_01_01", bed.path("mount/..data")).unwrap();
    symlink("..data/function.zip", bed.path("mount/function.zip")).unwrap();
    for path in ["mount", "mount/function.zip"] {
        assert_eq!(bed.result(bed.gaugefn().env("ZIP_TARGET_PATH", bed.path(path))), EXPECTED, "{path}");
    }
}

#[test]
fn a_c_extension_inside() {
    let bed = Bed::new();
    let library = extension(bed.folder.path());
    let name = library.file_name().unwrap().to_str().unwrap();
    let main = b"import fast\n\ndef handler(input, context):\n    return {'n': fast.more(input['n'])}\n";
    zip(&bed.path("function.zip"), &[("main.py", main), (name, &read(&library).unwrap())]);
    assert_eq!(bed.result(bed.gaugefn().env("ZIP_TARGET_PATH", bed.path("function.zip"))), EXPECTED);
}

/// Compiles the module `fast` for the Python of the build.
pub(crate) fn extension(folder: &Path) -> PathBuf {
    let asked = Command::new(env!("GAUGEFN_PYTHON"))
        .args(["-I", "-c"])
        .arg("import sysconfig as s; print(s.get_path('include'), s.get_config_var('EXT_SUFFIX'), sep='\\n')")
        .output()
        .unwrap();
    let answer = String::from_utf8(asked.stdout).unwrap();
    let (include, suffix) = answer.trim_end().split_once('\n').unwrap();
    let (source, library) = (folder.join("fast.c"), folder.join(format!("fast{suffix}")));
    let text = r#"
#include <Python.h>
static PyObject *more(PyObject *self, PyObject *n) { return PyLong_FromLong(PyLong_AsLong(n) + 1); }
static PyMethodDef methods[] = {{"more", more, METH_O, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "fast", NULL, -1, methods};
PyMODINIT_FUNC PyInit_fast(void) { return PyModule_Create(&module); }
"#;
    std::fs::write(&source, text).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-I", include, "-o"])
        .args([&library, &source])
        .output()
        .unwrap_or_else(|error| panic!("cc does not start: install it with `apt-get install gcc` ({error})"));
    assert!(
        compiled.status.success(),
        "no C extension can be compiled; are Python's headers in {include}?\n{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    library
}

/// The variations that deployments leave behind when a zip's ConfigMap is absent.
#[test]
fn a_zip_that_is_none_leaves_the_single_file() {
    let bed = Bed::new();
    let single = bed.put("usermodule.py", super::FUNCTION);
    let text = bed.put("text.zip", "def handler(a, b): return {'wrong': 1}\n");
    create_dir(bed.path("mount")).unwrap();
    for zip in [bed.path("mount"), bed.path("absent.zip"), text] {
        let () = bed.redis().del("result").unwrap();
        let mut running = bed.gaugefn().env("ZIP_TARGET_PATH", &zip).env("USER_MODULE_PATH", &single).spawn();
        assert_eq!(bed.stored(&mut running), EXPECTED);
        let warning = "ZIP_TARGET_PATH is ignored, the single file is used: zip";
        assert_eq!(running.stderr().matches(warning).count(), 1, "{}", running.written());
    }
}

#[test]
fn a_broken_zip_never_leaves_it() {
    let (bed, gaugefn) = packed(&[("main.py", MAIN), ("helper.py", HELPER)]);
    let whole = read(bed.path("function.zip")).unwrap();
    bed.put("function.zip", &whole[..whole.len() / 2]);
    let single = bed.put("usermodule.py", "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n");
    let output = gaugefn.env("USER_MODULE_PATH", single).output(super::PATIENCE);
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    assert!(output.stderr.contains("function.zip"), "{output:?}");
    assert!(!bed.path("ran").exists());
    let stored: Option<String> = bed.redis().get("result").unwrap();
    assert_eq!(stored, None);
}

/// Several modules beside the single file, as an initContainer unpacks them.
#[test]
fn unpacked_by_an_init_container() {
    let bed = Bed::new();
    bed.put("opt/helper.py", HELPER);
    let single = bed.put("opt/usermodule.py", MAIN);
    assert_eq!(bed.result(bed.gaugefn().env("USER_MODULE_PATH", single)), EXPECTED);
}
