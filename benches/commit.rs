//! The price of an atomic commit: what the transaction of a batch costs against the same writes in order, both over one
//! connection to one server, in alternate rounds. Called by `scripts/bench`.
//!
//! * `atomic` - one script that checks and writes: results, the state, the acknowledgement
//! * `pipeline` - the same writes without any check, in one round trip: the least that they cost
//! * `in order` - as the engine does where no transaction spans them: results, then the state, then the acknowledgement,
//!   each in a round trip of its own

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for developers")]
#![allow(clippy::disallowed_methods, reason = "its arguments are its own")]

#[path = "../redis-link/tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use redis_link::commit::{Commit, StateWrite, StreamAck, Token, Verdict, Write};
use redis_link::{Link, Member};
use support::Server;

const ROUNDS: usize = 15;

/// What the yardstick function makes of an event.
const RESULT: usize = 773;

/// Its state, about.
const STATE: usize = 1024;

const WAYS: [(&str, Way); 3] = [("atomic", Way::Atomic), ("pipeline", Way::Pipeline), ("in order", Way::InOrder)];

#[derive(Clone, Copy)]
enum Way {
    Atomic,
    Pipeline,
    InOrder,
}

fn main() {
    // `cargo test --benches` runs it as well, and has no use for figures
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("commit: see scripts/bench");
        return;
    }
    // as the binary has it
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let measured = runtime.spawn(async {
        let server = Server::start(&["--appendonly", "no"]);
        let link = server.link();
        let title = format!("commit, µs per event, {ROUNDS} rounds, medians");
        println!("{title:<46}{:>10}{:>10}{:>10}{:>10} {:>17}", "atomic", "pipeline", "in order", "price", "min–max");
        for state in [false, true] {
            for batch in [100, 10, 1] {
                row(&link, batch, state).await;
            }
        }
    });
    runtime.block_on(measured).unwrap();
}

/// All three ways, the price being atomic less pipeline, and the processor time of the server for each.
async fn row(link: &Link, batch: usize, state: bool) {
    // a round takes some tens of milliseconds
    let commits = 300.min(4000 / batch);
    let (mut wall, mut server) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    for round in 0..=ROUNDS {
        for (at, (_, way)) in WAYS.into_iter().enumerate() {
            let (trips, busy) = cost(link, way, commits, batch, state).await;
            // the first one warms up
            if round > 0 {
                wall[at].push(trips);
                server[at].push(busy);
            }
        }
    }
    let mut price: Vec<f64> = wall[0].iter().zip(&wall[1]).map(|(atomic, pipeline)| atomic - pipeline).collect();
    let [atomic, pipeline, in_order] = wall.map(median);
    let middle = median(price.clone());
    price.sort_by(f64::total_cmp);
    let spread = format!("{:.1}–{:.1}", price[0], price[ROUNDS - 1]);
    let what = format!("batches of {batch}, {}", if state { "state of 1 KB" } else { "no state" });
    println!("{what:<46}{atomic:>10.1}{pipeline:>10.1}{in_order:>10.1}{middle:>10.1} {spread:>17}");
    let [atomic, pipeline, in_order] = server.map(median);
    let (what, price) = ("  of it, the server's processor", atomic - pipeline);
    println!("{what:<46}{atomic:>10.1}{pipeline:>10.1}{in_order:>10.1}{price:>10.1}");
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Microseconds per event: by the clock, and of the server's processor.
async fn cost(link: &Link, way: Way, commits: usize, batch: usize, state: bool) -> (f64, f64) {
    let () = link.query(&redis::cmd("FLUSHALL")).await.unwrap();
    let member = Member::new("in", "vm", "a");
    member.join(link, "0", true).await.unwrap();
    let batches = deliver(link, &member, commits, batch).await;
    let prepared: Vec<Commit> =
        batches.into_iter().enumerate().map(|(n, ids)| commit(&member, n, ids, state)).collect();
    let before = processor(link).await;
    let start = Instant::now();
    for commit in prepared {
        match way {
            Way::Atomic => assert_eq!(commit.run(link).await.unwrap(), Verdict::Done),
            Way::Pipeline => pipeline(link, &commit).await,
            Way::InOrder => in_order(link, commit).await,
        }
    }
    let wall = start.elapsed();
    let busy = processor(link).await.saturating_sub(before);
    let events = commits * batch;
    assert_eq!(link.query::<usize>(redis::cmd("XLEN").arg("out")).await.unwrap(), events);
    assert_eq!(member.figures(link).await.unwrap().pending, 0);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / events as f64;
    (each(wall), each(busy))
}

/// Everything that a batch of the engine leaves behind, from `redis_stream` to `redis_stream`.
fn commit(member: &Member, number: usize, ids: Vec<String>, state: bool) -> Commit {
    let add = |id: &String| Write::Add {
        stream: "out".to_owned(),
        max_length: 1_000_000,
        fields: vec![(b"data".to_vec(), vec![b'x'; RESULT]), (b"id".to_vec(), id.clone().into_bytes())],
    };
    let number = number as u64;
    let state = state.then(|| StateWrite {
        key: "gaugefn:state:{vm}".to_owned(),
        base: number,
        version: number + 1,
        set: vec![(b"e:\"windows\"".to_vec(), vec![b'x'; STATE])],
        ..StateWrite::default()
    });
    Commit {
        token: Some(Token::of(member, number)),
        writes: ids.iter().map(add).collect(),
        states: state.into_iter().collect(),
        ack: Some(StreamAck { member: member.clone(), ids }),
        ..Commit::default()
    }
}

async fn pipeline(link: &Link, commit: &Commit) {
    let mut pipeline = redis::pipe();
    commit.writes.iter().for_each(|write| write.add_to(&mut pipeline));
    for state in &commit.states {
        let set = pipeline.cmd("HSET").arg(&state.key).arg("v").arg(state.version);
        state.set.iter().for_each(|(field, value)| {
            set.arg(&field[..]).arg(&value[..]);
        });
        pipeline.ignore();
    }
    let StreamAck { member, ids } = commit.ack.as_ref().unwrap();
    pipeline.cmd("XACK").arg(&*member.stream).arg(&*member.group).arg(ids);
    let [acknowledged]: [usize; 1] = link.pipeline(&pipeline).await.unwrap();
    assert_eq!(acknowledged, ids.len());
}

async fn in_order(link: &Link, commit: Commit) {
    let mut pipeline = redis::pipe();
    commit.writes.iter().for_each(|write| write.add_to(&mut pipeline));
    let () = link.pipeline(&pipeline).await.unwrap();
    let StreamAck { member, ids } = commit.ack.unwrap();
    if !commit.states.is_empty() {
        let save = Commit { states: commit.states, ..Commit::default() };
        assert_eq!(save.run(link).await.unwrap(), Verdict::Done);
    }
    assert_eq!(member.acknowledge(link, &ids).await.unwrap(), ids.len());
}

/// Gives the consumer so many batches; the ids of each.
async fn deliver(link: &Link, member: &Member, batches: usize, batch: usize) -> Vec<Vec<String>> {
    let mut delivered = Vec::with_capacity(batches);
    for number in 0..batches {
        let ids: Vec<String> = (0..batch).map(|at| format!("{}-{at}", number + 1)).collect();
        let mut pipeline = redis::pipe();
        for id in &ids {
            pipeline.cmd("XADD").arg(&["in", id, "data", "1"]).ignore();
        }
        let read = pipeline.cmd("XREADGROUP").arg(&["GROUP", "vm", &member.consumer]);
        read.arg("COUNT").arg(batch).arg(&["STREAMS", "in", ">"]).ignore();
        let () = link.pipeline(&pipeline).await.unwrap();
        delivered.push(ids);
    }
    delivered
}

/// What the server has used of its processor so far.
async fn processor(link: &Link) -> Duration {
    let info: String = link.query(redis::cmd("INFO").arg("cpu")).await.unwrap();
    let of = |name: &str| -> f64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse().unwrap()
    };
    Duration::from_secs_f64(of("used_cpu_sys:") + of("used_cpu_user:"))
}
