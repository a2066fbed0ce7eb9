import datetime, re, signal, subprocess


def busy(event):
    while True: pass  # stuck in busy


def sleep(event):
    time.sleep(1e9)  # stuck in sleep


def regex(event):
    re.match(r"(a+)+$", "a" * 64 + "b")  # stuck in regex


def waits(event):
    child = subprocess.Popen(["sleep", "999"])
    note("children", n=event["n"], child=child.pid)
    child.wait()  # stuck in waits


def session(event):
    child = subprocess.Popen(["sleep", "999"], start_new_session=True)
    note("children", n=event["n"], child=child.pid)
    child.wait()  # stuck in session


def daemon(event):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            note("children", n=event["n"], child=os.getpid())
            os.execvp("sleep", ["sleep", "999"])
        os._exit(0)
    os.wait()
    while True: time.sleep(1)  # stuck in daemon


def masked(event):
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    while True: pass  # stuck in masked


def stubborn(event):
    while True:
        try:
            time.sleep(1e9)  # stuck in stubborn
        except BaseException:
            pass


def late(event):
    time.sleep(event["seconds"])


def times(event, context):
    before = context.get_remaining_time_in_millis()
    left = (context.deadline - datetime.datetime.now()).total_seconds() * 1000
    time.sleep(0.05)
    return {"n": event["n"], "before": before, "left": left, "after": context.get_remaining_time_in_millis()}


def handler(event, context):
    note(n=event["n"])
    if event.get("do") == "times":
        return times(event, context)
    if "do" in event:
        globals()[event["do"]](event)
    return {"n": event["n"], "pid": os.getpid()}
