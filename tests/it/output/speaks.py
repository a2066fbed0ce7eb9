"""Says something in every way that there is. The event names the way; what it says ends in the event's name."""
import ctypes
import faulthandler
import logging
import os
import subprocess
import sys
import threading
import time
import traceback
import warnings

libc = ctypes.CDLL(None)
LONG = 1 << 20


def prints(tag):
    print("printed", tag)
    print("printed", "in", "pieces", tag, file=sys.stderr)
    sys.stdout.write("without a break " + tag)


def c_library(tag):
    text = tag.encode()
    libc.printf(b"printf %s\n", text)
    libc.puts(b"puts " + text)
    libc.fflush(None)
    libc.dprintf(2, b"dprintf %s\n", text)
    libc.write(2, b"write " + text + b"\n", 7 + len(text))


def descriptors(tag):
    os.write(1, f"descriptor 1 {tag}\n".encode())
    os.write(2, f"descriptor 2 {tag}\n".encode())


def logs(tag):
    logging.getLogger("a.b").warning("logged %s\non two lines", tag)
    logging.getLogger("other").critical("critical %s", tag)


def context_logs(tag):
    context_logs.context.logger.info("by the context %s", tag)


def warns(tag):
    warnings.warn("warned " + tag)


def tracebacks(tag):
    try:
        raise ValueError("caught " + tag)
    except ValueError:
        traceback.print_exc()
        logging.getLogger("trace").exception("excepted %s", tag)


def garbage(tag):
    everything = bytes(range(256))
    os.write(1, everything + tag.encode() + b"\n")
    os.write(2, b"\xff\xfe\x00{\"}\xed\xa0\x80\xf0\x9f\x98\r\x1b[2J" + tag.encode() + b"\n")
    sys.stdout.buffer.write(everything + b"\n")
    sys.stderr.buffer.write(everything + b"\n")
    print("\ud800 lone, \x1b[31m red, {\"not\": \"json\"", tag)


def long_lines(tag):
    print("printed " + "p" * LONG + tag)
    os.write(1, b"raw " + b"w" * LONG + tag.encode() + b"\n")
    logging.getLogger("long").warning("logged %s%s", "l" * LONG, tag)


def subprocesses(tag):
    subprocess.run(["sh", "-c", f"echo 'a child {tag}'; echo 'an error of a child {tag}' >&2"], check=True)
    subprocess.run([sys.executable, "-c", f"print('python child {tag}'); raise SystemExit('its end {tag}')"])


def stacks(tag):
    del tag
    faulthandler.dump_traceback(file=2, all_threads=True)


def threads(tag):
    def speak():
        print("a thread", tag)
        raise RuntimeError("a thread's end " + tag)

    thread = threading.Thread(target=speak)
    thread.start()
    thread.join()


def forks(tag):
    pid = os.fork()
    if pid == 0:
        print("a forked child", tag)
        os.write(2, f"a forked child's descriptor {tag}\n".encode())
        os._exit(0)
    os.waitpid(pid, 0)


def raises(tag):
    raise LookupError("raised " + tag + "\n{")


def last_words(tag):
    os.write(2, b"no break before the end " + tag.encode())
    libc.abort()


def handler(way, context):
    context_logs.context = context
    globals()[way](f"<{context.event_id}>")
    # what was written to a descriptor belongs to the event that runs while it is read
    time.sleep(0.05)
    return {"way": way}


print("imported")
os.write(1, b"imported raw\n")
