//! The other names of the variables, in real runs; `src/deployment/tests.rs` has every pair of them.

use super::{Bed, FUNCTION, PATIENCE, base64_of, zip};
use crate::support::gaugefn::Gaugefn;
use crate::support::wait::eventually;
use redis::Commands;
use std::time::{Duration, Instant};

const EXPECTED: &str = r#"{"n": 21}"#;

#[test]
fn entry_functions() {
    let bed = Bed::new();
    let text = "def process(input, context):\n    return {'n': input['n'] + 1}\n";
    for name in [
        "USER_HANDLER_NAME",
        "HANDLER_FUNCTION_NAME",
        "HANDLER_FUNCTION",
        "FUNCTION_HANDLER",
        "ENTRY_FUNCTION",
        "ENTRYPOINT",
        "FUNCTION_ENTRY_POINT",
        "USER_ENTRYPOINT_FUNCTION",
        "RUNTIME_FUNCTION_NAME",
        "HANDLER_ENTRYPOINT",
        "ZIP_ENTRY_FUNCTION",
    ] {
        assert_eq!(bed.result(bed.gaugefn().env("PYFILE", text).env(name, "process")), EXPECTED, "{name}");
    }
    for function in ["usermodule.process", " process "] {
        let gaugefn = bed.gaugefn().env("PYFILE", text).env("FUNCTION_HANDLER", function);
        assert_eq!(bed.result(gaugefn), EXPECTED, "{function}");
    }
}

#[test]
fn zips_entries_and_both_servers_names() {
    let bed = Bed::new();
    let archive = bed.path("function.zip");
    zip(&archive, &[("app/vm.py", FUNCTION.as_bytes()), ("app/other.py", FUNCTION.as_bytes()), ("x/y.txt", b"")]);
    let text = base64_of(&archive);
    let zips = [
        ("ZIP_FILE_PATH", archive.display().to_string()),
        ("FUNCTION_ZIP_PATH", archive.display().to_string()),
        ("CODE_ZIP_PATH", archive.display().to_string()),
        ("ZIP_PATH", archive.display().to_string()),
        ("ZIP_URL", archive.display().to_string()),
        ("FUNCTION_ZIP_URL", format!("file://{}", archive.display())),
        ("USER_CODE_BASE64", text),
    ];
    let entries = [
        ("ZIP_ENTRY_FILE", "app/vm.py"),
        ("RUNTIME_ZIP_ENTRY", "app.vm"),
        ("ZIPPED_MODULE_NAME", "app/vm"),
        ("ROOT_FUNCTION_MODULE", "app.vm"),
        ("HANDLER_FUNCTION", "app.vm.handler"),
        ("HANDLER_ENTRYPOINT", "app.vm.handler"),
        ("ZIP_ENTRY_FUNCTION", "app.vm.handler"),
    ];
    for ((zip, value), (entry, inside)) in zips.iter().zip(entries) {
        assert_eq!(bed.result(bed.gaugefn().env(zip, value).env(entry, inside)), EXPECTED, "{zip} {entry}");
    }
}

#[test]
fn keys() {
    let bed = Bed::new();
    let () = bed.redis().set("channel", super::EVENT).unwrap();
    let mut running = Gaugefn::command()
        .args(["run"])
        .env("REDIS_URL", bed.server.url())
        .env("PYFILE", FUNCTION)
        .env("RUNTIME_INPUT_CHANNEL", "channel")
        .env("RUNTIME_OUTPUT_CHANNEL", "answers")
        .spawn();
    assert_eq!(bed.stored_in("answers", &mut running), EXPECTED);
}

#[test]
fn a_module_beside_the_single_file_and_in_a_package() {
    let bed = Bed::new();
    bed.put("code/usermodule.py", "def process(input, context):\n    return 'the default'\n");
    bed.put("code/vm.py", "def process(input, context):\n    return [__name__, 'vm']\n");
    bed.put("code/app/__init__.py", "");
    bed.put("code/app/more.py", "def more(n):\n    return n + 1\n");
    bed.put("code/app/vm.py", "from .more import more\n\ndef process(input, context):\n    return more(input['n'])\n");
    let with = |handler: &str| {
        bed.gaugefn().env("USER_MODULE_PATH", bed.path("code/usermodule.py")).env("ENTRY_FUNCTION", handler)
    };
    assert_eq!(bed.result(with("process")), r#""the default""#);
    assert_eq!(bed.result(with("vm.process")), r#"["vm", "vm"]"#);
    assert_eq!(bed.result(with("app.vm.process")), "21");
    assert_eq!(bed.result(with("other.process")), r#""the default""#);
}

#[test]
fn a_zip_elsewhere_beside_a_good_single_file() {
    let bed = Bed::new();
    let single = bed.put("vm.py", FUNCTION);
    let url = "https://example.invalid/f.zip?signature=s3cret";
    let mut running = bed.gaugefn().env("USER_MODULE_PATH", &single).env("ZIP_URL", url).spawn();
    assert_eq!(bed.stored(&mut running), EXPECTED);
    let said = running.written();
    assert!(said.contains("ZIP_URL is ignored: 'https://example.invalid/f.zip' is not downloaded"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    let none = bed.gaugefn().env("USER_MODULE_PATH", bed.path("none.py")).env("ZIP_URL", url).output(PATIENCE);
    assert_eq!(none.status.code(), Some(78), "{none:?}");
}

#[test]
fn single_files_and_which_of_the_two() {
    let bed = Bed::new();
    let path = bed.put("vm.py", FUNCTION);
    zip(&bed.path("function.zip"), &[("main.py", b"def handler(a, b): return 'zip'\n")]);
    for name in ["FUNCTION_PATH", "PYFILE_PATH", "RUNTIME_SCRIPT_PATH"] {
        let both = || bed.gaugefn().env(name, &path).env("RUNTIME_ZIP_PATH", bed.path("function.zip"));
        assert_eq!(bed.result(both().env("RUNTIME_SOURCE_TYPE", "script")), EXPECTED, "{name}");
        assert_eq!(bed.result(both()), r#""zip""#, "{name}");
    }
}

#[test]
fn servers() {
    let bed = Bed::new();
    let port = bed.server.port().to_string();
    let injected = format!("tcp://127.0.0.1:{port}");
    let elsewhere = "tcp://127.0.0.2:1".to_owned();
    let url = bed.server.url();
    let host = "127.0.0.1".to_owned();
    for set in [
        [("REDIS_IP", &host), ("RUNTIME_REDIS_PORT", &port)],
        [("RUNTIME_REDIS_HOST", &host), ("REDIS_PORT", &port)],
        // what Kubernetes injects: alone, with a host, and beside a url
        [("REDIS_PORT", &injected), ("REDIS_IP", &String::new())],
        [("REDIS_PORT", &injected), ("REDIS_HOST", &host)],
        [("REDIS_PORT", &elsewhere), ("REDIS_URL", &url)],
        [("REDIS_PORT", &elsewhere), ("GAUGEFN__REDIS__URL", &url)],
        // the higher layer has the last word
        [("REDIS_HOST", &"127.0.0.2".to_owned()), ("GAUGEFN__REDIS__URL", &url)],
        [("REDIS_URL", &"redis://127.0.0.2:1".to_owned()), ("GAUGEFN__REDIS__URL", &url)],
    ] {
        let gaugefn = crate::support::gaugefn::Gaugefn::command()
            .args(["run"])
            .env("REDIS_OUTPUT_KEY", "result")
            .env("REDIS_MONITOR_PERIOD", "0.02")
            .env("PYFILE", FUNCTION);
        let gaugefn = set.iter().fold(gaugefn, |gaugefn, (name, value)| gaugefn.env(name, value));
        assert_eq!(bed.result(gaugefn), EXPECTED, "{set:?}");
    }
}

/// With the default of five seconds, this many changes would take a minute and a half.
const CHANGES: u32 = 20;

#[test]
fn periods_with_a_fraction() {
    for name in ["REDIS_MONITORING_PERIOD_SECONDS", "INTERVAL_KEY", "SLEEP_TIME", "INTERVAL"] {
        let bed = Bed::new();
        let mut running = bed.elsewhere("127.0.0.1").env(name, "0.05").env("PYFILE", FUNCTION).spawn();
        let mut redis = bed.redis();
        let start = Instant::now();
        for n in 0..CHANGES {
            let () = redis.set("metrics", format!("{{\"n\": {n}}}")).unwrap();
            let expected = format!("{{\"n\": {}}}", n + 1);
            let arrived = eventually(PATIENCE, || {
                let found: Option<String> = redis.get("result").unwrap();
                (found.as_deref() == Some(&expected) || running.exited().is_some()).then_some(())
            });
            assert!(arrived.is_some() && running.exited().is_none(), "{name}\n{}", running.written());
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{name}: {:?}", start.elapsed());
        // a poll each 50 ms finds at most one of them
        assert!(start.elapsed() > Duration::from_millis(50) * (CHANGES / 2), "{name}: {:?}", start.elapsed());
    }
}

#[test]
fn what_is_set_twice_is_named_once() {
    let bed = Bed::new();
    let mut running = bed
        .gaugefn()
        .env("PYFILE", FUNCTION)
        .env("SLEEP_TIME", "9")
        .env("USER_HANDLER_NAME", "handler")
        .env("ENTRYPOINT", "other")
        .env("REDIS_IP", "127.0.0.9")
        .spawn();
    assert_eq!(bed.stored(&mut running), EXPECTED);
    for (ignored, used) in
        [("SLEEP_TIME", "REDIS_MONITOR_PERIOD"), ("ENTRYPOINT", "USER_HANDLER_NAME"), ("REDIS_IP", "REDIS_HOST")]
    {
        let warning = format!("{ignored} is ignored: {used} is set as well and means the same");
        assert_eq!(running.stderr().matches(&warning).count(), 1, "{}", running.written());
    }
}
