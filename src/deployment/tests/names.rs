//! Each name of each row, alone and beside the others.

use super::{ENTRY, Files, HANDLER, INPUT, OUTPUT, PERIOD, REQUIREMENTS, SINGLE, ZIP, alone, pair, row};

#[test]
fn nothing_set_is_the_replaced_images_default() {
    let nothing = alone(&[]);
    let default = |path: &str| nothing.text(path).unwrap();
    assert_eq!(default("source.use"), "redis_key");
    assert_eq!(default("source.key"), "metrics");
    assert_eq!(default("source.watch"), "poll");
    assert_eq!(default("loader.use"), "file");
    assert_eq!(default("loader.path"), "/opt/usermodule.py");
    assert_eq!(nothing.of_default("executor"), None, "the file decides");
    assert_eq!(nothing.executor(), "python");
    assert_eq!(nothing.of_default("source.period"), None, "five seconds, as the source has it");
    assert_eq!(nothing.of_default("handler"), None, "'handler', as functions have it");
    assert_eq!(nothing.of_default("sinks"), None);
    assert_eq!(nothing.at("redis"), None);
    assert_eq!(nothing.warnings, ["REDIS_OUTPUT_KEY is not set: results go to the log only"]);
    assert_eq!(nothing.problems, [""; 0]);
}

#[test]
fn keys() {
    row(INPUT, "functions.default.source.key", "vm:metrics", &[]);
    row(OUTPUT, "functions.default.sinks.result.key", "2021-result", &[]);
    let both = alone(&[("REDIS_INPUT_KEY", "in"), ("REDIS_OUTPUT_KEY", "out")]);
    assert_eq!(both.text("sinks.result.use").unwrap(), "redis_key");
    assert_eq!(both.warnings, [""; 0]);
}

#[test]
fn period() {
    row(PERIOD, "functions.default.source.period", "7", &[]);
    row(PERIOD, "functions.default.source.period", "0.25", &[]);
}

#[test]
fn seconds_may_have_a_fraction() {
    for name in PERIOD {
        for (text, millis) in [("5", 5000), ("0.5", 500), ("2.", 2000), (" 1.25 ", 1250), ("3.0", 3000)] {
            let layered = alone(&[(name, text), ("REDIS_OUTPUT_KEY", "r")]);
            let settings = runtime_core::config::Settings::read(&layered.layer, None).ok().unwrap();
            let section = &settings.functions[0].source.section;
            let text = section.get("period").unwrap().to_string();
            let period: runtime_core::options::Span = text.parse().unwrap();
            assert_eq!(period, runtime_core::options::Span::millis(millis), "{name}={text}");
        }
    }
}

#[test]
fn handler() {
    row(HANDLER, "functions.default.handler", "process", &[]);
    assert_eq!(alone(&[("USER_HANDLER_NAME", " process ")]).text("handler").unwrap(), "process");
}

#[test]
fn zip_path() {
    let files = Files::new();
    let zip = files.zip("f.zip");
    for name in ZIP {
        let one = alone(&[(name, &zip)]);
        assert_eq!(one.text("loader.use").unwrap(), "zip");
        assert_eq!(one.of_default("loader.path"), pair(&zip, name));
        assert_eq!((one.of_default("loader.entry"), one.other_warnings().len()), (None, 0));
        assert_eq!(alone(&[(name, "")]).text("loader.use").unwrap(), "file");
    }
    // the pair of ZIP_TARGET_PATH and ZIP_FILE_PATH has a rule of its own
    row(
        &["ZIP_TARGET_PATH", "FUNCTION_ZIP_PATH", "RUNTIME_ZIP_PATH", "CODE_ZIP_PATH", "ZIP_PATH", "ZIP_FILE"],
        "functions.default.loader.path",
        &zip,
        &[],
    );
    row(
        &["ZIP_FILE_PATH", "FUNCTION_ZIP_PATH", "RUNTIME_ZIP_PATH", "CODE_ZIP_PATH", "ZIP_PATH", "ZIP_FILE"],
        "functions.default.loader.path",
        &zip,
        &[],
    );
}

#[test]
fn entry() {
    let files = Files::new();
    let zip = files.zip("f.zip");
    for value in ["app/main.py", "app.main", "main"] {
        row(ENTRY, "functions.default.loader.entry", value, &[("ZIP_TARGET_PATH", &zip)]);
    }
    assert_eq!(alone(&[("ZIP_ENTRY_FILE", "main.py")]).text("loader.entry"), None, "a single file has no entry");
}

#[test]
fn single_file() {
    row(SINGLE, "functions.default.loader.path", "/srv/vm.py", &[]);
    for name in SINGLE {
        let one = alone(&[(name, "/srv/pyfile")]);
        assert_eq!(one.text("loader.use").unwrap(), "file");
        assert_eq!(one.of_default("loader.path"), pair("/srv/pyfile", name));
        assert_eq!(one.executor(), "python");
    }
}

#[test]
fn requirements() {
    let files = Files::new();
    let file = files.put("requirements.txt", b"psutil\n");
    row(REQUIREMENTS, "functions.default.executor.requirements", &file, &[]);
    for name in REQUIREMENTS {
        let missing = files.path("none.txt");
        let ignored = alone(&[(name, &missing)]);
        assert_eq!(ignored.text("executor.requirements"), None);
        assert_eq!(ignored.other_warnings(), [format!("{name} is ignored: there is no file '{missing}'")]);
    }
}
