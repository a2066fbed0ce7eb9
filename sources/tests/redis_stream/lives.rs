//! Streams that take the place of the one that was read, with entries beyond its last one before anybody looks.

use super::*;

/// All of these commands at once, so that nobody sees the stream in between.
fn at_once(server: &RedisServer, first: &[&str], numbers: std::ops::Range<usize>) {
    let mut together = redis::pipe();
    together.atomic().cmd(first[0]).arg(&first[1..]).ignore();
    for number in numbers {
        let (id, data) = (format!("{number}-0"), format!("again {number}"));
        together.cmd("XADD").arg("in").arg(id).arg("data").arg(data).ignore();
    }
    let () = together.query(&mut server.connection()).unwrap();
}

/// The ids of what comes, until so many have; all of it is settled.
async fn taken(source: &mut dyn Source, count: usize) -> Vec<String> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = next(source, 100).await;
        taken.extend(ids(&batch).into_iter().map(str::to_owned));
        settle(batch).await;
    }
    taken
}

fn numbered(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{number}-0")).collect()
}

/// One that has read five entries, and has two more in work.
async fn busy(server: &RedisServer) -> (Box<dyn Source>, Batch) {
    add(server, 1..8);
    let mut source = source(server, json!({})).await;
    assert_eq!(taken(&mut *source, 5).await.len(), 7);
    add(server, 8..10);
    let held = next(&mut *source, 2).await;
    assert_eq!(ids(&held), ["8-0", "9-0"]);
    (source, held)
}

#[tokio::test]
async fn every_entry_of_a_server_that_was_emptied_is_read() {
    let server = RedisServer::start();
    let (mut source, held) = busy(&server).await;
    at_once(&server, &["FLUSHALL"], 1..31);
    // those of the ids that are still in work come when they are not any more
    let others: Vec<_> = numbered(1..8).into_iter().chain(numbered(10..31)).collect();
    assert_eq!(taken(&mut *source, 28).await, others);
    idles(&mut *source, Duration::from_millis(100)).await;
    // and are none of what was in work
    settle(held).await;
    assert_eq!(taken(&mut *source, 2).await, numbered(8..10));
    idles(&mut *source, Duration::from_millis(100)).await;
    assert_eq!(pending(&server), []);
}

#[tokio::test]
async fn every_entry_of_a_stream_that_was_deleted_alone_is_read() {
    // of the same ids with other contents; where the newest that was read is not there; from an earlier one on
    for numbers in [1..31, 10..40] {
        let server = RedisServer::start();
        let (mut source, held) = busy(&server).await;
        drop(held);
        at_once(&server, &["DEL", "in"], numbers.clone());
        assert_eq!(taken(&mut *source, numbers.len()).await, numbered(numbers));
    }
}

#[tokio::test]
async fn every_entry_of_a_stream_that_was_renamed_over_it_is_read() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    for number in 5..30 {
        let _: String = redis.xadd("next", format!("{number}-0"), &[("data", "x")]).unwrap();
    }
    let (mut source, held) = busy(&server).await;
    drop(held);
    run(&server, "RENAME next in");
    assert_eq!(taken(&mut *source, 25).await, numbered(5..30));
}

/// Who comes later has to take it for another one as well, whatever it knows itself.
#[tokio::test]
async fn all_processes_of_a_group_begin_anew() {
    let server = RedisServer::start();
    let (mut one, held) = busy(&server).await;
    settle(held).await;
    let mut two = source(&server, json!({ "consumer": "b" })).await;
    join(&mut *two).await;
    add(&server, 10..12);
    assert_eq!(taken(&mut *two, 2).await, numbered(10..12));
    at_once(&server, &["FLUSHALL"], 1..21);
    let first = next(&mut *one, 15).await;
    assert_eq!(ids(&first).len(), 15);
    let mut all = taken(&mut *two, 5).await;
    all.extend(ids(&first).into_iter().map(str::to_owned));
    settle(first).await;
    all.sort_by_key(|id| id.trim_end_matches("-0").parse::<u64>().unwrap());
    assert_eq!(all, numbered(1..21));
}

/// A copy has its group, which has given out what it had then.
#[tokio::test]
async fn an_old_copy_gives_out_again_what_it_had_not_given() {
    let server = RedisServer::start();
    add(&server, 1..4);
    let mut source = source(&server, json!({})).await;
    assert_eq!(taken(&mut *source, 3).await, numbered(1..4));
    let copy: Vec<u8> = redis::cmd("DUMP").arg("in").query(&mut server.connection()).unwrap();
    add(&server, 4..6);
    assert_eq!(taken(&mut *source, 2).await, numbered(4..6));
    let mut restore = redis::pipe();
    restore.atomic().cmd("RESTORE").arg("in").arg(0).arg(&copy[..]).arg("REPLACE").ignore();
    for number in 4..9 {
        restore.cmd("XADD").arg("in").arg(format!("{number}-0")).arg("data").arg(number).ignore();
    }
    let () = restore.query(&mut server.connection()).unwrap();
    assert_eq!(taken(&mut *source, 5).await, numbered(4..9));
    assert_eq!(pending(&server), []);
}
