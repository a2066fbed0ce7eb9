//! Results that no sink can store: their events fail, and hold up no others. And results whose text would lead them to what
//! is gaugefn's own.

use redis::Commands;
use serde_json::json;

use crate::support::bed::{Bed, PATIENCE, Vm};
use crate::support::redis::RedisServer;
use crate::support::wait::eventually;

/// Gives back what it gets, and makes it as large as that asks for.
const GROWING: &str = "\
def handler(input, context):
    context.env['n'] = context.env.get('n', 0) + 1
    if 'grow' in input:
        input['p'] = 'x' * input['grow']
    return {**input, 'n': context.env['n']}
";

/// From the stream `in`; `parts` are lines of the function's table.
fn bed(server: &RedisServer, parts: &str) -> Bed {
    let config = format!(
        "[redis]\nurl = \"{}\"\n[functions.vm]\nerrors.backoff = \"10ms\"\n\
         source = {{ use = \"redis_stream\", stream = \"in\", field = \"data\" }}\n\
         loader = {{ use = \"file\", path = \"usermodule.py\" }}\n{parts}\n",
        server.url()
    );
    Bed::bare(GROWING).more(&config)
}

/// Adds events in one step, with ids that tell their numbers.
fn add(redis: &mut redis::Connection, events: &[&str]) {
    let mut together = redis::pipe();
    together.atomic();
    for (number, data) in events.iter().enumerate() {
        let id = format!("1-{}", number + 1);
        together.cmd("XADD").arg(&["in", id.as_str(), "data", *data]).ignore();
    }
    let () = together.query(redis).unwrap();
}

/// The ids of the events that are dead letters, with their attempts and errors.
fn dead(redis: &mut redis::Connection) -> Vec<(String, String, String)> {
    let entries: Vec<(String, std::collections::BTreeMap<String, String>)> =
        redis::cmd("XRANGE").arg(&["gaugefn:dead:{vm}", "-", "+"]).query(redis).unwrap();
    let letter = |(_, mut fields): (_, std::collections::BTreeMap<String, String>)| {
        let mut take = |name: &str| fields.remove(name).unwrap();
        (take("event"), take("attempts"), take("error"))
    };
    entries.into_iter().map(letter).collect()
}

/// Waits until every entry is acknowledged.
fn wait_done(redis: &mut redis::Connection, vm: &Vm) {
    let mut last = None;
    let done = eventually(PATIENCE, || {
        let groups: Vec<std::collections::BTreeMap<String, redis::Value>> =
            redis::cmd("XINFO").arg(&["GROUPS", "in"]).query(redis).ok()?;
        let number = |name: &str| redis::from_redis_value::<u64>(groups.first()?.get(name)?.clone()).ok();
        last = Some((number("lag"), number("pending")));
        (last == Some((Some(0), Some(0)))).then_some(())
    });
    assert!(done.is_some(), "{last:?}\n{}", vm.running.written());
}

fn keys(redis: &mut redis::Connection, pattern: &str) -> Vec<String> {
    let mut keys: Vec<String> = redis.keys(pattern).unwrap();
    keys.sort();
    keys
}

/// Ways to commit: in one step and in order, with the state in memory and in the server.
const WAYS: &[&str] = &[
    "state.use = \"memory\"",
    "state.use = \"redis\"",
    "state.use = \"memory\"\nsinks.copy = { use = \"file\", path = \"copy\" }",
    "state.use = \"redis\"\nsinks.copy = { use = \"file\", path = \"copy\" }",
];

#[test]
fn without_a_key_fail_with_their_events() {
    let events = [
        r#"{"h": "ok"}"#,
        r#"{"v": 1}"#,
        r#"{"h": null}"#,
        r#"{"h": [1]}"#,
        r#"{"h": 1e999}"#,
        r#"{"h": "\ud800"}"#,
        r#"{"h": 7}"#,
    ];
    for way in WAYS {
        let server = RedisServer::start();
        let mut redis = server.connection();
        add(&mut redis, &events);
        let mut vm = bed(
            &server,
            &format!("{way}\nerrors.retries = 1\nsinks.out = {{ use = \"redis_key\", key = \"r:{{/h}}\" }}"),
        )
        .start();
        wait_done(&mut redis, &vm);
        let mut letters = dead(&mut redis);
        letters.sort();
        let told: Vec<_> = letters.iter().map(|(event, attempts, _)| (event.as_str(), attempts.as_str())).collect();
        assert_eq!(told, ["1-2", "1-3", "1-4", "1-5", "1-6"].map(|event| (event, "2")), "{way}");
        let why = "the result cannot be stored by sink 'out': key 'r:{/h}': ";
        let ends = [
            "neither result nor event has a value at '/h'",
            "the value at '/h' is no text or number",
            "the value at '/h' is no text or number",
            "the value at '/h' is no text or number",
            "the value at '/h' is text with half of a surrogate pair, which has no UTF-8",
        ];
        for ((_, _, error), end) in letters.iter().zip(ends) {
            assert_eq!(error, &format!("{why}{end}"), "{way}");
        }
        assert_eq!(keys(&mut redis, "r:*"), ["r:7", "r:ok"], "{way}");
        // the calls that have failed have left no trace, where a store keeps the state
        let last: String = redis.get("r:7").unwrap();
        let count = if way.contains("redis") {
            2
        } else {
            serde_json::from_str::<serde_json::Value>(&last).unwrap()["n"].as_u64().unwrap()
        };
        assert!(last.contains(&format!("\"n\": {count}")), "{way}: {last}");
        assert_eq!(vm.admin.metric("write_failures_total", "vm").unwrap(), Some(10.0), "{way}");
        assert_eq!(vm.readiness().unwrap().0, 200, "{way}");
    }
}

/// The server closes the connection on it, each time.
#[test]
fn that_are_too_large_for_the_server_hold_up_no_others() {
    for way in WAYS {
        let server = RedisServer::start_with(&["--proto-max-bulk-len", "1048576"]);
        let mut redis = server.connection();
        add(&mut redis, &[r#"{"i": 1}"#, r#"{"i": 2, "grow": 3000000}"#, r#"{"i": 3}"#]);
        let mut vm = bed(
            &server,
            &format!("{way}\nerrors.retries = 1\nsinks.out = {{ use = \"redis_stream\", stream = \"out\" }}"),
        )
        .start();
        wait_done(&mut redis, &vm);
        let letters = dead(&mut redis);
        assert!(
            matches!(&letters[..], [(event, _, error)] if event == "1-2" && error.contains("takes no value of 30000")),
            "{way}: {letters:?}"
        );
        assert!(
            letters[0].2.contains("(proto-max-bulk-len 1048576): keep results smaller, or raise it"),
            "{letters:?}"
        );
        let entries: Vec<(String, std::collections::BTreeMap<String, String>)> =
            redis::cmd("XRANGE").arg(&["out", "-", "+"]).query(&mut redis).unwrap();
        let done: std::collections::BTreeSet<_> = entries.iter().map(|(_, fields)| fields["id"].as_str()).collect();
        assert_eq!(done, ["1-1", "1-3"].into(), "{way}");
        assert_eq!(vm.readiness().unwrap().0, 200, "{way}");
    }
}

#[test]
fn of_a_value_that_are_too_large_are_followed_by_those_of_the_next() {
    for state in ["memory", "redis"] {
        let server = RedisServer::start_with(&["--proto-max-bulk-len", "1048576"]);
        let mut redis = server.connection();
        let config = format!(
            "[redis]\nurl = \"{}\"\n[functions.vm]\nstate.use = \"{state}\"\n\
             source = {{ use = \"redis_key\", key = \"metrics\", period = \"20ms\" }}\n\
             loader = {{ use = \"file\", path = \"usermodule.py\" }}\nsinks.out = {{ use = \"redis_key\", key = \"result\" }}\n",
            server.url()
        );
        let mut vm = Bed::bare(GROWING).more(&config).start();
        let () = redis.set("metrics", r#"{"i": 1, "grow": 3000000}"#).unwrap();
        vm.wait_lines(&["takes no value of 30000"], 1);
        let () = redis.set("metrics", r#"{"i": 2}"#).unwrap();
        let count = if state == "redis" { 1 } else { 2 };
        vm.wait_result(&mut redis, &format!("{{\"i\": 2, \"n\": {count}}}"), PATIENCE);
    }
}

/// A letter that the server does not take as it is, is kept in parts, and goes back whole.
#[test]
fn of_large_entries_may_fail_as_well() {
    let server = RedisServer::start_with(&["--proto-max-bulk-len", "1048576"]);
    let mut redis = server.connection();
    let large = ["a", "b", "c"].map(|name| (name, "x".repeat(1_000_000)));
    let () = redis::cmd("XADD").arg(&["in", "1-1"]).arg(&large[..]).query(&mut redis).unwrap();
    let () = redis::cmd("XADD").arg(&["in", "1-2", "data", r#"{"i": 2}"#]).query(&mut redis).unwrap();
    for state in ["memory", "redis"] {
        let vm = bed(
            &server,
            &format!("state.use = \"{state}\"\nsinks.out = {{ use = \"redis_stream\", stream = \"out\" }}"),
        )
        .start();
        wait_done(&mut redis, &vm);
        let letters = dead(&mut redis);
        assert_eq!(letters.len(), 1, "{letters:?}");
        assert!(letters[0].2.starts_with("the entry has no field 'data'"), "{letters:?}");
        let command =
            crate::support::gaugefn::Gaugefn::command().args(["dlq", "replay", "vm", "--config", "gaugefn.toml"]);
        let back = command.current_dir(vm.folder.path()).output(PATIENCE);
        assert_eq!(back.status.code(), Some(0), "{back:?}");
        let again = eventually(PATIENCE, || (dead(&mut redis).len() == 1).then_some(()));
        assert!(again.is_some(), "{}", vm.running.written());
        let newest: Vec<(String, Vec<(String, String)>)> =
            redis::cmd("XREVRANGE").arg(&["in", "+", "-", "COUNT", "1"]).query(&mut redis).unwrap();
        wait_done(&mut redis, &vm);
        assert!(newest[0].1 == large.clone().map(|(name, value)| (name.to_owned(), value)), "{state}");
    }
}

/// Whoever writes events may name any key; what gaugefn and its functions live on is not among them.
#[test]
fn never_lead_to_what_is_gaugefns_own() {
    let other = "[functions.other]\nsource = { use = \"redis_stream\", stream = \"k:work\" }\n\
                 executor = { use = \"passthrough\" }\nstate.use = \"redis\"\nstate.prefix = \"k:states\"\n\
                 dead_letters = { use = \"redis\", stream = \"k:dead\" }\nsinks.out = { use = \"file\", path = \"other\" }\n";
    for way in ["state.use = \"redis\"", "state.use = \"memory\"\nsinks.copy = { use = \"file\", path = \"copy\" }"] {
        let server = RedisServer::start();
        let mut redis = server.connection();
        let refused = [
            ("in", "key 'in' is what functions.vm.source reads: it would come back as input"),
            ("k:work", "key 'k:work' is what functions.other.source reads: the result would take its place"),
            ("k:states", "key 'k:states' is functions.other.state's own"),
            ("k:states:lease", "key 'k:states:lease' is functions.other.state's own"),
            ("k:dead", "key 'k:dead' belongs to functions.other.dead_letters"),
            ("gaugefn:dead:{vm}", "key 'gaugefn:dead:{vm}' belongs to functions.vm.dead_letters"),
            (
                "gaugefn:consumers:{in}:vm",
                "key 'gaugefn:consumers:{in}:vm' begins with 'gaugefn:', as gaugefn's own keys do",
            ),
            ("gaugefn:lease:{x}:in", "key 'gaugefn:lease:{x}:in' begins with 'gaugefn:', as gaugefn's own keys do"),
        ];
        let fine = ["IN", "in ", "GAUGEFN:dead:{vm}", "%69n", "{in}", "k:states:x", "a/../in", "in\u{0}", "k:worker"];
        let events: Vec<String> =
            refused.iter().map(|(host, _)| *host).chain(fine).map(|host| json!({ "h": host }).to_string()).collect();
        add(&mut redis, &events.iter().map(String::as_str).collect::<Vec<_>>());
        let vm = bed(
            &server,
            &format!("{way}\nerrors.retries = 0\nsinks.out = {{ use = \"redis_key\", key = \"{{/h}}\" }}\n{other}"),
        )
        .start();
        wait_done(&mut redis, &vm);
        let mut letters: Vec<_> = dead(&mut redis).into_iter().map(|(_, _, error)| error).collect();
        letters.sort();
        let mut wanted: Vec<_> =
            refused.iter().map(|(_, why)| format!("the result cannot be stored by sink 'out': {why}")).collect();
        wanted.sort();
        assert_eq!(letters, wanted, "{way}");
        for key in fine {
            let there: Option<String> = redis.get(key).unwrap();
            assert!(there.is_some(), "{way}: {key:?}");
        }
        let kind: String = redis::cmd("TYPE").arg("in").query(&mut redis).unwrap();
        assert_eq!(kind, "stream", "{way}");
    }
}

/// Results may be shared out to the streams of other functions, but not to one's own.
#[test]
fn go_to_other_functions_by_their_text_and_never_to_their_own() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let other = "[functions.other]\nsource = { use = \"redis_stream\", stream = \"to:other\", field = \"data\" }\n\
                 executor = { use = \"passthrough\" }\nsinks.out = { use = \"redis_stream\", stream = \"done\" }\n";
    let sink = "sinks.out = { use = \"redis_stream\", stream = \"to:{/h}\", field = \"data\" }";
    let bed = bed(&server, &format!("errors.retries = 0\n{sink}\n{other}"));
    let vm = bed.env("GAUGEFN__FUNCTIONS__VM__SOURCE__STREAM", "to:vm").start();
    let () = redis::cmd("XADD").arg(&["to:vm", "1-1", "data", r#"{"h": "other"}"#]).query(&mut redis).unwrap();
    let () = redis::cmd("XADD").arg(&["to:vm", "1-2", "data", r#"{"h": "vm"}"#]).query(&mut redis).unwrap();
    let done = eventually(PATIENCE, || {
        (redis.xlen::<_, usize>("done").unwrap() == 1 && dead(&mut redis).len() == 1).then_some(())
    });
    assert!(done.is_some(), "{}", vm.running.written());
    let said = "the result cannot be stored by sink 'out': stream 'to:vm' is what functions.vm.source reads: it would come back as input";
    assert_eq!(dead(&mut redis)[0].2, said);
    assert_eq!(redis.xlen::<_, usize>("to:vm").unwrap(), 2, "nothing has multiplied");
}

#[test]
fn that_are_equal_numbers_have_one_key() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let numbers = [
        "123456789012345678901234567890",
        "123456789012345678901234567891",
        "1",
        "1.0",
        "-0.0",
        "0",
        "1e22",
        "1.5",
        "\"1\"",
        "true",
    ];
    let events = numbers.map(|number| format!("{{\"h\": {number}}}"));
    add(&mut redis, &events.iter().map(String::as_str).collect::<Vec<_>>());
    let vm = bed(&server, "sinks.out = { use = \"redis_key\", key = \"r:{/h}\" }").start();
    wait_done(&mut redis, &vm);
    let found = keys(&mut redis, "r:*");
    let wanted = [
        "r:0",
        "r:1",
        "r:1.5",
        "r:10000000000000000000000",
        "r:123456789012345678901234567890",
        "r:123456789012345678901234567891",
        "r:true",
    ];
    assert_eq!(found, wanted);
}
