"""Watches one machine: network egress, memory cache, and the average load of each CPU over the last minute.

The runtime calls `handler` with the newest metrics, a dictionary, and with a context whose `env` is a dictionary
that is kept from one call to the next. What `handler` returns is stored as JSON.

Try it with the live metrics of this machine:   gaugefn dev examples/vm_metrics.py --every 1s
"""
from collections import deque
from datetime import datetime, timedelta

WINDOW = timedelta(seconds=60)


def handler(input, context):
    now = datetime.fromisoformat(input["timestamp"])
    result = {
        "timestamp": input["timestamp"],
        "percent-network-egress": network_egress(input),
        "percent-memory-cache": memory_cache(input),
    }
    for key, value in input.items():
        if key.startswith("cpu_percent-"):
            cpu = key.removeprefix("cpu_percent-")
            result[f"avg-util-cpu{cpu}-60sec"] = moving_average(context, key, now, value)
    return result


def network_egress(input):
    """Which share of the bytes on eth0 since boot went out."""
    sent = input["net_io_counters_eth0-bytes_sent"]
    received = input["net_io_counters_eth0-bytes_recv"]
    return percent(sent, sent + received)


def memory_cache(input):
    """Which share of the memory holds cached content."""
    cache = input["virtual_memory-cached"] + input["virtual_memory-buffers"]
    return percent(cache, input["virtual_memory-total"])


def moving_average(context, key, now, value):
    """The average of all values of the last minute, whatever time lies between two calls."""
    window = context.env.setdefault(key, deque())
    window.append((now, value))
    while now - window[0][0] >= WINDOW:
        window.popleft()
    return sum(value for _, value in window) / len(window)


def percent(part, whole):
    return 100.0 * part / whole if whole else 0.0
