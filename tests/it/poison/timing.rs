//! One event in a hundred always fails. The others: how long they take at a low load, and how many there are at a full one.
//! With poison and without in turns.

#![allow(clippy::print_stderr, reason = "figures that a run is made for")]

use std::collections::HashMap;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{RARE, bed, event, fill, is_poison, length, tail, wait_done};
use crate::support::bed::{PATIENCE, Vm};
use crate::support::redis::RedisServer;
use crate::support::tier::{scale, soak};

/// Between two events at a low load.
const PACE: Duration = Duration::from_millis(2);

/// Between two looks at how far a full load has come.
const LOOK: Duration = Duration::from_millis(5);

/// As the redis crate gives an answer of XREAD.
type Read = Option<Vec<(String, Vec<(String, HashMap<String, String>)>)>>;

#[derive(Deserialize)]
struct Numbered {
    i: usize,
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The median, and the 99th of a hundred.
fn quantiles(mut figures: Vec<f64>) -> (f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[figures.len() * 99 / 100])
}

/// Adds events at an even pace; milliseconds from before each one is added to when its result is seen.
fn paced(server: &RedisServer, vm: &Vm, events: usize, poisoned: bool) -> Vec<f64> {
    let good = events - if poisoned { events / RARE } else { 0 };
    let (mut sender, mut receiver) = (server.connection(), server.connection());
    let last: Vec<(String, HashMap<String, String>)> =
        redis::cmd("XREVRANGE").arg(&["out", "+", "-", "COUNT", "1"]).query(&mut receiver).unwrap();
    let mut last = last.into_iter().next().map_or_else(|| "0".to_owned(), |(id, _)| id);
    let (sent, seen) = scope(|scope| {
        let sending = scope.spawn(move || {
            let start = Instant::now();
            let send = |i: usize| {
                let event = event(i, poisoned);
                sleep((start + PACE * u32::try_from(i).unwrap()).saturating_duration_since(Instant::now()));
                let sent = Instant::now();
                let _: String = redis::cmd("XADD").arg(&["in", "*", "data", &event]).query(&mut sender).unwrap();
                sent
            };
            (0..events).map(send).collect::<Vec<_>>()
        });
        let mut seen = HashMap::new();
        while seen.len() < good {
            let read: Read =
                redis::cmd("XREAD").arg(&["BLOCK", "9000", "STREAMS", "out", &last]).query(&mut receiver).unwrap();
            let now = Instant::now();
            let Some(read) = read else { panic!("{} of {good} results\n{}", seen.len(), tail(&vm.running.written())) };
            for (id, fields) in read.into_iter().flat_map(|(_, entries)| entries) {
                let Numbered { i } = serde_json::from_str(&fields["data"]).unwrap();
                assert!(!is_poison(i, poisoned) && seen.insert(i, now).is_none(), "{i} came twice, or at all");
                last = id;
            }
        }
        (sending.join().unwrap(), seen)
    });
    seen.into_iter().map(|(i, seen)| seen.duration_since(sent[i]).as_secs_f64() * 1e3).collect()
}

/// Seconds that calls have taken.
fn busy(vm: &mut Vm) -> f64 {
    vm.admin.metric("invocation_duration_seconds_sum", "vm").unwrap().unwrap_or_default()
}

fn others_come_as_soon(state: &str) {
    let (events, rounds) = (scale(3000, 500), scale(9, 1));
    let server = RedisServer::start();
    let mut redis = server.connection();
    let mut vm = bed(&server, state).start();
    paced(&server, &vm, events, false);
    let (mut p50, mut p99) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    let (mut good, mut dead, mut load) = (events, 0, [const { Vec::new() }; 2]);
    for _ in 0..rounds {
        for (at, poisoned) in [false, true].into_iter().enumerate() {
            let (before, start) = (busy(&mut vm), Instant::now());
            let (half, most) = quantiles(paced(&server, &vm, events, poisoned));
            load[at].push((busy(&mut vm) - before) / start.elapsed().as_secs_f64() * 100.0);
            p50[at].push(half);
            p99[at].push(most);
            let poison = if poisoned { events / RARE } else { 0 };
            (good, dead) = (good + events - poison, dead + poison);
            wait_done(&mut redis, &vm, good, dead);
        }
    }
    let ([without, with], [calm, spoilt], [idle, loaded]) = (p99.map(median), p50.map(median), load.map(median));
    eprintln!(
        "{state}: latency p50 {calm:.2} ms, p99 {without:.2} ms at {idle:.0} % load; \
         with poison {spoilt:.2} ms, {with:.2} ms at {loaded:.0} %: p99 {:+.1} %",
        (with / without - 1.0) * 100.0
    );
    assert!(!soak() || with <= 1.1 * without, "p99 {without:.2} ms without poison, {with:.2} ms with it");
}

/// What a full load comes to, in results per second from the first look at which there are any.
struct Flood {
    /// To the last result. Attempts of poison may be left over.
    results: f64,
    /// To the end of everything, poison included.
    whole: f64,
}

/// A stream that was full before.
fn flood(server: &RedisServer, state: &str, events: usize, poisoned: bool) -> Flood {
    let poison = if poisoned { events / RARE } else { 0 };
    let mut redis = server.connection();
    let () = redis::cmd("FLUSHALL").query(&mut redis).unwrap();
    fill(&mut redis, events, poisoned);
    let vm = bed(server, state).spawn();
    let (mut first, mut last) = (None, (Instant::now(), 0));
    while last.1 < events - poison {
        sleep(LOOK);
        let (now, results) = (Instant::now(), length(&mut redis, "out"));
        if results > last.1 {
            last = (now, results);
            first.get_or_insert(last);
        }
        assert!(now - last.0 < PATIENCE, "{results} of {events} results\n{}", tail(&vm.running.written()));
    }
    let (end, first) = (wait_done(&mut redis, &vm, events - poison, poison), first.unwrap());
    let rate = |end: Instant| (last.1 - first.1) as f64 / (end - first.0).as_secs_f64();
    Flood { results: rate(last.0), whole: rate(end) }
}

fn others_are_as_many(state: &str) {
    let (events, rounds) = (scale(50_000, 3000), scale(5, 1));
    let server = RedisServer::start();
    let (mut without, mut with, mut results, mut whole) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (calm, poisoned) = (flood(&server, state, events, false), flood(&server, state, events, true));
        results.push(poisoned.results / calm.results);
        whole.push(poisoned.whole / calm.whole);
        without.push(calm.whole);
        with.push(poisoned.whole);
    }
    let [without, with, results, whole] = [without, with, results, whole].map(median);
    eprintln!(
        "{state}: {without:.0} results/s; with poison {with:.0}: {whole:.2} x, to the last result {results:.2} x"
    );
    assert!(!soak() || whole >= 0.6, "{without:.0} results/s without poison, {with:.0} with it: {whole:.2} x");
}

#[test]
fn others_come_as_soon_with_state_in_memory() {
    others_come_as_soon("memory");
}

#[test]
fn others_come_as_soon_with_state_in_redis() {
    others_come_as_soon("redis");
}

#[test]
fn others_are_as_many_with_state_in_memory() {
    others_are_as_many("memory");
}

#[test]
fn others_are_as_many_with_state_in_redis() {
    others_are_as_many("redis");
}
