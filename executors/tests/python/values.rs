//! What goes in and comes out.

use std::time::Duration;

use runtime_core::contract::{Blame, Call, Event, Returned};

use super::bed::running;

#[tokio::test]
async fn results_are_the_text_of_json_dumps() {
    let (_bed, mut f) = running("def handler(data, ctx):\n    return [data]\n").await;
    for (event, result) in [
        (r#"{"b":1,"a":[true,null]}"#, r#"[{"b": 1, "a": [true, null]}]"#),
        ("12.0", "[12.0]"),
        ("12", "[12]"),
        ("1e400", "[Infinity]"),
        ("NaN", "[NaN]"),
        ("-Infinity", "[-Infinity]"),
        ("18446744073709551617", "[18446744073709551617]"),
        ("0.1", "[0.1]"),
        ("1e22", "[1e+22]"),
        ("\"Zürich 🚀\"", r#"["Z\u00fcrich \ud83d\ude80"]"#),
        (r#""\ud800""#, r#"["\ud800"]"#),
        ("\u{feff}1", "[1]"),
    ] {
        assert_eq!(f.output(event).await, result, "{event}");
    }
}

#[tokio::test]
async fn keys_that_are_no_strings_become_text() {
    let (_bed, mut f) = running("def handler(data, ctx):\n    return {1: 1, 2.5: 2, None: 3, True: (1, 2)}\n").await;
    assert_eq!(f.output("0").await, r#"{"1": [1, 2], "2.5": 2, "null": 3}"#);
}

#[tokio::test]
async fn falsy_results_are_empty_and_scalars_are_results() {
    let (_bed, mut f) = running("def handler(data, ctx):\n    return eval(data)\n").await;
    for nothing in ["None", "{}", "0", "0.0", "[]", "''", "()", "False"] {
        f.empty(&format!("\"{nothing}\"")).await;
    }
    assert_eq!(f.output("\"True\"").await, "true");
    assert_eq!(f.output("\"'x'\"").await, "\"x\"");
    assert_eq!(f.output("\"float('nan')\"").await, "NaN");
}

#[tokio::test]
async fn env_and_globals_live_from_call_to_call() {
    let (_bed, mut f) = running(
        "from collections import deque
n = 0
def handler(data, ctx):
    global n
    n += 1
    if getattr(ctx.env, 'x', None) is None and 'window' not in ctx.env:
        ctx.env['window'] = deque(maxlen=2)
        ctx.mine = 'kept'
    ctx.env['window'].append(data['n'])
    data['n'] = None
    if n == 3:
        ctx.env = {'window': ctx.env['window'], 'again': True}
    return {'n': n, 'window': list(ctx.env['window']), 'mine': ctx.mine, 'again': 'again' in ctx.env}
",
    )
    .await;
    f.output("{\"n\": 1}").await;
    f.output("{\"n\": 2}").await;
    f.output("{\"n\": 3}").await;
    assert_eq!(f.output("{\"n\": 4}").await, r#"{"n": 4, "window": [3, 4], "mine": "kept", "again": true}"#);
}

#[tokio::test]
async fn a_batch_has_one_outcome_per_event_in_order() {
    let (_bed, mut f) =
        running("def handler(data, ctx):\n    return [data, 10 // data, ctx.event_id, ctx.attempt]\n").await;
    let events: Vec<_> = ["1", "0", "x", "5"].iter().map(|text| Event::new(format!("id-{text}"), *text)).collect();
    let outcomes = f.function.invoke(&events, Call::default()).await.unwrap();
    let returned: Vec<_> = outcomes
        .iter()
        .map(|outcome| match &outcome.returned {
            Returned::Output(text) => String::from_utf8(text.to_vec()).unwrap(),
            Returned::Empty => "empty".into(),
            Returned::Failed(fault) => format!("{:?}", fault.blame()),
            Returned::NotCalled => "not called".into(),
        })
        .collect();
    assert_eq!(returned, ["[1, 10, \"id-1\", 1]", "Function", "Event", "[5, 2, \"id-5\", 1]"]);
}

#[tokio::test]
async fn a_traceback_is_python_s_own_each_time() {
    const WAYS: [&str; 12] = [
        "value",
        "value",
        "other line",
        "noted",
        "name",
        "attribute",
        "cause",
        "context",
        "group",
        "syntax",
        "deep",
        "mute",
    ];
    let (_bed, mut f) = running(
        "import traceback
raised, calls = None, 0
class Mute(Exception):
    def __str__(self):
        raise KeyError
def deep(n):
    return deep(n - 1) if n else 1 / 0
def go(way):
    if way == 'value':
        raise ValueError(f'call {calls}')
    if way == 'other line':
        raise ValueError('elsewhere')
    if way == 'noted':
        error = OSError(2, 'two\\nlines')
        if hasattr(error, 'add_note'):
            error.add_note(f'note {calls}')
        raise error
    if way == 'name':
        return callz
    if way == 'attribute':
        return [].appendd
    if way == 'cause':
        raise RuntimeError('outer') from KeyError(calls)
    if way == 'context':
        try:
            1 / 0
        except ZeroDivisionError:
            raise LookupError(calls)
    if way == 'group':
        raise BaseExceptionGroup('both', [ValueError(calls), KeyError(2)])
    if way == 'syntax':
        compile('a b', 'x.py', 'exec')
    if way == 'deep':
        return deep(100)
    raise Mute
def handler(way, ctx):
    global raised, calls
    calls += 1
    if way == 'told':
        return ''.join(traceback.format_exception(type(raised), raised, raised.__traceback__))
    try:
        go(way)
    except BaseException as error:
        raised = error
        raise
",
    )
    .await;
    let mut reports = std::collections::BTreeSet::new();
    for way in WAYS.iter().chain(&WAYS) {
        let fault = f.failed(&format!("\"{way}\"")).await;
        let report = fault.report().unwrap().to_owned();
        let told = f.output("\"told\"").await;
        assert_eq!(report, serde_json::from_str::<String>(&told).unwrap(), "{way}");
        reports.insert(report);
    }
    // those that tell a call's number differ
    assert!(reports.len() >= 17, "{reports:#?}");
}

#[tokio::test]
async fn an_exception_is_named_with_its_place_and_traceback() {
    let (bed, mut f) = running(
        "import json
def inner(data):
    return json.loads(data)
def handler(data, ctx):
    return inner(data['text'])
",
    )
    .await;
    let file = bed.path().join("usermodule.py");
    let fault = f.failed(r#"{"text": "{"}"#).await;
    assert_eq!(fault.blame(), Blame::Function);
    assert_eq!(
        fault.to_string(),
        format!(
            "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: \
             line 1 column 2 (char 1) ({}:3 in inner)",
            file.display()
        )
    );
    let report = fault.report().unwrap();
    assert!(report.starts_with("Traceback (most recent call last):\n"), "{report}");
    assert!(report.contains("    return inner(data['text'])\n") && !report.contains("<gaugefn>"), "{report}");

    let fault = f.failed("[]").await;
    let wanted =
        format!("TypeError: list indices must be integers or slices, not str ({}:5 in handler)", file.display());
    assert_eq!(fault.to_string(), wanted);
}

#[tokio::test]
async fn whatever_is_raised_is_an_outcome() {
    let (_bed, mut f) = running(
        "import sys
class Odd(BaseException):
    def __str__(self):
        raise ValueError('no text')
def deep(n):
    return deep(n + 1)
def handler(data, ctx):
    if data == 'exit': sys.exit(3)
    if data == 'quit': exit()
    if data == 'interrupt': raise KeyboardInterrupt
    if data == 'generator': raise GeneratorExit
    if data == 'odd': raise Odd()
    if data == 'deep': deep(0)
    if data == 'lines': raise RuntimeError('one\\ntwo')
    if data == 'chain':
        try:
            1 / 0
        except ZeroDivisionError as e:
            raise RuntimeError('second') from e
    if data == 'array':
        class Array:
            def __bool__(self): raise ValueError('ambiguous')
        return Array()
    return 'fine'
",
    )
    .await;
    for (event, start) in [
        ("exit", "SystemExit: 3 ("),
        ("quit", "SystemExit: None ("),
        ("interrupt", "KeyboardInterrupt ("),
        ("generator", "GeneratorExit ("),
        ("odd", "usermodule.Odd: <exception str() failed> ("),
        ("deep", "RecursionError: maximum recursion depth exceeded"),
        ("lines", "RuntimeError: one two ("),
        ("chain", "RuntimeError: second ("),
        ("array", "whether the result is empty cannot be told: ValueError: ambiguous ("),
    ] {
        let fault = f.failed(&format!("\"{event}\"")).await;
        assert!(fault.to_string().starts_with(start), "{event}: {fault}");
        if event == "chain" {
            assert!(fault.report().unwrap().contains("The above exception was the direct cause"), "{fault:?}");
        }
    }
    assert_eq!(f.output("0").await, "\"fine\"");
}

#[tokio::test]
async fn a_result_that_is_no_json_is_named_by_its_path() {
    let (_bed, mut f) = running(
        "from datetime import datetime
def handler(data, ctx):
    loop = {'a': []}
    loop['a'].append(loop)
    deep = []
    for _ in range(100000):
        deep = [deep]
    class Mine(dict): pass
    shared = [1]
    return {
        'list': {'cpu': [1, 2, shared, datetime.now()], 'x': shared},
        'key': {'a': Mine({(1, 2): 3})},
        'dash': {'cpu-0': {1}},
        'top': object(),
        'loop': loop,
        'deep': deep,
        'bytes': [b'x'],
    }[data]
",
    )
    .await;
    for (event, found) in [
        ("list", "$.cpu[3]: datetime"),
        ("key", "$.a: key of type tuple"),
        ("dash", "$[\"cpu-0\"]: set"),
        ("top", "$: object"),
        ("loop", "$.a[0]: contains itself"),
        ("bytes", "$[0]: bytes"),
    ] {
        let fault = f.failed(&format!("\"{event}\"")).await;
        assert_eq!(fault.to_string(), format!("the result is not json: {found}"));
        assert!(!fault.report().unwrap().is_empty());
    }
    let fault = f.failed("\"deep\"").await;
    assert!(fault.to_string().starts_with("the result is not json: RecursionError"), "{fault}");
}

#[tokio::test]
async fn a_malformed_event_is_its_own_fault_and_calls_nothing() {
    let (_bed, mut f) = running("n = 0\ndef handler(data, ctx):\n    global n\n    n += 1\n    return n\n").await;
    for (event, words) in [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("{\"a\": }", "line 1 column 7 (char 6)"),
        ("[1] x", "Extra data: line 1 column 5 (char 4)"),
    ] {
        let fault = f.failed(event).await;
        assert_eq!(fault.blame(), Blame::Event);
        assert!(
            fault.to_string().starts_with("the event is not json: ") && fault.to_string().contains(words),
            "{fault}"
        );
    }
    let outcomes = f.function.invoke(&[Event::new("e", b"\"\xff\"".to_vec())], Call::default()).await.unwrap();
    assert!(matches!(&outcomes[0].returned, Returned::Failed(fault) if fault.blame() == Blame::Event));
    assert!(matches!(f.call(&"[".repeat(100_000)).await, Returned::Failed(_)));
    assert_eq!(f.output("0").await, "1");
}

#[tokio::test]
async fn async_functions_are_awaited_on_one_loop() {
    let (bed, mut f) = running(
        "import asyncio
loops = set()
async def handler(data, ctx):
    loops.add(id(asyncio.get_running_loop()))
    await asyncio.sleep(0.001)
    if data == 'raise':
        raise ValueError('in async')
    if data == 'exit':
        raise SystemExit(1)
    return {'loops': len(loops), 'data': data}
",
    )
    .await;
    assert_eq!(f.output("1").await, r#"{"loops": 1, "data": 1}"#);
    let fault = f.failed("\"raise\"").await;
    let file = bed.path().join("usermodule.py");
    assert_eq!(fault.to_string(), format!("ValueError: in async ({}:7 in handler)", file.display()));
    assert_eq!(fault.report().unwrap().matches("  File ").count(), 1, "{:?}", fault.report());
    assert!(f.failed("\"exit\"").await.to_string().starts_with("SystemExit: 1"));
    assert_eq!(f.output("2").await, r#"{"loops": 1, "data": 2}"#);
    f.function.close(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn a_function_may_bring_its_own_json() {
    let (_bed, mut f) = running(
        "import json, functools
json.dumps = functools.partial(json.dumps, default=str, sort_keys=True)
def handler(data, ctx):
    return {'b': {1}, 'a': 1}
",
    )
    .await;
    assert_eq!(f.output("0").await, r#"{"a": 1, "b": "{1}"}"#);
}
