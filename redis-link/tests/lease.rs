//! Leases against a real redis-server: one holder at a time, by the server's clock, and no commit without it.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redis_link::commit::{Commit, StateWrite, Token, Verdict, Write};
use redis_link::lease::Hold;
use redis_link::{Lease, Link, Trouble};
use support::{Server, run};

const KEY: &str = "gaugefn:lease:{vm}:metrics";

fn lease(link: &Link, name: &str, term: u64) -> Lease {
    Lease::new(link.clone(), KEY.to_owned(), format!("{name}-1"), name.to_owned(), Duration::from_millis(term))
}

/// Got just now.
fn mine(fingerprint: Option<&str>) -> Hold {
    Hold::Mine { fingerprint: fingerprint.map(|text| text.as_bytes().to_vec()), kept: false }
}

/// Had already.
fn still_mine() -> Hold {
    Hold::Mine { fingerprint: None, kept: true }
}

async fn hash(link: &Link, key: &str) -> BTreeMap<String, String> {
    link.query(redis::cmd("HGETALL").arg(key)).await.unwrap()
}

/// A result and a note of what it was made of, by this holder.
fn result(lease: &Lease, number: u32, fingerprint: Option<&str>) -> Commit {
    let value = number.to_string().into_bytes();
    Commit {
        token: Some(Token { key: KEY.to_owned(), field: "t".to_owned(), value: format!("{}:{number}", lease.key()) }),
        fences: vec![lease.fence(fingerprint.map(|text| text.as_bytes().to_vec()))],
        writes: vec![Write::Add { stream: "{vm}:out".to_owned(), max_length: 0, fields: vec![(b"n".to_vec(), value)] }],
        ..Commit::default()
    }
}

async fn results(link: &Link) -> usize {
    link.query(redis::cmd("XLEN").arg("{vm}:out")).await.unwrap()
}

#[tokio::test]
async fn one_holds_it_until_it_falls_silent() {
    let server = Server::start(&[]);
    let (one, two) = (lease(&server.link(), "one", 300), lease(&server.link(), "two", 300));
    assert_eq!(one.hold().await.unwrap(), mine(None));
    let end = Instant::now() + Duration::from_millis(700);
    while Instant::now() < end {
        let Hold::Other { name, left } = two.hold().await.unwrap() else { panic!("two have it") };
        assert!(name == "one" && left > Duration::ZERO && left <= Duration::from_millis(301), "{name} {left:?}");
        assert_eq!(one.hold().await.unwrap(), still_mine(), "renewed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let silent = Instant::now();
    while matches!(two.hold().await.unwrap(), Hold::Other { .. }) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = silent.elapsed();
    assert!((Duration::from_millis(200)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert!(matches!(one.hold().await.unwrap(), Hold::Other { name, .. } if name == "two"));
}

#[tokio::test]
async fn who_was_followed_and_has_it_again_is_told_so() {
    let server = Server::start(&[]);
    let link = server.link();
    let (one, two) = (lease(&link, "one", 1), lease(&link, "two", 60_000));
    assert_eq!(one.hold().await.unwrap(), mine(None));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(one.hold().await.unwrap(), still_mine(), "over, and nobody has followed");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(two.hold().await.unwrap(), mine(None));
    assert!(two.release().await.unwrap());
    assert_eq!(one.hold().await.unwrap(), mine(None), "in between it was another one's");
}

#[tokio::test]
async fn only_its_holder_lets_it_go() {
    let server = Server::start(&[]);
    let link = server.link();
    let (one, two) = (lease(&link, "one", 60_000), lease(&link, "two", 60_000));
    assert_eq!(one.hold().await.unwrap(), mine(None));
    assert_eq!(result(&one, 1, Some("seen")).run(&link).await.unwrap(), Verdict::Done);
    assert!(!two.release().await.unwrap());
    assert!(matches!(two.hold().await.unwrap(), Hold::Other { .. }));
    assert!(one.release().await.unwrap());
    assert!(!one.release().await.unwrap());
    assert_eq!(result(&one, 2, None).run(&link).await.unwrap(), Verdict::Fenced);
    // at once, and with what was seen
    assert_eq!(two.hold().await.unwrap(), mine(Some("seen")));
    let never: i64 = link.query(redis::cmd("PTTL").arg(KEY)).await.unwrap();
    assert_eq!(never, -1, "what was seen outlives whoever saw it");
}

#[tokio::test]
async fn a_commit_without_the_lease_writes_nothing() {
    let server = Server::start(&[]);
    let link = server.link();
    let (one, two) = (lease(&link, "one", 50), lease(&link, "two", 60_000));
    assert_eq!(result(&one, 1, None).run(&link).await.unwrap(), Verdict::Fenced, "nobody has it");
    assert_eq!(one.hold().await.unwrap(), mine(None));
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert_eq!(result(&one, 1, Some("a")).run(&link).await.unwrap(), Verdict::Done, "over, and nobody has followed");
    assert_eq!(two.hold().await.unwrap(), mine(Some("a")));
    let mut late = result(&one, 2, Some("b"));
    late.states = vec![StateWrite { key: "{vm}:state".to_owned(), version: 1, ..StateWrite::default() }];
    let before = hash(&link, KEY).await;
    assert_eq!(late.run(&link).await.unwrap(), Verdict::Fenced);
    assert_eq!((hash(&link, KEY).await, hash(&link, "{vm}:state").await.len()), (before, 0));
    assert_eq!(results(&link).await, 1);
    // without a note the last one stays
    assert_eq!(result(&two, 3, None).run(&link).await.unwrap(), Verdict::Done);
    assert_eq!(hash(&link, KEY).await["f"], "a");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_recognised_by_state_and_lease() {
    let server = Server::start(&[]);
    let link = server.link();
    let (one, two) = (lease(&link, "one", 60_000), lease(&link, "two", 60_000));
    assert_eq!(one.hold().await.unwrap(), mine(None));
    let by_lease = result(&one, 1, Some("a"));
    let mut by_state = result(&one, 2, Some("b"));
    by_state.states = vec![StateWrite { key: "{vm}:state".to_owned(), version: 1, ..StateWrite::default() }];
    by_state.token.as_mut().unwrap().key = "{vm}:state".to_owned();
    for (number, commit) in [by_lease, by_state].into_iter().enumerate() {
        assert_eq!(commit.run(&link).await.unwrap(), Verdict::Done);
        run(&link, "SCRIPT FLUSH").await.unwrap();
        assert_eq!(commit.run(&link).await.unwrap(), Verdict::Again);
        assert_eq!(results(&link).await, number + 1);
        // it had landed before somebody else got the lease
        assert!(one.release().await.unwrap());
        assert!(matches!(two.hold().await.unwrap(), Hold::Mine { .. }));
        assert_eq!(commit.run(&link).await.unwrap(), Verdict::Again);
        assert!(two.release().await.unwrap());
        run(&link, "SCRIPT FLUSH").await.unwrap();
        assert!(matches!(one.hold().await.unwrap(), Hold::Mine { .. }));
    }
}

#[tokio::test]
async fn the_time_is_the_servers() {
    let server = Server::start(&[]);
    let link = server.link();
    let one = lease(&link, "one", 5000);
    let (seconds, micros): (u64, u64) = link.query(&redis::cmd("TIME")).await.unwrap();
    let before = seconds * 1000 + micros / 1000;
    one.hold().await.unwrap();
    let until: u64 = hash(&link, KEY).await["until"].parse().unwrap();
    assert!((before + 5000..before + 15_000).contains(&until), "{before} {until}");
}

/// Nobody lets it go; each has it, by its own clock, from the answer until the term after the question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terms_of_silent_holders_do_not_overlap() {
    const TERM: Duration = Duration::from_millis(30);
    let server = Server::start(&[]);
    let mut tasks = Vec::new();
    for name in ["one", "two", "three"] {
        let lease = Lease::new(server.link(), KEY.to_owned(), name.to_owned(), name.to_owned(), TERM);
        tasks.push(tokio::spawn(async move {
            let mut terms = Vec::new();
            let end = Instant::now() + Duration::from_millis(1500);
            while Instant::now() < end {
                let asked = Instant::now();
                if matches!(lease.hold().await.unwrap(), Hold::Mine { .. }) {
                    terms.push((Instant::now(), asked + TERM, name));
                    // long enough for another one to take it
                    tokio::time::sleep(2 * TERM).await;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            terms
        }));
    }
    let mut terms = Vec::new();
    for task in tasks {
        terms.extend(task.await.unwrap());
    }
    terms.sort();
    let holders: std::collections::BTreeSet<_> = terms.iter().map(|(.., name)| name).collect();
    assert!(holders.len() > 1 && terms.len() > 5, "{terms:?}");
    for pair in terms.windows(2) {
        assert!(pair[0].2 == pair[1].2 || pair[0].1 <= pair[1].0, "{pair:?}");
    }
}

#[tokio::test]
async fn contenders_never_both_hold_it() {
    let server = Server::start(&[]);
    let link = server.link();
    let held = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for name in ["one", "two", "three", "four"] {
        let (lease, held, most) = (lease(&server.link(), name, 60_000), Arc::clone(&held), Arc::clone(&most));
        tasks.push(tokio::spawn(async move {
            let mut count = 0;
            while count < 20 {
                if matches!(lease.hold().await.unwrap(), Hold::Mine { .. }) {
                    most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    held.fetch_sub(1, Ordering::SeqCst);
                    assert!(lease.release().await.unwrap());
                    count += 1;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
    assert!(!hash(&link, KEY).await.contains_key("holder"));
}

#[tokio::test]
async fn a_key_that_is_none_is_named() {
    let server = Server::start(&[]);
    let link = server.link();
    run(&link, &format!("SET {KEY} text")).await.unwrap();
    let one = lease(&link, "one", 1000);
    for error in [
        one.hold().await.unwrap_err(),
        one.release().await.unwrap_err(),
        result(&one, 1, None).run(&link).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Trouble::WrongType);
        assert!(error.to_string().contains(&format!("holds no hash under '{KEY}'")), "{error}");
    }
}
