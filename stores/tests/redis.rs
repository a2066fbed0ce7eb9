//! The state store `redis` against a real redis-server.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis::Commands;
use redis_link::commit::{Commit, Fence, StateWrite, Verdict};
use redis_link::{Link, Settings};
use runtime_core::change::fingerprint;
use runtime_core::contract::{Env, Saved, StateKey, StateStore, Tenure, Versioned};
use runtime_core::{Fault, Kind, Site};
use serde_json::json;
use stores::redis::{Config, Redis};
use support::redis::RedisServer;

async fn store(server: &RedisServer, options: serde_json::Value) -> Box<dyn StateStore> {
    let mut table = json!({ "url": server.url() });
    table.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let config: Config = serde_json::from_value(table).unwrap();
    assert!(Redis::review(&config).is_empty());
    let (main_thread, _) = runtime_core::main_thread::pair();
    let stdout = Arc::new(std::fs::File::create("/dev/null").unwrap());
    Redis::build(config, &Site { function: "vm", shared: &[], main_thread, stdout }).await.unwrap()
}

fn state(version: u64, entries: &[(&str, &str)]) -> Versioned {
    let entry = |(key, value): &(&str, &str)| ((*key).to_owned().into(), (*value).to_owned().into());
    Versioned { version, life: 5, env: Env(entries.iter().map(entry).collect()), ..Versioned::default() }
}

fn key(key: &str) -> StateKey {
    StateKey(Some(key.to_owned()))
}

const ALONE: StateKey = StateKey(None);

async fn load(store: &dyn StateStore, key: &StateKey) -> Option<Versioned> {
    let state = store.load(std::slice::from_ref(key)).await.unwrap().remove(0).unwrap();
    // how long it still has is up to the clock
    state.map(|state| Versioned { left: None, ..state })
}

/// Why what lies there is no state.
async fn refused(store: &dyn StateStore) -> Fault {
    store.load(&[ALONE]).await.unwrap().remove(0).unwrap_err()
}

fn hash(server: &RedisServer, key: &str) -> BTreeMap<String, String> {
    server.connection().hgetall(key).unwrap()
}

#[tokio::test]
async fn a_state_comes_back_whole_and_in_order() {
    let server = RedisServer::start();
    let first = store(&server, json!({})).await;
    assert!(first.durable() && first.domain().is_some());
    assert_eq!(load(&*first, &ALONE).await, None);
    // more than a small hash keeps in order
    let keys: Vec<String> = (0..300).rev().map(|number| format!("\"key {number}\"")).collect();
    let entries: Vec<_> = keys.iter().map(|key| (key.as_str(), "[1]")).collect();
    let print = fingerprint(b"1").unwrap();
    let full = Versioned { fingerprint: Some(print), ..state(1, &entries) };
    assert_eq!(first.save(&[(ALONE, full.clone())]).await.unwrap(), Saved::Done);
    let second = store(&server, json!({})).await;
    assert_eq!(load(&*second, &ALONE).await, Some(full));
    let whole = state(2, &[("", "[1,2]")]);
    assert_eq!(second.save(&[(ALONE, whole.clone())]).await.unwrap(), Saved::Done);
    assert_eq!(load(&*first, &ALONE).await, Some(whole));
    let hash = hash(&server, "gaugefn:state:{vm}");
    assert_eq!(hash.keys().collect::<Vec<_>>(), ["e:", "format", "l", "o", "t", "v"]);
    assert_eq!((&*hash["e:"], &*hash["v"]), ("[1,2]", "2"));
}

#[tokio::test]
async fn only_what_has_changed_is_written() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let store = store(&server, json!({ "prefix": "s" })).await;
    let save = async |state: Versioned| assert_eq!(store.save(&[(ALONE, state)]).await.unwrap(), Saved::Done);
    save(state(1, &[("\"a\"", "1"), ("\"b\"", "2"), ("\"c\"", "3")])).await;
    // whoever wrote it again would write over this
    let () = redis.hset("s", "e:\"a\"", "mark").unwrap();
    save(state(2, &[("\"a\"", "1"), ("\"b\"", "4")])).await;
    let hash = hash(&server, "s");
    assert_eq!((&*hash["e:\"a\""], &*hash["e:\"b\""], hash.contains_key("e:\"c\"")), ("mark", "4", false));
    // known again after a load
    assert_eq!(load(&*store, &ALONE).await.unwrap(), state(2, &[("\"a\"", "mark"), ("\"b\"", "4")]));
}

#[tokio::test]
async fn one_hash_for_each_value() {
    let server = RedisServer::start();
    let store = store(&server, json!({ "prefix": "{tag}:s" })).await;
    let keys = [key("h1"), ALONE, key("h 2:x")];
    let states: Vec<_> = keys.iter().cloned().zip(["1", "2", "3"].map(|value| state(1, &[("\"a\"", value)]))).collect();
    assert_eq!(store.save(&states).await.unwrap(), Saved::Done);
    let expected: Vec<_> = states.into_iter().map(|(_, state)| Some(state)).collect();
    let found: Vec<_> = store.load(&keys).await.unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(found, expected);
    assert_eq!(hash(&server, "{tag}:s:h 2:x")["e:\"a\""], "3");
    let mut found: Vec<String> = server.connection().keys("*").unwrap();
    found.sort();
    assert_eq!(found, ["{tag}:s", "{tag}:s:h 2:x", "{tag}:s:h1"]);
}

#[tokio::test]
async fn a_save_builds_on_what_was_loaded() {
    let server = RedisServer::start();
    let (one, two) = (store(&server, json!({})).await, store(&server, json!({})).await);
    let set = |version, value| vec![(key("a"), state(version, &[("1", value)])), (key("b"), state(1, &[]))];
    assert_eq!(one.save(&[(key("a"), state(1, &[("1", "1")]))]).await.unwrap(), Saved::Done);
    assert_eq!(two.save(&set(1, "2")).await.unwrap(), Saved::Stale(vec![key("a")]));
    assert_eq!(load(&*two, &key("b")).await, None, "none of them is saved");
    assert_eq!(two.save(&set(2, "2")).await.unwrap(), Saved::Done);
    // what one believes to be there is not
    assert_eq!(
        one.save(&[(key("a"), state(2, &[("1", "1"), ("2", "2")]))]).await.unwrap(),
        Saved::Stale(vec![key("a")])
    );
    assert_eq!(one.save(&[(key("a"), state(3, &[("2", "2")]))]).await.unwrap(), Saved::Done);
    assert_eq!(load(&*two, &key("a")).await, Some(state(3, &[("2", "2")])));
}

#[tokio::test]
async fn a_save_whose_answer_was_lost_is_recognised() {
    let server = RedisServer::start();
    let store = store(&server, json!({})).await;
    for version in 1..4 {
        let states = [(ALONE, state(version, &[("1", "1")])), (key("a"), state(version, &[]))];
        for _ in 0..3 {
            assert_eq!(store.save(&states).await.unwrap(), Saved::Done);
        }
    }
    // another content is another save
    assert_eq!(store.save(&[(ALONE, state(3, &[("1", "2")]))]).await.unwrap(), Saved::Stale(vec![ALONE]));
}

#[tokio::test]
async fn a_transaction_saves_what_is_enlisted() {
    let server = RedisServer::start();
    let store = store(&server, json!({})).await;
    let link = Link::new(Settings::default().resolve(Some(&server.url())).unwrap());
    let commit = async |states: &[(StateKey, Versioned)]| {
        let writes = store.enlist(states).unwrap().unwrap().downcast::<Vec<StateWrite>>().unwrap();
        let commit = Commit { states: (*writes).clone(), ..Commit::default() };
        assert_eq!(commit.run(&link).await.unwrap(), Verdict::Done);
        store.enlisted(states);
        writes
    };
    commit(&[(ALONE, state(1, &[("1", "1"), ("2", "2")]))]).await;
    let writes = commit(&[(ALONE, state(2, &[("1", "1"), ("2", "3")]))]).await;
    assert_eq!(writes[0].set, [(b"e:2".to_vec(), b"3".to_vec())]);
    assert_eq!(load(&*store, &ALONE).await, Some(state(2, &[("1", "1"), ("2", "3")])));
}

#[tokio::test]
async fn one_process_has_the_state_for_all() {
    let server = RedisServer::start();
    let (one, two) = (store(&server, json!({ "lease": "200ms" })).await, store(&server, json!({})).await);
    assert_eq!(one.keys(), ["gaugefn:state:{vm}", "gaugefn:state:{vm}:lease"]);
    let (first, second) = (one.lease().unwrap(), two.lease().unwrap());
    assert_eq!((first.term().as_millis(), second.term().as_secs()), (200, 10));
    assert_eq!(first.hold().await.unwrap(), Tenure::Mine { fingerprint: None, kept: false });
    assert_eq!(one.lease().unwrap().hold().await.unwrap(), Tenure::Mine { fingerprint: None, kept: true });
    assert!(matches!(second.hold().await.unwrap(), Tenure::Other { .. }));

    // a commit with the lease, and one without it
    let link = Link::new(Settings::default().resolve(Some(&server.url())).unwrap());
    let print = fingerprint(b"1").unwrap();
    let fence = first.enlist(Some(print)).downcast::<Fence>().unwrap();
    let writes =
        one.enlist(&[(ALONE, state(1, &[("1", "1")]))]).unwrap().unwrap().downcast::<Vec<StateWrite>>().unwrap();
    let commit = Commit { fences: vec![*fence], states: *writes, ..Commit::default() };
    assert_eq!(commit.run(&link).await.unwrap(), Verdict::Done);
    first.release().await.unwrap();
    assert_eq!(second.hold().await.unwrap(), Tenure::Mine { fingerprint: Some(print), kept: false });
    assert_eq!(commit.run(&link).await.unwrap(), Verdict::Fenced);
    // the lease is no state
    assert_eq!(load(&*two, &key("\"lease\"")).await, None);
    assert_eq!(load(&*two, &ALONE).await, Some(state(1, &[("1", "1")])));
}

#[tokio::test]
async fn a_state_is_kept_as_long_as_configured() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let store = store(&server, json!({ "ttl": "1m" })).await;
    assert_eq!(store.save(&[(ALONE, state(1, &[]))]).await.unwrap(), Saved::Done);
    let left: i64 = redis.pttl("gaugefn:state:{vm}").unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    let () = redis.del("gaugefn:state:{vm}").unwrap();
    // expired meanwhile: a new one begins, and nothing of the old one is taken for granted
    assert_eq!(store.save(&[(ALONE, state(2, &[]))]).await.unwrap(), Saved::Stale(vec![ALONE]));
    assert_eq!(load(&*store, &ALONE).await, None);
    assert_eq!(store.save(&[(ALONE, state(1, &[("1", "1")]))]).await.unwrap(), Saved::Done);
    assert_eq!(load(&*store, &ALONE).await, Some(state(1, &[("1", "1")])));
}

#[tokio::test]
async fn an_option_that_was_taken_out_keeps_states_for_good() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let bounded = store(&server, json!({ "ttl": "1m" })).await;
    assert_eq!(bounded.save(&[(ALONE, state(1, &[("1", "1")]))]).await.unwrap(), Saved::Done);
    let left = bounded.load(&[ALONE]).await.unwrap().remove(0).unwrap().unwrap().left.unwrap();
    assert!(left > Duration::from_secs(30) && left <= Duration::from_secs(60), "{left:?}");
    let endless = store(&server, json!({})).await;
    assert_eq!(load(&*endless, &ALONE).await, Some(state(1, &[("1", "1")])));
    assert_eq!(endless.save(&[(ALONE, state(2, &[("1", "1")]))]).await.unwrap(), Saved::Done);
    assert_eq!(redis.pttl::<_, i64>("gaugefn:state:{vm}").unwrap(), -1);
}

/// Both began with version 1 as the state before was gone.
#[tokio::test]
async fn two_processes_do_not_mix_two_lives_of_a_state() {
    let server = RedisServer::start();
    let (one, two) = (store(&server, json!({})).await, store(&server, json!({})).await);
    let other = |version, entries: &[(&str, &str)]| Versioned { life: 6, ..state(version, entries) };
    assert_eq!(one.save(&[(ALONE, state(1, &[("\"a\"", "1")]))]).await.unwrap(), Saved::Done);
    let () = server.connection().del("gaugefn:state:{vm}").unwrap();
    assert_eq!(two.save(&[(ALONE, other(1, &[("\"b\"", "1")]))]).await.unwrap(), Saved::Done);
    let late = [(ALONE, state(2, &[("\"a\"", "2")]))];
    assert_eq!(one.save(&late).await.unwrap(), Saved::Stale(vec![ALONE]));
    assert_eq!(load(&*one, &ALONE).await, Some(other(1, &[("\"b\"", "1")])));
}

#[tokio::test]
async fn a_key_that_holds_something_else_is_the_trouble_of_that_key_alone() {
    let server = RedisServer::start();
    let store = store(&server, json!({ "prefix": "s" })).await;
    let () = server.connection().set("s:1", "text").unwrap();
    let () = server.connection().hset("s:2", "a", "no state").unwrap();
    assert_eq!(store.save(&[(key("3"), state(1, &[]))]).await.unwrap(), Saved::Done);
    let mut found = store.load(&[key("1"), key("2"), key("3"), key("4")]).await.unwrap().into_iter();
    let fault = found.next().unwrap().unwrap_err();
    assert!(fault.retry() && fault.to_string().contains("holds no hash under 's:1'"), "{fault}");
    let fault = found.next().unwrap().unwrap_err();
    assert!(!fault.retry() && fault.to_string().starts_with("key 's:2' holds no state of a function"), "{fault}");
    let rest: Vec<_> = found.map(Result::unwrap).collect();
    assert_eq!(rest, [Some(state(1, &[])), None]);
    let mixed = [(key("3"), state(2, &[])), (key("1"), state(1, &[]))];
    assert_eq!(store.save(&mixed).await.unwrap(), Saved::Stale(vec![key("1")]));
}

#[tokio::test]
async fn what_cannot_be_is_named() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let () = redis.set("text", "x").unwrap();
    let () = redis.hset("hash", "a", "x").unwrap();
    let place = format!("127.0.0.1:{}", server.port());
    let text = store(&server, json!({ "prefix": "text" })).await;
    let said = format!(
        "redis at {place} holds no hash under 'text', as HGETALL expects (WRONGTYPE): delete the key or name another"
    );
    let fault = refused(&*text).await;
    assert_eq!((fault.to_string(), fault.retry()), (said, true));
    assert_eq!(text.save(&[(ALONE, state(1, &[]))]).await.unwrap(), Saved::Stale(vec![ALONE]), "a load says why");

    let hash = store(&server, json!({ "prefix": "hash" })).await;
    let fault = refused(&*hash).await;
    let said = "key 'hash' holds no state of a function: its field 'v' is no version; delete it to begin with an empty \
                state, or set state.prefix";
    assert_eq!((fault.to_string().as_str(), fault.retry()), (said, false));

    for (field, value) in [("v", "007"), ("v", "+7"), ("l", "05"), ("l", "text"), ("l", "")] {
        let edited = store(&server, json!({ "prefix": "edited" })).await;
        let () = redis.del("edited").unwrap();
        assert_eq!(edited.save(&[(ALONE, state(1, &[]))]).await.unwrap(), Saved::Done);
        let () = redis.hset("edited", field, value).unwrap();
        let fault = refused(&*edited).await;
        let said = fault.to_string();
        assert!(!fault.retry() && said.starts_with("key 'edited' holds no state"), "{said}");
        assert!(said.contains(&format!("its field '{field}' is no ")) && said.contains("delete"), "{said}");
    }
    // what the sentence says to do about the last one
    let () = redis.hdel("edited", "l").unwrap();
    let edited = store(&server, json!({ "prefix": "edited" })).await;
    let found = load(&*edited, &ALONE).await.unwrap();
    assert_eq!((found.version, found.life), (1, 0));
    assert_eq!(edited.save(&[(ALONE, Versioned { version: 2, ..found })]).await.unwrap(), Saved::Done);

    let () = redis.hset_multiple("newer", &[("v", "3"), ("format", "2")]).unwrap();
    let newer = store(&server, json!({ "prefix": "newer" })).await;
    let fault = refused(&*newer).await;
    assert!(fault.to_string().starts_with("key 'newer' holds a state of format 2, written by a newer"), "{fault}");
    assert!(!fault.retry());

    let small = store(&server, json!({ "max_bytes": 10 })).await;
    let large = [(ALONE, state(1, &[("\"a\"", "\"0123456789\"")]))];
    for fault in
        [small.check(&large).unwrap_err(), small.save(&large).await.unwrap_err(), small.enlist(&large).err().unwrap()]
    {
        assert!(fault.to_string().contains("under the key \"a\"") && !fault.retry(), "{fault}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_a_fault_that_may_pass() {
    let mut server = RedisServer::start();
    let store = store(&server, json!({})).await;
    assert_eq!(store.save(&[(ALONE, state(1, &[]))]).await.unwrap(), Saved::Done);
    server.kill9();
    assert!(store.load(&[ALONE]).await.unwrap_err().retry());
    assert!(store.save(&[(ALONE, state(2, &[]))]).await.unwrap_err().retry());
    server.restart();
    assert_eq!(load(&*store, &ALONE).await, None);
}
