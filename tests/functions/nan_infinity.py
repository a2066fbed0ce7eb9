"""Idiom: NaN and infinities in a result, stored as json.dumps spells them."""
import math


def handler(input, context):
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    if calls % 4 == 0:
        return math.nan
    return {"calls": calls, "nan": math.nan, "up": math.inf, "down": [-math.inf], math.inf: "key", "free": input["n_pids"] / 1e-320}
