//! The context, signals, streams, the end.

use std::time::{Duration, Instant};

use runtime_core::contract::{Call, Facts, Returned};

use super::bed::{Bed, lines, running};

#[tokio::test]
async fn the_context_tells_what_it_knows() {
    let mut bed = Bed::new().with(
        "usermodule.py",
        "import sys
def handler(data, ctx):
    C = type(ctx)
    assert C.host is None and C.env is None and C.last_execution is None and C.__name__ == 'Context'
    assert isinstance(vars(ctx), dict) and vars(ctx)['port'] == 6380
    try:
        ctx['env']
    except TypeError as e:
        error = str(e)
    assert ctx.deadline is None and ctx.get_remaining_time_in_millis() == sys.maxsize
    ctx.set_env({'a': 1})
    assert ctx.env == {'a': 1}
    ctx.help()
    return [ctx.host, ctx.port, ctx.input_key, ctx.output_key, ctx.function_name, ctx.event_id, ctx.attempt, error,
            len(ctx.function_getmtime), ctx.function_getmtime[:8]]
",
    );
    bed.facts = Facts {
        host: Some("redis.local".into()),
        port: Some(6380),
        input_key: Some("metrics".into()),
        output_key: None,
    };
    let mut f = bed.load("usermodule.py", "handler").await.unwrap();
    assert_eq!(
        f.output("0").await,
        r#"["redis.local", 6380, "metrics", null, "vm", "e1", 1, "'Context' object is not subscriptable", 19, "2023-11-"]"#
    );
    assert!(lines().iter().any(|line| line.contains("confirm_execution()")), "{:?}", lines());
}

#[tokio::test]
async fn last_execution_counts_calls_that_stored_or_raised() {
    let (_bed, mut f) = running(
        "import datetime
def handler(data, ctx):
    seen, ctx.last_execution = ctx.last_execution, None
    assert seen is None or (isinstance(seen, datetime.datetime) and seen.tzinfo is None)
    if data == 'raise': raise ValueError
    if data == 'set': return {1}
    if data == 'none': return None
    return [seen is None]
",
    )
    .await;
    assert_eq!(f.output("\"x\"").await, "[true]");
    assert_eq!(f.output("\"x\"").await, "[false]");
    f.failed("\"raise\"").await;
    assert_eq!(f.output("\"x\"").await, "[false]");
    f.failed("\"set\"").await;
    assert_eq!(f.output("\"x\"").await, "[true]");
    f.empty("\"none\"").await;
    assert_eq!(f.output("\"x\"").await, "[false]");
    f.failed("malformed").await;
    assert_eq!(f.output("\"x\"").await, "[false]");
}

#[tokio::test]
async fn a_deadline_is_told() {
    let (_bed, mut f) = running(
        "import datetime
def handler(data, ctx):
    left = (ctx.deadline - datetime.datetime.now()).total_seconds()
    return [8000 < ctx.get_remaining_time_in_millis() <= 10000, 8 < left <= 10]
",
    )
    .await;
    let call = Call { deadline: Some(Instant::now() + Duration::from_secs(10)), ..Call::default() };
    let Returned::Output(text) = f.call_with("0", call).await else { panic!("no result") };
    assert_eq!(text, "[true, true]");
}

#[tokio::test]
async fn signals_work_and_interrupts_are_left_alone() {
    let (_bed, mut f) = running(
        "import signal, time, threading
hits = []
def handler(data, ctx):
    assert threading.current_thread() is threading.main_thread()
    assert signal.getsignal(signal.SIGINT) in (signal.SIG_DFL, signal.SIG_IGN, None)
    signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    end = time.monotonic() + 5
    while not hits and time.monotonic() < end:
        time.sleep(0.001)
    return hits
",
    )
    .await;
    assert_eq!(f.output("0").await, "[1]");
}

#[tokio::test]
async fn processes_of_its_own_work() {
    let (_bed, mut f) = running(
        "import asyncio, multiprocessing, os, subprocess, sys
def square(n):
    print('in a child')
    return n * n
def handler(data, ctx):
    results = []
    for method in ('fork', 'spawn'):
        with multiprocessing.get_context(method).Pool(2) as pool:
            results.append(pool.map(square, [1, 2, 3]))
    text = subprocess.run([sys.executable, '-c', 'print(6 * 7)'], capture_output=True, text=True, check=True).stdout
    async def child():
        process = await asyncio.create_subprocess_exec(sys.executable, '-c', 'print(1)', stdout=-1)
        return (await process.communicate())[0].decode()
    return results + [text, asyncio.run(child()), os.path.isabs(sys.executable)]
",
    )
    .await;
    assert_eq!(f.output("0").await, r#"[[1, 4, 9], [1, 4, 9], "42\n", "1\n", true]"#);
}

#[tokio::test]
async fn wrong_measurements_are_told_to_the_function() {
    let (_bed, mut f) = running(
        "def handler(data, ctx):
    m = ctx.metrics
    m.count('calls'); m.count('calls', 5, host='a'); m.gauge('level', 1.5); m.observe('size', 3)
    errors = []
    for wrong in (lambda: m.count('a-b'), lambda: m.gauge('calls', 1), lambda: m.count('n', -1),
                  lambda: m.count('n', 1.5), lambda: m.gauge('g', 'x'), lambda: m.count('n', function='f')):
        try:
            wrong()
            errors.append('none')
        except ValueError as e:
            errors.append(str(e).split(':')[0])
    return errors
",
    )
    .await;
    assert_eq!(
        f.output("0").await,
        r#"["metric 'a-b'", "metric 'calls'", "metric 'n'", "metric 'n'", "could not convert string to float", "metric 'n'"]"#
    );
}

#[tokio::test]
async fn what_is_registered_for_the_end_runs_at_the_end() {
    let (_bed, mut f) = running(
        "import atexit, sys
def last():
    print('bye', end='')
atexit.register(last)
def handler(data, ctx):
    pass
",
    )
    .await;
    f.empty("0").await;
    assert!(lines().is_empty());
    f.function.close(Duration::from_secs(10)).await.unwrap();
    assert_eq!(lines(), ["INFO  stdout: bye"]);
}

#[tokio::test]
async fn a_virtual_environment_is_the_one_that_python_is_in() {
    let bed = Bed::new().with(
        "usermodule.py",
        "import os, sys
def handler(data, ctx):
    import only_there
    assert sys.base_prefix != sys.prefix
    return [only_there.n, os.path.basename(sys.prefix), sys.executable == os.path.join(sys.prefix, 'bin', 'python3')]
",
    );
    // the interpreter of the build is the one whose library this process has
    let base = env!("GAUGEFN_PYTHON");
    let venv = bed.path().join("venv");
    let made = std::process::Command::new(base).args(["-m", "venv", "--without-pip"]).arg(&venv).status().unwrap();
    assert!(made.success());
    let packages = std::fs::read_dir(venv.join("lib")).unwrap().next().unwrap().unwrap().path().join("site-packages");
    std::fs::write(packages.join("only_there.py"), "n = 1\n").unwrap();
    let bed = bed.option("venv", venv.to_str().unwrap());
    let mut f = bed.load("usermodule.py", "handler").await.unwrap();
    assert_eq!(f.output("0").await, r#"[1, "venv", true]"#);
}

#[tokio::test]
async fn the_same_errors_are_told_after_a_first_failed_load() {
    let bed = Bed::new().with("bad.py", "import logging\nlogging.warning('bad')\n1 / 0\n").with(
        "good.py",
        "import logging\ndef handler(data, ctx):\n    logging.warning('good')\n    print('printed')\n",
    );
    bed.refusal("bad.py", "handler").await;
    let mut f = bed.load("good.py", "handler").await.unwrap();
    f.empty("0").await;
    // `logging.warning` itself configures the root logger, as in any program
    assert_eq!(lines(), ["WARN  root: WARNING:root:bad", "WARN e1 root: WARNING:root:good", "INFO e1 stdout: printed"]);
}

#[tokio::test]
async fn an_interrupt_is_the_engines_whatever_the_function_imports() {
    let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).unwrap();
    let (_bed, mut f) = running(
        "import asyncio, os, signal
def handler(data, ctx):
    asyncio.run(asyncio.sleep(0))
    os.kill(os.getpid(), signal.SIGINT)
    return 'not interrupted'
",
    )
    .await;
    assert_eq!(f.output("0").await, "\"not interrupted\"");
    tokio::time::timeout(Duration::from_secs(5), interrupts.recv()).await.unwrap();
}
