import ctypes, multiprocessing, sys, threading
from concurrent.futures import ProcessPoolExecutor


def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def returns(event):
    pid = os.fork()
    return status(pid) if pid else {"n": event["n"], "child": "speaks"}


def raises(event):
    pid = os.fork()
    if pid:
        return status(pid)
    print("the child's last line")
    raise ValueError("of the child")


def exits(event):
    pid = os.fork()
    return status(pid) if pid else sys.exit(7)


def explains(event):
    pid = os.fork()
    return status(pid) if pid else sys.exit("the child's reason")


def interrupted(event):
    pid = os.fork()
    if pid:
        return status(pid)
    raise KeyboardInterrupt


def again(event):
    pid = os.fork()
    if pid:
        return status(pid)
    pid = os.fork()
    if pid:
        sys.exit(status(pid) + 1)
    return {"n": event["n"], "grandchild": "speaks"}


def crashes(event):
    pid = os.fork()
    if pid == 0:
        ctypes.string_at(0)
    return status(pid)


def terminal(event):
    pid, descriptor = os.forkpty()
    if pid == 0:
        return {"n": event["n"], "child": "speaks"}
    try:
        while os.read(descriptor, 100):
            pass
    except OSError:
        pass
    os.close(descriptor)
    return status(pid)


def thread(event):
    found = []

    def forks():
        pid = os.fork()
        if pid:
            found.append(status(pid))

    worker = threading.Thread(target=forks)
    worker.start()
    worker.join()
    return found[0]


def unsaid(event):
    # as a library forks: nobody is told
    pid = ctypes.PyDLL(None).fork()
    return status(pid) if pid else {"n": event["n"], "child": "speaks"}


def late(event):
    if os.fork():
        return 0
    time.sleep(0.3)
    return {"n": event["n"], "child": "speaks"}


def process(event):
    child = multiprocessing.get_context("fork").Process(target=sys.exit, args=(5,))
    child.start()
    child.join()
    return child.exitcode


def pool(event):
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        return pool.submit(pow, 2, 3).result()


class Result(dict):
    """Asked for its truth by the runtime."""

    def __bool__(self):
        pid = os.fork()
        if pid:
            self["status"] = status(pid)
        return True


def handler(event, context):
    context.env["calls"] = context.env.get("calls", 0) + 1
    way = event.get("do")
    if way == "truth":
        return Result(n=event["n"])
    if way == "awaits":
        return awaits(event)
    return {"n": event["n"], "status": globals()[way](event) if way else None}


async def awaits(event):
    pid = os.fork()
    return {"n": event["n"], "status": status(pid) if pid else "the child speaks"}
