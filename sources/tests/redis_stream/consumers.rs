//! Consumers that somebody deletes from their group while entries of theirs are in work.

use runtime_core::contract::Decision;

use super::*;

/// What becomes of the batch's acknowledgement as a part of a transaction.
async fn commit(source: &dyn Source, batch: &Batch) -> Decision {
    source.transaction().unwrap().prepare(vec![batch.receipt.enlist().unwrap()]).unwrap().run().await.unwrap()
}

/// Waits until these are pending with this consumer, and no others.
async fn wait_pending(server: &RedisServer, owner: &str, ids: &[&str]) {
    let wanted: Vec<_> = ids.iter().map(|id| (id.to_string(), owner.to_owned())).collect();
    let arrives = async {
        loop {
            let now: Vec<_> = pending(server).into_iter().map(|(id, owner, _)| (id, owner)).collect();
            if now == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(PATIENCE, arrives).await.is_ok(), "{:?}, not {wanted:?}", pending(server));
}

#[tokio::test]
async fn entries_between_their_read_and_their_commit_are_committed_once() {
    for by_hand in [false, true] {
        let server = RedisServer::start();
        add(&server, 1..4);
        if by_hand {
            // a group without a mark
            run(&server, "XGROUP CREATE in vm 0");
        }
        let mut source = source(&server, json!({})).await;
        let batch = next(&mut *source, 10).await;
        run(&server, "XGROUP DELCONSUMER in vm a");
        // and one that the next read makes anew
        add(&server, 4..5);
        let second = next(&mut *source, 10).await;
        assert_eq!(commit(&*source, &batch).await, Decision::Done);
        assert_eq!(commit(&*source, &second).await, Decision::Done);
        drop((batch, second));
        idles(&mut *source, Duration::from_millis(100)).await;
        assert_eq!(pending(&server), []);
    }
}

#[tokio::test]
async fn what_is_in_work_is_pending_again_with_the_next_heartbeat() {
    let server = RedisServer::start();
    add(&server, 1..5);
    let mut source = source(&server, json!({ "claim_idle": "300ms" })).await;
    let (mut first, second) = (next(&mut *source, 2).await, next(&mut *source, 2).await);
    // one of it waits for its next attempt, one that was dropped comes again
    let waits = first.receipt.split(&[1]);
    drop(second.receipt);
    run(&server, "XGROUP DELCONSUMER in vm a");
    wait_pending(&server, "a", &["1-0", "2-0", "3-0", "4-0"]).await;
    settle(first).await;
    drop(waits);
    // a process that is killed then has lost nothing
    std::mem::forget(source);
    let mut successor = self::source(&server, json!({})).await;
    assert_eq!(ids(&next(&mut *successor, 10).await), ["2-0", "3-0", "4-0"]);
}

#[tokio::test]
async fn what_is_left_at_the_end_is_pending_for_others() {
    let server = RedisServer::start();
    add(&server, 1..4);
    let mut source = source(&server, json!({})).await;
    let batch = next(&mut *source, 10).await;
    run(&server, "XGROUP DELCONSUMER in vm a");
    drop(batch);
    source.close().await.unwrap();
    let mut other = self::source(&server, json!({ "consumer": "b" })).await;
    assert_eq!(ids(&next(&mut *other, 10).await), ["1-0", "2-0", "3-0"]);
}

/// Of what another one has claimed and done nothing comes again, although nobody has it any more.
#[tokio::test]
async fn entries_that_others_have_claimed_and_done_stay_done() {
    let server = RedisServer::start();
    add(&server, 1..4);
    let mut slow = source(&server, json!({ "claim_idle": "10m" })).await;
    let (batch, open) = (next(&mut *slow, 2).await, next(&mut *slow, 1).await);
    let mut quick = self::source(&server, json!({ "consumer": "b", "claim_idle": "100ms" })).await;
    let claimed = next(&mut *quick, 10).await;
    assert_eq!(ids(&claimed), ["1-0", "2-0", "3-0"]);
    assert_eq!(commit(&*quick, &claimed).await, Decision::Done);
    run(&server, "XGROUP DELCONSUMER in vm a");
    assert_eq!(commit(&*slow, &batch).await, Decision::Lost(vec!["1-0".to_owned(), "2-0".to_owned()]));
    drop((batch, open, claimed));
    slow.close().await.unwrap();
    assert_eq!(pending(&server), []);
    // and the register has forgotten them with their consumer
    let fields: Vec<String> = server.connection().hkeys("gaugefn:consumers:{in}:vm").unwrap();
    assert!(fields.iter().all(|field| !field.starts_with("c:")), "{fields:?}");
}

/// What a process has lost is noted for as long as it could ask, and no longer.
#[tokio::test]
async fn notes_of_what_was_claimed_go_when_nobody_needs_them() {
    let server = RedisServer::start();
    let notes = || -> Vec<String> {
        let fields: Vec<String> = server.connection().hkeys("gaugefn:consumers:{in}:vm").unwrap();
        fields.into_iter().filter(|field| field.starts_with("c:")).collect()
    };
    add(&server, 1..3);
    let mut one = source(&server, json!({ "claim_idle": "1s" })).await;
    let batch = next(&mut *one, 10).await;
    // its heartbeats are late
    run(&server, "XCLAIM in vm a 0 1-0 2-0 IDLE 60000");
    let mut two = source(&server, json!({ "consumer": "b", "claim_idle": "1m" })).await;
    let claimed = next(&mut *two, 10).await;
    assert_eq!(ids(&claimed), ["1-0", "2-0"]);
    assert_eq!(notes().len(), 2);
    settle(claimed).await;
    assert!(matches!(commit(&*one, &batch).await, Decision::Lost(_)));
    drop(batch);
    let gone = async {
        while !notes().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("no notes");
}

/// By hand, and without a consumer having been deleted.
#[tokio::test]
async fn what_an_administrator_does_to_entries_in_flight_blames_nobody() {
    let server = RedisServer::start();
    add(&server, 1..6);
    let mut source = source(&server, json!({ "claim_idle": "10m" })).await;
    let (acknowledged, deleted) = (next(&mut *source, 2).await, next(&mut *source, 2).await);
    run(&server, "XACK in vm 1-0 2-0");
    assert_eq!(commit(&*source, &acknowledged).await, Decision::Done);
    run(&server, "XDEL in 3-0");
    run(&server, "XGROUP DELCONSUMER in vm a");
    run(&server, "XTRIM in MAXLEN 0");
    assert_eq!(commit(&*source, &deleted).await, Decision::Done);
    drop((acknowledged, deleted));

    add(&server, 7..9);
    let batch = next(&mut *source, 10).await;
    // what is in work is not given out a second time
    run(&server, "XGROUP SETID in vm 0");
    idles(&mut *source, Duration::from_millis(100)).await;
    assert_eq!(commit(&*source, &batch).await, Decision::Done);
    drop(batch);
    // moved to another consumer: that one has them
    add(&server, 9..10);
    let batch = next(&mut *source, 10).await;
    run(&server, "XCLAIM in vm other 0 9-0");
    assert_eq!(commit(&*source, &batch).await, Decision::Lost(vec!["9-0".to_owned()]));
    drop(batch);
    // the group itself will give it out once more
    add(&server, 10..11);
    let batch = next(&mut *source, 10).await;
    run(&server, "XGROUP DELCONSUMER in vm a");
    run(&server, "XGROUP SETID in vm 9-0");
    let why = "group 'vm' of stream 'in' was set back before their events, which come again".to_owned();
    assert_eq!(commit(&*source, &batch).await, Decision::Gone { events: vec!["10-0".to_owned()], why });
    drop(batch);
    assert_eq!(ids(&next(&mut *source, 10).await), ["10-0"]);
}
