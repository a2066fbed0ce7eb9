//! Functions whose states somebody else keeps: a call that fails leaves no trace, in this process and in workers.
//!
//! * `bed` - a function, and a small engine that keeps its states
//! * `python` - Python in this process
//! * `native` - a library in this process
//! * `workers` - both in processes of their own, which end in the middle
//!
//! A worker is this very program, so it has a `main` of its own, which lists and runs tests as `cargo nextest` asks.

#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::exit, reason = "it plays the test harness")]

mod bed;
mod native;
mod python;
#[path = "../native/support.rs"]
mod support;
mod workers;

use std::pin::Pin;

use executors::worker::guest;
use runtime_core::main_thread::{self, MainThread};

type Test = (&'static str, fn(MainThread) -> Pin<Box<dyn Future<Output = ()> + Send>>);

macro_rules! tests {
    ($($module:ident::$name:ident,)*) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), |main| Box::pin($module::$name(main)))),*]
    };
}

const TESTS: &[Test] = tests![
    python::what_fails_leaves_no_trace,
    python::keys_are_the_engine_s,
    python::what_has_no_text_stays_and_is_told_of_once,
    python::what_a_failed_call_has_not_changed_stays_the_object_it_was,
    python::a_state_is_given_forgotten_and_handed_over,
    native::what_fails_leaves_no_trace,
    native::what_has_no_text_stays_and_is_told_of_once,
    native::a_library_that_cannot_tell_its_state_is_refused,
    workers::whatever_ends_leaves_no_trace,
    workers::a_repetition_has_a_limit_of_its_own,
    workers::keys_have_workers_of_their_own,
    workers::what_was_given_behind_a_worker_s_end_is_given_back,
    workers::a_worker_that_ends_while_idle_is_noticed,
    workers::an_event_that_ends_workers_before_it_begins_is_blamed,
    workers::a_state_goes_on_in_the_next_version,
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "worker") {
        std::process::exit(guest::run().into());
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        TESTS.iter().filter(|_| !has("--ignored")).for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let chosen = |name: &str| {
        filter.is_none_or(|filter| if has("--exact") { name == filter } else { name.contains(filter.as_str()) })
    };
    let tests: Vec<_> = TESTS.iter().filter(|(name, _)| chosen(name)).collect();
    let (main_thread, desk) = main_thread::pair();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    bed::listen();
    let ran = runtime.spawn(async move {
        let mut failed = 0;
        for (name, test) in tests {
            let passed = tokio::spawn(test(main_thread.clone())).await.is_ok();
            println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
            failed += u8::from(!passed);
        }
        main_thread.close();
        failed
    });
    desk.serve().unwrap();
    if runtime.block_on(ran).unwrap() > 0 {
        std::process::exit(101);
    }
}
