"""Idiom: a deque(maxlen=...) per CPU in context.env."""
from collections import deque


def handler(input, context):
    windows = context.env.setdefault("windows", {})
    result = {}
    for key, value in input.items():
        if key.startswith("cpu_percent-"):
            window = windows.setdefault(key, deque(maxlen=12))
            window.append(value)
            result["avg-util-" + key] = sum(window) / len(window)
    result["kept"] = [type(window).__name__ + str(window.maxlen) for window in windows.values()][0]
    return result
