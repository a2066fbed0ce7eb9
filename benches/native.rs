//! What a native call costs: from where the engine calls the executor to the library's function and back, threads
//! included, with nothing around it. Called by `scripts/bench` with the path of a library whose function `loud` is raw.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for developers")]
#![allow(clippy::disallowed_methods, reason = "its arguments are its own")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config::{Value, ValueKind};
// a crate that nobody names is not linked, and its components are not registered
use executors as _;
use runtime_core::config::section::Section;
use runtime_core::contract::{Brief, Call, Event, Executor, Function, Module, Returned, Revision};
use runtime_core::{Registry, Site, main_thread};

const ROUNDS: usize = 15;
/// Enough that a round takes tens of milliseconds.
const EVENTS: usize = 64_000;

fn main() {
    // cargo adds `--bench`
    let library = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).map(PathBuf::from);
    let Some(library) = library else {
        // `cargo bench` and `cargo test --benches` of everything
        println!("native: no library was named; see scripts/bench");
        return;
    };
    // as the binary has it
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let measured = runtime.spawn(async move {
        let mut function = open(&library).await;
        println!("{:<44}{:>10} {:>18}", format!("native call, raw, {ROUNDS} rounds"), "median", "min–max");
        for (what, size) in [("event of 3 bytes", 3), ("event of 2 KB", 2048)] {
            for batch in [64, 1] {
                let costs = costs(&mut function, size, batch).await;
                let [least, median, most] = [costs[0], costs[ROUNDS / 2], costs[ROUNDS - 1]];
                let what = format!("{what}, batch of {batch}");
                println!("{what:<44}{median:>10.2} µs/event {:>17}", format!("{least:.2}–{most:.2}"));
            }
        }
        function.close(Duration::from_secs(10)).await.unwrap();
    });
    runtime.block_on(measured).unwrap();
}

/// Of each round, in microseconds per event, the least first.
async fn costs(function: &mut Box<dyn Function>, size: usize, batch: usize) -> Vec<f64> {
    let payload = format!("\"{}\"", "a".repeat(size - 2)).into_bytes();
    let events: Vec<_> = (0..batch).map(|n| Event::new(format!("e{n}"), payload.clone())).collect();
    let mut costs = Vec::new();
    // the first one warms up
    for round in 0..=ROUNDS {
        let start = Instant::now();
        for _ in 0..EVENTS / batch {
            let outcomes = function.invoke(&events, Call::default()).await.unwrap();
            assert!(outcomes.len() == batch && matches!(outcomes[0].returned, Returned::Output(_)));
        }
        if round > 0 {
            costs.push(start.elapsed().as_secs_f64() * 1e6 / EVENTS as f64);
        }
    }
    costs.sort_by(f64::total_cmp);
    costs
}

async fn open(library: &Path) -> Box<dyn Function> {
    let section = Section::new("functions.vm.executor", Value::new(None, ValueKind::Table(Default::default())), None);
    let registry = Registry::<dyn Executor>::collect().unwrap();
    let (main_thread, _desk) = main_thread::pair();
    let stdout = Arc::new(std::fs::File::create("/dev/null").unwrap());
    let site = Site { function: "vm", shared: &[], main_thread, stdout };
    let executor = (registry.get("native").unwrap().build)(&section, &site).await.unwrap();
    let module = Module {
        root: library.parent().unwrap().to_owned(),
        entry: library.to_owned(),
        revision: Revision::new("0"),
        modified: SystemTime::now(),
        keep: None,
    };
    let brief = Brief { function: "vm".into(), handler: "loud".to_owned(), ..Brief::default() };
    executor.prepare(Some(module), brief).await.unwrap()
}
