//! Config files that are small and stand for much: refused at once, within little memory, by every command that reads one.

use crate::support::gaugefn::{Gaugefn, Output};
use std::fmt::Write;
use std::fs::write;
use std::time::Duration;

/// Far above what a refusal takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// `command --config NAME` with no more than 64 MiB for everything that it writes to.
fn read(command: &str, name: &str, text: impl AsRef<[u8]>) -> Output {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join(name), text).unwrap();
    Gaugefn::command()
        .args([command, "--config", name])
        .current_dir(folder.path())
        .under(&["prlimit", "--data=67108864"])
        .output(PATIENCE)
}

/// Nine aliases of nine aliases, as deep as wanted.
fn bomb(levels: usize) -> String {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..levels {
        let below = vec![format!("*a{}", level - 1); 9].join(",");
        writeln!(text, "a{level}: &a{level} [{below}]").unwrap();
    }
    text
}

#[test]
fn what_explodes_is_refused_within_64_mib() {
    let mebibyte = 1 << 20;
    for (name, text) in [
        ("bomb.yaml", bomb(9)),
        ("more.yaml", bomb(50)),
        ("deep.yaml", format!("a: {}", "[".repeat(10_000))),
        ("block.yaml", format!("a:\n  {}x", "- ".repeat(10_000))),
        ("keys.yaml", "? ".repeat(10_000)),
        ("deep.json", format!("{{\"a\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000))),
        ("deep.toml", format!("a = {}{}", "[".repeat(10_000), "]".repeat(10_000))),
        ("tables.toml", format!("a = {}1{}", "{a = ".repeat(10_000), "}".repeat(10_000))),
        ("dotted.toml", format!("{}a = 1", "a.".repeat(10_000))),
        ("dots.toml", ".".repeat(mebibyte)),
        ("quotes.toml", "\"a\" ".repeat(mebibyte / 4)),
        ("many.toml", "[[t]]\n".repeat(mebibyte / 6)),
        ("many.json", format!("[{}0]", "0,".repeat(mebibyte / 2 - 2))),
        ("many.yaml", format!("[{}0]", "0,".repeat(mebibyte / 2 - 2))),
        ("marks.yaml", "!a ".repeat(mebibyte / 3)),
        ("marks-in-brackets.yaml", format!("[{}", "!a ".repeat(mebibyte / 3 - 1))),
        ("half.yaml", format!("[{}0]", "0,".repeat(49_000))),
        ("half.toml", format!("a = [{}0]", "0,".repeat(49_000))),
        ("half.json", format!("{{\"a\": [{}0]}}", "0,".repeat(49_000))),
        ("large.json", format!("{{\"a\": \"{}\"}}", "x".repeat(40 * mebibyte))),
        ("large.yaml", format!("a: {}", "x".repeat(40 * mebibyte))),
        ("index.json", "{\"a[4000000000]\": 1}".to_owned()),
        ("twice.json", "{\"log\": {\"level\": \"info\", \"level\": \"warn\"}}".to_owned()),
    ] {
        for command in ["check", "run", "config"] {
            let output = read(command, name, &text);
            assert_eq!(output.status.code(), Some(78), "{command} {name}: {}", &output.stderr);
            assert!(output.stderr.contains(name) && output.stderr.len() < 1000, "{command} {name}: {}", output.stderr);
        }
    }
}

#[test]
fn anchors_that_save_writing_are_taken() {
    let text = "\
functions:
  one: &one
    source: &source {use: host, period: 1s}
    executor: {use: passthrough}
    sinks: {stdout: {}}
  two:
    <<: *one
    source: {<<: *source, period: 2s}
";
    let output = read("config", "gaugefn.yaml", format!("\u{feff}{text}"));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for (function, period) in [("one", "1s"), ("two", "2s")] {
        let table = format!("[functions.{function}.source]\nuse = \"host\"\nperiod = \"{period}\"\n");
        assert!(output.stdout.contains(&table), "{}", output.stdout);
        assert!(output.stdout.contains(&format!("[functions.{function}.sinks.stdout]")), "{}", output.stdout);
    }
}
