//! What it costs to call a function in a worker process rather than in this one: from where the engine calls the
//! executor to the function and back, both in one run, in alternate rounds. Called by `scripts/bench` with the path of
//! a library whose function `loud` is raw; without one, Python alone is measured.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for developers")]
#![allow(clippy::disallowed_methods, clippy::exit, reason = "its arguments are its own, and so is its end")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config::{Value, ValueKind};
use executors::worker::guest;
use executors::worker::host::Processes;
use runtime_core::config::section::Section;
use runtime_core::config::settings::Standby;
use runtime_core::contract::{Brief, Call, Event, Executor, Function, Module, Returned, Revision};
use runtime_core::isolation::{Isolate, Recycle, Restarts, Workers};
use runtime_core::main_thread::MainThread;
use runtime_core::{Registry, Site, main_thread};

const ROUNDS: usize = 15;

/// The function: next to nothing, so that what is measured is the way there and back.
const HANDLER: &str = "def handler(input, context):\n    return input\n";

/// One with a state of one kilobyte, which each call changes.
const KEEPS: &str = "def handler(input, context):
    env = context.env
    env['n'] = env.get('n', 0) + 1
    env['window'] = env.get('window', [0.5] * 100)[1:] + [env['n'] / 7]
    return env['n']
";

fn main() {
    // a worker is this very program, as it is with the binary
    if std::env::args().nth(1).as_deref() == Some("worker") {
        std::process::exit(guest::run().into());
    }
    // `cargo test --benches` runs it as well, and has no use for figures
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("isolation: see scripts/bench");
        return;
    }
    let library = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).map(PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (main_thread, desk) = main_thread::pair();
    let measured = runtime.spawn(async move {
        measure(&main_thread, library).await;
        main_thread.close();
    });
    desk.serve().unwrap();
    runtime.block_on(measured).unwrap();
}

async fn measure(main_thread: &MainThread, library: Option<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("usermodule.py");
    std::fs::write(&file, HANDLER).unwrap();
    let native = library.map(|library| ("native", library, "loud"));
    println!(
        "{:<46}{:>10}{:>10}{:>10} {:>17}",
        format!("µs per event, {ROUNDS} rounds, medians"),
        "inline",
        "worker",
        "price",
        "min–max"
    );
    for (executor, entry, handler) in [("python", file, "handler")].into_iter().chain(native) {
        let module = Module {
            root: entry.parent().unwrap().to_owned(),
            entry,
            revision: Revision::new("0"),
            modified: SystemTime::now(),
            keep: None,
        };
        let brief = Brief { function: "vm".into(), handler: handler.to_owned(), ..Brief::default() };
        let open =
            async |executor: Box<dyn Executor>| executor.prepare(Some(module.clone()), brief.clone()).await.unwrap();
        let mut inline = open(inline(executor, main_thread).await).await;
        let mut worker = open(apart(executor, None)).await;
        let mut limited = open(apart(executor, Some(Duration::from_secs(10)))).await;
        for (what, size, batch) in [
            ("3 bytes, one at a time", 3, 1),
            ("2 KB, one at a time", 2048, 1),
            ("3 bytes, batches of 64", 3, 64),
            ("2 KB, batches of 64", 2048, 64),
        ] {
            (inline, worker) = row(&format!("{executor}, {what}"), main_thread, inline, worker, size, batch).await;
        }
        for (what, size) in [("3 bytes, batches of 64, two at hand", 3), ("2 KB, batches of 64, two at hand", 2048)] {
            (inline, worker) =
                row_of(&format!("{executor}, {what}"), main_thread, inline, worker, size, 64, true).await;
        }
        let what = format!("{executor}, 3 bytes, one, with a timeout");
        (inline, limited) = row(&what, main_thread, inline, limited, 3, 1).await;
        for mut function in [inline, worker, limited] {
            function.close(Duration::from_secs(10)).await.unwrap();
        }
    }
    keeping(main_thread, folder.path()).await;
}

/// What it costs that somebody keeps the state: the columns are without and with that, in workers.
async fn keeping(main_thread: &MainThread, folder: &Path) {
    let entry = folder.join("keeps.py");
    std::fs::write(&entry, KEEPS).unwrap();
    let module = Module {
        root: folder.to_owned(),
        entry,
        revision: Revision::new("0"),
        modified: SystemTime::now(),
        keep: None,
    };
    let brief = Brief { function: "vm".into(), handler: "handler".into(), ..Brief::default() };
    let open = async || apart("python", None).prepare(Some(module.clone()), brief.clone()).await.unwrap();
    let (mut live, mut kept) = (open().await, open().await);
    let events: Arc<[_]> = (0..100).map(|n| Event::new(format!("e{n}"), "1")).collect();
    let call = Call { keep: true, ..Call::default() };
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (a, b);
        (live, a) = main_thread.spawn(cost_of(live, Arc::clone(&events), 200, Call::default())).await.unwrap();
        (kept, b) = main_thread.spawn(cost_of(kept, Arc::clone(&events), 200, call.clone())).await.unwrap();
        without.push(a);
        with.push(b);
    }
    let mut price: Vec<_> = with.iter().zip(&without).map(|(with, without)| with - without).collect();
    for figures in [&mut without, &mut with, &mut price] {
        figures.sort_by(f64::total_cmp);
    }
    let [without, with, median] = [&without, &with, &price].map(|figures| figures[ROUNDS / 2]);
    let spread = format!("{:.2}–{:.2}", price[0], price[ROUNDS - 1]);
    println!(
        "{:<46}{without:>10.2}{with:>10.2}{median:>10.2} {spread:>17}",
        "python, 1 KB of state kept, batches of 100"
    );
    for mut function in [live, kept] {
        function.close(Duration::from_secs(10)).await.unwrap();
    }
}

async fn row(
    what: &str,
    main_thread: &MainThread,
    inline: Box<dyn Function>,
    worker: Box<dyn Function>,
    size: usize,
    batch: usize,
) -> (Box<dyn Function>, Box<dyn Function>) {
    row_of(what, main_thread, inline, worker, size, batch, false).await
}

async fn row_of(
    what: &str,
    main_thread: &MainThread,
    mut inline: Box<dyn Function>,
    mut worker: Box<dyn Function>,
    size: usize,
    batch: usize,
    ahead: bool,
) -> (Box<dyn Function>, Box<dyn Function>) {
    let payload = format!("\"{}\"", "a".repeat(size - 2)).into_bytes();
    let events: Arc<[_]> = (0..batch).map(|n| Event::new(format!("e{n}"), payload.clone())).collect();
    // a round takes some tens of milliseconds
    let calls = if batch == 1 { 2000 } else { 200 };
    let (mut here, mut there, mut price) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        // on the first thread, where a call of a function in this process needs no other thread to wake: the least
        // that it can cost
        let (inside, outside);
        (inline, inside) = main_thread.spawn(cost(inline, Arc::clone(&events), calls)).await.unwrap();
        (worker, outside) = if ahead {
            tokio::spawn(cost_ahead(worker, Arc::clone(&events), calls)).await.unwrap()
        } else {
            tokio::spawn(cost(worker, Arc::clone(&events), calls)).await.unwrap()
        };
        // the first one warms up
        if round > 0 {
            here.push(inside);
            there.push(outside);
            price.push(outside - inside);
        }
    }
    for figures in [&mut here, &mut there, &mut price] {
        figures.sort_by(f64::total_cmp);
    }
    let [here, there, median] = [&here, &there, &price].map(|figures| figures[ROUNDS / 2]);
    let spread = format!("{:.2}–{:.2}", price[0], price[ROUNDS - 1]);
    println!("{what:<46}{here:>10.2}{there:>10.2}{median:>10.2} {spread:>17}");
    (inline, worker)
}

/// Microseconds per event.
async fn cost(function: Box<dyn Function>, events: Arc<[Event]>, calls: usize) -> (Box<dyn Function>, f64) {
    cost_of(function, events, calls, Call::default()).await
}

async fn cost_of(
    mut function: Box<dyn Function>,
    events: Arc<[Event]>,
    calls: usize,
    call: Call,
) -> (Box<dyn Function>, f64) {
    let start = Instant::now();
    for _ in 0..calls {
        let outcomes = function.invoke(&events, call.clone()).await.unwrap();
        assert_eq!(outcomes.len(), events.len());
        assert!(matches!(outcomes[0].returned, Returned::Output(_)), "{outcomes:?}");
    }
    (function, start.elapsed().as_secs_f64() * 1e6 / (calls * events.len()) as f64)
}

/// The same where the worker has the next batch at hand, as it has in the engine.
async fn cost_ahead(mut function: Box<dyn Function>, events: Arc<[Event]>, calls: usize) -> (Box<dyn Function>, f64) {
    let start = Instant::now();
    let pipeline = function.pipeline().expect("one worker takes two batches");
    pipeline.give(Arc::clone(&events), Call::default()).await;
    for call in 0..calls {
        if call + 1 < calls {
            pipeline.give(Arc::clone(&events), Call::default()).await;
        }
        let outcomes = pipeline.take().await.unwrap();
        assert_eq!(outcomes.len(), events.len());
        assert!(matches!(outcomes[0].returned, Returned::Output(_)), "{outcomes:?}");
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / (calls * events.len()) as f64;
    (function, each)
}

fn section() -> Section {
    Section::new("functions.vm.executor", Value::new(None, ValueKind::Table(Default::default())), None)
}

async fn inline(executor: &str, main_thread: &MainThread) -> Box<dyn Executor> {
    let registry = Registry::<dyn Executor>::collect().unwrap();
    let stdout = Arc::new(std::fs::File::create("/dev/null").unwrap());
    let site = Site { function: "vm", shared: &[], main_thread: main_thread.clone(), stdout };
    (registry.get(executor).unwrap().build)(&section(), &site).await.unwrap()
}

fn apart(executor: &'static str, timeout: Option<Duration>) -> Box<dyn Executor> {
    let workers = Workers {
        function: "vm".into(),
        executor,
        section: section(),
        timeout,
        count: 1,
        standby: Standby::None,
        memory_limit: None,
        recycle: Recycle::default(),
        farewell: Duration::from_secs(10),
        restarts: Restarts::default(),
    };
    Processes::new().executor(workers).unwrap()
}
