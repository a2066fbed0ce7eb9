"""Idiom: np.int64 in a result, which json.dumps refuses: the old value stays."""
import numpy as np


def handler(input, context):
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    pids = np.int64(input["n_pids"])
    if calls % 3:
        return {"calls": calls, "cpus": [{"pids": pids}]}
    return {"calls": calls, "pids": int(pids)}
