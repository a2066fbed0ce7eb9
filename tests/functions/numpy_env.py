"""Idiom: numpy scalars and arrays in context.env, converted for the result."""
import numpy as np


def handler(input, context):
    row = np.array([input[f"cpu_percent-{number}"] for number in range(16)])
    rows = context.env.get("rows", np.empty((0, 16)))
    context.env["rows"] = np.vstack([rows, row])[-12:]
    context.env["calls"] = context.env.get("calls", np.int64(0)) + np.int64(1)
    context.env["peak"] = max(context.env.get("peak", np.float32(0)), np.float32(row.max()))
    return {
        "mean": context.env["rows"].mean(axis=0).tolist(),
        "calls": int(context.env["calls"]),
        "peak": float(context.env["peak"]),
        "kinds": [type(value).__name__ for value in context.env.values()],
    }
