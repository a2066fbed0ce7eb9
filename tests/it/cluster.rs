//! One transaction cannot span the servers of a Redis Cluster: keys in several slots are committed in order.

use crate::support::bed::{Bed, PATIENCE};
use crate::support::gaugefn::Gaugefn;
use crate::support::port::Port;
use crate::support::redis::RedisServer;
use crate::support::wait::eventually;
use std::fs;

const CODE: &str = "def handler(event, context):\n    context.env['n'] = context.env.get('n', 0) + 1\n    return {'n': context.env['n']}\n";

/// A server that is a whole cluster, with every slot.
fn cluster() -> RedisServer {
    // by default the servers of a cluster talk on a port 10,000 above, which may be none
    let bus = Port::reserve();
    let server = RedisServer::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus.number().to_string()]);
    let () = redis::cmd("CLUSTER").arg(&["ADDSLOTSRANGE", "0", "16383"]).query(&mut server.connection()).unwrap();
    let settled = eventually(PATIENCE, || {
        let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut server.connection()).unwrap();
        info.contains("cluster_state:ok").then_some(())
    });
    assert!(settled.is_some(), "the cluster never came up");
    server
}

fn config(server: &RedisServer, bed: &Bed, tag: &str) -> String {
    format!(
        "[redis]\nurl = \"{}\"\n\
         [functions.vm.source]\nuse = \"redis_stream\"\nstream = \"{tag}in\"\n\
         [functions.vm.loader]\nuse = \"file\"\npath = \"{}\"\n\
         [functions.vm.state]\nuse = \"redis\"\n\
         [functions.vm.sinks.result]\nuse = \"redis_stream\"\nstream = \"{tag}out\"\n",
        server.url(),
        bed.folder.path().join("usermodule.py").display()
    )
}

/// What `check --connect` says, and what comes of ten entries; the log of the run.
fn ten(tag: &str) -> (String, String) {
    let server = cluster();
    let bed = Bed::bare(CODE);
    let text = config(&server, &bed, tag);
    let file = bed.folder.path().join("checked.toml");
    fs::write(&file, &text).unwrap();
    let checked = Gaugefn::command().args(["check", "--connect", "--config", file.to_str().unwrap()]).output(PATIENCE);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let mut redis = server.connection();
    for number in 0..10 {
        let () =
            redis::cmd("XADD").arg(format!("{tag}in")).arg(&["*", "number"]).arg(number).query(&mut redis).unwrap();
    }
    let vm = bed.more(&text).start();
    let done = eventually(PATIENCE, || {
        let length: usize = redis::cmd("XLEN").arg(format!("{tag}out")).query(&mut redis).unwrap();
        (length == 10).then_some(())
    });
    assert!(done.is_some(), "{}", vm.running.written());
    // it may be read a little later than it was written
    vm.wait_lines(&["INFO", "commit: atomic (redis)"], 1);
    (checked.stderr, vm.running.written())
}

#[test]
fn keys_of_several_slots_are_explained_and_committed_in_order() {
    let (checked, log) = ten("");
    let said = "functions.vm: commits are made in order (at least once): ";
    assert!(checked.contains(said) && checked.contains("slot") && checked.contains("{vm}"), "{checked}");
    let line = log.lines().find(|line| line.contains("WARN") && line.contains("commit: in order (at least once)"));
    assert!(line.is_some_and(|line| line.contains("slot")), "{log}");
}

#[test]
fn keys_of_one_hash_tag_are_committed_at_once() {
    let (checked, log) = ten("{vm}:");
    assert!(!checked.contains("in order"), "{checked}");
    assert!(!log.contains("commit: in order"), "{log}");
}
