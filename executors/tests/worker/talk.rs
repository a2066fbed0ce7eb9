//! Everything that a parent hears from one child.

use std::time::{Duration, Instant};

use executors::worker::dump;
use executors::worker::exit::Exit;
use executors::worker::output::{Output, Stream};
use executors::worker::protocol::{BatchRef, Incoming, Kind, Outcomes, Outgoing, outcome};
use executors::worker::records::Records;
use executors::worker::shared::slot_of;
use executors::worker::spawn::Start;
use runtime_core::contract::{Event, Returned};
use tracing::Level;

use super::child::{as_child, end, eventually, program};

fn events(count: usize, size: usize) -> Vec<Event> {
    (0..count).map(|index| Event::new(index.to_string(), vec![b'0' + (index % 10) as u8; size])).collect()
}

fn output(outcome: &Returned) -> &[u8] {
    match outcome {
        Returned::Output(payload) => payload,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn batches_go_through_and_their_outcomes_stand_in_the_shared_area() {
    let mut spawned = as_child("serve 99").spawn().unwrap();
    let (read, write) = spawned.socket.split();
    let (mut incoming, mut outgoing) = (Incoming::new(read), Outgoing::new(write));
    // two in flight; the last batch does not fit into the area
    let batches = [events(50, 100), events(3, 10), events(4, 30 << 20)];
    for (id, events) in (1..).zip(&batches) {
        let batch = BatchRef { id, events, ..BatchRef::default() };
        let send = outgoing.send(|out| batch.encode(out));
        if id == 1 {
            send.await.unwrap();
            continue;
        }
        // reading goes on while a batch is written
        let (sent, frame) = tokio::join!(send, incoming.next_frame());
        sent.unwrap();
        let got = Outcomes::decode(frame.unwrap().unwrap().expect(Kind::Outcomes).unwrap()).unwrap();
        assert_eq!((got.batch, got.first, got.outcomes.len()), (id - 1, batches[id as usize - 2].len(), 0));
        let stored = spawned.area.outcomes(slot_of(got.batch), got.first);
        assert_eq!(stored.len(), got.first);
        for (bytes, event) in stored.into_iter().zip(&batches[id as usize - 2]) {
            assert_eq!(output(&outcome::decode_one(bytes).unwrap().returned), &event.payload[..]);
        }
        spawned.area.trim(slot_of(got.batch)).unwrap();
    }
    let frame = incoming.next_frame().await.unwrap().unwrap();
    let got = Outcomes::decode(frame.expect(Kind::Outcomes).unwrap()).unwrap();
    assert_eq!((got.batch, got.first, got.outcomes.len()), (3, 2, 2));
    assert!(got.outcomes.iter().all(|outcome| output(&outcome.returned).len() == 30 << 20));
    assert_eq!(spawned.area.outcomes(slot_of(3), 4).len(), 2);
    end(spawned).await;
}

#[tokio::test]
async fn finished_outcomes_outlive_a_child_that_is_killed_in_the_middle() {
    let spawned = as_child("serve 3").spawn().unwrap();
    let mut outgoing = Outgoing::new(spawned.socket);
    let events = events(5, 1000);
    let batch = BatchRef { id: 1, events: &events, ..BatchRef::default() };
    let sent = Instant::now();
    outgoing.send(|out| batch.encode(out)).await.unwrap();
    let running = || spawned.area.progress(1).and_then(|progress| progress.running);
    eventually(Duration::from_secs(20), "the event that hangs", || running().is_some_and(|(index, _)| index == 3))
        .await;
    let (_, since) = running().unwrap();
    assert!(since >= sent && since <= Instant::now());
    spawned.process.watch().signal(9).unwrap();
    assert_eq!(spawned.process.watch().ended().await.unwrap(), Exit::Signal { number: 9, core: false });
    let progress = spawned.area.progress(1).unwrap();
    assert_eq!((progress.batch, progress.finished, progress.stored), (1, 3, 3));
    let stored = spawned.area.outcomes(1, 5);
    assert_eq!(stored.len(), 3);
    assert_eq!(output(&outcome::decode_one(stored[2].clone()).unwrap().returned), [b'2'; 1000]);
    spawned.process.reap().unwrap();
}

#[tokio::test]
async fn whenever_a_child_is_killed_its_outcomes_are_whole() {
    let events = events(1000, 3000);
    let mut partly = 0;
    for round in 0..30 {
        let spawned = as_child("serve 9999").spawn().unwrap();
        let mut outgoing = Outgoing::new(spawned.socket);
        let batch = BatchRef { id: 2, events: &events, ..BatchRef::default() };
        outgoing.send(|out| batch.encode(out)).await.unwrap();
        // somewhere in the middle, each time a little later
        let begun = || spawned.area.progress(0).is_some_and(|progress| progress.finished > 0);
        while !begun() {
            std::thread::yield_now();
        }
        let until = Instant::now() + Duration::from_micros(round * 40);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        spawned.process.watch().signal(9).unwrap();
        spawned.process.watch().ended().await.unwrap();
        let progress = spawned.area.progress(0).unwrap();
        let stored = spawned.area.outcomes(0, events.len());
        assert_eq!(stored.len(), progress.finished);
        partly += usize::from(stored.len() < events.len());
        for (bytes, event) in stored.into_iter().zip(&events) {
            assert_eq!(output(&outcome::decode_one(bytes).unwrap().returned), &event.payload[..]);
        }
        spawned.process.reap().unwrap();
    }
    assert!(partly > 0, "no child was killed in the middle");
}

#[tokio::test]
async fn prints_and_records_arrive_whole() {
    let spawned = as_child("speak").spawn().unwrap();
    let (mut output, mut records) = (Output::new(spawned.stdout, spawned.stderr), Records::new(spawned.records));
    let record = records.next().await.unwrap();
    assert_eq!((record.level, record.event.as_str(), record.text.as_str()), (Level::WARN, "7-0", "a record"));
    assert_eq!(record.stream, "usermodule");
    let mut errors = Vec::new();
    while let Some(line) = output.next().await {
        if line.stream == Stream::Stderr {
            errors.push(line.text);
        }
    }
    assert_eq!(errors, ["raw \u{fffd} bytes", "no break at the end"]);
    assert_eq!(records.next().await, None);
    assert_eq!(spawned.process.watch().ended().await.unwrap(), Exit::Code(0));
    spawned.process.reap().unwrap();
}

/// A Python that has armed itself and then runs this.
fn python(then: &str) -> Start {
    let script = format!("{}\narm(4, {})\nimport os, sys, signal\n{then}", dump::PYTHON, dump::signal());
    program("python3", &["-c", &script])
}

#[tokio::test]
async fn a_stuck_python_says_where() {
    for stuck in [
        "def stuck():\n    print('now', flush=True)\n    while True: pass\nstuck()",
        "import time\ndef stuck():\n    print('now', flush=True)\n    time.sleep(1e9)\nstuck()",
        // holds the GIL
        "import re\ndef stuck():\n    print('now', flush=True)\n    re.match(r'(a+)+$', 'a' * 60 + 'b')\nstuck()",
        "import subprocess\ndef stuck():\n    print('now', flush=True)\n    subprocess.Popen(['sleep', '999']).wait()\nstuck()",
    ] {
        let spawned = python(stuck).spawn().unwrap();
        let mut output = Output::new(spawned.stdout, spawned.stderr);
        assert_eq!(output.next().await.unwrap().text, "now");
        // the line after the print, not the print itself
        tokio::time::sleep(Duration::from_millis(50)).await;
        let text = dump::ask(spawned.process.watch(), &spawned.dump).await;
        assert!(text.contains("Current thread") || text.contains("most recent call first"), "{text}");
        assert!(text.contains("in stuck"), "{text}");
        assert!(!text.contains('\u{fffd}'));
        executors::worker::reap::kill_tree(spawned.process.root());
        spawned.process.watch().ended().await.unwrap();
        assert_eq!(dump::ask(spawned.process.watch(), &spawned.dump).await, "", "the dead do not answer");
        spawned.process.reap().unwrap();
    }
}

#[tokio::test]
async fn a_crash_leaves_its_stack() {
    let spawned = python("import ctypes\ndef crash():\n    ctypes.string_at(0)\ncrash()").spawn().unwrap();
    let exit = spawned.process.watch().ended().await.unwrap();
    assert!(exit.to_string().starts_with("killed by SIGSEGV"), "{exit}");
    let text = dump::rest(&spawned.dump);
    assert!(text.contains("Fatal Python error: Segmentation fault") && text.contains("in crash"), "{text}");
    spawned.process.reap().unwrap();
}
