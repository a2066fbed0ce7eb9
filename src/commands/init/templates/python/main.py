"""The average load of this machine's processors over the last events.

gaugefn calls `handler` with each event, a dictionary, and with a context whose `env` is a dictionary that is kept from
one call to the next. What `handler` returns is stored as JSON; `None` stores nothing.
"""

from collections import deque

WINDOW = 12  # events: one minute, at one event each five seconds


def handler(event, context):
    loads = [value for key, value in event.items() if key.startswith("cpu_percent-")]
    if not loads:
        return None
    window = context.env.setdefault("loads", deque(maxlen=WINDOW))
    window.append(sum(loads) / len(loads))
    return {
        "timestamp": event["timestamp"],
        "load": window[-1],
        "average": sum(window) / len(window),
    }
