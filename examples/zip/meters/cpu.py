"""CPU: the average load of each one over the last twelve samples."""
from collections import deque

SAMPLES = 12


def averages(input, env):
    windows = env.setdefault("cpu", {})
    result = {}
    for key, value in input.items():
        if key.startswith("cpu_percent-"):
            window = windows.setdefault(key, deque(maxlen=SAMPLES))
            window.append(value)
            result["average-" + key] = sum(window) / len(window)
    return result
