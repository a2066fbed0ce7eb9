//! What a worker is given, and what is left of it in the parent.

use std::fs::{File, read_dir, read_link};
use std::os::fd::AsRawFd;
use std::time::Duration;

use executors::worker::exit::Exit;
use executors::worker::output::Output;
use executors::worker::protocol::{Hello, Incoming, Kind, Rare};
use executors::worker::reap::{Killed, kill_tree};
use executors::worker::spawn::{Inherited, Start, VARIABLE};

use super::child::{alive, as_child, end, eventually, program};

/// Open descriptors and what they are.
fn descriptors(process: &str) -> Vec<(i32, String)> {
    let folder = format!("/proc/{process}/fd");
    let mut found: Vec<_> = read_dir(&folder)
        .unwrap()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let number = path.file_name()?.to_str()?.parse().ok()?;
            Some((number, read_link(&path).ok()?.to_string_lossy().into_owned()))
        })
        .collect();
    found.sort();
    found
}

async fn lines(start: &Start) -> Vec<String> {
    let spawned = start.spawn().unwrap();
    let mut output = Output::new(spawned.stdout, spawned.stderr);
    let mut lines = Vec::new();
    while let Some(line) = output.next().await {
        lines.push(line.text);
    }
    spawned.process.watch().ended().await.unwrap();
    spawned.process.reap().unwrap();
    lines
}

#[tokio::test]
async fn a_child_has_its_descriptors_and_no_others() {
    // foreign code that forgets about exec
    let leaky = File::open("/dev/zero").unwrap();
    rustix::io::fcntl_setfd(&leaky, rustix::io::FdFlags::empty()).unwrap();
    let high = rustix::io::fcntl_dupfd_cloexec(&leaky, 700).unwrap();
    rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty()).unwrap();
    let script = "import os, stat\n\
        kinds = {stat.S_ISSOCK: 'socket', stat.S_ISFIFO: 'pipe', stat.S_ISCHR: 'device', stat.S_ISREG: 'file'}\n\
        for n in sorted(map(int, os.listdir('/proc/self/fd'))):\n    try:\n        mode = os.fstat(n).st_mode\n    except OSError:\n        continue\n    print(n, *[v for k, v in kinds.items() if k(mode)])\n\
        print(os.getpgid(0) == os.getpid(), os.path.basename(os.readlink('/proc/self/fd/0')))";
    let found = lines(&program("python3", &["-c", script])).await;
    assert_eq!(
        found,
        ["0 device", "1 pipe", "2 pipe", "3 socket", "4 pipe", "5 pipe", "6 pipe", "7 file", "8 socket", "True null"]
    );
    assert!(leaky.as_raw_fd() > 2 && high.as_raw_fd() >= 700);
}

#[tokio::test]
async fn descriptors_find_their_places_whatever_numbers_they_have_in_the_parent() {
    // the numbers that the child uses are taken here, free, and taken in between
    let mut held: Vec<_> = (0..40).map(|_| File::open("/dev/null").unwrap()).collect();
    for _ in 0..12 {
        let mut spawned = as_child("idle").spawn().unwrap();
        let mut incoming = Incoming::new(&mut spawned.socket);
        let frame = incoming.next_frame().await.unwrap().unwrap();
        let hello = Hello::decode(&frame.expect(Kind::Hello).unwrap()).unwrap();
        hello.check().unwrap();
        assert_eq!(hello.pid.cast_signed(), spawned.process.pid());
        end(spawned).await;
        held.remove(0);
        held.truncate(held.len().saturating_sub(2));
    }
}

#[tokio::test]
async fn the_environment_is_passed_on_with_a_name_for_the_worker() {
    let mut start = program("sh", &["-c", "echo $EXTRA; echo $PATH; echo $GAUGEFN_WORKER"]);
    start.env.push(("EXTRA".into(), "more".into()));
    let (first, second) = (lines(&start).await, lines(&start).await);
    #[allow(clippy::disallowed_methods)]
    let path = std::env::var("PATH").unwrap();
    assert_eq!(first[..2], ["more".to_owned(), path]);
    assert_ne!(first[2], second[2]);
    assert!(first[2].starts_with(&format!("{}-", std::process::id())), "{first:?}");
    assert_eq!(VARIABLE, "GAUGEFN_WORKER");
}

#[tokio::test]
async fn nothing_is_left_in_the_parent() {
    // the first one makes what stays for good: the runtime's own descriptors
    end(as_child("idle").spawn().unwrap()).await;
    let before = descriptors("self");
    for _ in 0..20 {
        let spawned = as_child("idle").spawn().unwrap();
        let (root, output) = (spawned.process.root().clone(), Output::new(spawned.stdout, spawned.stderr));
        let killed = kill_tree(&root);
        assert_eq!(killed, Killed::default());
        assert_eq!(spawned.process.watch().ended().await.unwrap(), Exit::Signal { number: 9, core: false });
        spawned.process.reap().unwrap();
        drop(output);
    }
    // aborted tasks give theirs back in their own time
    eventually(Duration::from_secs(5), "descriptors as before", || descriptors("self") == before).await;
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_an_error_and_leaves_nothing() {
    let missing = program("/nonexistent/program", &[]);
    missing.spawn().unwrap_err();
    let before = descriptors("self");
    let error = missing.spawn().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert_eq!(descriptors("self"), before);
}

#[tokio::test]
async fn a_dropped_worker_is_killed_and_swept_up() {
    let spawned = as_child("idle").spawn().unwrap();
    let pid = spawned.process.pid();
    drop(spawned);
    eventually(Duration::from_secs(5), "its end", || !alive(pid)).await;
    eventually(Duration::from_secs(5), "its burial", || {
        executors::worker::reap::sweep();
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    })
    .await;
}

#[test]
fn a_process_that_was_not_started_as_a_worker_says_so() {
    let error = Inherited::take().unwrap_err().to_string();
    assert!(
        error.starts_with("descriptor ") && error.ends_with("worker processes are started by gaugefn itself"),
        "{error}"
    );
}
