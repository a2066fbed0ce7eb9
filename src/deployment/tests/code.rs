//! Where the code is: the rules between zips, folders, files and their text.

use super::{BASE64, ENTRY, Files, HANDLER, SINGLE, URL, WHICH, ZIP, ZIP_TEXT, alone, pair, row};

#[test]
fn a_handler_may_name_its_module() {
    let files = Files::new();
    let zip = files.zip_of("f.zip", &["main.py", "app/vm.py"]);
    for name in HANDLER {
        let inside = alone(&[(name, "app.vm.process"), ("ZIP_TARGET_PATH", &zip)]);
        assert_eq!(inside.other_warnings(), [""; 0]);
        assert_eq!(inside.of_default("handler"), pair("process", name));
        assert_eq!(inside.of_default("loader.entry"), pair("app.vm", name));
    }
    let both = alone(&[
        ("USER_HANDLER_NAME", "app.vm.process"),
        ("ZIP_ENTRY_RELATIVE_FILE_PATH", "main.py"),
        ("ZIP_TARGET_PATH", &zip),
    ]);
    assert_eq!(both.of_default("loader.entry"), pair("main.py", "ZIP_ENTRY_RELATIVE_FILE_PATH"));
    let single = alone(&[("USER_HANDLER_NAME", "usermodule.process")]);
    assert_eq!(single.text("handler").unwrap(), "process");
    assert_eq!((single.text("loader.entry"), single.other_warnings().len()), (None, 0));
    let other = alone(&[("USER_HANDLER_NAME", "vm.process")]);
    assert_eq!(
        other.other_warnings(),
        ["the module 'vm' of USER_HANDLER_NAME is ignored: the function is the single file 'usermodule'"]
    );
}

#[test]
fn a_module_is_looked_for_before_the_default_is_taken() {
    let files = Files::new();
    let single = files.put("usermodule.py", b"");
    let (vm, _) = (files.put("vm.py", b""), files.put("app/deep/vm.py", b""));
    files.put("pack/__init__.py", b"");
    let of = |handler: &str, single: &str| alone(&[("HANDLER_ENTRYPOINT", handler), ("USER_MODULE_PATH", single)]);

    // the single file itself, by its name or by its place
    for handler in ["usermodule.process", "process"] {
        let itself = of(handler, &single);
        assert_eq!((itself.text("loader.path"), itself.other_warnings().len()), (Some(single.clone()), 0), "{handler}");
    }
    let placed = of("deep.vm.process", &files.path("app/deep/vm.py"));
    assert_eq!((placed.text("loader.path"), placed.other_warnings().len()), (Some(files.path("app/deep/vm.py")), 0));

    let beside = of("vm.process", &single);
    assert_eq!(beside.of_default("loader.path"), pair(&vm, "HANDLER_ENTRYPOINT"));
    assert_eq!(beside.text("loader.use").unwrap(), "file");
    assert_eq!(
        beside.other_warnings(),
        [format!("USER_MODULE_PATH is ignored: HANDLER_ENTRYPOINT names the module 'vm', which is beside '{single}'")]
    );
    let missing = of("vm.process", &files.path("none.py"));
    assert_eq!(missing.text("loader.path").as_ref(), Some(&vm), "also where the single file is missing");
    for module in ["app.deep.vm", "pack"] {
        let dotted = of(&format!("{module}.process"), &single);
        assert_eq!(dotted.text("loader.use").unwrap(), "dir");
        assert_eq!(dotted.text("loader.path").unwrap(), files.path("").trim_end_matches('/'));
        assert_eq!(dotted.of_default("loader.entry"), pair(module, "HANDLER_ENTRYPOINT"));
        assert_eq!(dotted.text("handler").unwrap(), "process");
    }
    let nowhere = of("other.process", &single);
    assert_eq!(nowhere.text("loader.path").unwrap(), single);
    assert_eq!(
        nowhere.other_warnings(),
        ["the module 'other' of HANDLER_ENTRYPOINT is ignored: the function is the single file 'usermodule'"]
    );

    let zip = files.zip("f.zip");
    let zipped = alone(&[("HANDLER_ENTRYPOINT", "usermodule.process"), ("ZIP_TARGET_PATH", &zip)]);
    assert_eq!((zipped.text("loader.entry"), zipped.text("loader.path").unwrap()), (None, zip));
    assert_eq!(
        zipped.other_warnings(),
        ["the module 'usermodule' of HANDLER_ENTRYPOINT is ignored: the zip has none of that name"]
    );
}

#[test]
fn zip_file_path_beside_zip_target_path() {
    let files = Files::new();
    let (zip, other, target) = (files.zip("f.zip"), files.zip("g.zip"), files.folder("unpacked"));
    let warning = "ZIP_TARGET_PATH is ignored: ZIP_FILE_PATH names a zip, and it is unpacked into a private folder";
    for target in [&target, &other, &files.path("none")] {
        let both = alone(&[("ZIP_TARGET_PATH", target), ("ZIP_FILE_PATH", &zip)]);
        assert_eq!(both.of_default("loader.path"), pair(&zip, "ZIP_FILE_PATH"));
        assert_eq!(both.other_warnings(), [warning]);
    }
    let no_zip = files.put("text", b"no zip");
    let both = alone(&[("ZIP_TARGET_PATH", &other), ("ZIP_FILE_PATH", &no_zip)]);
    assert_eq!(both.of_default("loader.path"), pair(&other, "ZIP_TARGET_PATH"));
    assert_eq!(both.other_warnings(), ["ZIP_FILE_PATH is ignored: ZIP_TARGET_PATH is set as well and means the same"]);
    let three = alone(&[("ZIP_TARGET_PATH", &target), ("ZIP_FILE_PATH", &zip), ("ZIP_FILE", &other)]);
    assert_eq!(
        three.other_warnings(),
        [warning, "ZIP_FILE is ignored: ZIP_FILE_PATH is set as well and means the same"]
    );
}

#[test]
fn base64_text() {
    row(BASE64, "functions.default.loader.base64", ZIP_TEXT, &[]);
    row(ENTRY, "functions.default.loader.entry", "main.py", &[("ZIP_BASE64", ZIP_TEXT)]);
    assert_eq!(alone(&[("ZIP_BASE64", ZIP_TEXT)]).text("loader.use").unwrap(), "zip");
    let files = Files::new();
    let (zip, absent, folder) = (files.zip("f.zip"), files.path("none.zip"), files.folder("empty"));
    let both = alone(&[("ZIP_TARGET_PATH", &zip), ("ZIP_BASE64", ZIP_TEXT)]);
    assert_eq!((both.text("loader.path"), both.text("loader.base64")), (Some(zip), None));
    assert_eq!(both.other_warnings(), ["ZIP_BASE64 is ignored: ZIP_TARGET_PATH names a zip"]);
    for nothing in [&absent, &folder] {
        let text = alone(&[("ZIP_TARGET_PATH", nothing), ("ZIP_BASE64", ZIP_TEXT)]);
        assert_eq!((text.text("loader.path"), text.text("loader.base64").unwrap()), (None, ZIP_TEXT.to_owned()));
        let [warning] = text.other_warnings()[..] else { panic!("one warning") };
        assert!(warning.starts_with("ZIP_TARGET_PATH is ignored, ZIP_BASE64 is used: zip"), "{warning}");
    }
}

#[test]
fn zip_url() {
    let files = Files::new();
    let zip = files.zip("f.zip");
    row(URL, "functions.default.loader.path", &zip, &[]);
    for name in URL {
        let file = alone(&[(name, &format!("file://{zip}"))]);
        assert_eq!(file.of_default("loader.path"), pair(&zip, name));
        for url in
            ["https://example.org/f.zip", "http://example.org/f.zip", "HTTPS://example.org/f.zip", "s3://b/f.zip"]
        {
            assert_eq!(
                alone(&[(name, url), ("USER_MODULE_PATH", "/no/such.py")]).problems,
                [format!(
                    "functions.default.loader.path: '{url}' is not downloaded; mount the zip as a file and name that \
                     by ZIP_TARGET_PATH (from {name})"
                )]
            );
        }
        let url = "https://me:s3cret@h/f.zip?sig=s3cret#s3cret";
        let secret = alone(&[(name, url), ("USER_MODULE_PATH", "/no/such.py")]);
        assert!(!secret.problems[0].contains("s3cret"), "{:?}", secret.problems);
        assert!(secret.problems[0].contains("h/f.zip'"), "{:?}", secret.problems);
        let pyfile = alone(&[(name, "https://example.org/f.zip"), ("PYFILE_OR_ZIP", "pyfile")]);
        assert_eq!(pyfile.problems, [""; 0]);
        let single = files.put("vm.py", b"");
        let url = (*name, "https://me:s3cret@example.org/f.zip?sig=s3cret");
        let beside = alone(&[url, ("USER_MODULE_PATH", &single)]);
        assert_eq!((beside.text("loader.path"), beside.problems.len()), (Some(single.clone()), 0));
        let [warning] = beside.other_warnings()[..] else { panic!("{:?}", beside.warnings) };
        assert!(warning.starts_with(&format!("{name} is ignored: 'https://me:")), "{warning}");
        assert!(warning.contains("mount it as a file and name that by ZIP_TARGET_PATH"), "{warning}");
        assert!(!warning.contains("s3cret"), "{warning}");
        let text = alone(&[url, ("ZIP_BASE64", ZIP_TEXT)]);
        assert_eq!((text.text("loader.base64").as_deref(), text.problems.len()), (Some(ZIP_TEXT), 0));
        let asked = alone(&[url, ("PYFILE_OR_ZIP", "zip"), ("USER_MODULE_PATH", &single)]);
        assert_eq!(asked.problems.len(), 1, "a zip is asked for");
    }
    let both = alone(&[("ZIP_URL", "https://example.org/f.zip"), ("ZIP_FILE", &zip)]);
    assert_eq!(both.problems, [""; 0]);
    assert_eq!(both.other_warnings(), ["ZIP_URL is ignored: ZIP_FILE is set as well and means the same"]);
}

#[test]
fn a_library_selects_the_native_executor() {
    let files = Files::new();
    let requirements = files.put("requirements.txt", b"x");
    for name in SINGLE {
        let library = alone(&[(name, "/opt/libvm.so"), ("NEW_REQUIREMENTS", &requirements)]);
        assert_eq!(library.executor(), "native");
        assert_eq!(library.text("loader.path").unwrap(), "/opt/libvm.so");
        assert_eq!(library.text("executor.requirements"), None);
        let said = "NEW_REQUIREMENTS is ignored: packages are for Python, and the function is a library";
        assert_eq!(library.other_warnings(), [said]);
    }
    let library = files.put("libvm.so", b"\x7fELF");
    assert_eq!(alone(&[("PYFILE", &library)]).executor(), "native");
    let without_ending = files.put("pyfile", b"\x7fELF");
    assert_eq!(alone(&[("USER_MODULE_PATH", &without_ending)]).executor(), "native", "the content decides");
    let zipped = files.zip_of("native.zip", &["libvm.so"]);
    assert_eq!(alone(&[("ZIP_TARGET_PATH", &zipped)]).executor(), "native");
}

#[test]
fn pyfile_is_a_path_or_the_source_itself() {
    let files = Files::new();
    let path = files.put("vm.py", b"handler = print");
    for value in [path.clone(), format!("{path}\n"), format!("  {path}")] {
        let named = alone(&[("PYFILE", &value)]);
        assert_eq!(named.of_default("loader.path"), pair(&path, "PYFILE"), "{value:?}");
        assert_eq!(named.text("loader.source"), None);
    }
    let missing = alone(&[("PYFILE", "/no/such/vm.py")]);
    assert_eq!(missing.of_default("loader.path"), pair("/no/such/vm.py", "PYFILE"), "no source looks like that");
    for text in [
        "def handler(a, b):\n    return a\n",
        "handler = lambda a, b: a",
        "\u{feff}def handler(a, b):\r\n    return a\r\n",
        "# /opt/x.py",
        &"x = 1\n".repeat(10_000),
        &"x".repeat(10_000),
    ] {
        let source = alone(&[("PYFILE", text)]);
        assert_eq!(source.of_default("loader.source"), pair(text, "PYFILE"));
        assert_eq!(source.text("loader.path"), None);
    }
    assert_eq!(alone(&[("PYFILE", "")]).text("loader.path").unwrap(), "/opt/usermodule.py");
    for name in SINGLE {
        let both = alone(&[("PYFILE", "handler = print"), (name, "/srv/vm.py")]);
        assert_eq!(both.of_default("loader.path"), pair("/srv/vm.py", name));
        assert_eq!(both.text("loader.source"), None);
        assert_eq!(both.other_warnings(), [format!("PYFILE is ignored: {name} is set as well and means the same")]);
    }
}

#[test]
fn which_of_the_two() {
    let files = Files::new();
    let (zip, single) = (files.zip("f.zip"), files.put("vm.py", b""));
    let both = [("ZIP_TARGET_PATH", zip.as_str()), ("USER_MODULE_PATH", single.as_str())];
    assert_eq!(alone(&both).text("loader.path").unwrap(), zip, "unset: the zip where one is configured");
    for name in WHICH {
        for (value, path) in [
            ("pyfile", &single),
            ("PYFILE", &single),
            ("script", &single),
            (" Script ", &single),
            ("zip", &zip),
            ("ZIP", &zip),
            ("", &zip),
        ] {
            let chosen = alone(&[&both[..], &[(name, value)]].concat());
            assert_eq!(&chosen.text("loader.path").unwrap(), path, "{name}={value}");
            assert_eq!((chosen.problems.len(), chosen.other_warnings().len()), (0, 0), "{name}={value}");
        }
        assert_eq!(
            alone(&[(name, "folder")]).problems,
            [format!(
                "functions.default.loader: 'folder' is neither 'pyfile' nor 'zip'; write one of them, or unset it \
                 (from {name})"
            )]
        );
        assert_eq!(
            alone(&[(name, "zip")]).problems,
            [format!(
                "functions.default.loader: a zip is asked for, but none is named; set ZIP_TARGET_PATH (from {name})"
            )]
        );
        let text = alone(&[(name, "zip"), ("ZIP_BASE64", ZIP_TEXT)]);
        assert_eq!((text.problems.len(), text.text("loader.use").unwrap()), (0, "zip".to_owned()));
    }
    let two = alone(&[&both[..], &[("PYFILE_OR_ZIP", "pyfile"), ("RUNTIME_SOURCE_TYPE", "zip")]].concat());
    assert_eq!(two.text("loader.path").unwrap(), single);
    assert_eq!(
        two.other_warnings(),
        ["RUNTIME_SOURCE_TYPE is ignored: PYFILE_OR_ZIP is set as well and means the same"]
    );
}

#[test]
fn what_is_no_zip_gives_way_to_the_single_file() {
    let files = Files::new();
    let single = files.put("vm.py", b"");
    let cases = [
        (files.path("none.zip"), "does not exist: mount it there or correct the path"),
        (files.folder("mount"), "is an empty folder, as an absent optional ConfigMap or an unfilled volume leaves one"),
        (files.put("text.zip", b"def handler(a, b): pass"), "is not a zip: it starts with"),
        (files.put("empty.zip", b""), "empty"),
        ("/dev/null".to_owned(), "is a device, no regular file"),
    ];
    let singles = [("USER_MODULE_PATH", single.as_str()), ("PYFILE", "handler = print"), ("PYFILE", &single)];
    for (zip, reason) in &cases {
        for name in ZIP.iter().chain(URL) {
            for single in singles {
                let fallen = alone(&[(name, zip), single]);
                assert_eq!(fallen.text("loader.use").unwrap(), "file", "{name}={zip}");
                assert!(fallen.text("loader.path").is_none_or(|path| path == singles[0].1), "{name}={zip}");
                let [warning] = fallen.other_warnings()[..] else { panic!("one warning for {name}={zip}") };
                let start = format!("{name} is ignored, the single file is used: zip");
                assert!(warning.starts_with(&start), "{warning}");
                assert!(warning.contains(reason), "{warning}");
            }
            let alone_there = alone(&[(name, zip), ("USER_MODULE_PATH", &files.path("none.py"))]);
            assert_eq!(alone_there.text("loader.path").as_ref(), Some(zip), "nothing to fall back to");
            let missing = [("PYFILE", "/no/such.py"), ("USER_MODULE_PATH", "/no/such.py")];
            for set in [&missing[..1], &[missing[1], ("PYFILE", "handler = print")]] {
                let named_is_missing = alone(&[&[(*name, zip.as_str())], set].concat());
                assert_eq!(named_is_missing.text("loader.path").as_ref(), Some(zip), "{set:?}");
            }
            let asked = alone(&[(name, zip), singles[0], ("PYFILE_OR_ZIP", "zip")]);
            assert_eq!(asked.text("loader.path").as_ref(), Some(zip), "a zip is asked for");
        }
    }
}

#[test]
fn a_broken_zip_never_gives_way() {
    let files = Files::new();
    let single = files.put("vm.py", b"");
    files.broken_zip("folder/only.zip");
    for zip in [files.broken_zip("f.zip"), files.folder("folder"), files.put("f.b64", b"UEsDBBQAAAAIAA!!")] {
        for name in ZIP.iter().chain(URL) {
            let result = alone(&[(name, &zip), ("USER_MODULE_PATH", &single)]);
            assert_eq!(result.of_default("loader.path"), pair(&zip, name));
            assert_eq!(result.text("loader.use").unwrap(), "zip");
            assert_eq!(result.other_warnings(), [""; 0]);
        }
    }
    let text = alone(&[("ZIP_BASE64", "no zip at all"), ("USER_MODULE_PATH", &single)]);
    assert_eq!(text.text("loader.base64").unwrap(), "no zip at all");
}
