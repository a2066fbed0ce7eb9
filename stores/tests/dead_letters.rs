//! Dead letters, in a file and in a stream of a real redis-server.
#![allow(clippy::unwrap_used)]

mod support;

use std::any::Any;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use redis::Commands;
use redis_link::commit::{Commit, Verdict, Write};
use redis_link::{Link, Settings};
use runtime_core::contract::{Blame, DeadLetters, Filed, Letter};
use runtime_core::{Kind, Site};
use serde_json::json;
use stores::dead_letters::{file, redis as stream};
use support::redis::RedisServer;

async fn build<K: Kind<Role = dyn DeadLetters>>(options: serde_json::Value) -> Box<dyn DeadLetters> {
    let config: K::Config = serde_json::from_value(options).unwrap();
    assert!(K::review(&config).is_empty());
    let (main_thread, _) = runtime_core::main_thread::pair();
    let stdout = Arc::new(fs::File::create("/dev/null").unwrap());
    K::build(config, &Site { function: "vm", shared: &[], main_thread, stdout }).await.unwrap()
}

async fn in_file(path: &Path) -> Box<dyn DeadLetters> {
    build::<file::File>(json!({ "path": path })).await
}

async fn in_redis(server: &RedisServer) -> Box<dyn DeadLetters> {
    build::<stream::Redis>(json!({ "url": server.url() })).await
}

fn letter(event: &str) -> Letter {
    Letter {
        event: event.to_owned(),
        payload: format!("{{\"n\": \"{event}\"}}").into(),
        original: None,
        error: "ValueError: no".to_owned(),
        report: Some("Traceback (most recent call last):\n  File \"f.py\", line 1".to_owned()),
        revision: Some("0123456789ab".to_owned()),
        attempts: 4,
        origin: "redis_stream events".to_owned(),
        failed_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_466_129_023),
    }
}

async fn all(letters: &dyn DeadLetters) -> Vec<Filed> {
    letters.list(None, 1000).await.unwrap()
}

fn events(filed: &[Filed]) -> Vec<&str> {
    filed.iter().map(|filed| filed.letter.event.as_str()).collect()
}

/// What is promised of every place.
async fn keeps_letters(place: &dyn DeadLetters) {
    assert_eq!(all(place).await, []);
    assert_eq!(place.get("1-0").await.unwrap(), None);
    assert_eq!(place.remove(&["1-0".to_owned()]).await.unwrap(), 0);
    let odd = Letter {
        payload: vec![0xff, b'\n', 0].into(),
        original: Some("[[\"raw\",{\"base64\":\"/woA\"}]]".to_owned()),
        report: None,
        revision: None,
        error: String::new(),
        ..letter("odd ü\n")
    };
    let sent = [letter("1"), odd, letter("3"), letter("4"), letter("5")];
    place.put(&[]).await.unwrap();
    place.put(&sent[..2]).await.unwrap();
    for letter in &sent[2..] {
        place.put(std::slice::from_ref(letter)).await.unwrap();
    }
    let filed = all(place).await;
    assert_eq!(filed.iter().map(|filed| filed.letter.clone()).collect::<Vec<_>>(), sent);
    assert_eq!(filed.iter().map(|filed| &filed.id).collect::<std::collections::BTreeSet<_>>().len(), 5);

    let first = place.list(None, 2).await.unwrap();
    let second = place.list(Some(&first[1].id), 2).await.unwrap();
    let third = place.list(Some(&second[1].id), 2).await.unwrap();
    assert_eq!([first, second, third].concat(), filed);
    for one in &filed {
        assert_eq!(place.get(&one.id).await.unwrap().as_ref(), Some(one));
    }
    for no_id in ["", "7", "no id", "9999999999999-7", "-", "+"] {
        assert_eq!(place.get(no_id).await.unwrap(), None, "{no_id}");
    }

    let ids = [&filed[1].id, &filed[3].id, "no id", "9999999999999-7"].map(str::to_owned);
    assert_eq!(place.remove(&ids).await.unwrap(), 2);
    assert_eq!(place.remove(&ids).await.unwrap(), 0);
    assert_eq!(events(&all(place).await), ["1", "3", "5"]);
    // the next one comes last, also after the last one has gone
    assert_eq!(place.remove(&[filed[4].id.clone()]).await.unwrap(), 1);
    place.put(&[letter("6")]).await.unwrap();
    assert_eq!(events(&place.list(Some(&filed[2].id), 9).await.unwrap()), ["6"]);
    assert_eq!(events(&all(place).await), ["1", "3", "6"]);
}

#[tokio::test]
async fn a_file_keeps_letters() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.dead");
    let place = in_file(&path).await;
    assert_eq!(all(&*place).await, []);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "who only looks makes no files");
    keeps_letters(&*place).await;
    assert_eq!((place.domain(), place.enlist(&[letter("1")]).is_none()), (None, true));
    let text = fs::read_to_string(&path).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["id", "event", "failed_at", "attempts", "origin", "revision", "error", "traceback", "payload"]);
    assert_eq!((&line["failed_at"], &line["payload"]), (&json!("2026-11-23T20:35:29.023Z"), &json!("{\"n\": \"1\"}")));
    assert!(!folder.path().join("vm.dead.tmp").exists());
}

#[tokio::test]
async fn a_stream_keeps_letters() {
    let server = RedisServer::start();
    let place = in_redis(&server).await;
    keeps_letters(&*place).await;
    assert_eq!(place.keys(), ["gaugefn:dead:{vm}"]);
    assert_eq!(place.describe(), format!("the stream 'gaugefn:dead:{{vm}}' of redis at 127.0.0.1:{}", server.port()));
}

#[tokio::test]
async fn a_line_that_is_cut_off_anywhere_is_no_letter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.dead");
    let place = in_file(&path).await;
    place.put(&[letter("1")]).await.unwrap();
    let first = fs::read(&path).unwrap().len();
    place.put(&[letter("2")]).await.unwrap();
    let whole = fs::read(&path).unwrap();
    // without its line break alone it is complete
    for length in first..whole.len() - 1 {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(events(&all(&*place).await), ["1"], "{length}");
        place.put(&[letter("3")]).await.unwrap();
        let filed = all(&*place).await;
        assert_eq!(events(&filed), ["1", "3"], "{length}");
        // the half goes as soon as the file is written anew
        assert_eq!(place.remove(&[filed[0].id.clone()]).await.unwrap(), 1);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1, "{length}");
    }
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    place.put(&[letter("3")]).await.unwrap();
    assert_eq!(events(&all(&*place).await), ["1", "2", "3"]);
}

#[tokio::test]
async fn lines_of_somebody_else_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.dead");
    fs::write(&path, "hello\n\n{\"id\":\"5-0\",\"payload\":\"{}\"}\n").unwrap();
    let place = in_file(&path).await;
    place.put(&[letter("1")]).await.unwrap();
    let filed = all(&*place).await;
    assert_eq!((filed.len(), filed[0].id.as_str(), filed[0].letter.attempts), (2, "5-0", 0));
    assert_eq!(place.remove(&["5-0".to_owned()]).await.unwrap(), 1);
    assert!(fs::read_to_string(&path).unwrap().starts_with("hello\n{\"id\":\""));
    assert_eq!(events(&all(&*place).await), ["1"]);
}

/// A clock that is put back must not make a letter older than those before it.
#[tokio::test]
async fn ids_of_a_file_ascend() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.dead");
    fs::write(&path, "{\"id\":\"99999999999999-7\",\"payload\":\"{}\"}\n").unwrap();
    let place = in_file(&path).await;
    let large = Letter { payload: "x".repeat(100_000).into(), ..letter("2") };
    place.put(&[letter("1"), large]).await.unwrap();
    place.put(&[letter("3")]).await.unwrap();
    let ids: Vec<_> = all(&*place).await.into_iter().map(|filed| filed.id).collect();
    assert_eq!(ids, ["99999999999999-7", "99999999999999-8", "99999999999999-9", "99999999999999-10"]);
}

#[tokio::test]
async fn several_may_write_one_file() {
    const EACH: usize = 50;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.dead");
    let writers = ["a", "b", "c"].map(|name| {
        let path = path.clone();
        tokio::spawn(async move {
            let place = in_file(&path).await;
            for number in 0..EACH {
                place.put(&[letter(&format!("{name}{number}")), letter("gone")]).await.unwrap();
                let gone: Vec<_> =
                    all(&*place).await.into_iter().filter(|filed| filed.letter.event == "gone").collect();
                let ids: Vec<_> = gone.into_iter().map(|filed| filed.id).collect();
                place.remove(&ids).await.unwrap();
            }
        })
    });
    for writer in writers {
        writer.await.unwrap();
    }
    let filed = all(&*in_file(&path).await).await;
    let mut kept: Vec<_> = events(&filed);
    kept.sort_unstable();
    kept.dedup();
    assert_eq!((kept.len(), filed.len()), (3 * EACH, 3 * EACH));
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent/vm.dead");
    let place = in_file(&path).await;
    let fault = place.put(&[letter("1")]).await.unwrap_err();
    assert_eq!(
        fault.to_string(),
        format!(
            "dead letters' file '{}.lock': its folder does not exist; make it, or name another path",
            path.display()
        )
    );
    assert_eq!((fault.blame(), fault.retry()), (Blame::File, false));

    // a full disk may have room again
    let full = folder.path().join("full");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    let fault = in_file(&full).await.put(&[letter("1")]).await.unwrap_err();
    assert_eq!(fault.to_string(), format!("cannot write dead letters' file '{}': check its disk", full.display()));
    assert!(fault.retry());

    let path = folder.path().join("vm.dead");
    let lock = fs::File::create(folder.path().join("vm.dead.lock")).unwrap();
    lock.lock().unwrap();
    let place = in_file(&path).await;
    let fault = place.put(&[letter("1")]).await.unwrap_err();
    assert_eq!(
        fault.to_string(),
        format!(
            "dead letters' file '{}' has been locked by another process for 2 s: end that one, or wait for it",
            path.display()
        )
    );
    assert!(fault.retry());
    drop(lock);
    place.put(&[letter("1")]).await.unwrap();
}

#[tokio::test]
async fn a_transaction_adds_what_is_enlisted() {
    let server = RedisServer::start();
    let place = in_redis(&server).await;
    let writes = place.enlist(&[letter("1"), letter("2")]).unwrap().downcast::<Vec<Write>>().unwrap();
    let link = Link::new(Settings::default().resolve(Some(&server.url())).unwrap());
    let commit = Commit { writes: *writes, ..Commit::default() };
    assert_eq!(commit.run(&link).await.unwrap(), Verdict::Done);
    assert_eq!(events(&all(&*place).await), ["1", "2"]);
    assert!(place.domain().is_some());
    let fields: Vec<(String, Vec<(String, String)>)> = server
        .connection()
        .xrange_all("gaugefn:dead:{vm}")
        .map(|reply: redis::streams::StreamRangeReply| {
            let entry = |entry: redis::streams::StreamId| {
                let mut fields: Vec<_> = entry
                    .map
                    .into_iter()
                    .map(|(name, value)| (name, redis::from_redis_value(value).unwrap()))
                    .collect();
                fields.sort();
                (entry.id, fields)
            };
            reply.ids.into_iter().map(entry).collect()
        })
        .unwrap();
    let names: Vec<_> = fields[0].1.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["attempts", "error", "event", "failed_at", "origin", "payload", "revision", "traceback"]);
    assert_eq!(fields[0].1[3].1, "2026-11-23T20:35:29.023Z");
}

#[tokio::test]
async fn letters_are_fed_back_once() {
    let server = RedisServer::start();
    let place = in_redis(&server).await;
    place.put(&[letter("1"), letter("2"), letter("3")]).await.unwrap();
    let filed = all(&*place).await;
    let parts = |filed: &[Filed]| -> Vec<(String, Box<dyn Any + Send>)> {
        let part = |filed: &Filed| {
            let fields = vec![(b"data".to_vec(), filed.letter.payload.to_vec())];
            let write = Write::Add { stream: "events".to_owned(), max_length: 0, fields };
            (filed.id.clone(), Box::new(vec![write]) as Box<dyn Any + Send>)
        };
        filed.iter().map(part).collect()
    };
    assert_eq!(place.feed_back(parts(&filed[..2])).await.unwrap(), 2);
    // one of them is gone already
    assert_eq!(place.feed_back(parts(&filed[1..])).await.unwrap(), 1);
    assert_eq!(all(&*place).await, []);
    let length: usize = server.connection().xlen("events").unwrap();
    assert_eq!(length, 3);
    let fault = place.feed_back(vec![("1-0".to_owned(), Box::new(5) as Box<dyn Any + Send>)]).await.unwrap_err();
    assert_eq!(fault.blame(), Blame::Internal);
}

#[tokio::test]
async fn what_is_no_stream_of_letters_is_named() {
    let mut server = RedisServer::start();
    let mut redis = server.connection();
    let place = in_redis(&server).await;
    let () = redis.set("gaugefn:dead:{vm}", "x").unwrap();
    for fault in [place.put(&[letter("1")]).await.unwrap_err(), place.list(None, 1).await.unwrap_err()] {
        assert!(fault.retry() && fault.to_string().contains("'gaugefn:dead:{vm}'"), "{fault}");
    }
    let () = redis.del("gaugefn:dead:{vm}").unwrap();
    let _: String = redis.xadd("gaugefn:dead:{vm}", "5-0", &[("hello", "you")]).unwrap();
    assert_eq!(
        place.list(None, 1).await.unwrap_err().to_string(),
        "entry 5-0 of the stream 'gaugefn:dead:{vm}' is no dead letter, as it has no field 'payload': remove it, or name \
         another stream"
    );
    assert_eq!(place.remove(&["5-0".to_owned()]).await.unwrap(), 1);
    let _: String = redis.xadd("gaugefn:dead:{vm}", "6-0", &[("payload", "{}")]).unwrap();
    let filed = all(&*place).await;
    assert_eq!(filed[0].letter.failed_at, SystemTime::UNIX_EPOCH + Duration::from_millis(6));
    server.kill9();
    assert!(place.put(&[letter("1")]).await.unwrap_err().retry());
}

#[tokio::test]
async fn only_what_is_asked_for_is_dropped() {
    let server = RedisServer::start();
    let place = build::<stream::Redis>(json!({ "url": server.url(), "stream": "dead", "max_length": 100 })).await;
    let many: Vec<_> = (0..1000).map(|number| letter(&number.to_string())).collect();
    place.put(&many).await.unwrap();
    let length: usize = server.connection().xlen("dead").unwrap();
    assert!((100..300).contains(&length), "{length}");
}

#[tokio::test]
async fn a_look_tells_whether_letters_could_be_kept_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.dead");
    in_file(&path).await.check().await.unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "who only looks makes no files");
    let place = in_file(&path).await;
    place.put(&[letter("1")]).await.unwrap();
    place.check().await.unwrap();
    assert_eq!(events(&all(&*place).await), ["1"]);

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let fault = place.check().await.unwrap_err();
    assert_eq!(
        fault.to_string(),
        format!(
            "cannot write dead letters' file '{}': it is a folder; name a file in it, or another path",
            path.display()
        )
    );
    assert!(fault.retry());
    fs::remove_dir(&path).unwrap();
    place.check().await.unwrap();

    let missing = folder.path().join("none/vm.dead");
    let fault = in_file(&missing).await.check().await.unwrap_err();
    assert_eq!((fault.blame(), fault.retry()), (Blame::File, false));
    assert_eq!(
        fault.to_string(),
        format!("dead letters' file '{}': its folder does not exist; make it, or name another path", missing.display())
    );
}

#[tokio::test]
async fn a_look_tells_whether_letters_could_be_kept_in_a_stream() {
    let server = RedisServer::start();
    let place = in_redis(&server).await;
    place.check().await.unwrap();
    let mut redis = server.connection();
    let there: bool = redis.exists("gaugefn:dead:{vm}").unwrap();
    assert!(!there, "who only looks makes no stream");
    let () = redis.set("gaugefn:dead:{vm}", "x").unwrap();
    let fault = place.check().await.unwrap_err();
    assert!(fault.to_string().contains("'gaugefn:dead:{vm}'") && fault.retry(), "{fault}");
    let () = redis.del("gaugefn:dead:{vm}").unwrap();
    place.put(&[letter("1")]).await.unwrap();
    place.check().await.unwrap();
}

/// What the server of the source took, that of the letters takes as well: in parts, and at the very least its beginning.
#[tokio::test]
async fn a_letter_that_is_too_large_is_kept_in_parts() {
    let large =
        |payload: Vec<u8>| Letter { payload: payload.into(), original: Some("\u{e9}".repeat(1 << 20)), ..letter("2") };
    let payload: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let server = RedisServer::start_with(&["--proto-max-bulk-len", "1048576"]);
    let place = in_redis(&server).await;
    place.put(&[letter("1"), large(payload.clone()), letter("3")]).await.unwrap();
    let filed = all(&*place).await;
    assert_eq!(events(&filed), ["1", "2", "3"]);
    assert!(filed[1].letter == large(payload.clone()), "nothing is missing");
    assert!(place.get(&filed[1].id).await.unwrap().unwrap().letter.payload == payload, "nor of one alone");

    let tight = RedisServer::start_with(&["--client-query-buffer-limit", "1mb"]);
    let place = in_redis(&tight).await;
    place.put(&[large(payload.clone())]).await.unwrap();
    assert!(all(&*place).await[0].letter == large(payload), "nothing is missing");
}

/// However large they are, no more are read at once than memory bears.
#[tokio::test]
async fn large_letters_are_read_few_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = RedisServer::start();
    let large = |event: &str| Letter { payload: vec![b'x'; 3 << 20].into(), ..letter(event) };
    for place in [in_file(&folder.path().join("vm.dead")).await, in_redis(&server).await] {
        let names: Vec<String> = (0..7).map(|number| number.to_string()).collect();
        for name in &names {
            place.put(&[large(name)]).await.unwrap();
        }
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = place.list(after.as_deref(), 100).await.unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= 4, "{} letters of 3 MiB at once", page.len());
            after = Some(last.id.clone());
            seen.extend(page.into_iter().map(|filed| filed.letter.event));
        }
        assert_eq!(seen, names);
    }
}
