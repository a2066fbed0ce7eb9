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

/// A wheel, which needs neither a build nor a network, whose module says its version.
fn wheel(bed: &Bed, version: u32) {
    let info = |file: &str| format!("tiny-{version}.0.dist-info/{file}");
    let files = [
        ("tiny.py".to_owned(), format!("VERSION = {version}\n")),
        (info("METADATA"), format!("Metadata-Version: 2.1\nName: tiny\nVersion: {version}.0\n")),
        (info("WHEEL"), "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned()),
        (info("RECORD"), String::new()),
    ];
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    zip(&bed.put(&format!("wheels/tiny-{version}.0-py3-none-any.whl"), ""), &files);
}

#[test]
fn requirements_follow_what_they_include() {
    let bed = Bed::new();
    for version in [1, 2, 3] {
        wheel(&bed, version);
    }
    create_dir(bed.path("tmp")).unwrap();
    let requirements = bed.put("requirements.txt", "-r parts/${WHICH}.txt\n");
    bed.put(
        "parts/base.txt",
        "--no-index\n--find-links ../wheels \\\n  # where they are\n--requirement=wanted.txt\n-c limits.txt\n",
    );
    bed.put("parts/wanted.txt", "tiny\n");
    let text = "from tiny import VERSION\n\ndef handler(input, context):\n    return VERSION\n";
    let installed = || {
        let gaugefn = bed.gaugefn().env("PYFILE", text).env("NEW_REQUIREMENTS", &requirements);
        bed.result(gaugefn.env("WHICH", "base").env("TMPDIR", bed.path("tmp")))
    };
    for version in ["1", "3", "2"] {
        bed.put("parts/limits.txt", format!("tiny<={version}.0\n"));
        assert_eq!(installed(), version);
    }
    bed.put("parts/wanted.txt", "tiny==1.0\n");
    assert_eq!(installed(), "1");
}

#[test]
fn the_surroundings_settings_of_pip_say_where_from_and_not_where_to() {
    let bed = Bed::new();
    wheel(&bed, 1);
    let requirements = bed.put("requirements.txt", "tiny\n");
    let text = "from tiny import VERSION\n\ndef handler(input, context):\n    return VERSION\n";
    let elsewhere = bed.path("elsewhere");
    let places = format!(
        "user = true\nrequire-virtualenv = true\ndry-run = true\ntarget = {0}\nprefix = {0}\nroot = {0}\n",
        elsewhere.display()
    );
    let links = format!("no-index = true\nfind-links = {}\n", bed.path("wheels").display());
    let both = bed.put("both.conf", format!("[global]\n{links}[install]\n{places}"));
    bed.put("home/.config/pip/pip.conf", format!("[global]\n{links}{places}"));
    let with = |number: usize, set: &[(&str, &std::path::Path)]| {
        let tmp = bed.path(&format!("tmp{number}"));
        create_dir(&tmp).unwrap();
        let gaugefn = bed.gaugefn().env("PYFILE", text).env("NEW_REQUIREMENTS", &requirements).env("TMPDIR", tmp);
        bed.result(set.iter().fold(gaugefn, |gaugefn, (name, value)| gaugefn.env(name, value)))
    };
    let (one, wheels) = (std::path::Path::new("1"), bed.path("wheels"));
    assert_eq!(with(0, &[("PIP_CONFIG_FILE", &both)]), "1");
    assert_eq!(with(1, &[("HOME", &bed.path("home"))]), "1");
    let variables = [
        ("PIP_NO_INDEX", one),
        ("PIP_FIND_LINKS", &wheels),
        ("PIP_USER", one),
        ("PIP_REQUIRE_VIRTUALENV", one),
        ("PIP_DRY_RUN", one),
        ("PIP_TARGET", &elsewhere),
        ("PIP_PREFIX", &elsewhere),
        ("PIP_ROOT", &elsewhere),
        ("PYTHONUSERBASE", &elsewhere),
    ];
    assert_eq!(with(2, &variables), "1");
    assert!(!elsewhere.exists());
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

#[test]
fn where_the_file_is_missing_what_is_there_is_named() {
    let bed = Bed::new();
    bed.put("code/mine.py", FUNCTION);
    zip(&bed.path("code/mine.zip"), &[("main.py", FUNCTION.as_bytes())]);
    bed.put("code/notes.txt", "x");
    for (variable, missing) in [("USER_MODULE_PATH", "code/usermodule.py"), ("ZIP_TARGET_PATH", "code/function.zip")] {
        for command in [&["run"][..], &["check", "--connect"]] {
            let output = crate::support::gaugefn::Gaugefn::command()
                .args(command)
                .env("REDIS_PORT", bed.server.port().to_string())
                .env(variable, bed.path(missing))
                .output(PATIENCE);
            assert_eq!(output.status.code(), Some(66), "{output:?}");
            let (module, zip) = (bed.path("code/mine.py"), bed.path("code/mine.zip"));
            let said = &output.stderr;
            assert!(said.contains("does not exist: mount it there or correct the path; there are "), "{said}");
            assert!(said.contains(&format!("'{}', '{}'", module.display(), zip.display())), "{said}");
            assert!(said.contains("name a file by USER_MODULE_PATH, or a zip by ZIP_TARGET_PATH"), "{said}");
            assert!(!said.contains("notes.txt"), "{said}");
        }
    }
}

/// What is there and cannot be loaded says why, and nothing of other code.
#[test]
fn code_that_is_there_and_broken_keeps_its_traceback() {
    let bed = Bed::new();
    bed.put("code/usermodule.py", FUNCTION);
    bed.put("code/app/__init__.py", "");
    bed.put("code/app/vm.py", "def process(input, context:\n");
    for handler in ["app.vm.process", "missing"] {
        let output = bed
            .gaugefn()
            .env("USER_MODULE_PATH", bed.path("code/usermodule.py"))
            .env("USER_HANDLER_NAME", handler)
            .output(PATIENCE);
        assert_eq!(output.status.code(), Some(65), "{output:?}");
        assert!(!output.stderr.contains("name one by") && !output.stderr.contains("name a file by"), "{output:?}");
        assert!(handler == "missing" || output.stderr.contains("SyntaxError"), "{output:?}");
    }
}
