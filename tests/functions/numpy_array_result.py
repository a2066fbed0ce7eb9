"""Idiom: a numpy array as result, of which `if output` raises; the old value stays."""
import numpy as np


def handler(input, context):
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    values = np.array([input["cpu_percent-0"], input["cpu_percent-1"]])
    if calls % 3 == 0:
        return values.tolist()
    return values if calls % 3 == 1 else values[:1]
