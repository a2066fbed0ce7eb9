//! Names that are no UTF-8: they work wherever a path is given, and name no other file.

use std::ffi::{OsStr, OsString};
use std::fs::{create_dir_all, read_to_string, write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use crate::support::gaugefn::{Gaugefn, Output};

const PATIENCE: Duration = Duration::from_secs(30);

/// A name with bytes that are no text.
fn odd(name: &str) -> OsString {
    let mut bytes = name.as_bytes().to_vec();
    bytes.splice(1..1, *b"\xff\xc3");
    OsString::from_vec(bytes)
}

/// Says where it is, byte by byte.
const FUNCTION: &str = "import os\n\ndef handler(input, context):\n    context.env['n'] = 1\n    return [os.fsencode(__file__).hex(), input]\n";

/// A folder of such a name.
struct Yard {
    _top: tempfile::TempDir,
    folder: PathBuf,
}

impl Yard {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join(odd("yard"));
        let yard = Self { _top: top, folder };
        yard.put("events.jsonl", "1\n");
        yard
    }

    fn path(&self, name: &str) -> PathBuf {
        name.split('/').fold(self.folder.clone(), |path, name| path.join(odd(name)))
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        create_dir_all(path.parent().unwrap()).unwrap();
        write(&path, text).unwrap();
        path
    }

    fn gaugefn(&self, command: &str) -> Gaugefn {
        // nobody's, so they disturb nobody
        Gaugefn::command().args([command]).env("ODD", OsStr::from_bytes(b"\xff"))
    }

    /// `invoke` with these arguments gives the event and the function's file.
    #[track_caller]
    fn assert_invoked(&self, args: &[&OsStr], file: &OsStr) {
        let events = self.path("events.jsonl");
        let output =
            self.gaugefn("invoke").args(args).args([OsStr::new("--event"), events.as_os_str()]).output(PATIENCE);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let hex: String = file.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(output.stdout, format!("[\"{hex}\", 1]\n"));
    }
}

#[track_caller]
fn assert_said(output: &Output, code: i32, said: &str) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stderr.contains(said), "no '{said}' in {output:?}");
}

#[test]
fn on_the_command_line() {
    let yard = Yard::new();
    let file = yard.put("f.py", FUNCTION);
    yard.assert_invoked(&[file.as_os_str()], file.as_os_str());
    let state = yard.path("state.json");
    yard.assert_invoked(&[file.as_os_str(), OsStr::new("--state"), state.as_os_str()], file.as_os_str());
    assert!(state.is_file());

    let main = yard.folder.join("folder/main.py");
    create_dir_all(main.parent().unwrap()).unwrap();
    write(&main, FUNCTION).unwrap();
    let other = main.with_file_name(odd("other.py"));
    write(&other, FUNCTION).unwrap();
    let folder = main.parent().unwrap().as_os_str();
    yard.assert_invoked(&[folder], main.as_os_str());
    for entry in ["other.py", "other"] {
        yard.assert_invoked(&[folder, OsStr::new("--entry"), &odd(entry)], other.as_os_str());
    }

    let replay = yard.gaugefn("replay").args([file.as_os_str(), OsStr::new("--against"), file.as_os_str()]);
    let events = yard.path("events.jsonl");
    let output = replay.args([OsStr::new("--event"), events.as_os_str()]).output(PATIENCE);
    assert_said(&output, 0, "1 event, 0 differ");
    let output = yard.gaugefn("dev").args([file.as_os_str()]).args(["--count", "1"]).output(PATIENCE);
    assert_said(&output, 0, "");
    assert_eq!(output.stdout.lines().count(), 1, "{output:?}");
    assert_said(&yard.gaugefn("invoke").args([yard.path("none.py")]).output(PATIENCE), 66, "does not exist");
}

#[test]
fn in_variables_of_a_configuration() {
    let yard = Yard::new();
    let file = yard.put("f.py", "import helper\n".to_owned() + FUNCTION);
    yard.put("lib/x", "");
    write(yard.path("lib").join("helper.py"), "").unwrap();
    let config = yard.put(
        "c.toml",
        "[functions.vm]\nsource = { use = \"file\" }\nloader = { use = \"file\" }\nexecutor = { use = \"python\" }\n\
         state = { use = \"file\" }\nsinks.file = {}\n",
    );
    let run = |command: &str| {
        let option = |name: &str| format!("GAUGEFN__FUNCTIONS__VM__{name}__PATH");
        yard.gaugefn(command)
            .env("GAUGEFN_CONFIG", &config)
            .env(&option("SOURCE"), yard.path("events.jsonl"))
            .env(&option("LOADER"), &file)
            .env(&option("EXECUTOR"), yard.path("lib"))
            .env(&option("STATE"), yard.path("kept.json"))
            .env(&option("SINKS__FILE"), yard.path("results.jsonl"))
    };
    let output = run("run").output(PATIENCE);
    assert_said(&output, 0, "the source is exhausted");
    let hex: String = file.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(read_to_string(yard.path("results.jsonl")).unwrap(), format!("[\"{hex}\", 1]\n"));
    assert!(yard.path("kept.json").is_file());
    let shown = run("config").output(PATIENCE);
    assert_said(&shown, 0, "");
    assert!(shown.stdout.contains("/y\u{fffd}\u{fffd}ard/f\u{fffd}\u{fffd}.py\""), "{shown:?}");
    assert!(!shown.stdout.chars().any(|letter| letter > '\u{fffff}'), "{shown:?}");
}

#[test]
fn in_variables_of_the_default_deployment() {
    let yard = Yard::new();
    let module = yard.put("f.py", FUNCTION);
    let base = || yard.gaugefn("check").args(["--connect"]).env("REDIS_PORT", "1");
    // loaded, and only then the server is missing
    assert_said(&base().env("USER_MODULE_PATH", &module).output(PATIENCE), 69, "refuses the connection");
    assert_said(&base().env("PYFILE", &module).output(PATIENCE), 69, "refuses the connection");
    assert_said(&base().env("USER_MODULE_PATH", yard.path("none.py")).output(PATIENCE), 66, "does not exist");
    let zip = yard.path("f.zip");
    super::deployment::zip(&zip, &[("main.py", FUNCTION.as_bytes())]);
    assert_said(&base().env("ZIP_TARGET_PATH", &zip).output(PATIENCE), 69, "refuses the connection");
}

#[test]
fn what_must_be_text_is_named() {
    let yard = Yard::new();
    let module = yard.put("f.py", FUNCTION);
    let odd = OsStr::from_bytes(b"x\xff");
    let check = |name: &str| yard.gaugefn("check").env("USER_MODULE_PATH", &module).env(name, odd).output(PATIENCE);
    for (name, option) in [
        ("REDIS_HOST", "redis.host"),
        ("REDIS_PORT", "redis.port"),
        ("REDIS_INPUT_KEY", "functions.default.source.key"),
        ("INTERVAL", "functions.default.source.period"),
        ("USER_HANDLER_NAME", "functions.default.handler"),
        ("GAUGEFN__LOG__LEVEL", "log.level"),
        ("GAUGEFN__FUNCTIONS__DEFAULT__SOURCE__TRIGGER", "functions.default.source.trigger"),
    ] {
        let said = format!("{option}: has bytes that are no UTF-8 text; only a path may have such (from {name})");
        assert_said(&check(name), 78, &said);
    }
    assert_said(&check("PYFILE_OR_ZIP"), 78, "'x\u{fffd}' is neither 'pyfile' nor 'zip'");
}
