//! A stream deployment for a user with exactly the rules of docs/operating.md.

use crate::support::bed::{Bed, PATIENCE};
use crate::support::gaugefn::Gaugefn;
use crate::support::project;
use crate::support::redis::RedisServer;
use crate::support::wait::eventually;
use redis::{Commands, Value};
use rustix::process::Signal;
use std::fs::{read_to_string, write};

/// Cannot stand what is bad, as long as the file is there.
const CODE: &str = "\
import os


def handler(event, context):
    if event.get('bad') and os.path.exists('strict'):
        raise ValueError('cannot stand it')
    context.env['n'] = context.env.get('n', 0) + 1
    return {'n': context.env['n']}
";

/// What the documentation has the administrator type, without the program's name.
fn documented() -> Vec<String> {
    let text = read_to_string(project("docs/operating.md")).unwrap();
    let start = text.find("$ redis-cli acl setuser").expect("the rules");
    let block = &text[start..start + text[start..].find("```").unwrap()];
    let words = block.split_whitespace().filter(|word| *word != "\\").skip(2);
    words.map(|word| word.trim_matches('\'').to_owned()).collect()
}

fn add(redis: &mut redis::Connection, field: &str, data: &str) {
    let _: String = redis.xadd("metrics", "*", &[(field, data)]).unwrap();
}

#[test]
fn a_user_with_the_documented_rules_can_run_a_stream() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let words = documented();
    let mut rules = redis::cmd(&words[0]);
    rules.arg(&words[1..]);
    let () = rules.query(&mut redis).unwrap();
    let config = format!(
        "[redis]\nurl = \"redis://gaugefn:PASSWORD@127.0.0.1:{}/0\"\n\
         [functions.vm.source]\nuse = \"redis_stream\"\nstream = \"metrics\"\nfield = \"data\"\nclaim_idle = \"100ms\"\n\
         [functions.vm.errors]\nretries = 1\nbackoff = \"10ms\"\n\
         [functions.vm.state]\nuse = \"redis\"\nttl = \"1h\"\n\
         [functions.vm.loader]\nuse = \"file\"\npath = \"usermodule.py\"\n\
         [functions.vm.sinks.result]\nuse = \"redis_stream\"\nstream = \"results\"\n",
        server.port()
    );
    // one that was given to somebody who is gone
    let () = redis.xgroup_create_mkstream("metrics", "vm", "0").unwrap();
    let () = redis.xgroup_create("metrics", "other", "0").unwrap();
    add(&mut redis, "data", "{}");
    let read = ["GROUP", "vm", "gone", "STREAMS", "metrics", ">"];
    let _: Value = redis::cmd("XREADGROUP").arg(&read).query(&mut redis).unwrap();
    let bed = Bed::bare(CODE).more(&config);
    let folder = bed.folder.path().to_owned();
    write(folder.join("strict"), "").unwrap();
    let mut vm = bed.start();
    let command = |args: &[&str]| {
        let output =
            Gaugefn::command().args(args).args(["--config", "gaugefn.toml"]).current_dir(&folder).output(PATIENCE);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        output
    };
    command(&["check", "--connect"]);
    for (field, data) in [("data", "{}"), ("data", r#"{"bad": true}"#), ("none", "{}"), ("data", "{}")] {
        add(&mut redis, field, data);
    }
    let log = |redis: &mut redis::Connection| -> Vec<Value> { redis::cmd("ACL").arg("LOG").query(redis).unwrap() };
    let reaches = |redis: &mut redis::Connection, results: usize, letters: usize| {
        let arrived = eventually(PATIENCE, || {
            let now: (usize, usize) = (redis.xlen("results").unwrap(), redis.xlen("gaugefn:dead:{vm}").unwrap());
            (now == (results, letters)).then_some(())
        });
        let denied: Vec<Value> = redis::cmd("ACL").arg("LOG").query(redis).unwrap();
        assert!(arrived.is_some(), "{denied:?}\n{}", vm.running.written());
    };
    reaches(&mut redis, 3, 2);
    std::fs::remove_file(folder.join("strict")).unwrap();
    let back = command(&["dlq", "replay", "vm", "--all"]);
    assert!(back.stderr.contains("another group of stream 'metrics' (other)"), "{back:?}");
    reaches(&mut redis, 4, 1);
    let () = redis::cmd("XGROUP").arg(&["DESTROY", "metrics", "vm"]).query(&mut redis).unwrap();
    add(&mut redis, "data", "{}");
    reaches(&mut redis, 5, 1);
    command(&["dlq", "purge", "vm", "--all"]);
    // several sweeps
    vm.wait_ready(PATIENCE);
    vm.running.signal(Signal::TERM);
    assert_eq!(vm.running.wait_exit(PATIENCE).code(), Some(0), "{}", vm.running.written());

    // the time of the state is taken back, too
    let endless = Bed::bare(CODE).more(&config.replace("ttl = \"1h\"\n", "")).start();
    add(&mut redis, "data", "{}");
    let kept = eventually(PATIENCE, || (redis.pttl::<_, i64>("gaugefn:state:{vm}").ok()? == -1).then_some(()));
    assert!(kept.is_some(), "{}", endless.running.written());
    drop(endless);
    assert_eq!(log(&mut redis), [], "{}", vm.running.written());
    // and none is there for nothing
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut redis).unwrap();
    let commands = words.iter().filter_map(|word| word.strip_prefix('+'));
    let used = |name: &str| [":", "|"].iter().any(|end| stats.contains(&format!("cmdstat_{name}{end}")));
    let unused: Vec<_> = commands.filter(|name| !used(name)).collect();
    assert_eq!(unused, Vec::<&str>::new());
}
