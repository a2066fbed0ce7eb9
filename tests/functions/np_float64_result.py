"""Idiom: results that are np.float64, a subclass of float, which json.dumps takes."""
import numpy as np


def handler(input, context):
    values = np.array([input[f"cpu_percent-{number}"] for number in range(16)])
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    if calls % 5 == 0:
        return values.mean()
    return {"mean": values.mean(), "nan": np.float64("nan"), "whole": np.float64(12), "list": list(values[:3]), values.max(): "key"}
