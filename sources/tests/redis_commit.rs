//! What the Redis sources give to a transaction, and what becomes of it on a real redis-server: acknowledgements, leases,
//! suspects, entries that are fed back, and sources that stand by.
#![allow(clippy::unwrap_used)]

mod support;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use redis::Commands;
use redis_link::commit::{Keep, StateWrite, Write};
use runtime_core::change::fingerprint;
use runtime_core::contract::{
    Batch, Blame, Decision, Fault, Lease, Letter, Pull, Source, Tenure, Transaction, Verdict,
};
use runtime_core::{Kind, Site};
use serde_json::json;
use sources::redis_key::RedisKey;
use sources::redis_stream::RedisStream;
use support::redis::RedisServer;
use tokio::time::timeout;

/// Nothing waits this long unless the machine is in trouble or the test fails.
const PATIENCE: Duration = Duration::from_secs(15);

async fn source<K>(server: &RedisServer, defaults: serde_json::Value, options: serde_json::Value) -> Box<dyn Source>
where
    K: Kind<Role = dyn Source>,
{
    let mut table = defaults;
    let url = json!({ "url": server.url() });
    for more in [url, options] {
        table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    let config = serde_json::from_value(table).unwrap();
    assert!(K::review(&config).is_empty());
    let (main_thread, _) = runtime_core::main_thread::pair();
    let stdout = Arc::new(std::fs::File::create("/dev/null").unwrap());
    K::build(config, &Site { function: "vm", shared: &[], main_thread, stdout }).await.unwrap()
}

async fn stream(server: &RedisServer, options: serde_json::Value) -> Box<dyn Source> {
    source::<RedisStream>(server, json!({ "stream": "in", "consumer": "a", "field": "data" }), options).await
}

/// Polls, as a key whose values are replaced by these tests alone.
async fn key(server: &RedisServer, options: serde_json::Value) -> Box<dyn Source> {
    let defaults = json!({ "key": "metrics", "period": "5ms", "watch": "poll", "lease": "1m" });
    source::<RedisKey>(server, defaults, options).await
}

fn run<T: redis::FromRedisValue>(server: &RedisServer, line: &str) -> T {
    let mut words = line.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap());
    for word in words {
        cmd.arg(word);
    }
    cmd.query(&mut server.connection()).unwrap()
}

fn add(server: &RedisServer, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let _: String = run(server, &format!("XADD in {number}-0 data {number}"));
    }
}

async fn rest(source: &mut dyn Source, after: Duration) {
    tokio::select! {
        () = tokio::time::sleep(after) => {}
        () = source.woken() => {}
    }
}

async fn next(source: &mut dyn Source, max: usize) -> Batch {
    let pulled = async {
        loop {
            match source.next_batch(max).await.unwrap() {
                Pull::Batch(batch) => return batch,
                Pull::Again(after) => rest(source, after).await,
                Pull::Exhausted => panic!("exhausted"),
            }
        }
    };
    timeout(PATIENCE, pulled).await.expect("a batch")
}

/// No batch for a while.
async fn idles(source: &mut dyn Source) {
    let pulling = async {
        loop {
            match source.next_batch(100).await.unwrap() {
                Pull::Again(after) => rest(source, after).await,
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(Duration::from_millis(100), pulling).await.unwrap_err();
}

async fn settle(mut batch: Batch) {
    let verdicts = vec![Verdict::Done { reply: None }; batch.events.len()];
    batch.receipt.settle(&verdicts).await.unwrap();
}

fn ids(batch: &Batch) -> Vec<&str> {
    batch.events.iter().map(|event| event.id.as_str()).collect()
}

fn pending(server: &RedisServer) -> Vec<String> {
    let rows: Vec<(String, String, u64, u64)> = run(server, "XPENDING in vm - + 1000");
    rows.into_iter().map(|(id, ..)| id).collect()
}

type Part = Box<dyn Any + Send>;

/// As a sink would enlist it.
fn result(stream: &str) -> Part {
    let fields = vec![(b"data".to_vec(), b"1".to_vec())];
    Box::new(vec![Write::Add { stream: stream.to_owned(), max_length: 0, fields }])
}

fn state(version: u64) -> Part {
    Box::new(vec![StateWrite { key: "state".to_owned(), base: version - 1, version, ..StateWrite::default() }])
}

async fn commit(transaction: &Arc<dyn Transaction>, parts: Vec<Part>) -> Result<Decision, Fault> {
    transaction.prepare(parts)?.run().await
}

#[tokio::test]
async fn a_commit_of_a_stream_lands_once_and_acknowledges() {
    let server = RedisServer::start();
    add(&server, 1..6);
    let mut source = stream(&server, json!({})).await;
    let transaction = source.transaction().unwrap();
    assert_eq!(transaction.name(), "redis");
    assert_eq!(source.keys(), ["in", "gaugefn:consumers:{in}:vm"]);
    let batch = next(&mut *source, 2).await;
    let prepared =
        transaction.prepare(vec![batch.receipt.enlist().unwrap(), result("out"), state(1), result("out")]).unwrap();
    for _ in 0..3 {
        // its answer was lost
        assert_eq!(prepared.run().await.unwrap(), Decision::Done);
        assert_eq!(run::<u64>(&server, "XLEN out"), 2);
    }
    drop(batch);
    assert_eq!(pending(&server), Vec::<String>::new());

    let batch = next(&mut *source, 2).await;
    let stale = vec![batch.receipt.enlist().unwrap(), state(1)];
    assert_eq!(commit(&transaction, stale).await.unwrap(), Decision::Stale);
    let _: redis::Value = run(&server, "XCLAIM in vm b 0 4-0");
    let lost = vec![batch.receipt.enlist().unwrap(), state(2), result("out")];
    assert_eq!(commit(&transaction, lost).await.unwrap(), Decision::Lost(vec!["4-0".to_owned()]));
    assert_eq!((run::<u64>(&server, "XLEN out"), pending(&server).len()), (2, 2));
}

#[tokio::test]
async fn a_commit_without_a_stream_lands_once() {
    let server = RedisServer::start();
    let source = key(&server, json!({})).await;
    let (transaction, lease) = (source.transaction().unwrap(), source.lease().unwrap());
    assert_eq!(lease.hold().await.unwrap(), Tenure::Mine { fingerprint: None, kept: false });
    let print = fingerprint(b"1").unwrap();
    let by_state = transaction.prepare(vec![state(1), result("out")]).unwrap();
    let by_lease = transaction.prepare(vec![lease.enlist(Some(print)), result("out")]).unwrap();
    let by_both = transaction.prepare(vec![lease.enlist(None), state(2), result("out")]).unwrap();
    for (number, prepared) in [by_state, by_lease, by_both].into_iter().enumerate() {
        for _ in 0..3 {
            assert_eq!(prepared.run().await.unwrap(), Decision::Done);
            assert_eq!(run::<usize>(&server, "XLEN out"), number + 1);
            run::<()>(&server, "SCRIPT FLUSH");
        }
    }
    assert_eq!(lease.hold().await.unwrap(), Tenure::Mine { fingerprint: Some(print), kept: true });
}

#[tokio::test]
async fn a_commit_that_cannot_be_is_refused() {
    let server = RedisServer::start();
    let mut source = stream(&server, json!({})).await;
    let transaction = source.transaction().unwrap();
    add(&server, 1..3);
    let (one, two) = (next(&mut *source, 1).await, next(&mut *source, 1).await);
    let refused = |parts| transaction.prepare(parts).map(drop).unwrap_err();
    let fault = refused(vec![one.receipt.enlist().unwrap(), two.receipt.enlist().unwrap()]);
    assert_eq!((fault.blame(), fault.retry()), (Blame::Internal, false), "{fault}");
    assert!(refused(vec![Box::new(7)]).to_string().contains("a part that redis does not know"));
    let mut ack = one.receipt.enlist().unwrap().downcast::<redis_link::commit::StreamAck>().unwrap();
    ack.ids = vec!["1-0".to_owned(); 1001];
    assert!(refused(vec![ack]).to_string().ends_with("lower the option 'batch'"));

    // what results cannot be added to is named; a state is loaded again, which says what is wrong with it
    run::<()>(&server, "SET text x");
    let decision = commit(&transaction, vec![result("text"), state(1)]).await.unwrap();
    let Decision::Unfit { key, why } = decision else { panic!("{decision:?}") };
    assert!(key == "text" && why.contains("holds no stream under 'text'"), "{why}");
    run::<()>(&server, "SET state x");
    assert_eq!(commit(&transaction, vec![result("out"), state(1)]).await.unwrap(), Decision::Stale);
    assert_eq!(run::<u64>(&server, "EXISTS out"), 0);
}

#[tokio::test]
async fn keys_that_lie_apart_are_an_obstacle_in_a_cluster() {
    let keys = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let apart = keys(&["{vm}:in", "gaugefn:state:{vm}", "out"]);
    let alone = RedisServer::start();
    let transaction = stream(&alone, json!({})).await.transaction().unwrap();
    assert_eq!(transaction.obstacle(&apart).await.unwrap(), None);

    let server = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    run::<()>(&server, "CLUSTER ADDSLOTSRANGE 0 16383");
    let transaction = stream(&server, json!({})).await.transaction().unwrap();
    assert_eq!(transaction.obstacle(&apart[..2]).await.unwrap(), None);
    assert_eq!(transaction.obstacle(&[]).await.unwrap(), None);
    let said = transaction.obstacle(&apart).await.unwrap().unwrap();
    let slot = redis_link::slot;
    assert_eq!(
        said,
        format!(
            "keys '{{vm}}:in' (slot {}) and 'out' (slot {}) may lie on different servers of the Cluster at \
             127.0.0.1:{}, which no transaction spans: give all of them the same hash tag, such as '{{vm}}'",
            slot("{vm}"),
            slot("out"),
            server.port()
        )
    );
}

#[tokio::test]
async fn receipts_that_were_split_settle_only_their_own() {
    let server = RedisServer::start();
    add(&server, 1..7);
    let mut source = stream(&server, json!({})).await;
    let mut batch = next(&mut *source, 6).await;
    let mut taken = batch.receipt.split(&[1, 4]);
    let dropped = batch.receipt.split(&[0]);
    taken.settle(&vec![Verdict::Done { reply: None }; 2]).await.unwrap();
    assert_eq!(pending(&server), ["1-0", "3-0", "4-0", "6-0"]);
    let transaction = source.transaction().unwrap();
    assert_eq!(commit(&transaction, vec![batch.receipt.enlist().unwrap()]).await.unwrap(), Decision::Done);
    drop(batch);
    assert_eq!(pending(&server), ["1-0"]);
    // what is held is not given again, what was let go is, once the source looks
    source.close().await.unwrap();
    idles(&mut *source).await;
    drop(dropped);
    source.close().await.unwrap();
    assert_eq!(ids(&next(&mut *source, 6).await), ["1-0"]);
}

#[tokio::test]
async fn a_suspect_is_given_alone() {
    let server = RedisServer::start();
    add(&server, 1..9);
    let mut before = stream(&server, json!({})).await;
    std::mem::forget(next(&mut *before, 6).await);
    std::mem::forget(before);
    for id in ["1-0", "3-0", "4-0"] {
        let _: redis::Value = run(&server, &format!("XCLAIM in vm a 0 {id} RETRYCOUNT 4 JUSTID"));
    }
    let mut source = stream(&server, json!({})).await;
    let mut given = Vec::new();
    while given.len() < 6 {
        let batch = next(&mut *source, 100).await;
        let told: Vec<_> =
            batch.events.iter().map(|event| (event.id.clone(), event.attempt, event.deliveries)).collect();
        if told[0].2 >= 5 {
            assert_eq!(told.len(), 1);
            idles(&mut *source).await;
        }
        let innocent = next_now(&mut *source).await;
        given.push(told.clone());
        settle(batch).await;
        if let Some(batch) = innocent {
            given.push(batch.events.iter().map(|event| (event.id.clone(), event.attempt, event.deliveries)).collect());
            settle(batch).await;
        }
    }
    let entry = |number: u32, count| (format!("{number}-0"), 1, count);
    assert_eq!(
        given,
        [
            vec![entry(1, 5)],
            vec![entry(2, 2)],
            vec![entry(3, 5)],
            vec![entry(4, 5)],
            vec![entry(5, 2), entry(6, 2)],
            vec![entry(7, 1), entry(8, 1)],
        ]
    );
    assert_eq!(pending(&server), Vec::<String>::new());
}

/// A batch that is there without anything being settled.
async fn next_now(source: &mut dyn Source) -> Option<Batch> {
    timeout(Duration::from_millis(50), next(source, 100)).await.ok()
}

fn letter(payload: &str) -> Letter {
    Letter {
        event: "1-0".to_owned(),
        payload: payload.to_owned().into(),
        original: None,
        error: String::new(),
        report: None,
        revision: None,
        attempts: 1,
        origin: "redis_stream in".to_owned(),
        failed_at: std::time::SystemTime::UNIX_EPOCH,
    }
}

/// Not as the payload alone, which is one field of it, or no text.
#[tokio::test]
async fn an_entry_is_fed_back_with_all_of_its_fields() {
    let server = RedisServer::start();
    let raw: &[u8] = b"\xff\x00";
    let entries: [&[(&str, &[u8])]; 3] =
        [&[("id", b"7"), ("data", b"{}")], &[("b", b"1"), ("a", b"2"), ("b", b"3")], &[("raw", raw)]];
    for (field, options) in [(Some("data"), json!({})), (None, json!({ "field": null, "group": "whole" }))] {
        let _: u64 = run(&server, "DEL in");
        for fields in entries {
            let _: String = server.connection().xadd("in", "*", fields).unwrap();
        }
        let mut source = stream(&server, options).await;
        let batch = next(&mut *source, 10).await;
        for (event, fields) in batch.events.iter().zip(entries) {
            assert_eq!(event.flaw.is_some(), field.is_some() && !fields.iter().any(|(name, _)| *name == "data"));
            let original = event.original.as_ref().map(|original| original.text());
            let letter = Letter { payload: event.payload.clone(), original, ..letter("") };
            let part = source.feed(std::slice::from_ref(&letter)).unwrap().unwrap().remove(0);
            let fields = fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect();
            let write = Write::Add { stream: "in".to_owned(), max_length: 0, fields };
            assert_eq!(*part.downcast::<Vec<Write>>().unwrap(), [write]);
            // here and now it is the same event
            let again = source.event(&letter);
            assert_eq!((&again.payload, &again.flaw, &*again.id), (&event.payload, &event.flaw, "1-0"));
        }
    }
    let source = stream(&server, json!({})).await;
    let odd = Letter { original: Some("{}".to_owned()), ..letter("{}") };
    let fault = source.feed(&[odd]).map(drop).unwrap_err();
    let said = "the event cannot become an entry of stream 'in' again: its original is no list of fields";
    assert!(fault.to_string().starts_with(said) && fault.blame() == Blame::Event, "{fault}");
}

#[tokio::test]
async fn what_is_fed_back_is_given_as_a_new_event() {
    let server = RedisServer::start();
    for options in [json!({}), json!({ "field": null, "stream": "whole" })] {
        let mut source = stream(&server, options.clone()).await;
        let payloads = ["{\"a\":\"1\"}", "{\"b\":\"x\",\"a\":\"2\"}"];
        let parts = source.feed(&payloads.map(letter)).unwrap().unwrap();
        assert_eq!(parts.len(), 2, "one for each");
        let letters: Vec<_> = parts
            .into_iter()
            .enumerate()
            .map(|(number, part)| (format!("{}-0", number + 1), *part.downcast::<Vec<Write>>().unwrap()))
            .collect();
        let _: u64 = run(&server, "DEL dead");
        for (id, _) in &letters {
            let _: String = run(&server, &format!("XADD dead {id} event x"));
        }
        let link = redis_link::Link::new(redis_link::Settings::default().resolve(Some(&server.url())).unwrap());
        for fed in [2, 0] {
            assert_eq!(redis_link::commit::feed_back(&link, "dead", &letters).await.unwrap(), fed);
        }
        let batch = next(&mut *source, 10).await;
        assert_eq!(batch.events.iter().map(|event| event.payload.clone()).collect::<Vec<_>>(), payloads);
        settle(batch).await;
    }
    let whole = stream(&server, json!({ "field": null })).await;
    let fault = whole.feed(&["{\"a\":1}", "[1]"].map(letter)).map(drop).unwrap_err();
    assert!(fault.to_string().starts_with("the event cannot become an entry of stream 'in' again: it is no object"));
    assert!(fault.blame() == Blame::Event && !fault.retry());
}

#[tokio::test]
async fn a_stream_goes_on_after_it_was_left() {
    let server = RedisServer::start();
    add(&server, 1..9);
    let mut one = stream(&server, json!({})).await;
    let mut two = stream(&server, json!({ "consumer": "b" })).await;
    settle(next(&mut *one, 2).await).await;
    drop(next(&mut *one, 4).await);
    one.close().await.unwrap();
    assert_eq!(ids(&next(&mut *two, 2).await), ["3-0", "4-0"], "taken over at once");
    // its own that are left come first, and are no more suspicious than before
    let batch = next(&mut *one, 10).await;
    assert_eq!(
        batch.events.iter().map(|event| (event.id.as_str(), event.deliveries)).collect::<Vec<_>>(),
        [("5-0", 1), ("6-0", 1)]
    );
    settle(batch).await;
    let batch = next(&mut *one, 10).await;
    assert_eq!(ids(&batch), ["7-0", "8-0"]);
    // its register is there again, and its commits count
    let done = commit(&one.transaction().unwrap(), vec![batch.receipt.enlist().unwrap()]).await.unwrap();
    assert_eq!(done, Decision::Done);
    // whoever has got its name meanwhile keeps it
    one.close().await.unwrap();
    let mut successor = stream(&server, json!({})).await;
    let _ = timeout(Duration::from_millis(50), successor.next_batch(1)).await;
    add(&server, 9..11);
    let batches = [next(&mut *one, 1).await, next(&mut *successor, 1).await];
    for batch in batches {
        let transaction = successor.transaction().unwrap();
        let done = commit(&transaction, vec![batch.receipt.enlist().unwrap()]).await.unwrap();
        assert_eq!(done, Decision::Done);
    }
}

/// A process whose name has gone hears of it from its own late commit.
#[tokio::test]
async fn a_commit_notices_that_the_name_has_gone() {
    let server = RedisServer::start();
    add(&server, 1..3);
    let mut older = stream(&server, json!({})).await;
    let mut newer = stream(&server, json!({})).await;
    let late = next(&mut *older, 1).await;
    let batch = next(&mut *newer, 10).await;
    let transaction = older.transaction().unwrap();
    let parts = || vec![late.receipt.enlist().unwrap()];
    assert_eq!(commit(&transaction, parts()).await.unwrap(), Decision::Lost(vec!["1-0".to_owned()]));
    settle(batch).await;
    let _ = timeout(Duration::from_millis(100), older.next_batch(1)).await;
    // and once is enough: what was read under the old name tells nothing of the new one
    let registered = || -> Vec<String> {
        let fields: Vec<String> = run(&server, "HKEYS gaugefn:consumers:{in}:vm");
        let names = fields.into_iter().filter(|field| field.starts_with("i:"));
        names.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    };
    let names = registered();
    assert!(matches!(&names[..], [one, two] if one == "i:a" && two.starts_with("i:a-")), "{names:?}");
    assert_eq!(commit(&transaction, parts()).await.unwrap(), Decision::Lost(vec!["1-0".to_owned()]));
    let _ = timeout(Duration::from_millis(100), older.next_batch(1)).await;
    assert_eq!(registered(), names);
}

#[tokio::test]
async fn one_of_several_reads_a_key() {
    let server = RedisServer::start();
    let (one, two) = (key(&server, json!({ "lease": "100ms" })).await, key(&server, json!({ "lease": "100ms" })).await);
    assert_eq!(one.keys(), ["gaugefn:lease:{vm}:metrics"]);
    let (first, second): (Box<dyn Lease>, _) = (one.lease().unwrap(), two.lease().unwrap());
    assert_eq!(first.term(), Duration::from_millis(100));
    assert!(matches!(first.hold().await.unwrap(), Tenure::Mine { .. }));
    // the same holder, however often it is asked for
    assert!(matches!(one.lease().unwrap().hold().await.unwrap(), Tenure::Mine { .. }));
    match second.hold().await.unwrap() {
        Tenure::Other { holder, left } => {
            assert!(holder.ends_with(&format!("/{}", std::process::id())) && left <= Duration::from_millis(101));
        }
        mine @ Tenure::Mine { .. } => panic!("{mine:?}"),
    }
    second.release().await.unwrap();
    assert!(matches!(first.hold().await.unwrap(), Tenure::Mine { .. }), "only its own can be let go");
    let transaction = one.transaction().unwrap();
    let print = fingerprint(b"7").unwrap();
    let late = vec![first.enlist(Some(print)), result("out")];
    assert_eq!(commit(&transaction, late).await.unwrap(), Decision::Done);
    let late = transaction.prepare(vec![first.enlist(None), result("out")]).unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(second.hold().await.unwrap(), Tenure::Mine { fingerprint: Some(print), kept: false });
    assert_eq!(late.run().await.unwrap(), Decision::Fenced);
    assert_eq!(run::<u64>(&server, "XLEN out"), 1);
    assert!(key(&server, json!({ "lease": null })).await.lease().is_none());
}

#[tokio::test]
async fn a_value_that_was_seen_is_not_given_again_before_it_changes() {
    for options in [json!({}), json!({ "watch": "auto", "period": "1h" })] {
        let server = RedisServer::start_with(&["--notify-keyspace-events", "KA"]);
        let mut redis = server.connection();
        let () = redis.set("metrics", "{\"a\": 1}").unwrap();
        let mut source = key(&server, options).await;
        source.check().await.unwrap();
        source.resume(fingerprint(b"{\"a\":1}").unwrap());
        idles(&mut *source).await;
        let () = redis.set("metrics", "{\"a\": 2}").unwrap();
        assert_eq!(next(&mut *source, 1).await.events[0].payload, "{\"a\": 2}");

        // another process had it for a while, and has seen more, or less
        source.close().await.unwrap();
        for value in 3..50 {
            let () = redis.set("metrics", format!("{{\"a\": {value}}}")).unwrap();
        }
        source.resume(fingerprint(b"{\"a\":49}").unwrap());
        idles(&mut *source).await;
        source.close().await.unwrap();
        source.resume(fingerprint(b"{\"a\":48}").unwrap());
        let batch = next(&mut *source, 1).await;
        assert_eq!((&batch.events[0].payload[..], batch.skipped), (&b"{\"a\": 49}"[..], 0));
        // it was given here, but nothing is known of a commit
        source.close().await.unwrap();
        assert_eq!(next(&mut *source, 1).await.events[0].payload, "{\"a\": 49}");
    }
    let server = RedisServer::start();
    let () = server.connection().set("metrics", "1").unwrap();
    let mut source = key(&server, json!({ "trigger": "always" })).await;
    source.resume(fingerprint(b"1").unwrap());
    let batch = next(&mut *source, 1).await;
    assert_eq!(batch.events[0].fingerprint, Some(fingerprint(b"1").unwrap()));
}

/// The rules that the documentation names.
#[tokio::test]
async fn a_user_with_these_permissions_can_commit() {
    let server = RedisServer::start();
    let mut acl = redis::cmd("ACL");
    acl.arg("SETUSER").arg("worker").arg("on").arg(">s3cret").arg("~in").arg("~out").arg("~state").arg("~metrics");
    acl.arg("~gaugefn:*").arg("&told").arg("+@stream").arg("+get").arg("+set").arg("+publish").arg("+del");
    acl.arg("+pexpire").arg("+hget").arg("+hmget").arg("+hset").arg("+hdel").arg("+hgetall").arg("+type").arg("+time");
    acl.arg("+persist").arg("+evalsha").arg("+eval").arg("+script|load").arg("+client|id").arg("+client|unblock");
    let () = acl.query(&mut server.connection()).unwrap();
    let url = json!({ "url": format!("redis://worker:s3cret@127.0.0.1:{}/0", server.port()) });
    add(&server, 1..3);
    let (mut source, key) = (stream(&server, url.clone()).await, key(&server, url).await);
    let batch = next(&mut *source, 2).await;
    let (transaction, lease) = (source.transaction().unwrap(), key.lease().unwrap());
    assert_eq!(key.domain(), source.domain());
    assert!(matches!(lease.hold().await.unwrap(), Tenure::Mine { .. }));
    let writes = vec![
        Write::Set { key: "metrics".to_owned(), value: b"1".to_vec(), ttl: Some(PATIENCE) },
        Write::Publish { channel: "told".to_owned(), message: b"1".to_vec() },
    ];
    let fresh = StateWrite {
        key: "state".to_owned(),
        version: 1,
        clear: true,
        keep: Keep::For(PATIENCE),
        ..StateWrite::default()
    };
    let fence = lease.enlist(Some(fingerprint(b"1").unwrap()));
    let parts: Vec<Part> =
        vec![batch.receipt.enlist().unwrap(), result("out"), Box::new(writes), Box::new(vec![fresh]), fence];
    assert_eq!(commit(&transaction, parts).await.unwrap(), Decision::Done);
    lease.release().await.unwrap();
    assert_eq!((pending(&server).len(), run::<u64>(&server, "XLEN out")), (0, 1));
    let apart = ["in".to_owned(), "out".to_owned()];
    assert_eq!(transaction.obstacle(&apart).await.unwrap(), None, "who may not ask knows of none");
}
