//! Clients of the admin endpoints that say nothing, or half of something.

use crate::support::bed::{Bed, PATIENCE, Vm};
use crate::support::wait::eventually;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// As many connections as the endpoints have at a time.
const CONNECTIONS: usize = 64;

fn idle() -> Bed {
    Bed::bare("").more(
        "[functions.vm]\nsource = { use = \"host\", period = \"100ms\" }\nexecutor = { use = \"passthrough\" }\n\
         sinks.stdout = {}\n",
    )
}

fn connect(vm: &Vm, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(vm.admin.listen()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// Asks over a connection of its own, as a probe does.
fn probe(vm: &Vm) -> bool {
    let mut stream = connect(vm, "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut text = String::new();
    stream.read_to_string(&mut text).is_ok_and(|_| text.starts_with("HTTP/1.1 200"))
}

fn descriptors(vm: &Vm) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", vm.running.pid())).unwrap().count()
}

#[test]
fn silent_clients_are_bounded_and_probes_are_answered_meanwhile() {
    let vm = idle().start();
    let before = descriptors(&vm);
    let mut silent = Vec::new();
    for text in ["", "GET /healthz", "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"] {
        for _ in 0..CONNECTIONS {
            silent.push(connect(&vm, text));
        }
        assert!(probe(&vm), "after {text:?}");
    }
    let bounded = eventually(PATIENCE, || (descriptors(&vm) <= before + CONNECTIONS + 4).then_some(()));
    assert!(bounded.is_some(), "{} descriptors, {before} before", descriptors(&vm));
    let ended = silent.iter_mut().take(CONNECTIONS).all(|stream| matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    assert!(ended, "the oldest make room");
}

#[test]
fn without_descriptors_probes_are_answered_and_the_log_says_what_is_missing() {
    let mut vm = idle().start();
    let limit = descriptors(&vm) as u64 + 8;
    let pid = rustix::process::Pid::from_raw(vm.running.pid().cast_signed());
    let limited = rustix::process::Rlimit { current: Some(limit), maximum: Some(limit) };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limited).unwrap();
    let silent: Vec<_> = (0..30).map(|_| connect(&vm, "GET")).collect();
    vm.running.wait_for_log("admin: no connection can be accepted: Too many open files", PATIENCE);
    for _ in 0..10 {
        assert!(probe(&vm), "{}", vm.running.written());
    }
    assert_eq!(vm.lines(&["ERROR"]), 1, "{}", vm.running.written());
    drop(silent);
    assert!(probe(&vm));
}
