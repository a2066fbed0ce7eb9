//! Prints and logging as records.

use super::bed::{lines, running};

#[tokio::test]
async fn printed_lines_are_records_of_their_event() {
    let (_bed, mut f) = running(
        "import sys, threading
print('importing')
def handler(data, ctx):
    print('one', end=' ')
    print('two\\nthree')
    print('unfinished', end='', flush=True)
    print('to stderr', file=sys.stderr)
    sys.stdout.buffer.write(b' raw \\xff\\r\\n')
    sys.stderr.write('\\r 1%\\r 2%\\r100%')
    thread = threading.Thread(target=print, args=('thread',))
    thread.start(); thread.join()
    print()
    print('\\ud800')
    print('last', end='')
",
    )
    .await;
    f.empty("0").await;
    f.empty("0").await;
    let expected = |event: &str| {
        [
            "INFO @ stdout: one two",
            "INFO @ stdout: three",
            "WARN @ stderr: to stderr",
            "INFO @ stdout: unfinished raw \\xff",
            "INFO @ stdout: thread",
            "INFO @ stdout: ",
            "INFO @ stdout: \\ud800",
            "INFO @ stdout: last",
            "WARN @ stderr: 100%",
        ]
        .map(|line| line.replace('@', event))
    };
    let mut all = vec!["INFO  stdout: importing".to_owned()];
    all.extend(expected("e1"));
    all.extend(expected("e2"));
    assert_eq!(lines(), all);
}

#[tokio::test]
async fn the_streams_are_whole_text_streams() {
    let (_bed, mut f) = running(
        "import io, os, sys, contextlib, subprocess
def handler(data, ctx):
    out, err = sys.stdout, sys.stderr
    assert (out.fileno(), err.fileno()) == (1, 2)
    assert not out.isatty() and out.writable() and not out.readable() and not out.closed
    assert out.encoding == 'utf-8' and out.errors == 'backslashreplace' and out.name == '<stdout>'
    assert isinstance(out, io.TextIOBase) and out is sys.__stdout__
    out.reconfigure(line_buffering=True)
    out.writelines(['a\\n', 'b\\n'])
    out.flush()
    io.TextIOWrapper(out.buffer, encoding='utf-8').write('wrapped\\n')
    with contextlib.redirect_stdout(io.StringIO()) as text:
        print('not recorded')
    assert text.getvalue() == 'not recorded\\n'
    sys.stdout = open(os.devnull, 'w')
    print('not recorded')
    sys.stdout = sys.__stdout__
    out.close()
    print('still there')
    assert sys.stdin.read() == '' and sys.stdin.fileno() > 2
    subprocess.run([sys.executable, '-c', 'print()'], stdout=subprocess.DEVNULL, check=True)
    return 'done'
",
    )
    .await;
    assert_eq!(f.output("0").await, "\"done\"");
    let texts: Vec<_> = lines().iter().map(|line| line.rsplit_once(": ").unwrap().1.to_owned()).collect();
    assert_eq!(texts, ["a", "b", "wrapped", "still there"]);
}

#[tokio::test]
async fn logging_without_configuration_shows_warnings_once() {
    let (_bed, mut f) = running(
        "import logging, warnings
log = logging.getLogger('my.part')
def handler(data, ctx):
    assert not logging.getLogger().handlers
    log.info('hidden')
    log.warning('seen %d', 1)
    logging.getLogger('quiet').setLevel(logging.DEBUG)
    logging.getLogger('quiet').debug('hidden')
    ctx.logger.info('from the context')
    ctx.logger.debug('hidden')
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception('failed')
",
    )
    .await;
    f.empty("0").await;
    let lines = lines();
    assert_eq!(lines[..2], ["WARN e1 my.part: seen 1", "INFO e1 vm: from the context"]);
    assert!(lines[2].starts_with("ERROR e1 my.part: failed\nTraceback (most recent call last):\n"), "{lines:?}");
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn basic_config_keeps_its_effect_and_each_message_comes_once() {
    let (_bed, mut f) = running(
        "import logging, sys
logging.basicConfig(level=logging.DEBUG, format='%(levelname)s <%(message)s>')
extra = logging.getLogger('extra')
extra.propagate = False
extra.addHandler(logging.StreamHandler(sys.stdout))
def handler(data, ctx):
    logging.debug('d')
    logging.error('two\\nlines')
    ctx.logger.info('c')
    extra.critical('x')
",
    )
    .await;
    f.empty("0").await;
    assert_eq!(
        lines(),
        ["DEBUG e1 root: DEBUG <d>", "ERROR e1 root: ERROR <two\nlines>", "INFO e1 vm: INFO <c>", "ERROR e1 extra: x"]
    );
}

#[tokio::test]
async fn endless_lines_are_cut() {
    let (_bed, mut f) =
        running("def handler(data, ctx):\n    for _ in range(3):\n        print('x' * 50000, end='')\n").await;
    f.empty("0").await;
    let lengths: Vec<_> = lines().iter().map(|line| line.rsplit_once(": ").unwrap().1.len()).collect();
    assert_eq!(lengths, [65536, 65536, 150_000 - 2 * 65536]);
}
