//! `gaugefn dlq`: events that failed for good are listed, shown, tried again and deleted.

use crate::support::bed::{Bed, PATIENCE, Vm};
use crate::support::gaugefn::{Gaugefn, Output};
use crate::support::redis::RedisServer;
use crate::support::wait::eventually;
use redis::Commands;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::{create_dir, read_to_string, remove_dir, write};
use std::path::Path;
use std::time::Instant;

/// Counts in its state, and cannot stand what is bad.
const PICKY: &str = "\
def handler(input, context):
    if input.get('bad'):
        raise ValueError('cannot stand it')
    context.env['n'] = context.env.get('n', 0) + 1
    return {'number': input['number'], 'count': context.env['n']}
";

const CALM: &str = "\
def handler(input, context):
    context.env['n'] = context.env.get('n', 0) + 1
    return {'number': input['number'], 'count': context.env['n']}
";

/// In this folder, about the function `vm` of its config file.
fn dlq(folder: &Path, args: &[&str]) -> Output {
    let (action, rest) = args.split_first().unwrap();
    let command = Gaugefn::command().args(["dlq", action, "vm"]).args(rest).args(["--config", "gaugefn.toml"]);
    command.current_dir(folder).output(PATIENCE)
}

/// Every letter, as `ls --format json` tells them.
fn letters(folder: &Path) -> Vec<Value> {
    let output = dlq(folder, &["ls", "--format", "json"]);
    assert_eq!((output.status.code(), output.stderr.as_str()), (Some(0), ""), "{output:?}");
    output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(letters: &[Value]) -> Vec<&str> {
    letters.iter().map(|letter| letter["id"].as_str().unwrap()).collect()
}

fn streams(server: &RedisServer) -> Bed {
    let bed = Bed::bare(PICKY);
    let config = format!(
        "[redis]\nurl = \"{}\"\n\
         [functions.vm.source]\nuse = \"redis_stream\"\nstream = \"in\"\nfield = \"data\"\n\
         [functions.vm.errors]\nbackoff = \"20ms\"\n\
         [functions.vm.loader]\nuse = \"file\"\npath = \"usermodule.py\"\n\
         [functions.vm.sinks.result]\nuse = \"redis_stream\"\nstream = \"out\"\n",
        server.url()
    );
    bed.more(&config)
}

fn add(redis: &mut redis::Connection, data: &str) {
    let _: String = redis.xadd("in", "*", &[("data", data)]).unwrap();
}

/// Waits until so many results are there, and so many letters.
fn wait_for(redis: &mut redis::Connection, results: usize, letters: usize) {
    let mut last = (0, 0);
    let arrived = eventually(PATIENCE, || {
        last = (redis.xlen("out").unwrap(), redis.xlen("gaugefn:dead:{vm}").unwrap());
        (last == (results, letters)).then_some(())
    });
    assert!(arrived.is_some(), "{} results and {} letters, not {results} and {letters}", last.0, last.1);
}

#[test]
fn letters_of_a_stream_go_back_into_it() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    for data in [r#"{"number": 0}"#, r#"{"number": 1, "bad": true}"#, "{broken", r#"{"number": 3}"#] {
        add(&mut redis, data);
    }
    let mut vm = streams(&server).start();
    wait_for(&mut redis, 2, 2);
    let folder = vm.folder.path().to_owned();

    let found = letters(&folder);
    let bad = found.iter().find(|letter| letter["payload"] == r#"{"number": 1, "bad": true}"#).unwrap();
    let broken = found.iter().find(|letter| letter["payload"] == "{broken").unwrap();
    // one call and three further ones; what is no JSON would fail in the same way each time
    assert_eq!((&bad["attempts"], &broken["attempts"]), (&json!(4), &json!(1)), "{found:?}");
    assert_eq!(bad["origin"], "redis_stream in");
    assert!(bad["error"].as_str().unwrap().starts_with("ValueError: cannot stand it"), "{bad}");
    assert!(bad["traceback"].as_str().unwrap().contains("in handler"), "{bad}");
    let pending: Vec<redis::Value> = redis::cmd("XPENDING").arg(&["in", "vm"]).query(&mut redis).unwrap();
    assert_eq!(pending[0], redis::Value::Int(0), "a letter is acknowledged");

    let table = dlq(&folder, &["ls"]).stdout;
    let lines: Vec<_> = table.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("ID ") && lines[0].contains("ATTEMPTS"), "{table}");
    assert!(lines.iter().any(|line| line.contains("redis_stream in") && line.contains("cannot stand it")), "{table}");
    let shown = dlq(&folder, &["show", bad["id"].as_str().unwrap()]).stdout;
    assert!(shown.contains("payload\n    {\"number\": 1, \"bad\": true}\ntraceback\n    Traceback"), "{shown}");

    write(folder.join("usermodule.py"), CALM).unwrap();
    vm.running.wait_for_log("new code of usermodule.py runs", PATIENCE);
    let back = dlq(&folder, &["replay", bad["id"].as_str().unwrap()]);
    assert_eq!(
        (back.status.code(), back.stdout.as_str()),
        (Some(0), "fed back 1 letter to redis_stream in\n"),
        "{back:?}"
    );
    wait_for(&mut redis, 3, 1);
    // it is gone, and must not come a second time
    let again = dlq(&folder, &["replay", bad["id"].as_str().unwrap()]);
    assert_eq!((again.status.code(), again.stdout.as_str()), (Some(1), "fed back 0 letters to redis_stream in\n"));
    assert!(again.stderr.starts_with("no letter '"), "{again:?}");
    // what is broken comes back as a letter of its own
    let back = dlq(&folder, &["replay", "--all"]);
    assert_eq!(back.status.code(), Some(0), "{back:?}");
    let entries: usize = redis.xlen("in").unwrap();
    assert_eq!(entries, 6);
    let new = eventually(PATIENCE, || letters(&folder).into_iter().find(|letter| letter["id"] != broken["id"]));
    assert_eq!(new.unwrap()["payload"], "{broken");

    let purged = dlq(&folder, &["purge", "--all"]);
    assert_eq!(purged.status.code(), Some(0), "{purged:?}");
    assert!(
        purged.stderr.starts_with("removed 1 letter from the stream 'gaugefn:dead:{vm}' of redis at "),
        "{purged:?}"
    );
    assert_eq!(letters(&folder), [Value::Null; 0]);
    wait_for(&mut redis, 3, 0);
    vm.running.signal(Signal::TERM);
    assert_eq!(vm.running.wait_exit(PATIENCE).code(), Some(0), "{}", vm.running.written());
}

#[test]
fn other_groups_of_the_stream_are_said_and_here_spares_them() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    for group in ["audit", "copy"] {
        let () = redis.xgroup_create_mkstream("in", group, "0").unwrap();
    }
    for number in 0..2 {
        add(&mut redis, &format!("{{\"number\": {number}, \"bad\": true}}"));
    }
    let mut vm = streams(&server).start();
    wait_for(&mut redis, 0, 2);
    let folder = vm.folder.path().to_owned();
    let found = letters(&folder);
    write(folder.join("usermodule.py"), CALM).unwrap();
    vm.running.wait_for_log("new code of usermodule.py runs", PATIENCE);
    let here = dlq(&folder, &["replay", "--here", ids(&found)[0]]);
    let said = format!("{}  done\n1 letter done, 0 failed\n", ids(&found)[0]);
    assert_eq!((here.status.code(), here.stdout), (Some(0), said), "{}", here.stderr);
    assert!(!here.stderr.contains("group"), "{}", here.stderr);
    wait_for(&mut redis, 1, 1);
    assert_eq!(raw(&mut redis).len(), 2, "nothing new in the stream");
    let back = dlq(&folder, &["replay", "--all"]);
    assert_eq!((back.status.code(), &*back.stdout), (Some(0), "fed back 1 letter to redis_stream in\n"));
    assert_eq!(
        back.stderr,
        "warning: each becomes a new entry, which goes to 2 other groups of stream 'in' (audit, copy) as well; with \
         --here this process runs them itself\n"
    );
    wait_for(&mut redis, 2, 0);
    let none = dlq(&folder, &["replay", "--all"]);
    assert_eq!((&*none.stdout, &*none.stderr), ("fed back 0 letters to redis_stream in\n", ""));
}

/// The run of the letters would stand by for as long as the other one runs.
#[test]
fn a_lease_that_a_running_process_has_is_said() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let config = format!(
        "[redis]\nurl = \"{}\"\n[functions.vm.source]\nuse = \"redis_key\"\nkey = \"metrics\"\nperiod = \"10ms\"\n\
         [functions.vm.errors]\nthen = \"dead_letter\"\n[functions.vm.state]\nuse = \"redis\"\n\
         [functions.vm.loader]\nuse = \"file\"\npath = \"usermodule.py\"\n\
         [functions.vm.sinks.result]\nuse = \"redis_stream\"\nstream = \"out\"\n",
        server.url()
    );
    let () = redis.set("metrics", r#"{"number": 1}"#).unwrap();
    let _: String = redis.xadd("gaugefn:dead:{vm}", "5-0", &[("payload", r#"{"number": 7}"#)]).unwrap();
    let mut vm = Bed::bare(CALM).more(&config).start();
    wait_for(&mut redis, 1, 1);
    let folder = vm.folder.path().to_owned();
    let start = Instant::now();
    let refused = dlq(&folder, &["replay", "--all"]);
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    assert_eq!((refused.status.code(), &*refused.stdout), (Some(69), ""), "{refused:?}");
    let holder: String = redis.hget("gaugefn:state:{vm}:lease", "name").unwrap();
    let said = format!("gaugefn: the state of function 'vm' is in use by process {holder}: stop that one first; one");
    assert!(refused.stderr.contains(&said), "{refused:?}");
    vm.running.signal(Signal::TERM);
    assert_eq!(vm.running.wait_exit(PATIENCE).code(), Some(0), "{}", vm.running.written());
    let done = dlq(&folder, &["replay", "5-0"]);
    assert_eq!((done.status.code(), &*done.stdout), (Some(0), "5-0  done\n1 letter done, 0 failed\n"), "{done:?}");
    wait_for(&mut redis, 2, 0);
}

/// The entries of the stream, each with its fields as they are.
fn raw(redis: &mut redis::Connection) -> Vec<Vec<Vec<u8>>> {
    let entries: Vec<(String, Vec<Vec<u8>>)> = redis::cmd("XRANGE").arg(&["in", "-", "+"]).query(redis).unwrap();
    entries.into_iter().map(|(_, words)| words).collect()
}

#[test]
fn an_entry_without_the_field_or_with_bytes_that_are_no_text_goes_back_as_it_was() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let entry: [(&str, &[u8]); 3] = [("b", b"1"), ("a", b"{\"number\": 7}"), ("raw", b"\xff\x00")];
    let _: String = redis.xadd("in", "*", &entry).unwrap();
    let vm = streams(&server).start();
    wait_for(&mut redis, 0, 1);
    let folder = vm.folder.path().to_owned();
    let found = letters(&folder).remove(0);
    assert_eq!(found["error"], "the entry has no field 'data'; it has 'b', 'a', 'raw'");
    assert_eq!((&found["attempts"], &found["traceback"]), (&json!(1), &Value::Null));
    let original = r#"[["b","1"],["a","{\"number\": 7}"],["raw",{"base64":"/wA="}]]"#;
    assert_eq!(found["original"], original);
    let shown = dlq(&folder, &["show", found["id"].as_str().unwrap()]).stdout;
    assert!(shown.contains(&format!("as the source had it\n    {original}\n")), "{shown}");
    let back = dlq(&folder, &["replay", "--all"]);
    assert_eq!(back.status.code(), Some(0), "{back:?}");
    let twice = eventually(PATIENCE, || Some(raw(&mut redis)).filter(|entries| entries.len() == 2)).unwrap();
    assert_eq!(twice[0], twice[1]);
    wait_for(&mut redis, 0, 1);
}

/// From a file of events to standard output, with these further lines.
fn files(code: &str, events: &str, more: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("usermodule.py"), code).unwrap();
    write(folder.path().join("in.jsonl"), events).unwrap();
    let config = format!(
        "[functions.vm.source]\nuse = \"file\"\npath = \"in.jsonl\"\n\
         [functions.vm.loader]\nuse = \"file\"\npath = \"usermodule.py\"\n\
         [functions.vm.errors]\nretries = 1\nbackoff = \"10ms\"\nthen = \"dead_letter\"\n\
         [functions.vm.sinks.stdout]\n{more}"
    );
    write(folder.path().join("gaugefn.toml"), config).unwrap();
    folder
}

const EVENTS: &str =
    "{\"number\": 0}\n{\"number\": 1, \"bad\": true}\n{\"number\": 2, \"bad\": true}\n{\"number\": 3}\n";

#[test]
fn letters_of_a_file_are_run_here_and_now() {
    let folder = files(PICKY, EVENTS, "[functions.vm.state]\nuse = \"file\"\npath = \"state.json\"\n");
    let folder = folder.path();
    let run = Gaugefn::command().args(["run", "--config", "gaugefn.toml"]).current_dir(folder).output(PATIENCE);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    // beside the state, as the letters outlive the process where it does
    let found = letters(folder);
    assert_eq!(read_to_string(folder.join("state.json.dead")).unwrap().lines().count(), 2);
    assert!(found.iter().all(|letter| letter["attempts"] == 2), "{found:?}");
    let ids = ids(&found);

    // what fails again stays, once
    let failed = dlq(folder, &["replay", "--all"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let lines: Vec<_> = failed.stdout.lines().collect();
    assert!(lines[0].starts_with(&format!("{}  failed: ValueError: cannot stand it", ids[0])), "{failed:?}");
    assert_eq!((lines.len(), lines[2]), (3, "0 letters done, 2 failed"));
    assert_eq!(letters(folder), found);

    write(folder.join("usermodule.py"), CALM).unwrap();
    // which of the two was given up first is left to chance
    let of = |number: u64| {
        let payload = json!(format!("{{\"number\": {number}, \"bad\": true}}"));
        found.iter().find(|letter| letter["payload"] == payload).unwrap()["id"].as_str().unwrap()
    };
    let done = dlq(folder, &["replay", of(2), "17-0", of(1)]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    // on the state that the run has left, and to the same sinks
    let wanted = format!(
        "{{\"number\": 2, \"count\": 3}}\n{}  done\n{{\"number\": 1, \"count\": 4}}\n{}  done\n2 letters done, 0 failed\n",
        of(2),
        of(1)
    );
    assert_eq!(done.stdout, wanted, "{done:?}");
    assert!(done.stderr.contains("no letter '17-0' in the file 'state.json.dead'"), "{done:?}");
    assert_eq!(letters(folder), [Value::Null; 0]);
    assert!(read_to_string(folder.join("state.json")).unwrap().contains("[\"n\",4]"));
    let none = dlq(folder, &["replay", "--all"]);
    assert_eq!(
        (none.status.code(), none.stdout.as_str()),
        (Some(0), "nothing to try again in the file 'state.json.dead'\n")
    );
}

/// A letter that somebody wrote by hand.
const LETTER: &str = "{\"id\":\"5-0\",\"payload\":\"{\\\"number\\\": 7}\"}\n";

const HOST: &str = "\
def handler(input, context):
    context.env['n'] = context.env.get('n', 0) + 1
    return {'fields': len(input)}
";

#[test]
fn a_state_that_a_running_process_has_is_said() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("usermodule.py"), HOST).unwrap();
    let config = "[functions.vm.source]\nuse = \"host\"\n[functions.vm.loader]\nuse = \"file\"\npath = \"usermodule.py\"\n\
                  [functions.vm.errors]\nthen = \"dead_letter\"\n[functions.vm.state]\nuse = \"file\"\npath = \"state.json\"\n\
                  [functions.vm.sinks.file]\npath = \"out.jsonl\"\n";
    write(folder.path().join("gaugefn.toml"), config).unwrap();
    write(folder.path().join("state.json.dead"), LETTER).unwrap();
    let mut running = Gaugefn::command().args(["run", "--config", "gaugefn.toml"]).current_dir(folder.path()).spawn();
    let saved = eventually(PATIENCE, || folder.path().join("state.json").exists().then_some(()));
    assert!(saved.is_some(), "{}", running.written());
    assert_eq!(letters(folder.path()).len(), 1, "looking needs no state");
    let start = Instant::now();
    let refused = dlq(folder.path(), &["replay", "--all"]);
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    assert!(refused.stderr.contains("state file 'state.json' is in use by process "), "{refused:?}");
    assert_eq!(letters(folder.path()).len(), 1);
    running.signal(Signal::TERM);
    assert_eq!(running.wait_exit(PATIENCE).code(), Some(0), "{}", running.written());
    let done = dlq(folder.path(), &["replay", "5-0"]);
    assert_eq!(
        (done.status.code(), done.stdout.as_str()),
        (Some(0), "5-0  done\n1 letter done, 0 failed\n"),
        "{done:?}"
    );
    assert!(read_to_string(folder.path().join("out.jsonl")).unwrap().ends_with("{\"fields\": 1}\n"));
}

#[test]
fn what_is_not_there_is_said() {
    let folder = files(PICKY, EVENTS, "");
    let folder = folder.path();
    write(folder.join("in.jsonl.dead"), LETTER.repeat(2).replacen("5-0", "4-0", 1)).unwrap();
    let said = |args: &[&str], exit: i32, text: &str| {
        let output = Gaugefn::command().args(["dlq"]).args(args).current_dir(folder).output(PATIENCE);
        assert_eq!((output.status.code(), output.stderr.as_str()), (Some(exit), text), "{args:?}: {output:?}");
        output.stdout
    };
    let file = ["--config", "gaugefn.toml"];
    let with = |args: &[&'static str]| [args, &file].concat();
    let unknown = "gaugefn: unknown function 'wm', did you mean 'vm'?\n";
    for action in ["ls", "purge"] {
        let rest: &[&str] = if action == "purge" { &["--all"] } else { &[] };
        said(&[&with(&[action, "wm"])[..], rest].concat(), 78, unknown);
    }
    said(&with(&["ls", "metrics"]), 78, "gaugefn: unknown function 'metrics', there is vm\n");
    let shown = said(&with(&["show", "vm", "no", "4-0"]), 1, "no letter 'no' in the file 'in.jsonl.dead'\n");
    assert!(shown.starts_with("id         4-0\n"), "{shown}");
    let removed = "no letter 'no' in the file 'in.jsonl.dead'\nremoved 1 letter from the file 'in.jsonl.dead'\n";
    said(&with(&["purge", "vm", "no", "4-0"]), 1, removed);
    assert_eq!(ids(&letters(folder)), ["5-0"]);
    assert_eq!(dlq(folder, &["purge", "5-0"]).status.code(), Some(0));
    assert_eq!(said(&with(&["ls", "vm"]), 0, "no dead letters in the file 'in.jsonl.dead'\n"), "");

    let config = read_to_string(folder.join("gaugefn.toml")).unwrap();
    write(folder.join("gaugefn.toml"), config.replace("dead_letter", "stop")).unwrap();
    let keeps_none = "gaugefn: function 'vm' keeps no failed events, as its errors.then is 'stop'; set \
                      functions.vm.errors.then to 'dead_letter'\n";
    said(&with(&["ls", "vm"]), 78, keeps_none);
}

#[test]
fn ids_are_optional_everywhere() {
    let folder = files(CALM, "", "");
    let folder = folder.path();
    let some = ["4-0", "5-0", "6-0"].map(|id| LETTER.replace("5-0", id)).concat();
    let keep = || write(folder.join("in.jsonl.dead"), &some).unwrap();
    keep();
    let listed = |args: &[&str]| {
        let output = dlq(folder, args);
        let ids: Vec<_> = output.stdout.lines().skip(1).map(|line| line[..3].to_owned()).collect();
        (output.status.code().unwrap(), ids, output.stderr)
    };
    let done = String::new;
    assert_eq!(listed(&["ls"]), (0, ["4-0", "5-0", "6-0"].map(str::to_owned).into(), done()));
    assert_eq!(listed(&["ls", "--all"]), listed(&["ls"]));
    assert_eq!(listed(&["ls", "6-0", "4-0"]), (0, ["6-0", "4-0"].map(str::to_owned).into(), done()));
    let absent = "no letter '7-0' in the file 'in.jsonl.dead'\n".to_owned();
    assert_eq!(listed(&["ls", "7-0", "4-0"]), (1, vec!["4-0".to_owned()], absent.clone()));
    assert_eq!(listed(&["ls", "7-0"]), (1, vec![], absent));

    let shown = dlq(folder, &["show"]);
    assert_eq!((shown.status.code(), shown.stdout.matches("id         ").count()), (Some(0), 3), "{shown:?}");
    assert_eq!(shown.stdout, dlq(folder, &["show", "4-0", "5-0", "6-0"]).stdout);

    let done = dlq(folder, &["replay"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(done.stdout.ends_with("3 letters done, 0 failed\n"), "{done:?}");
    let none = dlq(folder, &["show"]);
    assert_eq!(
        (none.status.code(), &*none.stdout, &*none.stderr),
        (Some(0), "", "no dead letters in the file 'in.jsonl.dead'\n")
    );

    keep();
    let purged = dlq(folder, &["purge"]);
    assert_eq!(
        (purged.status.code(), &*purged.stdout, &*purged.stderr),
        (Some(0), "", "removed 3 letters from the file 'in.jsonl.dead'\n")
    );
    assert_eq!(letters(folder), [Value::Null; 0]);
}

#[test]
fn the_function_of_the_environment_has_them_too() {
    let mut server = RedisServer::start();
    let of_environment = |args: &[&str], server: &RedisServer| {
        Gaugefn::command()
            .args(["dlq"])
            .args(args)
            .env("REDIS_HOST", "127.0.0.1")
            .env("REDIS_PORT", server.port().to_string())
            .env("REDIS_OUTPUT_KEY", "result")
            .env("GAUGEFN__FUNCTIONS__DEFAULT__ERRORS__THEN", "dead_letter")
            .output(PATIENCE)
    };
    let fields = [("payload", "{}"), ("error", "ValueError: no"), ("attempts", "1")];
    let _: String = server.connection().xadd("gaugefn:dead:{default}", "5-0", &fields).unwrap();
    let shown = of_environment(&["ls", "default"], &server);
    assert_eq!((shown.status.code(), shown.stderr.as_str()), (Some(0), ""), "{shown:?}");
    assert!(shown.stdout.contains("5-0  1970-01-01T00:00:00.005Z  1                 ValueError: no\n"), "{shown:?}");
    server.kill9();
    let away = of_environment(&["ls", "default"], &server);
    assert_eq!((away.status.code(), away.stdout.as_str()), (Some(69), ""), "{away:?}");
    assert!(away.stderr.starts_with("gaugefn: redis at 127.0.0.1:"), "{away:?}");
}

#[test]
fn letters_that_could_not_be_kept_show_at_the_start() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let check = |vm: &Vm| {
        let command = Gaugefn::command().args(["check", "--connect", "--config", "gaugefn.toml"]);
        command.current_dir(vm.folder.path()).output(PATIENCE)
    };

    let mut vm = streams(&server).more("[functions.vm.dead_letters]\nuse = \"file\"\npath = \"none/dead\"").spawn();
    assert_eq!(vm.running.wait_exit(PATIENCE).code(), Some(66), "{}", vm.running.written());
    let missing = "dead letters' file 'none/dead': its folder does not exist; make it, or name another path";
    vm.wait_lines(&["ERROR", "function=vm", missing], 1);
    let checked = check(&vm);
    assert_eq!((checked.status.code(), checked.stdout.as_str()), (Some(66), ""), "{checked:?}");
    assert_eq!(checked.stderr, format!("functions.vm.dead_letters: {missing}\n"));

    let bed = streams(&server).more("[functions.vm.dead_letters]\nuse = \"file\"\npath = \"dead\"");
    create_dir(bed.folder.path().join("dead")).unwrap();
    let mut vm = bed.spawn();
    let folder = "cannot write dead letters' file 'dead': it is a folder; name a file in it, or another path";
    vm.wait_unready(&format!("function 'vm', dead letters: {folder}"), PATIENCE);
    let checked = check(&vm);
    assert_eq!((checked.status.code(), checked.stderr), (Some(69), format!("functions.vm.dead_letters: {folder}\n")));
    // mended
    remove_dir(vm.folder.path().join("dead")).unwrap();
    vm.wait_ready(PATIENCE);
    vm.running.signal(Signal::TERM);
    vm.running.wait_exit(PATIENCE);

    let () = redis.set("gaugefn:dead:{vm}", "no stream").unwrap();
    let mut vm = streams(&server).spawn();
    vm.wait_unready("holds no stream under 'gaugefn:dead:{vm}'", PATIENCE);
    assert_eq!(check(&vm).status.code(), Some(69));
    let () = redis.del("gaugefn:dead:{vm}").unwrap();
    vm.wait_ready(PATIENCE);
    assert_eq!(check(&vm).status.code(), Some(0));
}

/// What the stream could hold, it gets back: entries of any width, and whatever bytes are in them.
#[test]
fn wide_entries_go_back_as_they_were() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let widths = [1, 999, 1500, 9000];
    let mut wanted: Vec<Vec<Vec<u8>>> = Vec::new();
    for width in widths {
        let mut fields =
            vec![b"x".to_vec(), b"\xff\n\0".to_vec(), Vec::new(), Vec::new(), b"x".to_vec(), b"2".to_vec()];
        (0..width)
            .for_each(|number| fields.extend([format!("f{number}").into_bytes(), number.to_string().into_bytes()]));
        let _: String = redis::cmd("XADD").arg("in").arg("*").arg(&fields).query(&mut redis).unwrap();
        wanted.push(fields);
    }
    let vm = streams(&server).start();
    // none of them has the field
    wait_for(&mut redis, 0, 4);
    let folder = vm.folder.path().to_owned();
    assert_eq!(letters(&folder).len(), 4);
    let shown = dlq(&folder, &["show"]);
    assert!(shown.status.success() && shown.stdout.contains("\"f8999\""), "all of it is shown");
    let back = dlq(&folder, &["replay"]);
    assert_eq!(
        (back.status.code(), back.stdout.as_str()),
        (Some(0), "fed back 4 letters to redis_stream in\n"),
        "{back:?}"
    );
    let entries: Vec<(String, Vec<Vec<u8>>)> = redis::cmd("XRANGE").arg(&["in", "-", "+"]).query(&mut redis).unwrap();
    assert_eq!(entries.len(), 8);
    for (place, (_, fields)) in entries[4..].iter().enumerate() {
        assert!(*fields == wanted[place], "entry {place}");
    }
    // they fail again, and are not lost
    wait_for(&mut redis, 0, 4);
    let here = dlq(&folder, &["replay", "--here"]);
    assert_eq!(here.status.code(), Some(1), "{here:?}");
    assert!(here.stdout.ends_with("0 letters done, 4 failed\n"), "{here:?}");
    wait_for(&mut redis, 0, 4);
}
