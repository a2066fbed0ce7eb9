//! Consumers that stall and claim from each other, while every connection is killed every few milliseconds and the
//! server forgets its scripts: each entry has its effect exactly once.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "the tier of a test run is a variable")]

mod support;
#[allow(dead_code)]
#[path = "../../tests/it/support/tier.rs"]
mod tier;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::Value;
use redis_link::commit::{Commit, StateWrite, StreamAck, Token, Verdict, Write};
use redis_link::{Link, LinkError, Member};
use support::{Server, run};

/// The answer of XREADGROUP: streams with their entries.
type Streams = Vec<(String, Vec<(String, Value)>)>;

/// What happened, over all consumers.
#[derive(Debug, Default)]
struct Tally {
    committed: AtomicUsize,
    broken: AtomicUsize,
    again: AtomicUsize,
    fenced: AtomicUsize,
    stale: AtomicUsize,
}

fn add(counter: &AtomicUsize, count: usize) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Numbers that need not be good.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

struct Consumer {
    link: Link,
    member: Member,
    /// Something may be pending that this consumer does not know of.
    own: bool,
    batch: u64,
    dice: Dice,
    tally: Arc<Tally>,
}

impl Consumer {
    async fn run(mut self, entries: usize) {
        while let Err(error) = self.member.join(&self.link, "0", true).await {
            self.broken(&error);
        }
        while self.tally.committed.load(Ordering::Relaxed) < entries {
            match self.take().await {
                Ok(ids) if ids.is_empty() => tokio::time::sleep(Duration::from_millis(1)).await,
                Ok(ids) => {
                    if self.dice.below(5) == 0 {
                        tokio::time::sleep(Duration::from_millis(self.dice.below(60))).await;
                    }
                    self.commit(ids).await;
                }
                Err(error) => {
                    self.broken(&error);
                    self.own = true;
                }
            }
        }
    }

    fn broken(&self, error: &LinkError) {
        assert!(error.retry(), "{error}");
        add(&self.tally.broken, 1);
    }

    async fn take(&mut self) -> Result<Vec<String>, LinkError> {
        const BATCH: usize = 50;
        if self.own {
            let own = self.member.own(&self.link, "-", BATCH).await?;
            if !own.is_empty() {
                return Ok(own.into_iter().map(|pending| pending.id).collect());
            }
            self.own = false;
        }
        // also while there is new work: the others stall now and then, and want to be robbed
        if self.dice.below(2) == 0 {
            let idle = Duration::from_millis(10);
            let (_, claimed, _) = self.member.claim(&self.link, idle, "0-0", BATCH).await?;
            self.own = !claimed.is_empty();
            if self.own {
                return Ok(Vec::new());
            }
        }
        let mut read = redis::cmd("XREADGROUP");
        read.arg(&["GROUP", "vm", &self.member.consumer]).arg("COUNT").arg(BATCH).arg(&["STREAMS", "in", ">"]);
        let answer: Option<Streams> = self.link.query(&read).await?;
        let streams = answer.unwrap_or_default();
        Ok(streams.into_iter().flat_map(|(_, entries)| entries).map(|(id, _)| id).collect())
    }

    /// One result for each entry, and a count of all of them.
    async fn commit(&mut self, mut ids: Vec<String>) {
        self.batch += 1;
        while !ids.is_empty() {
            let state: (Option<u64>, Option<u64>) =
                match self.link.query(redis::cmd("HMGET").arg(&["state", "v", "n"])).await {
                    Ok(state) => state,
                    Err(error) => {
                        self.broken(&error);
                        continue;
                    }
                };
            let (version, count) = (state.0.unwrap_or_default(), state.1.unwrap_or_default());
            let set = vec![(b"n".to_vec(), (count + ids.len() as u64).to_string().into_bytes())];
            let result = |id: &String| Write::Add {
                stream: "out".to_owned(),
                max_length: 0,
                fields: vec![(b"id".to_vec(), id.clone().into_bytes())],
            };
            let commit = Commit {
                token: Some(Token::of(&self.member, self.batch)),
                fences: Vec::new(),
                ack: Some(StreamAck { member: self.member.clone(), ids: ids.clone() }),
                states: vec![StateWrite {
                    key: "state".to_owned(),
                    base: version,
                    version: version + 1,
                    set,
                    ..StateWrite::default()
                }],
                writes: ids.iter().map(result).collect(),
            };
            let verdict = loop {
                match commit.run(&self.link).await {
                    Ok(verdict) => break verdict,
                    Err(error) => self.broken(&error),
                }
            };
            match verdict {
                Verdict::Done => add(&self.tally.committed, std::mem::take(&mut ids).len()),
                Verdict::Again => {
                    add(&self.tally.again, 1);
                    add(&self.tally.committed, std::mem::take(&mut ids).len());
                }
                Verdict::Lost(lost) => {
                    add(&self.tally.fenced, lost.len());
                    ids.retain(|id| !lost.contains(id));
                }
                Verdict::Stale(_) => add(&self.tally.stale, 1),
                Verdict::Fenced | Verdict::Gone | Verdict::Unread(_) | Verdict::Unheard(_) => {
                    panic!("there is no lease, the group stays, and nothing is told")
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_killed_and_scripts_forgotten() {
    let entries = tier::scale(40_000, 4_000);
    let server = Server::start(&[]);
    let link = server.link();
    for first in (0..entries).step_by(1000) {
        let mut pipeline = redis::pipe();
        for number in first..first + 1000 {
            pipeline.cmd("XADD").arg(&["in", "*", "data"]).arg(number).ignore();
        }
        let () = link.pipeline(&pipeline).await.unwrap();
    }
    let tally = Arc::new(Tally::default());
    let consumers: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .enumerate()
        .map(|(number, name)| Consumer {
            link: server.link(),
            member: Member::new("in", "vm", name),
            own: true,
            batch: 0,
            dice: Dice(number as u64 + 1),
            tally: Arc::clone(&tally),
        })
        .map(|consumer| tokio::spawn(consumer.run(entries)))
        .collect();
    let killer = tokio::spawn(async move {
        let mut dice = Dice(77);
        loop {
            tokio::time::sleep(Duration::from_millis(3 + dice.below(5))).await;
            run(&link, "CLIENT KILL TYPE normal SKIPME yes").await.unwrap();
            run(&link, "SCRIPT FLUSH").await.unwrap();
        }
    });
    for consumer in consumers {
        tokio::time::timeout(Duration::from_secs(120), consumer).await.expect("all entries are committed").unwrap();
    }
    killer.abort();

    let link = server.link();
    let results: Vec<(String, Vec<String>)> = link.query(redis::cmd("XRANGE").arg(&["out", "-", "+"])).await.unwrap();
    let distinct: BTreeSet<&String> = results.iter().map(|(_, fields)| &fields[1]).collect();
    assert_eq!((results.len(), distinct.len()), (entries, entries), "{tally:?}");
    let count: usize = link.query(redis::cmd("HGET").arg(&["state", "n"])).await.unwrap();
    assert_eq!(count, entries, "{tally:?}");
    let summary: Vec<Value> = link.query(redis::cmd("XPENDING").arg(&["in", "vm"])).await.unwrap();
    assert_eq!(summary[0], Value::Int(0), "{tally:?}");
    // none of it was idle; a short run may be over before one consumer was slow enough to lose something
    let Tally { broken, fenced, .. } = &*tally;
    let is_whole = entries >= 40_000;
    assert!(broken.load(Ordering::Relaxed) > if is_whole { 10 } else { 0 }, "{tally:?}");
    assert!(!is_whole || fenced.load(Ordering::Relaxed) > 0, "{tally:?}");
    #[allow(clippy::print_stderr, reason = "figures that a run is made for")]
    {
        eprintln!("{entries} entries: {tally:?}");
    }
}
