//! Forms of a single file.

use super::{Bed, FUNCTION, PATIENCE, zip};
use std::fs::create_dir;
use std::os::unix::fs::symlink;

const EXPECTED: &str = r#"{"n": 21}"#;

/// Names itself, as the import sees it.
const WHO: &str = "import os\n\ndef handler(input, context):\n    return [__name__, os.path.basename(__file__)]\n";

#[test]
fn source_text_in_a_variable() {
    let bed = Bed::new();
    for text in [
        FUNCTION.to_owned(),
        FUNCTION.replace('\n', "\r\n"),
        format!("\u{feff}{FUNCTION}"),
        "handler = lambda input, context: {'n': input['n'] + 1}".to_owned(),
    ] {
        assert_eq!(bed.result(bed.gaugefn().env("PYFILE", &text)), EXPECTED, "{text:?}");
    }
    assert_eq!(bed.result(bed.gaugefn().env("PYFILE", WHO)), r#"["usermodule", "usermodule.py"]"#);
}

#[test]
fn a_path_in_the_same_variable() {
    let bed = Bed::new();
    let path = bed.put("vm.py", FUNCTION);
    assert_eq!(bed.result(bed.gaugefn().env("PYFILE", &path)), EXPECTED);
    assert_eq!(bed.result(bed.gaugefn().current_dir(bed.folder.path()).env("PYFILE", "vm.py\n")), EXPECTED);
    let missing = bed.gaugefn().env("PYFILE", bed.path("none.py")).output(PATIENCE);
    assert_eq!(missing.status.code(), Some(66), "{missing:?}");
    assert!(missing.stderr.contains("none.py does not exist: mount it there or correct the path"), "{missing:?}");
}

#[test]
fn any_name_line_ends_and_a_byte_order_mark() {
    let bed = Bed::new();
    let texts = [FUNCTION.to_owned(), FUNCTION.replace('\n', "\r\n"), format!("\u{feff}{FUNCTION}")];
    for (index, name) in ["pyfile", "vm.py", "my-function.txt"].iter().enumerate() {
        for text in &texts {
            let path = bed.put(&format!("{index}/{name}"), text);
            assert_eq!(bed.result(bed.gaugefn().env("USER_MODULE_PATH", path)), EXPECTED, "{name}: {text:?}");
        }
    }
}

/// A ConfigMap's file is a link to a link.
#[test]
fn the_module_has_the_name_of_its_mount() {
    let bed = Bed::new();
    bed.put("opt/..2026_01_01/usermodule.py", WHO);
    symlink("..2026_01_01", bed.path("opt/..data")).unwrap();
    symlink("..data/usermodule.py", bed.path("opt/usermodule.py")).unwrap();
    let gaugefn = bed.gaugefn().env("USER_MODULE_PATH", bed.path("opt/usermodule.py"));
    assert_eq!(bed.result(gaugefn), r#"["usermodule", "usermodule.py"]"#);
}

#[test]
fn a_mount_point_without_its_config_map() {
    let bed = Bed::new();
    create_dir(bed.path("usermodule.py")).unwrap();
    let output = bed.gaugefn().env("USER_MODULE_PATH", bed.path("usermodule.py")).output(PATIENCE);
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    assert!(output.stderr.contains("as an absent optional ConfigMap leaves one"), "{output:?}");
}

#[test]
fn asked_for_beside_a_zip() {
    let bed = Bed::new();
    let single = bed.put("vm.py", FUNCTION);
    zip(&bed.path("function.zip"), &[("main.py", b"def handler(a, b): return 'zip'\n")]);
    let both = || bed.gaugefn().env("USER_MODULE_PATH", &single).env("ZIP_TARGET_PATH", bed.path("function.zip"));
    assert_eq!(bed.result(both()), r#""zip""#);
    assert_eq!(bed.result(both().env("PYFILE_OR_ZIP", "pyfile")), EXPECTED);
    assert_eq!(bed.result(both().env("PYFILE_OR_ZIP", "zip")), r#""zip""#);
}

#[test]
fn requirements_are_installed_first() {
    let bed = Bed::new();
    // a wheel needs neither a build nor a network
    let wheel = bed.path("tiny-1.0-py3-none-any.whl");
    zip(
        &wheel,
        &[
            ("tiny/__init__.py", b"def more(n):\n    return n + 1\n"),
            ("tiny-1.0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"),
            ("tiny-1.0.dist-info/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            (
                "tiny-1.0.dist-info/RECORD",
                b"tiny/__init__.py,,\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/WHEEL,,\ntiny-1.0.dist-info/RECORD,,\n",
            ),
        ],
    );
    let requirements = bed.put("requirements.txt", format!("{}\n", wheel.display()));
    let text = "from tiny import more\n\ndef handler(input, context):\n    return {'n': more(input['n'])}\n";
    create_dir(bed.path("tmp")).unwrap();
    for (name, said) in [("NEW_REQUERIMENTS", true), ("NEW_REQUIREMENTS", false)] {
        let gaugefn = bed.gaugefn().env("PYFILE", text).env(name, &requirements).env("TMPDIR", bed.path("tmp"));
        let mut running = gaugefn.spawn();
        assert_eq!(bed.stored(&mut running), EXPECTED, "{name}");
        assert_eq!(running.stderr().contains("Successfully installed tiny-1.0"), said, "{}", running.written());
        let () = redis::Commands::del(&mut bed.redis(), "result").unwrap();
    }
    let nothing = bed.gaugefn().env("PYFILE", FUNCTION).env("NEW_REQUIREMENTS", bed.path("none.txt"));
    let mut running = nothing.spawn();
    assert_eq!(bed.stored(&mut running), EXPECTED);
    assert!(running.stderr().contains("NEW_REQUIREMENTS is ignored: there is no file '"), "{}", running.written());
    let wrong = bed.put("wrong.txt", format!("{}\n", bed.path("none-1.0-py3-none-any.whl").display()));
    let output = bed.gaugefn().env("PYFILE", FUNCTION).env("NEW_REQUIREMENTS", wrong).output(PATIENCE);
    assert_eq!(output.status.code(), Some(65), "{output:?}");
}
