//! From a Redis stream through Python to a Redis stream: processes that share a group, are killed, or lose their server.

use crate::support::bed::{Bed, PATIENCE, Vm};
use crate::support::redis::RedisServer;
use crate::support::tier::scale;
use crate::support::wait::eventually;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Returns which number it was given, and by whom it was called how often.
const ECHO: &str = "def handler(input, context):\n    return {'number': input['number'], 'attempt': context.attempt}\n";

/// Slow enough that whoever is killed has some in flight.
const SLOW: &str = "import time\n\n\ndef handler(input, context):\n    time.sleep(0.002)\n    return {'number': input['number'], 'attempt': context.attempt}\n";

fn bed(server: &RedisServer, source: &str, code: &str) -> Bed {
    let bed = Bed::bare(code);
    let module = bed.folder.path().join("usermodule.py");
    let config = format!(
        "[redis]\nurl = \"{}\"\n\
         [functions.vm.source]\nuse = \"redis_stream\"\nstream = \"in\"\nfield = \"data\"\n{source}\n\
         [functions.vm.loader]\nuse = \"file\"\npath = \"{}\"\n\
         [functions.vm.executor]\nuse = \"python\"\n\
         [functions.vm.sinks.result]\nuse = \"redis_stream\"\nstream = \"out\"\n",
        server.url(),
        module.display()
    );
    bed.more(&config)
}

fn add(redis: &mut redis::Connection, numbers: std::ops::Range<usize>) {
    let mut pipeline = redis::pipe();
    for number in numbers {
        let data = json!({ "number": number }).to_string();
        pipeline.cmd("XADD").arg(&["in", "*", "data", &data]).ignore();
    }
    let () = pipeline.query(redis).unwrap();
}

/// Every result with the id of its event, in order.
fn results(redis: &mut redis::Connection) -> Vec<(String, Value)> {
    let entries: Vec<(String, BTreeMap<String, String>)> =
        redis::cmd("XRANGE").arg(&["out", "-", "+"]).query(redis).unwrap();
    entries.into_iter().map(|(_, entry)| (entry["id"].clone(), serde_json::from_str(&entry["data"]).unwrap())).collect()
}

/// How often each number has come.
fn counts(redis: &mut redis::Connection) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for (_, result) in results(redis) {
        *counts.entry(result["number"].as_u64().unwrap()).or_default() += 1;
    }
    counts
}

/// How many entries are pending; 1 while there is no group, which is not done either.
fn pending(redis: &mut redis::Connection) -> usize {
    let summary: Vec<redis::Value> = match redis::cmd("XPENDING").arg(&["in", "vm"]).query(redis) {
        Err(error) if error.code() == Some("NOGROUP") => return 1,
        summary => summary.unwrap(),
    };
    redis::from_redis_value(summary[0].clone()).unwrap()
}

/// Waits until every number below `entries` has its result and nothing is pending.
fn wait_done(server: &RedisServer, entries: usize, processes: &[&Vm]) {
    let mut redis = server.connection();
    let mut last = (0, 0);
    let done = eventually(PATIENCE * 2, || {
        last = (counts(&mut redis).len(), pending(&mut redis));
        (last == (entries, 0)).then_some(())
    });
    let written: String = processes.iter().map(|vm| vm.running.written()).collect();
    assert!(done.is_some(), "{} of {entries} have results, {} are pending\n{written}", last.0, last.1);
}

#[test]
fn a_function_may_give_itself_the_next_page() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let pages = "def handler(input, context):\n    \
                 return {'number': input['number'] + 1} if input['number'] < 5 else None\n";
    add(&mut redis, 0..1);
    let vm = bed(&server, "", pages).env("GAUGEFN__FUNCTIONS__VM__SINKS__RESULT__STREAM", "in").start();
    let done = eventually(PATIENCE, || {
        let entries: usize = redis::cmd("XLEN").arg("in").query(&mut redis).unwrap();
        (entries == 6 && pending(&mut redis) == 0).then_some(())
    });
    assert!(done.is_some(), "{}", vm.running.written());
    vm.wait_lines(&["WARN", "until a result is empty"], 1);
}

#[test]
fn every_entry_gets_its_result_in_order() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    add(&mut redis, 0..300);
    let mut vm = bed(&server, "", ECHO).start();
    add(&mut redis, 300..500);
    wait_done(&server, 500, &[&vm]);
    let ids: Vec<(String, redis::Value)> = redis::cmd("XRANGE").arg(&["in", "-", "+"]).query(&mut redis).unwrap();
    let expected: Vec<_> = (0..500).map(|number| json!({ "number": number, "attempt": 1 })).collect();
    let (found, results): (Vec<_>, Vec<_>) = results(&mut redis).into_iter().unzip();
    assert_eq!(results, expected);
    assert_eq!(found, ids.into_iter().map(|(id, _)| id).collect::<Vec<_>>());

    let figure =
        |vm: &mut Vm, name| eventually(PATIENCE, || (vm.admin.metric(name, "vm").unwrap() == Some(0.0)).then_some(()));
    assert!(figure(&mut vm, "stream_lag").is_some() && figure(&mut vm, "stream_pending").is_some());

    vm.running.signal(Signal::TERM);
    assert_eq!(vm.running.wait_exit(PATIENCE).code(), Some(0), "{}", vm.running.written());
    let consumers: Vec<redis::Value> = redis::cmd("XINFO").arg(&["CONSUMERS", "in", "vm"]).query(&mut redis).unwrap();
    assert!(consumers.is_empty(), "who leaves with nothing pending is forgotten");
}

#[test]
fn two_share_a_group_and_one_is_killed() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let entries = scale(10_000, 500);
    add(&mut redis, 0..entries);
    let options = |name: &str| format!("consumer = \"{name}\"\nclaim_idle = \"1s\"\nbatch = 20");
    let mut survivor = bed(&server, &options("a"), SLOW).start();
    let mut victim = bed(&server, &options("b"), SLOW).start();
    // with entries of its own in flight
    let busy = eventually(PATIENCE, || {
        let rows: Vec<redis::Value> =
            redis::cmd("XPENDING").arg(&["in", "vm", "-", "+", "100", "b"]).query(&mut redis).unwrap();
        (rows.len() >= 20).then_some(())
    });
    assert!(busy.is_some(), "{}", victim.running.written());
    victim.running.signal(Signal::KILL);
    wait_done(&server, entries, &[&survivor, &victim]);
    // result and acknowledgement are one commit
    assert!(counts(&mut redis).values().all(|count| *count == 1), "{:?}", counts(&mut redis));
    let attempts: Vec<_> = results(&mut redis).into_iter().map(|(_, result)| result["attempt"].clone()).collect();
    assert!(attempts.iter().all(|attempt| *attempt == 1), "the end of its process is no failure of an event");
    let claimed = survivor.admin.metric("stream_claimed_total", "vm").unwrap().unwrap_or_default();
    assert!((1.0..=100.0).contains(&claimed), "{claimed} entries were claimed: a few batches of 20 were in flight");
}

#[test]
fn the_successor_of_one_that_was_killed_goes_on_at_once() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    add(&mut redis, 0..200);
    let mut vm = bed(&server, "batch = 20", SLOW).start();
    let busy = eventually(PATIENCE, || (pending(&mut redis) >= 20).then_some(()));
    assert!(busy.is_some(), "{}", vm.running.written());
    vm.running.signal(Signal::KILL);
    vm.running.wait_exit(PATIENCE);
    assert!(pending(&mut redis) > 0);
    // claiming would take half a minute
    let vm = bed(&server, "batch = 20", SLOW).start();
    let before = std::time::Instant::now();
    wait_done(&server, 200, &[&vm]);
    assert!(before.elapsed() < Duration::from_secs(20), "{:?}", before.elapsed());
}

#[test]
fn connections_and_server_that_break_lose_nothing() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let entries = scale(10_000, 500);
    add(&mut server.connection(), 0..entries);
    let vm = bed(&server, "batch = 10", SLOW).start();
    for _ in 0..scale(5, 1) {
        let mut redis = server.connection();
        for _ in 0..scale(100, 20) {
            let () = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query(&mut redis).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(redis);
        server.restart();
    }
    wait_done(&server, entries, &[&vm]);
    assert_eq!(vm.lines(&["ERROR"]), 0, "{}", vm.running.written());
}

#[test]
fn an_empty_server_is_filled_again() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let vm = bed(&server, "", ECHO).start();
    for round in 0..3 {
        add(&mut redis, round * 50..(round + 1) * 50);
        wait_done(&server, 50, &[&vm]);
        let () = redis::cmd("FLUSHALL").query(&mut redis).unwrap();
    }
    assert_eq!(vm.lines(&["ERROR"]), 0, "{}", vm.running.written());
    vm.wait_lines(
        &["WARN", "group 'vm' of stream 'in' was gone; the stream is another one, and is read from its first entry"],
        3,
    );
}

/// Deletes the group over and over, while these are at work.
fn delete_groups(redis: &mut redis::Connection, entries: usize) {
    for _ in 0..scale(100, 10) {
        let before = counts(redis).len();
        let () = redis::cmd("XGROUP").arg(&["DESTROY", "in", "vm"]).query(redis).unwrap();
        let goes_on = eventually(PATIENCE, || {
            let now = counts(redis).len();
            (now > before || now == entries).then_some(())
        });
        assert!(goes_on.is_some(), "no more than {before} results");
    }
}

#[test]
fn a_group_that_is_deleted_while_entries_are_in_flight_loses_and_repeats_none() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let entries = scale(10_000, 1000);
    add(&mut redis, 0..entries);
    let mut vm = bed(&server, "batch = 20", SLOW).start();
    delete_groups(&mut redis, entries);
    wait_done(&server, entries, &[&vm]);
    assert!(counts(&mut redis).values().all(|count| *count == 1), "{:?}", counts(&mut redis));
    assert_eq!(vm.lines(&["others have claimed"]) + vm.lines(&["ERROR"]), 0, "{}", vm.running.written());
    assert_eq!(vm.admin.metric("fenced_total", "vm").unwrap(), Some(0.0));
}

/// What the others have done since it last looked, the one that makes the group anew does not know.
#[test]
fn a_group_of_several_that_is_deleted_loses_none() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let entries = scale(10_000, 1000);
    add(&mut redis, 0..entries);
    let options = |name: &str| format!("consumer = \"{name}\"\nclaim_idle = \"1s\"\nbatch = 20");
    let both = [bed(&server, &options("a"), SLOW).start(), bed(&server, &options("b"), SLOW).start()];
    delete_groups(&mut redis, entries);
    wait_done(&server, entries, &[&both[0], &both[1]]);
}

#[test]
fn what_is_malformed_holds_nothing_up() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    add(&mut redis, 0..2);
    for (field, value) in [("data", "{"), ("other", "{}"), ("data", "\"caf\u{0}\"")] {
        let () = redis::cmd("XADD").arg(&["in", "*", field, value]).query(&mut redis).unwrap();
    }
    add(&mut redis, 2..4);
    let mut vm = bed(&server, "", ECHO).start();
    wait_done(&server, 4, &[&vm]);
    assert_eq!(vm.calls(), 7);
    vm.wait_lines(&["WARN", "fails: the entry has no field 'data'; it has 'other'; check the option 'field'"], 1);
}

/// As two on one host have it, without the option.
#[test]
fn the_older_of_two_with_one_name_goes_on_under_another() {
    let server = RedisServer::start();
    let options = "claim_idle = \"300ms\"";
    let older = bed(&server, options, ECHO).start();
    let newer = bed(&server, options, ECHO).start();
    let mut redis = server.connection();
    add(&mut redis, 0..100);
    let renamed = || older.lines(&["WARN", "was taken over by another process", "this one goes on as '"]) == 1;
    let said = eventually(PATIENCE, || renamed().then_some(()));
    assert!(said.is_some(), "{}", older.running.written());
    wait_done(&server, 100, &[&older, &newer]);
    drop(newer);
    add(&mut redis, 100..110);
    wait_done(&server, 110, &[&older]);
}

/// For a user whose rights a test takes away and gives back.
fn as_user(redis: &mut redis::Connection, bed: Bed) -> Bed {
    let rules = ["SETUSER", "vm", "on", ">s3cret", "~*", "&*", "+@all"];
    let () = redis::cmd("ACL").arg(&rules).query(redis).unwrap();
    bed.env("GAUGEFN__REDIS__USERNAME", "vm").env("GAUGEFN__REDIS__PASSWORD", "s3cret")
}

/// Of what is tried several times a second nothing is said but that it began and that it is over.
#[test]
fn a_right_that_is_missing_is_one_line_and_one_more_when_it_is_back() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let bed = bed(&server, "claim_idle = \"200ms\"", ECHO).more("[functions.vm.state]\nuse = \"redis\"");
    let mut vm = as_user(&mut redis, bed).start();
    let mut entries = 0;
    for right in ["xreadgroup", "xautoclaim", "xpending", "xadd", "xack", "hset"] {
        let set = |redis: &mut redis::Connection, sign: &str| {
            let () = redis::cmd("ACL").arg(&["SETUSER", "vm", &format!("{sign}{right}")]).query(redis).unwrap();
        };
        let (warnings, ends) = (vm.lines(&["WARN"]), vm.lines(&["works again"]));
        set(&mut redis, "-");
        add(&mut redis, entries..entries + 1);
        vm.wait_unready("(NOPERM)", PATIENCE);
        std::thread::sleep(Duration::from_millis(1200));
        let said = vm.lines(&["WARN"]) - warnings;
        // one for each part that it holds up
        assert!((1..=3).contains(&said), "{said} lines without +{right}\n{}", vm.running.written());
        set(&mut redis, "+");
        entries += 1;
        wait_done(&server, entries, &[&vm]);
        vm.wait_ready(PATIENCE);
        let over = vm.lines(&["works again"]) - ends;
        assert!(over <= said, "{over} ends of {said} troubles\n{}", vm.running.written());
        // what has hardly ended is the same trouble still
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(counts(&mut redis).into_values().collect::<Vec<_>>(), vec![1; entries]);
    // what nothing but the heartbeat needs while there is nothing to do
    let () = redis::cmd("ACL").arg(&["SETUSER", "vm", "-hget"]).query(&mut redis).unwrap();
    vm.wait_lines(&["WARN", "part=heartbeat", "(NOPERM)"], 1);
    let () = redis::cmd("ACL").arg(&["SETUSER", "vm", "+hget"]).query(&mut redis).unwrap();
    vm.wait_lines(&["INFO", "part=heartbeat", "works again after"], 1);
}

/// The server's own `timeout`, as many have it.
#[test]
fn connections_that_are_closed_in_a_pause_are_not_spoken_of() {
    let server = RedisServer::start_with(&["--timeout", "1"]);
    let code = "def handler(input, context):\n    context.env['n'] = context.env.get('n', 0) + 1\n    \
                return {'number': input['number'], 'n': context.env['n']}\n";
    let vm = bed(&server, "", code).more("[functions.vm.state]\nuse = \"redis\"").start();
    for number in 0..3 {
        std::thread::sleep(Duration::from_millis(2300));
        let mut redis = server.connection();
        add(&mut redis, number..number + 1);
        wait_done(&server, number + 1, &[&vm]);
    }
    let found: Vec<_> = results(&mut server.connection()).into_iter().map(|(_, result)| result["n"].clone()).collect();
    assert_eq!(found, [1, 2, 3]);
    assert_eq!(vm.lines(&["WARN"]), 0, "{}", vm.running.written());
}

#[test]
fn a_server_that_limits_its_answers_is_read_in_smaller_portions() {
    let server = RedisServer::start_with(&["--client-output-buffer-limit", "normal 1mb 1mb 1"]);
    let mut redis = server.connection();
    let large = "x".repeat(100_000);
    let mut vm = bed(&server, "", ECHO).start();
    let mut together = redis::pipe();
    together.atomic();
    for number in 0..60 {
        let data = json!({ "number": number, "large": large }).to_string();
        together.cmd("XADD").arg(&["in", "*", "data", &data]).ignore();
    }
    let () = together.query(&mut redis).unwrap();
    wait_done(&server, 60, &[&vm]);
    assert_eq!(counts(&mut redis).into_values().collect::<Vec<_>>(), vec![1; 60]);
    vm.wait_ready(PATIENCE);
    vm.wait_lines(&["WARN", "fewer are read at once from now on"], 1);
    vm.wait_lines(&["WARN"], 1);

    // one that never comes is named, with what helps, and the others wait
    let () = redis::cmd("XADD")
        .arg(&["in", "9999999999999-0", "data"])
        .arg("x".repeat(1_200_000))
        .query(&mut redis)
        .unwrap();
    vm.wait_unready("at each XCLAIM of entry 9999999999999-0 of stream 'in'", PATIENCE);
    std::thread::sleep(Duration::from_secs(2));
    assert!(vm.lines(&["WARN"]) <= 4, "{}", vm.running.written());
    let () = redis::cmd("XDEL").arg(&["in", "9999999999999-0"]).query(&mut redis).unwrap();
    vm.wait_ready(PATIENCE);
}

/// Whoever fills it is back before anybody has looked, and gives ids that were there before.
#[test]
fn a_server_that_comes_back_empty_and_is_filled_first_is_read_from_its_first_entry() {
    let mut server = RedisServer::start();
    let vm = bed(&server, "", ECHO).start();
    let fill = |numbers: std::ops::Range<usize>, redis: &mut redis::Connection| {
        let mut together = redis::pipe();
        for number in numbers {
            let (id, data) = (format!("{}-0", number + 1), json!({ "number": number }).to_string());
            together.cmd("XADD").arg(&["in", &id, "data", &data]).ignore();
        }
        let () = together.query(redis).unwrap();
    };
    fill(0..20, &mut server.connection());
    wait_done(&server, 20, &[&vm]);
    server.kill9();
    server.restart();
    let mut redis = server.connection();
    fill(0..40, &mut redis);
    wait_done(&server, 40, &[&vm]);
    assert_eq!(counts(&mut redis).into_values().collect::<Vec<_>>(), vec![1; 40]);
    vm.wait_lines(&["WARN", "the stream is another one, and is read from its first entry"], 1);
}
