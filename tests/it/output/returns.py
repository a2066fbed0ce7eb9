"""Text and progress, each with carriage returns."""
import gc
import logging
import subprocess
import sys
import threading

CHILD = """
import sys
for n in range(2001):
    print(f"child {n} of 2000", end="\\r", flush=True)
print("\\rchild's first\\rchild's second\\r")
"""


class Falls:
    def __del__(self):
        raise ValueError("in del \ud800")


def thread():
    raise ValueError("in a thread \ud800\rover")


def handler(event, context):
    # as for CloudWatch
    print("boom\nTraceback\nValueError: x".replace("\n", "\r"))
    print("step 1 done\rstep 2 done\rstep 3 done")
    print("before\r\nafter\r\n", end="")
    for n in range(2001):
        # as tqdm does it
        sys.stderr.write(f"\r{n // 20:3d}%|{'#' * (n // 200):10}| {n}/2000 [00:00<00:00, {n / 7:.2f}it/s]")
    sys.stderr.write("\n")
    for n in range(2000):
        print(f"at {n}", end="\r")
    for name in "a.csv", "b.csv":
        print(f"loading {name}", end="\r")
    print(" " * 20, end="\r")
    for n in range(2000):
        sys.stdout.write(f"\r{n} lines")
    print()
    sys.stdout.buffer.write(b"bytes\rin one write\n")
    subprocess.run([sys.executable, "-c", CHILD], check=True)
    logging.getLogger("odd").warning("logged \ud800\rand more")
    Falls()
    gc.collect()
    speaking = threading.Thread(target=thread)
    speaking.start()
    speaking.join()
    print("unfinished\rlast", end="")
    return "done"
