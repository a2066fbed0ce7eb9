//! This binary as a worker: tests start it with [`as_child`], and it plays the part that the variable names.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::thread::{park, sleep};
use std::time::{Duration, Instant};

use executors::worker::guardian::Guardian;
use executors::worker::protocol::{Batch, BlockingReader, BlockingWriter, Hello, Kind, Outcomes, Rare, outcome};
use executors::worker::records::Sender;
use executors::worker::shared::slot_of;
use executors::worker::spawn::{Inherited, Spawned, Start};
use runtime_core::contract::{Outcome, Returned};
use tracing::Level;

const PART: &str = "TEST_PART";

/// This binary, playing a part.
pub(crate) fn as_child(part: &str) -> Start {
    Start {
        args: ["child::entry", "--exact", "--nocapture"].map(Into::into).into(),
        env: vec![(PART.into(), part.into())],
        ..Start::own()
    }
}

/// A program that is found by PATH.
pub(crate) fn program(name: &str, args: &[&str]) -> Start {
    Start { program: name.into(), name: name.into(), args: args.iter().map(Into::into).collect(), env: Vec::new() }
}

/// Ends a child whose tree is not of interest.
pub(crate) async fn end(spawned: Spawned) {
    spawned.process.watch().signal(9).unwrap();
    spawned.process.watch().ended().await.unwrap();
    spawned.process.reap().unwrap();
}

/// Whether there is such a process, and it is no zombie.
pub(crate) fn alive(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(") ").unwrap().1;
    !state.starts_with('Z') && !state.starts_with('X')
}

/// Waits until it holds, with a limit.
pub(crate) async fn eventually(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until a file has a number in it.
pub(crate) async fn number(path: &Path) -> i32 {
    let mut found = None;
    eventually(Duration::from_secs(20), "a file with a number", || {
        found = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// Not a test of its own: does nothing unless it was started by one.
#[test]
#[allow(clippy::disallowed_methods, clippy::exit)]
fn entry() {
    let Ok(part) = std::env::var(PART) else { return };
    let (part, argument) = part.split_once(' ').unwrap_or((&part, ""));
    match part {
        "idle" => idle(),
        "serve" => serve(argument.parse().unwrap()),
        "speak" => speak(),
        "guarded" => guarded(argument),
        "parent" => parent(argument),
        other => panic!("no part '{other}'"),
    }
    std::process::exit(0);
}

fn idle() {
    let inherited = Inherited::take().unwrap();
    assert!(Inherited::take().is_err());
    let descriptors = [&inherited.dump, &inherited.lifeline, &inherited.records].map(AsRawFd::as_raw_fd);
    assert_eq!(descriptors, [4, 5, 6]);
    let _guardian = Guardian::start(inherited.lifeline).unwrap();
    BlockingWriter::new(inherited.socket).send(|out| Hello::own().encode(out)).unwrap();
    loop {
        park();
    }
}

/// Answers batches; never comes back from the event of this number.
fn serve(stuck: usize) {
    let inherited = Inherited::take().unwrap();
    let mut reader = BlockingReader::new(inherited.socket.try_clone().unwrap());
    let mut writer = BlockingWriter::new(inherited.socket);
    let area = inherited.area;
    while let Some(frame) = reader.next_frame().unwrap() {
        let batch = Batch::decode(frame.expect(Kind::Batch).unwrap()).unwrap();
        let slot = slot_of(batch.id);
        area.begin_batch(slot, batch.id);
        let mut later = Vec::new();
        for (index, event) in batch.events.iter().enumerate() {
            area.begin_event(slot, index);
            if index == stuck {
                loop {
                    park();
                }
            }
            let mut encoded = Vec::new();
            outcome::encode_one(&mut encoded, &Outcome::from(Returned::Output(event.payload.clone())));
            if !area.finish_event(slot, &encoded) {
                later.push(encoded);
            }
        }
        let first = batch.events.len() - later.len();
        writer.send(|out| Outcomes::encode(out, batch.id, first, 0, &later)).unwrap();
    }
}

fn speak() {
    let inherited = Inherited::take().unwrap();
    let sender = Sender::new(inherited.records);
    sender.send(Level::WARN, "7-0", "usermodule", "a record");
    std::io::stderr().write_all(b"raw \xff bytes\nno break at the end").unwrap();
}

/// Starts a grandchild that blocks every signal and writes its number into a file. Never ends.
#[allow(clippy::zombie_processes)]
fn guarded(file: &str) {
    let inherited = Inherited::take().unwrap();
    let _guardian = Guardian::start(inherited.lifeline).unwrap();
    let script = "import os, signal, sys, time\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, set(range(1, 64)) - {32, 33})\n\
        open(sys.argv[1] + '.new', 'w').write(str(os.getpid()))\n\
        os.rename(sys.argv[1] + '.new', sys.argv[1])\n\
        while True: time.sleep(1)";
    let _grandchild = Command::new("python3").args(["-c", script, file]).spawn().unwrap();
    loop {
        park();
    }
}

/// Starts guarded workers and waits to be killed.
fn parent(folder: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut workers = Vec::new();
        for name in ["a", "b"] {
            let spawned = as_child(&format!("guarded {folder}/{name}")).spawn().unwrap();
            std::fs::write(format!("{folder}/{name}.worker"), spawned.process.pid().to_string()).unwrap();
            workers.push(spawned);
        }
        loop {
            sleep(Duration::from_secs(1));
        }
    });
}
