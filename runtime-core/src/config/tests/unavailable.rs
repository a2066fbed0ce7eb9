//! What later versions will have is refused as such; contradictions are refused with the way out.

use super::*;

/// The problems of the function with this line in its table.
fn with(line: &str) -> Vec<String> {
    problems(&format!("{VM}{line}\n"))
}

const LATER: &str = "not available in this version";

#[test]
fn components_of_later_versions() {
    for (role, name) in [("source", "nats"), ("state", "redis")] {
        let text = format!("[functions.vm.{role}]\nuse = '{name}'\n");
        let found = problems(&text);
        let wanted = format!("functions.vm.{role}.use: {role} '{name}' is {LATER}");
        assert!(found.contains(&wanted), "{found:?}");
    }
    assert_eq!(with("sinks.out.use = 'nats'"), [format!("functions.vm.sinks.out.use: sink 'nats' is {LATER}")]);
    // also where the label stands for the name
    assert_eq!(
        with("sinks.prometheus = {}"),
        [format!("functions.vm.sinks.prometheus.use: sink 'prometheus' is {LATER}")]
    );
}

#[test]
fn options_of_later_versions() {
    for option in ["standby", "memory_limit", "max_events", "max_resident", "max_age"] {
        assert_eq!(with(&format!("{option} = 1")), [format!("functions.vm.{option}: {LATER}")]);
    }
    for option in ["key", "ttl", "max_bytes", "scope"] {
        assert_eq!(with(&format!("state.{option} = 'x'")), [format!("functions.vm.state.{option}: {LATER}")]);
    }
    for option in ["reload", "reload_state"] {
        let text = VM.replace("'f.py'", &format!("'f.py', {option} = true"));
        assert_eq!(problems(&text), [format!("functions.vm.loader.{option}: {LATER}")]);
    }
    let text = VM.replace("'ticker'", "'ticker', lease = '5s'");
    assert_eq!(problems(&text), [format!("functions.vm.source.lease: {LATER}")]);
}

#[test]
fn values_of_later_versions() {
    assert_eq!(
        with("isolation = 'process'"),
        ["functions.vm.isolation: 'process' is not available in this version; functions run inline"]
    );
    assert_eq!(
        with("timeout = '10s'"),
        ["functions.vm.timeout: needs isolation = \"process\", which is not available in this version"]
    );
    assert_eq!(with("workers = 0"), ["functions.vm.workers: '0' workers cannot work; the least is 1"]);
    assert_eq!(with("workers = 2"), ["functions.vm.workers: '2' workers are not available in this version; only 1 is"]);
    assert_eq!(
        with("errors.then = 'dead_letter'"),
        ["functions.vm.errors.then: 'dead_letter' is not available in this version; use skip or stop"]
    );
    assert_eq!(with("timeout = 0\nworkers = 1\nisolation = 'inline'\nerrors.then = 'stop'\nhandlr = 1").len(), 1);
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
    let second = VM.replace("functions.vm", "functions.other");
    assert_eq!(
        problems(&format!("{VM}{second}")),
        [
            "functions.other: a second function of the executor 'python' beside 'vm': without isolation = \"process\", which \
          is not available in this version, a process holds one; run one gaugefn for each"
        ]
    );
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
