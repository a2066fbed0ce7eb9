//! The transaction of a batch against a real redis-server: all or nothing, once.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use redis::Value;
use redis_link::commit::{Commit, Keep, LARGEST, StateWrite, StreamAck, Token, Verdict, Write, feed_back};
use redis_link::group::Joined;
use redis_link::slot::is_cluster;
use redis_link::{Link, Member, Trouble};
use support::{Server, run};

type Hash = BTreeMap<String, String>;

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

async fn number(link: &Link, line: &str) -> i64 {
    redis::from_redis_value(run(link, line).await.unwrap()).unwrap()
}

async fn hash(link: &Link, key: &str) -> Hash {
    link.query(redis::cmd("HGETALL").arg(key)).await.unwrap()
}

/// Gives a consumer `count` entries, with ids 1-0 and on.
async fn deliver(link: &Link, member: &Member, count: usize) -> Vec<String> {
    assert_eq!(member.join(link, "0", true).await.unwrap(), Joined::Ours { made: true });
    let ids: Vec<String> = (1..=count).map(|number| format!("{number}-0")).collect();
    let mut pipeline = redis::pipe();
    for id in &ids {
        pipeline.cmd("XADD").arg(&["in", id, "data", "1"]);
    }
    let mut read = redis::cmd("XREADGROUP");
    read.arg(&["GROUP", "vm", &member.consumer]).arg("COUNT").arg(count).arg(&["STREAMS", "in", ">"]);
    let _: Vec<Value> = link.pipeline(pipeline.add_command(read)).await.unwrap();
    ids
}

/// An entry, a key, a message, two changes of a state, and the acknowledgement of everything.
fn whole(member: &Member, ids: &[String]) -> Commit {
    Commit {
        token: Some(Token::of(member, 1)),
        fences: Vec::new(),
        ack: Some(StreamAck { member: member.clone(), ids: ids.to_vec() }),
        states: vec![StateWrite {
            key: "state".to_owned(),
            base: 0,
            version: 1,
            set: vec![(bytes("e:\"n\""), bytes("1")), (bytes("f"), bytes("x"))],
            ..StateWrite::default()
        }],
        writes: vec![
            Write::Add { stream: "out".to_owned(), max_length: 1000, fields: vec![(bytes("data"), bytes("1"))] },
            Write::Set { key: "key".to_owned(), value: bytes("2"), ttl: Some(Duration::from_secs(60)) },
            Write::Publish { channel: "told".to_owned(), message: bytes("3") },
        ],
    }
}

/// Nothing of [`whole`] is there.
async fn untouched(link: &Link) {
    assert_eq!(number(link, "EXISTS key state out").await, 0);
    assert_eq!(hash(link, "gaugefn:consumers:{in}:vm").await.keys().filter(|field| field.starts_with("t:")).count(), 0);
}

async fn pending(link: &Link) -> i64 {
    let summary: Vec<Value> = link.query(redis::cmd("XPENDING").arg("in").arg("vm")).await.unwrap();
    redis::from_redis_value(summary[0].clone()).unwrap()
}

#[tokio::test]
async fn everything_is_written_in_one_trip_and_once() {
    let server = Server::start(&[]);
    let link = server.link();
    let member = Member::new("in", "vm", "a");
    let ids = deliver(&link, &member, 3).await;
    let commit = whole(&member, &ids);
    run(&link, "CONFIG RESETSTAT").await.unwrap();
    assert_eq!(commit.run(&link).await.unwrap(), Verdict::Done);
    let stats: String = link.query(redis::cmd("INFO").arg("commandstats")).await.unwrap();
    assert!(stats.contains("cmdstat_script|load:calls=1,") && stats.contains("cmdstat_evalsha:calls=2,"), "{stats}");

    let state =
        Hash::from([("v", "1"), ("l", "0"), ("e:\"n\"", "1"), ("f", "x")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    for _ in 0..3 {
        assert_eq!(hash(&link, "state").await, state);
        assert_eq!(number(&link, "XLEN out").await, 1);
        assert_eq!(pending(&link).await, 0);
        assert!((1..=60).contains(&number(&link, "TTL key").await));
        // its answer was lost, and it is tried again
        assert_eq!(commit.run(&link).await.unwrap(), Verdict::Again);
    }
}

#[tokio::test]
async fn only_what_changes_in_a_state_is_written() {
    let server = Server::start(&[]);
    let link = server.link();
    let mut state = StateWrite { key: "state".to_owned(), version: 1, ..StateWrite::default() };
    state.set = vec![(bytes("a"), bytes("1")), (bytes("b"), bytes("2"))];
    let commit = |state: &StateWrite| Commit { states: vec![state.clone()], ..Commit::default() };
    assert_eq!(commit(&state).run(&link).await.unwrap(), Verdict::Done);
    let next = StateWrite {
        base: 1,
        version: 2,
        set: vec![(bytes("c"), bytes("3"))],
        remove: vec![bytes("a")],
        keep: Keep::For(Duration::from_secs(60)),
        ..state.clone()
    };
    assert_eq!(commit(&next).run(&link).await.unwrap(), Verdict::Done);
    let expected =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Hash>();
    assert_eq!(hash(&link, "state").await, expected(&[("b", "2"), ("c", "3"), ("l", "0"), ("v", "2")]));
    assert!(number(&link, "PTTL state").await > 0);
    let fresh = StateWrite { base: 2, version: 3, clear: true, remove: Vec::new(), keep: Keep::AsBefore, ..next };
    assert_eq!(commit(&fresh).run(&link).await.unwrap(), Verdict::Done);
    assert_eq!(hash(&link, "state").await, expected(&[("c", "3"), ("l", "0"), ("v", "3")]));

    // more than the language of the scripts unpacks at once
    let many: Vec<_> = (0..20_000).map(|number| (bytes(&format!("e:{number}")), bytes("x"))).collect();
    let large = StateWrite { base: 3, version: 4, set: many.clone(), ..state.clone() };
    assert_eq!(commit(&large).run(&link).await.unwrap(), Verdict::Done);
    assert_eq!(number(&link, "HLEN state").await, 20_003);
    let remove = many.into_iter().map(|(field, _)| field).collect();
    let small = StateWrite { base: 4, version: 5, set: Vec::new(), remove, ..state };
    assert_eq!(commit(&small).run(&link).await.unwrap(), Verdict::Done);
    assert_eq!(number(&link, "HLEN state").await, 3);
}

#[tokio::test]
async fn entries_of_others_are_lost_and_nothing_is_written() {
    let server = Server::start(&[]);
    let link = server.link();
    let member = Member::new("in", "vm", "a");
    let ids = deliver(&link, &member, 5).await;
    run(&link, "XCLAIM in vm b 0 2-0").await.unwrap();
    run(&link, "XACK in vm 4-0").await.unwrap();
    let commit = whole(&member, &ids);
    let lost = Verdict::Lost(vec!["2-0".to_owned(), "4-0".to_owned()]);
    assert_eq!(commit.run(&link).await.unwrap(), lost);
    untouched(&link).await;
    let rest = whole(&member, &["1-0", "3-0", "5-0"].map(str::to_owned));
    assert_eq!(rest.run(&link).await.unwrap(), Verdict::Done);
    assert_eq!(pending(&link).await, 1);
}

#[tokio::test]
async fn a_predecessor_of_the_same_name_has_lost_everything() {
    let server = Server::start(&[]);
    let link = server.link();
    let before = Member::new("in", "vm", "a");
    let ids = deliver(&link, &before, 3).await;
    let after = Member::new("in", "vm", "a");
    assert_eq!(after.join(&link, "0", true).await.unwrap(), Joined::Ours { made: false });
    assert_eq!(before.join(&link, "0", false).await.unwrap(), Joined::Replaced);
    assert_eq!(whole(&before, &ids).run(&link).await.unwrap(), Verdict::Lost(ids.clone()));
    untouched(&link).await;
    assert_eq!(whole(&after, &ids).run(&link).await.unwrap(), Verdict::Done);
}

#[tokio::test]
async fn a_group_that_is_gone_is_told_from_entries_that_others_have() {
    let server = Server::start(&[]);
    let link = server.link();
    let member = Member::new("in", "vm", "a");
    let ids = deliver(&link, &member, 2).await;
    run(&link, "XGROUP DESTROY in vm").await.unwrap();
    assert_eq!(whole(&member, &ids).run(&link).await.unwrap(), Verdict::Gone);
    run(&link, "FLUSHALL").await.unwrap();
    assert_eq!(whole(&member, &ids).run(&link).await.unwrap(), Verdict::Gone);
    untouched(&link).await;
}

#[tokio::test]
async fn a_state_of_another_version_is_stale_and_nothing_is_written() {
    let server = Server::start(&[]);
    let link = server.link();
    let member = Member::new("in", "vm", "a");
    let ids = deliver(&link, &member, 2).await;
    run(&link, "HSET state v 4").await.unwrap();
    let mut commit = whole(&member, &ids);
    commit.states.insert(0, StateWrite { key: "other".to_owned(), version: 1, ..StateWrite::default() });
    assert_eq!(commit.run(&link).await.unwrap(), Verdict::Stale(vec!["state".to_owned()]));
    assert_eq!(number(&link, "EXISTS key out other").await, 0);
    assert_eq!(pending(&link).await, 2);
    (commit.states[1].base, commit.states[1].version) = (4, 5);
    assert_eq!(commit.run(&link).await.unwrap(), Verdict::Done);
    assert_eq!(hash(&link, "state").await["v"], "5");
}

#[tokio::test]
async fn a_key_of_another_type_is_named_before_anything_is_written() {
    let server = Server::start(&[]);
    let link = server.link();
    let member = Member::new("in", "vm", "a");
    let ids = deliver(&link, &member, 2).await;
    let register = member.register();
    for (key, wanted) in [("out", "stream"), (&*register, "hash")] {
        run(&link, &format!("SET {key} text")).await.unwrap();
        let error = whole(&member, &ids).run(&link).await.unwrap_err();
        assert_eq!(error.wrong_key(), Some(key));
        assert_eq!(
            (error.to_string(), error.kind()),
            (
                format!(
                    "redis at 127.0.0.1:{} holds no {wanted} under '{key}' (WRONGTYPE): delete the key or name another",
                    server.port
                ),
                Trouble::WrongType
            )
        );
        run(&link, &format!("DEL {key}")).await.unwrap();
        untouched(&link).await;
        assert_eq!(pending(&link).await, 2);
    }
    // whoever loads the state says what is wrong with it
    run(&link, "SET state text").await.unwrap();
    let mut commit = whole(&member, &ids);
    for beside_the_state in [false, true] {
        if beside_the_state {
            commit.token.as_mut().unwrap().key = "state".to_owned();
        }
        assert_eq!(commit.run(&link).await.unwrap(), Verdict::Stale(vec!["state".to_owned()]));
    }
    run(&link, "DEL state").await.unwrap();
    assert_eq!(whole(&member, &ids).run(&link).await.unwrap(), Verdict::Done);
}

/// It begins with the version that the old one may have as well.
#[tokio::test]
async fn a_state_that_was_removed_and_began_anew_is_another_one() {
    let server = Server::start(&[]);
    let link = server.link();
    let state = |base: u64, life: u64, field: &str| Commit {
        states: vec![StateWrite {
            key: "state".to_owned(),
            base,
            version: base + 1,
            life,
            set: vec![(bytes(field), bytes("1"))],
            ..StateWrite::default()
        }],
        ..Commit::default()
    };
    assert_eq!(state(0, 7, "old").run(&link).await.unwrap(), Verdict::Done);
    run(&link, "DEL state").await.unwrap();
    assert_eq!(state(1, 7, "late").run(&link).await.unwrap(), Verdict::Stale(vec!["state".to_owned()]));
    assert_eq!(state(0, 8, "new").run(&link).await.unwrap(), Verdict::Done);
    assert_eq!(state(1, 7, "late").run(&link).await.unwrap(), Verdict::Stale(vec!["state".to_owned()]));
    assert_eq!(state(1, 8, "next").run(&link).await.unwrap(), Verdict::Done);
    let fields: Vec<String> = hash(&link, "state").await.into_keys().collect();
    assert_eq!(fields, ["l", "new", "next", "v"]);
    // one of a version that knew no lives
    run(&link, "HDEL state l").await.unwrap();
    assert_eq!(state(2, 0, "next").run(&link).await.unwrap(), Verdict::Done);
}

#[tokio::test]
async fn a_state_is_kept_as_long_as_is_said_last() {
    let server = Server::start(&[]);
    let link = server.link();
    let minute = Duration::from_secs(60);
    for (at, (keep, bounded)) in
        [(Keep::For(minute), true), (Keep::AsBefore, true), (Keep::ForGood, false), (Keep::AsBefore, false)]
            .into_iter()
            .enumerate()
    {
        let base = at as u64;
        let state = StateWrite { key: "state".to_owned(), base, version: base + 1, keep, ..StateWrite::default() };
        let commit = Commit { states: vec![state], ..Commit::default() };
        assert_eq!(commit.run(&link).await.unwrap(), Verdict::Done);
        assert_eq!(number(&link, "PTTL state").await > 0, bounded, "{keep:?}");
    }
}

/// What the server refuses in the middle of a script is not taken back.
#[tokio::test]
async fn what_a_user_may_not_do_is_found_out_before_anything_is_written() {
    let server = Server::start(&[]);
    let link = server.link();
    let member = Member::new("in", "vm", "a");
    let ids = deliver(&link, &member, 2).await;
    let mut commit = whole(&member, &ids);
    commit.states[0].keep = Keep::For(Duration::from_secs(60));
    commit.states[0].clear = true;
    commit.states[0].remove = vec![bytes("gone")];
    for (command, key) in [
        ("XADD", "out"),
        ("SET", "key"),
        ("HSET", ""),
        ("DEL", "state"),
        ("HDEL", "state"),
        ("PEXPIRE", "state"),
        ("XACK", "in"),
    ] {
        run(&link, &format!("ACL SETUSER weak on nopass ~* &* +@all -{command}")).await.unwrap();
        let weak = Link::new(server.target(Some("weak"), Some("")));
        let error = commit.run(&weak).await.unwrap_err();
        let said = error.to_string();
        assert_eq!(error.kind(), Trouble::Permission, "{said}");
        let command = command.to_lowercase();
        assert!(said.contains(&format!("allow it with ACL SETUSER weak +{command} '~{key}")), "{said}");
        untouched(&link).await;
        assert_eq!(pending(&link).await, 2);
    }
    // a key is refused with the script as a whole: the first of a kind may be written, the second may not
    run(&link, "ACL SETUSER weak on nopass resetkeys ~in* ~gaugefn:* ~state ~key ~out &* +@all").await.unwrap();
    let weak = Link::new(server.target(Some("weak"), Some("")));
    let mut two = commit.clone();
    two.writes.push(Write::Set { key: "key:2".to_owned(), value: bytes("1"), ttl: None });
    assert_eq!(two.run(&weak).await.unwrap_err().kind(), Trouble::Permission);
    untouched(&link).await;
    assert_eq!((pending(&link).await, number(&link, "EXISTS key:2").await), (2, 0));
    // a message is no data: one that is refused takes nothing back, and nothing is repeated for it
    run(&link, "ACL SETUSER weak on nopass ~* resetchannels &other +@all").await.unwrap();
    let weak = Link::new(server.target(Some("weak"), Some("")));
    let Verdict::Unheard(why) = commit.run(&weak).await.unwrap() else { panic!("it was sent") };
    assert!(why.starts_with("told: "), "{why}");
    assert_eq!((pending(&link).await, number(&link, "XLEN out").await), (0, 1));
    assert_eq!(commit.run(&weak).await.unwrap(), Verdict::Again);
}

#[tokio::test]
async fn as_many_entries_as_a_script_takes() {
    let server = Server::start(&[]);
    let link = server.link();
    let member = Member::new("in", "vm", "a");
    let ids = deliver(&link, &member, LARGEST + 1).await;
    let error = whole(&member, &ids).run(&link).await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.retry()),
        ("a commit acknowledges 1000 entries at most, not 1001: lower the option 'batch'", false)
    );
    let mut commit = whole(&member, &ids[..LARGEST]);
    let fields = vec![(bytes("data"), vec![b'x'; 700])];
    commit.writes = vec![Write::Add { stream: "out".to_owned(), max_length: 0, fields }; LARGEST];
    assert_eq!(commit.run(&link).await.unwrap(), Verdict::Done);
    assert_eq!((number(&link, "XLEN out").await, pending(&link).await), (1000, 1));

    // of many pending entries, only the first and the last: those in between are no obstacle
    let rest: Vec<String> = (2000..3000).map(|number| format!("{number}-0")).collect();
    for id in &rest {
        run(&link, &format!("XADD in {id} data 1")).await.unwrap();
    }
    run(&link, "XREADGROUP GROUP vm a COUNT 2000 STREAMS in >").await.unwrap();
    let ends = [rest[0].clone(), rest[999].clone()];
    let ack = Some(StreamAck { member, ids: ends.to_vec() });
    assert_eq!(Commit { ack, ..Commit::default() }.run(&link).await.unwrap(), Verdict::Done);
}

#[tokio::test]
async fn a_server_that_forgot_the_script_is_told_again() {
    let server = Server::start(&[]);
    let link = server.link();
    for number in 0..3 {
        run(&link, "SCRIPT FLUSH").await.unwrap();
        let state = StateWrite { key: "state".to_owned(), base: number, version: number + 1, ..StateWrite::default() };
        let commit = Commit { states: vec![state], ..Commit::default() };
        assert_eq!(commit.run(&link).await.unwrap(), Verdict::Done);
    }
}

#[tokio::test]
async fn keys_of_several_slots_are_refused_by_a_cluster() {
    let server = Server::start(&["--cluster-enabled", "yes"]);
    let link = server.link();
    // one node that has everything
    run(&link, "CLUSTER ADDSLOTSRANGE 0 16383").await.unwrap();
    support::eventually(|| async {
        number(&link, "CLUSTER COUNTKEYSINSLOT 1").await == 0 && run(&link, "GET x").await.is_ok()
    })
    .await;
    let slot = number(&link, "CLUSTER KEYSLOT a:{in}:b").await;
    assert_eq!(i64::from(redis_link::slot("a:{in}:b")), slot);

    let member = Member::new("in", "vm", "a");
    let ids = deliver(&link, &member, 2).await;
    let error = whole(&member, &ids).run(&link).await.unwrap_err();
    assert!(error.to_string().contains("(CROSSSLOT)"), "{error}");
    assert!(is_cluster(&link).await.unwrap());
    let mut commit = whole(&member, &ids);
    commit.states[0].key = "{in}:state".to_owned();
    commit.writes = vec![Write::Set { key: "{in}:key".to_owned(), value: bytes("1"), ttl: None }];
    assert_eq!(commit.run(&link).await.unwrap(), Verdict::Done);
}

#[tokio::test]
async fn who_may_not_ask_for_a_cluster_is_told_no() {
    let server = Server::start(&["--cluster-enabled", "yes"]);
    run(&server.link(), "ACL SETUSER weak on nopass ~* +client +ping").await.unwrap();
    assert!(is_cluster(&server.link()).await.unwrap());
    assert!(!is_cluster(&Link::new(server.target(Some("weak"), Some("")))).await.unwrap());
    let alone = Server::start(&[]);
    assert!(!is_cluster(&alone.link()).await.unwrap());
}

/// What a script cannot unpack goes by a transaction of commands; the order of the letters stays.
#[tokio::test]
async fn a_letter_of_any_width_is_fed_back_once() {
    let server = Server::start(&[]);
    let link = server.link();
    let entry = |fields: usize| {
        let field = |number: usize| (format!("f{number}").into_bytes(), vec![0xff, b'\n']);
        let fields = (0..fields).map(field).chain([(Vec::new(), Vec::new()), (bytes("f0"), bytes("again"))]).collect();
        Write::Add { stream: "in".to_owned(), max_length: 0, fields }
    };
    let widths = [1, LARGEST - 2, LARGEST - 1, 1, 3998, 8000, 60_000, 1];
    let letters: Vec<_> =
        widths.iter().zip(1..).map(|(width, number)| (format!("{number}-0"), vec![entry(*width)])).collect();
    for (id, _) in &letters {
        run(&link, &format!("XADD dead {id} event 1")).await.unwrap();
    }
    run(&link, "XDEL dead 6-0").await.unwrap();
    assert_eq!(feed_back(&link, "dead", &letters).await.unwrap(), 7);
    assert_eq!(feed_back(&link, "dead", &letters).await.unwrap(), 0, "an answer may have been lost");
    let fed: Vec<(String, Vec<Vec<u8>>)> = link.query(redis::cmd("XRANGE").arg(&["in", "-", "+"])).await.unwrap();
    let found: Vec<usize> = fed.iter().map(|(_, words)| words.len() / 2 - 2).collect();
    assert_eq!(found, [1, LARGEST - 2, LARGEST - 1, 1, 3998, 60_000, 1]);
    let end = [&b"f59999"[..], b"\xff\n", b"", b"", b"f0", b"again"].map(<[u8]>::to_vec);
    assert_eq!(fed[5].1[2 * 59_999..], end);

    // nothing is removed that is not added
    run(&link, "XADD dead 9-0 event 1").await.unwrap();
    run(&link, "SET text x").await.unwrap();
    let Write::Add { fields, .. } = entry(2000) else { unreachable!() };
    let into = |stream: &str| {
        [("9-0".to_owned(), vec![Write::Add { stream: stream.to_owned(), max_length: 0, fields: fields.clone() }])]
    };
    let error = feed_back(&link, "dead", &into("text")).await.unwrap_err();
    assert_eq!((error.kind(), error.wrong_key()), (Trouble::WrongType, Some("text")));
    for command in ["xadd", "xdel", "watch", "exec"] {
        run(&link, &format!("ACL SETUSER weak on nopass ~* +@all -{command}")).await.unwrap();
        let weak = Link::new(server.target(Some("weak"), Some("")));
        let error = feed_back(&weak, "dead", &into("in")).await.unwrap_err();
        assert_eq!(error.kind(), Trouble::Permission, "{error}");
        assert_eq!((number(&link, "XLEN dead").await, number(&link, "XLEN in").await), (1, 7), "{command}");
    }
    assert_eq!(feed_back(&link, "dead", &into("in")).await.unwrap(), 1);
}

/// A server that is sent more than it takes closes the connection; whoever sends it again gets nowhere.
#[tokio::test]
async fn more_than_the_server_takes_is_no_outage() {
    let write = |size: usize| Commit {
        writes: vec![Write::Set { key: "key".to_owned(), value: vec![b'x'; size], ttl: None }],
        ..Commit::default()
    };
    let server = Server::start(&["--proto-max-bulk-len", "1048576"]);
    let link = server.link();
    let error = write(3_000_000).run(&link).await.unwrap_err();
    let place = link.target().place();
    assert_eq!((error.kind(), error.retry()), (Trouble::TooLarge, false));
    assert_eq!(
        error.to_string(),
        format!(
            "redis at {place} takes no value of 3000000 bytes (proto-max-bulk-len 1048576): keep results smaller, or raise it"
        )
    );
    assert_eq!(write(1_048_576).run(&link).await.unwrap(), Verdict::Done);

    // a server that tells nobody closes often enough
    run(&link, "ACL SETUSER weak on nopass ~* +@all -config").await.unwrap();
    let weak = Link::new(server.target(Some("weak"), Some("")));
    for _ in 0..2 {
        let error = write(3_000_000).run(&weak).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (Trouble::Unreachable, true), "{error}");
    }
    let error = write(3_000_000).run(&weak).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Trouble::TooLarge, false), "{error}");
    assert!(
        error.to_string().contains("closes the connection whenever it is sent a command of 3000003 bytes"),
        "{error}"
    );

    let tight = Server::start(&["--client-query-buffer-limit", "2mb"]);
    let error = write(3_000_000).run(&tight.link()).await.unwrap_err();
    let said = "takes no value of 3000000 bytes (client-query-buffer-limit 2097152)";
    assert!(error.to_string().contains(said), "{error}");
    assert_eq!(write(1_500_000).run(&tight.link()).await.unwrap(), Verdict::Done);
}

#[tokio::test]
async fn a_letter_is_fed_back_once() {
    let server = Server::start(&[]);
    let link = server.link();
    let entry = |stream: &str, value: &str| Write::Add {
        stream: stream.to_owned(),
        max_length: 0,
        fields: vec![(bytes("data"), bytes(value))],
    };
    let letters: Vec<_> = (1..=250)
        .map(|number| (format!("{number}-0"), vec![entry("in", &number.to_string()), entry("also", "x")]))
        .collect();
    for (id, _) in &letters {
        run(&link, &format!("XADD dead {id} event 1")).await.unwrap();
    }
    run(&link, "XDEL dead 3-0").await.unwrap();
    assert_eq!(feed_back(&link, "dead", &letters[..5]).await.unwrap(), 4);
    run(&link, "SCRIPT FLUSH").await.unwrap();
    assert_eq!(feed_back(&link, "dead", &letters).await.unwrap(), 245, "those before were fed already");
    assert_eq!(feed_back(&link, "dead", &letters).await.unwrap(), 0);
    let lengths = (number(&link, "XLEN in").await, number(&link, "XLEN also").await, number(&link, "XLEN dead").await);
    assert_eq!(lengths, (249, 249, 0));
    assert_eq!(feed_back(&link, "nowhere", &letters[..1]).await.unwrap(), 0);

    // before anything is removed
    run(&link, "XADD dead 1000-0 event 1").await.unwrap();
    run(&link, "SET text x").await.unwrap();
    let wrong = [("1000-0".to_owned(), vec![entry("in", "1"), entry("text", "1")])];
    let error = feed_back(&link, "dead", &wrong).await.unwrap_err();
    assert_eq!((error.kind(), error.wrong_key()), (Trouble::WrongType, Some("text")));
    let none = Write::Add { stream: "in".to_owned(), max_length: 0, fields: Vec::new() };
    let error = feed_back(&link, "dead", &[("1000-0".to_owned(), vec![none])]).await.unwrap_err();
    assert_eq!(error.to_string(), "an entry for stream 'in' has 0 fields, which must be 1 to 1000");
    for command in ["xadd", "xdel"] {
        run(&link, &format!("ACL SETUSER weak on nopass ~* +@all -{command}")).await.unwrap();
        let weak = Link::new(server.target(Some("weak"), Some("")));
        let error = feed_back(&weak, "dead", &[("1000-0".to_owned(), vec![entry("in", "1")])]).await.unwrap_err();
        assert!(error.to_string().contains(&format!("allow it with ACL SETUSER weak +{command}")), "{error}");
    }
    assert_eq!((number(&link, "XLEN dead").await, number(&link, "XLEN in").await), (1, 249));
}
