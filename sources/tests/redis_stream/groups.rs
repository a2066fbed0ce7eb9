//! Groups that are deleted while entries of them are in work.

use runtime_core::contract::Decision;

use super::*;

/// What becomes of the batch's acknowledgement as a part of a transaction.
async fn commit(source: &dyn Source, batch: &Batch) -> Decision {
    source.transaction().unwrap().prepare(vec![batch.receipt.enlist().unwrap()]).unwrap().run().await.unwrap()
}

fn gone(ids: &[&str], why: &str) -> Decision {
    Decision::Gone { events: ids.iter().map(|&id| id.to_owned()).collect(), why: why.to_owned() }
}

const COMES_AGAIN: &str = "group 'vm' of stream 'in' was deleted; what the stream still has of them comes again";

/// Whether the group is there.
fn is_there(server: &RedisServer) -> bool {
    redis::cmd("XPENDING").arg(&["in", "vm"]).query::<Value>(&mut server.connection()).is_ok()
}

/// Has the source find that its group is gone, and make another one.
async fn regroup(server: &RedisServer, source: &mut dyn Source) {
    let end = Instant::now() + PATIENCE;
    while !is_there(server) {
        assert!(Instant::now() < end, "no new group");
        let _ = timeout(Duration::from_millis(20), source.next_batch(1)).await;
    }
}

#[tokio::test]
async fn entries_in_work_come_again_when_their_group_was_deleted_and_what_is_done_does_not() {
    let server = RedisServer::start();
    add(&server, 1..10);
    let mut source = source(&server, json!({})).await;
    let waits = next(&mut *source, 2).await;
    let done = next(&mut *source, 2).await;
    let (told, late) = (next(&mut *source, 1).await, next(&mut *source, 1).await);
    drop(next(&mut *source, 1).await);
    assert_eq!(commit(&*source, &done).await, Decision::Done);
    settle(told).await;
    run(&server, "XGROUP DESTROY in vm");
    assert_eq!(commit(&*source, &waits).await, gone(&["1-0", "2-0"], COMES_AGAIN));
    drop((waits, done));
    // its results are stored elsewhere, and there is nobody who could be told
    settle(late).await;
    let batch = next(&mut *source, 10).await;
    assert_eq!(ids(&batch), ["1-0", "2-0", "7-0"]);
    assert_eq!(commit(&*source, &batch).await, Decision::Done);
    drop(batch);
    let batch = next(&mut *source, 10).await;
    assert_eq!(ids(&batch), ["8-0", "9-0"]);
    settle(batch).await;
    idles(&mut *source, Duration::from_millis(100)).await;
    assert_eq!(pending(&server), []);
}

#[tokio::test]
async fn what_is_in_flight_goes_on_in_the_group_that_is_made_anew() {
    let server = RedisServer::start();
    add(&server, 1..6);
    let mut source = source(&server, json!({})).await;
    let (batch, mut other) = (next(&mut *source, 2).await, next(&mut *source, 2).await);
    let second = other.receipt.split(&[1]);
    drop(second);
    for _ in 0..3 {
        run(&server, "XGROUP DESTROY in vm");
        regroup(&server, &mut *source).await;
        let owned: Vec<_> = pending(&server).into_iter().map(|(id, ..)| id).collect();
        assert_eq!(owned[..4], ["1-0", "2-0", "3-0", "4-0"].map(str::to_owned));
    }
    assert_eq!(commit(&*source, &batch).await, Decision::Done);
    other.receipt.settle(&[Verdict::Done { reply: None }]).await.unwrap();
    drop((batch, other));
    let mut left = Vec::new();
    while left.len() < 2 {
        let batch = next(&mut *source, 10).await;
        left.extend(ids(&batch).into_iter().map(str::to_owned));
        settle(batch).await;
    }
    assert_eq!(left, ["4-0", "5-0"]);
    idles(&mut *source, Duration::from_millis(100)).await;
    assert_eq!(pending(&server), []);
}

#[tokio::test]
async fn entries_that_were_deleted_with_their_stream_are_told_from_claimed_ones() {
    let server = RedisServer::start();
    add(&server, 1..5);
    let mut source = source(&server, json!({})).await;
    let (early, late) = (next(&mut *source, 2).await, next(&mut *source, 2).await);
    run(&server, "FLUSHALL");
    let why = "stream 'in' is gone, and their entries with it";
    assert_eq!(commit(&*source, &early).await, gone(&["1-0", "2-0"], why));
    regroup(&server, &mut *source).await;
    let why = "stream 'in' has not their entries any more";
    assert_eq!(commit(&*source, &late).await, gone(&["3-0", "4-0"], why));
    drop((early, late));
    add(&server, 1..2);
    let batch = next(&mut *source, 10).await;
    assert_eq!(ids(&batch), ["1-0"]);
    run(&server, "XCLAIM in vm other 0 1-0");
    assert_eq!(commit(&*source, &batch).await, Decision::Lost(vec!["1-0".to_owned()]));
}

#[tokio::test]
async fn a_group_that_another_process_has_made_anew_gets_what_is_in_work_here() {
    let server = RedisServer::start();
    add(&server, 1..9);
    let mut one = source(&server, json!({})).await;
    let mut two = source(&server, json!({ "consumer": "b", "claim_idle": "300ms" })).await;
    let (first, second) = (next(&mut *one, 2).await, next(&mut *one, 2).await);
    let (third, fourth) = (next(&mut *two, 2).await, next(&mut *two, 1).await);
    assert_eq!(commit(&*two, &third).await, Decision::Done);
    run(&server, "XGROUP DESTROY in vm");
    regroup(&server, &mut *two).await;
    // this one has not asked since
    assert_eq!(commit(&*one, &first).await, gone(&["1-0", "2-0"], COMES_AGAIN));
    drop(first);
    let batch = next(&mut *one, 10).await;
    assert_eq!(ids(&batch), ["1-0", "2-0"]);
    assert_eq!(commit(&*one, &second).await, Decision::Done);
    assert_eq!(commit(&*two, &fourth).await, Decision::Done);
    settle(batch).await;
    drop((second, third, fourth));
    let mut left = Vec::new();
    while left.is_empty() {
        for source in [&mut one, &mut two] {
            if let Ok(Ok(Pull::Batch(batch))) = timeout(Duration::from_millis(50), source.next_batch(10)).await {
                left.extend(ids(&batch).into_iter().map(str::to_owned));
                settle(batch).await;
            }
        }
    }
    assert_eq!(left, ["8-0"]);
    idles(&mut *two, Duration::from_millis(400)).await;
    assert_eq!(pending(&server), []);
}

/// Lets a source come into the group of now, which has nothing for it.
async fn nothing_new(source: &mut dyn Source) {
    idles(source, Duration::from_millis(50)).await;
}

/// Who has read least makes the group, and who has read most is the next to come.
#[tokio::test]
async fn each_of_several_processes_brings_along_what_it_has_in_work() {
    let server = RedisServer::start();
    add(&server, 1..10);
    let [mut least, mut middle, mut most] = [
        source(&server, json!({ "consumer": "a" })).await,
        source(&server, json!({ "consumer": "b" })).await,
        source(&server, json!({ "consumer": "c" })).await,
    ];
    let first = next(&mut *least, 3).await;
    let (second, third) = (next(&mut *middle, 3).await, next(&mut *most, 3).await);
    run(&server, "XGROUP DESTROY in vm");
    regroup(&server, &mut *least).await;
    assert_eq!(commit(&*most, &third).await, gone(&["7-0", "8-0", "9-0"], COMES_AGAIN));
    drop(third);
    let third = next(&mut *most, 3).await;
    assert_eq!(ids(&third), ["7-0", "8-0", "9-0"]);
    assert_eq!(commit(&*middle, &second).await, gone(&["4-0", "5-0", "6-0"], COMES_AGAIN));
    drop(second);
    let second = next(&mut *middle, 3).await;
    assert_eq!(ids(&second), ["4-0", "5-0", "6-0"]);
    for (source, batch) in [(&least, &first), (&middle, &second), (&most, &third)] {
        assert_eq!(commit(&**source, batch).await, Decision::Done);
    }
    drop((first, second, third));
    for source in [&mut least, &mut middle, &mut most] {
        nothing_new(&mut **source).await;
    }
    assert_eq!(pending(&server), []);
}

#[tokio::test]
async fn what_another_process_has_got_from_the_new_group_is_never_brought_into_a_further_one() {
    let server = RedisServer::start();
    add(&server, 1..5);
    let mut one = source(&server, json!({})).await;
    let mut two = source(&server, json!({ "consumer": "b" })).await;
    settle(next(&mut *one, 2).await).await;
    let held = next(&mut *two, 2).await;
    run(&server, "XGROUP DESTROY in vm");
    regroup(&server, &mut *one).await;
    let taken = next(&mut *one, 10).await;
    assert_eq!(ids(&taken), ["3-0", "4-0"]);
    assert_eq!(commit(&*two, &held).await, gone(&["3-0", "4-0"], COMES_AGAIN));
    drop(held);
    nothing_new(&mut *two).await;
    assert_eq!(commit(&*one, &taken).await, Decision::Done);
    run(&server, "XGROUP DESTROY in vm");
    regroup(&server, &mut *two).await;
    nothing_new(&mut *two).await;
    assert_eq!(pending(&server), []);
}

#[tokio::test]
async fn what_was_committed_without_an_answer_does_not_come_again_in_the_new_group() {
    let server = RedisServer::start();
    add(&server, 1..4);
    let mut source = source(&server, json!({})).await;
    // the server has the script from now on
    let first = next(&mut *source, 1).await;
    assert_eq!(commit(&*source, &first).await, Decision::Done);
    let batch = next(&mut *source, 2).await;
    let prepared = source.transaction().unwrap().prepare(vec![batch.receipt.enlist().unwrap()]).unwrap();
    run(&server, "CLIENT PAUSE 200 WRITE");
    timeout(Duration::from_millis(50), prepared.run()).await.unwrap_err();
    let end = Instant::now() + PATIENCE;
    while !pending(&server).is_empty() {
        assert!(Instant::now() < end, "it was not sent");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    run(&server, "XGROUP DESTROY in vm");
    regroup(&server, &mut *source).await;
    assert_eq!(pending(&server).len(), 2, "nobody here knows that they are done");
    assert_eq!(prepared.run().await.unwrap(), Decision::Done);
    assert_eq!(pending(&server), []);
}

#[tokio::test]
async fn what_is_left_at_the_end_is_brought_into_the_new_group_for_others() {
    let server = RedisServer::start();
    add(&server, 1..5);
    let mut one = source(&server, json!({})).await;
    let mut two = source(&server, json!({ "consumer": "b", "claim_idle": "100ms" })).await;
    let (held, other) = (next(&mut *one, 2).await, next(&mut *two, 2).await);
    run(&server, "XGROUP DESTROY in vm");
    regroup(&server, &mut *two).await;
    settle(other).await;
    drop(held);
    one.close().await.unwrap();
    let batch = next(&mut *two, 10).await;
    assert_eq!(ids(&batch), ["1-0", "2-0"]);
    settle(batch).await;
    assert_eq!(pending(&server), []);
}

/// It finds that from its heartbeat, as it has no reason to ask.
#[tokio::test]
async fn who_reads_on_in_another_group_finds_that_it_is_another() {
    let server = RedisServer::start();
    add(&server, 1..4);
    let mut source = source(&server, json!({ "claim_idle": "300ms" })).await;
    let held = next(&mut *source, 2).await;
    let mark = |server: &RedisServer| -> Option<String> {
        server.connection().hget("gaugefn:consumers:{in}:vm", "g").unwrap()
    };
    let before = mark(&server).unwrap();
    // as another process does it
    run(&server, "XGROUP DESTROY in vm");
    run(&server, "XGROUP CREATE in vm 2-0");
    let () = server.connection().hset("gaugefn:consumers:{in}:vm", "g", "another 2-0").unwrap();
    assert_ne!(before, "another 2-0");
    settle(next(&mut *source, 10).await).await;
    let end = Instant::now() + PATIENCE;
    while pending(&server).len() < 2 {
        assert!(Instant::now() < end, "what is held is not in the new group");
        let _ = timeout(Duration::from_millis(20), source.next_batch(1)).await;
    }
    assert_eq!(commit(&*source, &held).await, Decision::Done);
}

/// Those of consumers that live must stay: they tell a process from its predecessor.
#[tokio::test]
async fn a_register_forgets_the_dead_of_a_group_that_was_deleted() {
    let server = RedisServer::start();
    add(&server, 1..2);
    let mut source = source(&server, json!({ "claim_idle": "100ms" })).await;
    let batch = next(&mut *source, 1).await;
    run(&server, "HSET gaugefn:consumers:{in}:vm i:dead x t:dead x:1 i:late y");
    run(&server, "XGROUP DESTROY in vm");
    regroup(&server, &mut *source).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let register =
        |field: &str| -> Option<String> { server.connection().hget("gaugefn:consumers:{in}:vm", field).unwrap() };
    assert_eq!(register("i:dead").as_deref(), Some("x"), "it may only be slow to come back");
    // one that was away for a while is there again, in a new life
    run(&server, "HSET gaugefn:consumers:{in}:vm i:late z");
    let end = Instant::now() + PATIENCE;
    while register("i:dead").is_some() {
        assert!(Instant::now() < end, "still registered");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((register("t:dead"), register("i:late").as_deref()), (None, Some("z")));
    assert!(register("i:a").is_some());
    assert_eq!(commit(&*source, &batch).await, Decision::Done);
}

/// The server's own words about a script name no key.
#[tokio::test]
async fn a_register_of_another_type_is_named_and_not_the_stream() {
    let server = RedisServer::start();
    add(&server, 1..2);
    run(&server, "SET gaugefn:consumers:{in}:vm text");
    let mut source = source(&server, json!({})).await;
    let said = format!(
        "redis at 127.0.0.1:{} holds no hash under 'gaugefn:consumers:{{in}}:vm' (WRONGTYPE): delete the key or name another",
        server.port()
    );
    let fault = fails(&mut *source).await;
    assert_eq!((fault.to_string(), fault.retry()), (said.clone(), true));
    run(&server, "DEL gaugefn:consumers:{in}:vm");
    let batch = next(&mut *source, 1).await;
    run(&server, "SET gaugefn:consumers:{in}:vm text");
    let link = redis_link::Link::new(redis_link::Settings::default().resolve(Some(&server.url())).unwrap());
    let member = redis_link::Member::new("in", "vm", "b");
    assert_eq!(member.beat(&link, "", &[], &[], &[]).await.unwrap_err().to_string(), said);
    assert_eq!(member.sweep(&link, PATIENCE, &[]).await.unwrap_err().to_string(), said);
    assert_eq!(source.close().await.unwrap_err().to_string(), said);
    drop(batch);
}
