//! What later versions will have is refused as such; contradictions are refused with the way out.

use super::*;
use crate::config::settings::{Isolation, Standby};

/// The problems of the function with this line in its table.
fn with(line: &str) -> Vec<String> {
    problems(&format!("{VM}{line}\n"))
}

const LATER: &str = "not available in this version";

#[test]
fn components_of_later_versions() {
    let found = problems("[functions.vm.source]\nuse = 'nats'\n");
    assert!(found.contains(&format!("functions.vm.source.use: source 'nats' is {LATER}")), "{found:?}");
    assert_eq!(with("sinks.out.use = 'nats'"), [format!("functions.vm.sinks.out.use: sink 'nats' is {LATER}")]);
    // also where the label stands for the name
    assert_eq!(
        with("sinks.prometheus = {}"),
        [format!("functions.vm.sinks.prometheus.use: sink 'prometheus' is {LATER}")]
    );
}

#[test]
fn options_of_later_versions() {
    for option in ["ttl", "max_bytes"] {
        assert_eq!(with(&format!("state.{option} = 'x'")), [format!("functions.vm.state.{option}: {LATER}")]);
    }
    let text = VM.replace("'ticker'", "'ticker', lease = '5s'");
    assert_eq!(problems(&text), [format!("functions.vm.source.lease: {LATER}")]);
}

#[test]
fn the_first_words_of_a_table() {
    assert_eq!(with("timeout = 0\nworkers = 1\nisolation = 'inline'\nerrors.then = 'stop'\nhandlr = 1").len(), 1);
}

#[test]
fn options_about_workers() {
    let needs = |option: &str| format!("functions.vm.{option}: needs isolation = \"process\"");
    assert_eq!(
        with(
            "isolation = 'inline'\ntimeout = '1s'\nworkers = 2\nstandby = 'none'\nmemory_limit = '1GiB'\nmax_events = 5\n\
             max_resident = '1MiB'\nmax_age = '1h'"
        ),
        ["max_age", "max_events", "max_resident", "memory_limit", "standby", "timeout", "workers"].map(needs)
    );
    assert_eq!(with("workers = 0"), ["functions.vm.workers: '0' workers cannot work; the least is 1"]);
    let zero =
        |option: &str| format!("functions.vm.{option}: is 0, which no worker could meet; leave it out for no limit");
    assert_eq!(
        with("memory_limit = 0\nmax_events = 0\nmax_resident = 0\nmax_age = 0"),
        ["max_age", "max_events", "max_resident", "memory_limit"].map(zero)
    );
    assert_eq!(
        with("workers = 2"),
        [
            "functions.vm.workers: '2' workers cannot share one state; set state.key, or state.scope = \"worker\" to give \
             each its own, or workers = 1"
        ]
    );
    assert_eq!(read(&format!("{VM}workers = 2\nstate.key = '/host'\n")).functions[0].options.workers, 2);
    assert_eq!(
        with("state.key = 'host'"),
        ["functions.vm.state.key: 'host' is no JSON pointer; write '/host' for the value of 'host'"]
    );
    let latest = VM.replace("'ticker'", "'newest'");
    assert_eq!(
        problems(&format!("{latest}workers = 3\nstate.scope = 'worker'\n")),
        [
            "functions.vm.workers: '3' workers cannot share the source 'newest', which gives one value at a time; set 1, or \
          use a queue"
        ]
    );
    let bare = "[functions.other]\nsource.use = 'ticker'\nexecutor.use = 'bare'\n";
    assert_eq!(
        problems(&format!("{bare}timeout = 1\n")),
        ["functions.other.timeout: is for worker processes; the executor 'bare' has none"]
    );
    let settings = read(&format!(
        "{VM}workers = 2\nstate.scope = 'worker'\ntimeout = '1s'\nmemory_limit = '64MiB'\nmax_age = '1h'\nstandby = 'none'\n"
    ));
    let options = &settings.functions[0].options;
    assert_eq!((options.workers, options.isolation, options.standby), (2, Isolation::Process, Standby::None));
    assert_eq!(options.memory_limit.map(|size| size.0), Some(64 << 20));
    assert_eq!(read(bare).functions[0].options.isolation, Isolation::Inline);
}

#[test]
fn wrong_values_of_a_functions_own_options() {
    let empty = "functions.vm.handler: empty; name the entry function, such as 'handler'";
    assert_eq!(with("handler = ''"), [empty]);
    assert_eq!(with("handler = '  '"), [empty]);
    assert_eq!(
        with("workers = -1\ntimeout = 'soon'\nisolation = 'moon'\nerrors.retries = -1\nerrors.then = 'shrug'"),
        [
            "functions.vm.errors.retries: invalid value: integer `-1`, expected a whole number, 0 or more",
            "functions.vm.errors.then: unknown variant `shrug`, expected one of `skip`, `dead_letter`, `stop`",
            "functions.vm.isolation: unknown variant `moon`, expected `process` or `inline`",
            "functions.vm.timeout: 'soon' is no duration; write 500ms, 5s, 1m or a number of seconds",
            "functions.vm.workers: invalid value: integer `-1`, expected a whole number, 0 or more",
        ]
    );
    // what a component itself finds wrong
    let text = VM.replace("'ticker'", "'ticker', every = 0");
    assert_eq!(problems(&text), ["functions.vm.source.every: '0s' is no period; the least is 1ms"]);
}

#[test]
fn one_function_of_some_executors_fits_into_a_process() {
    let first = format!("{VM}isolation = 'inline'\n");
    let second = first.replace("functions.vm", "functions.other");
    assert_eq!(
        problems(&format!("{first}{second}")),
        [
            "functions.other: a second function of the executor 'python' with isolation = \"inline\" beside 'vm': a process \
          holds one; use isolation = \"process\" for one of them"
        ]
    );
    assert_eq!(read(&format!("{VM}{second}{}", VM.replace("functions.vm", "functions.third"))).functions.len(), 3);
    let bare = "[functions.other]\nsource.use = 'ticker'\nexecutor.use = 'bare'\n";
    assert_eq!(read(&format!("{VM}{bare}{}", bare.replace("other", "third"))).functions.len(), 3);
}

#[test]
fn secrets_are_not_quoted() {
    let found = problems(&format!("{VM}[link]\npassword = 5\nurl = 3\nretries = 'redis://me:hidden@h'\n"));
    let text = found.join("\n");
    assert_eq!(found.len(), 3, "{text}");
    assert!(!text.contains('5') && !text.contains("hidden"), "{text}");
    assert!(text.contains("link.password: ") && text.contains("link.url: invalid type: integer `3`"), "{text}");
}
