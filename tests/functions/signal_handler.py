"""Idiom: signal.signal and an interval timer, which Python allows on the main thread only."""
import signal
import threading
import time

received = []
signal.signal(signal.SIGUSR1, lambda number, frame: received.append(signal.Signals(number).name))


def handler(input, context):
    signal.signal(signal.SIGALRM, lambda number, frame: context.env.update(alarm=True))
    if "alarm" not in context.env:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        end = time.monotonic() + 10
        while "alarm" not in context.env and time.monotonic() < end:
            time.sleep(0.001)
    signal.raise_signal(signal.SIGUSR1)
    return {
        "main": threading.current_thread() is threading.main_thread(),
        "received": len(received),
        "last": received[-1],
        "alarm": context.env.get("alarm"),
    }
