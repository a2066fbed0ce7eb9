//! Python in this process.

use runtime_core::contract::{Call, Env, Event, Legacy, StateKey};
use runtime_core::main_thread::MainThread;

use crate::bed::{Keeper, entries, event, keep, python, shown, warnings};

/// Counts, and then does as it is told.
pub(crate) const DOES: &str = r#"
import ctypes, os, signal, sys, threading, time

def handler(data, context):
    env = context.env
    env["n"] = env.get("n", 0) + 1
    env.setdefault("seen", []).append(data["id"])
    do = data.get("do")
    if do == "raise":
        raise ValueError("as asked")
    if do == "exit":
        sys.exit(3)
    if do == "odd":
        return {1, 2}
    if do == "reassign":
        context.env = {"gone": True}
        raise KeyError("as asked")
    if do == "break":
        context.env = threading.Lock()
        raise KeyError("as asked")
    if do == "hang again":
        if os.path.exists(data["mark"]):
            time.sleep(60)
        open(data["mark"], "w").close()
    if do == "hang":
        time.sleep(60)
    if do == "crash":
        ctypes.string_at(0)
    if do == "die":
        os._exit(3)
    if do == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return env["n"]
"#;

/// Where the events stand that fail: first, in the middle, last, two, two in a row, all.
pub(crate) const PATTERNS: [&str; 7] = ["x....", "..x..", "....x", ".x.x.", ".xx..", "x...x", "xxxxx"];

/// A batch in which the events with an `x` fail in this way, the keys of its events, and what must come out.
pub(crate) struct Row {
    pub(crate) events: Vec<Event>,
    pub(crate) results: Vec<String>,
    /// What each key has afterwards.
    pub(crate) states: Vec<(Option<&'static str>, Entries)>,
}

type Entries = Vec<(String, String)>;

pub(crate) fn row(pattern: &str, way: &str, keys: &[Option<&'static str>]) -> Row {
    let mut seen: Vec<Vec<usize>> = vec![Vec::new(); keys.len()];
    let (mut events, mut results) = (Vec::new(), Vec::new());
    for (id, letter) in pattern.chars().enumerate() {
        let place = id % keys.len();
        let host = keys[place].map_or("null".to_owned(), |key| format!("\"{key}\""));
        let payload = match (letter, way) {
            ('x', "malformed") => "{".to_owned(),
            ('x', way) => format!("{{\"id\": {id}, \"host\": {host}, \"do\": \"{way}\"}}"),
            _ => format!("{{\"id\": {id}, \"host\": {host}}}"),
        };
        events.push(event(id, keys[place], payload));
        if letter == 'x' {
            results.push("failed".to_owned());
        } else {
            seen[place].push(id);
            results.push(seen[place].len().to_string());
        }
    }
    let state = |seen: &Vec<usize>| {
        let ids: Vec<_> = seen.iter().map(ToString::to_string).collect();
        let both = [("\"n\"", seen.len().to_string()), ("\"seen\"", format!("[{}]", ids.join(",")))];
        both.into_iter().filter(|_| !seen.is_empty()).map(|(key, value)| (key.to_owned(), value)).collect()
    };
    Row { events, results, states: keys.iter().copied().zip(seen.iter().map(state)).collect() }
}

pub(crate) fn check(row: &Row, keeper: &Keeper, results: &[String], what: &str) {
    assert_eq!(results, row.results, "{what}");
    for (key, state) in &row.states {
        assert_eq!(keeper.state(*key).into_iter().collect::<Vec<_>>(), *state, "{what}, {key:?}");
    }
}

/// Nothing is left of these keys.
pub(crate) fn fresh(keys: &[Option<&str>]) -> Call {
    Call { forget: keys.iter().map(|key| StateKey(key.map(|key| format!("\"{key}\"")))).collect(), ..keep() }
}

pub(crate) async fn what_fails_leaves_no_trace(main: MainThread) {
    let folder = tempfile::tempdir().unwrap();
    let bed = python(folder.path(), DOES);
    for (bed, keys) in
        [(bed.clone(), &[None][..]), (crate::bed::Bed { key: Some("/host"), ..bed }, &[Some("a"), Some("b")][..])]
    {
        let mut function = bed.open(&main).await;
        for way in ["raise", "exit", "odd", "reassign", "break", "malformed"] {
            for pattern in PATTERNS {
                let row = row(pattern, way, keys);
                let mut keeper = Keeper::default();
                function.invoke(&[], fresh(keys)).await.unwrap();
                // two batches, so that the second one begins at the first one's mark
                let (first, second) = row.events.split_at(2);
                let mut results = keeper.drive(&mut *function, first).await;
                results.extend(keeper.drive(&mut *function, second).await);
                check(&row, &keeper, &results, &format!("{way} {pattern} {keys:?}"));
                assert_eq!(keeper.given, 2);
            }
        }
    }
}

pub(crate) async fn keys_are_the_engine_s(main: MainThread) {
    let folder = tempfile::tempdir().unwrap();
    let bed = crate::bed::Bed { key: Some("/host"), ..python(folder.path(), DOES) };
    let mut function = bed.open(&main).await;
    let payload = |id: usize| format!("{{\"id\": {id}, \"host\": \"same\"}}");
    let batch = [event(0, Some("a"), payload(0)), event(1, None, payload(1)), event(2, Some("a"), payload(2))];
    let mut keeper = Keeper::default();
    assert_eq!(keeper.drive(&mut *function, &batch).await, ["1", "1", "2"]);
    assert_eq!((keeper.state(Some("a"))["\"n\""].as_str(), keeper.state(None)["\"n\""].as_str()), ("2", "1"));
    assert_eq!(keeper.states.len(), 2);
}

pub(crate) async fn what_has_no_text_stays_and_is_told_of_once(main: MainThread) {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"
import collections, threading
made = 0

def handler(data, context):
    global made
    env = context.env
    if data == "default":
        context.env = env = collections.defaultdict(lambda: 7)
    if "lock" not in env:
        made += 1
        env["lock"] = threading.Lock()
    env["n"] = env.get("n", 0) + 1
    if data == "fail":
        env["other"] = threading.Lock()
        raise ValueError("as asked")
    if data == "unchanged":
        env["n"] -= 1
    return [env["n"], made, type(env).__name__]
"#;
    let mut function = python(folder.path(), text).open(&main).await;
    let batch = |texts: &[&str]| -> Vec<Event> {
        texts.iter().enumerate().map(|(id, text)| event(id, None, format!("\"{text}\""))).collect()
    };
    let mut keeper = Keeper::default();
    let results = keeper.drive(&mut *function, &batch(&["add", "fail", "add", "fail"])).await;
    assert_eq!(results, ["[1, 1, \"dict\"]", "failed", "[2, 1, \"dict\"]", "failed"]);
    assert_eq!(keeper.state(None).into_iter().collect::<Vec<_>>(), [("\"n\"".to_owned(), "2".to_owned())]);
    let [warning] = &warnings()[..] else { panic!("not one warning") };
    assert!(
        warning.starts_with("no store can keep 'lock' (a _thread.lock)") && warning.ends_with("gone with the process"),
        "{warning}"
    );
    // what has not changed is not told
    let outcomes = function.invoke(&batch(&["unchanged", "fail"]), keep()).await.unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.states.is_empty()), "{outcomes:?}");
    // what the entries are in has no text either; it is made twice, as its event is called once more
    let results = keeper.drive(&mut *function, &batch(&["default", "fail", "add"])).await;
    assert_eq!(results, ["[1, 3, \"defaultdict\"]", "failed", "[2, 3, \"defaultdict\"]"]);
    let warnings = warnings();
    assert!(warnings.iter().all(|line| !line.contains("'lock'")), "{warnings:?}");
}

pub(crate) async fn what_a_failed_call_has_not_changed_stays_the_object_it_was(main: MainThread) {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"
held = {}

def handler(data, context):
    env = context.env
    if data == "begin":
        env.update({"model": [1, 2], "n": 0, 7: [7], "last": ["x"]})
        held.update(env=env, model=env["model"], last=env["last"])
        return True
    if data == "fail":
        env["n"] += 1
        env["last"].append("y")
        env["new"] = []
        del env[7]
        raise ValueError("as asked")
    if data == "fail unchanged":
        raise ValueError("as asked")
    return [[env is held["env"], env["model"] is held["model"], env["last"] is held["last"]], list(env.items())]
"#;
    let mut function = python(folder.path(), text).open(&main).await;
    let mut keeper = Keeper::default();
    let mut one = async |text: &str| {
        let event = event(keeper.given, None, format!("\"{text}\""));
        keeper.drive(&mut *function, &[event]).await.remove(0)
    };
    assert_eq!(one("begin").await, "true");
    let state = "[[\"model\", [1, 2]], [\"n\", 0], [7, [7]], [\"last\", [\"x\"]]]";
    assert_eq!(one("fail unchanged").await, "failed");
    assert_eq!(one("tell").await, format!("[[true, true, true], {state}]"));
    assert_eq!(one("fail").await, "failed");
    assert_eq!(one("tell").await, format!("[[false, true, false], {state}]"));
}

pub(crate) async fn a_state_is_given_forgotten_and_handed_over(main: MainThread) {
    let folder = tempfile::tempdir().unwrap();
    let bed = crate::bed::Bed { key: Some("/host"), ..python(folder.path(), DOES) };
    let mut function = bed.open(&main).await;
    let payload = |id: usize| format!("{{\"id\": {id}}}");
    let one = |id: usize| [event(id, Some("a"), payload(id))];
    let key = || StateKey(Some("\"a\"".to_owned()));
    let env = |text: &'static str| Env(vec![("\"n\"".into(), text.into())]);
    let given = |text| Call { states: vec![(key(), env(text))], ..keep() };
    let outcomes = function.invoke(&one(1), given("41")).await.unwrap();
    assert_eq!(shown(&outcomes[0]), "42");
    assert_eq!(entries(&outcomes[0].states[0].1)["\"seen\""], "[1]");

    // one that cannot be read keeps its events waiting, and nothing else
    let batch = [event(2, Some("a"), payload(2)), event(3, Some("b"), payload(3))];
    let outcomes = function.invoke(&batch, given("{\"$later\":1}")).await.unwrap();
    assert_eq!([shown(&outcomes[0]), shown(&outcomes[1])], ["failed", "1"]);
    assert!(outcomes[0].states.is_empty());
    assert!(function.hand_over().await.is_err());
    let outcomes = function.invoke(&one(4), given("1")).await.unwrap();
    assert_eq!(shown(&outcomes[0]), "2");

    let Legacy::Encoded { env: whole, lost } = function.hand_over().await.unwrap() else { panic!("live") };
    assert_eq!(lost, Vec::<String>::new());
    let mut next = bed.open(&main).await;
    next.take_over(Some(Legacy::Encoded { env: whole, lost })).await.unwrap();
    let batch = [event(5, Some("a"), "{\"id\": 5, \"do\": \"raise\"}".to_owned()), event(6, Some("a"), payload(6))];
    let outcomes = next.invoke(&batch, keep()).await.unwrap();
    assert_eq!([shown(&outcomes[0]), shown(&outcomes[1])], ["failed", "3"]);
    assert_eq!(entries(&outcomes[1].states[0].1)["\"seen\""], "[4,6]");

    let outcomes = next.invoke(&one(7), Call { forget: vec![key()], ..keep() }).await.unwrap();
    assert_eq!(shown(&outcomes[0]), "1");
}
