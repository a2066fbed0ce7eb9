import ctypes, signal, sys


def exits(event):
    os._exit(3)


def reads(event):
    ctypes.string_at(0)


def aborts(event):
    os.abort()


def kills(event):
    os.kill(os.getpid(), signal.SIGKILL)


def terminates(event):
    signal.raise_signal(signal.SIGTERM)
    time.sleep(9)


def overflows(event):
    # the recursion is C's, which Python stops at its limit only
    sys.setrecursionlimit(10**9)
    nested = []
    for _ in range(10**5):
        nested = [nested]
    json.dumps(nested)


def recurses(event):
    # Python's own frames lie on the heap
    sys.setrecursionlimit(10**9)

    def deeper(level):
        return deeper(level + 1) + 1

    deeper(0)


def leaks(event):
    kept = []
    while True:
        kept.append(b"x" * (10 << 20))
        time.sleep(0.02)


def leaks_in_a_child(event):
    if os.fork() == 0:
        leaks(event)
    os.wait()


def handler(event, context):
    note(n=event["n"])
    context.env["calls"] = context.env.get("calls", 0) + 1
    if "do" in event:
        globals()[event["do"]](event)
    return {"n": event["n"], "pid": os.getpid(), "calls": context.env["calls"]}
