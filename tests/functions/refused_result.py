"""Idiom: results that json.dumps refuses (a datetime inside a list, a set, a tuple key, a cycle): the old value stays and the call is not confirmed."""
import datetime


def handler(input, context):
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    confirmed = context.last_execution is not None
    if calls % 6 == 1:
        return {"calls": calls, "cpu": [1, 2, 3, datetime.datetime(2024, 5, 1)]}
    if calls % 6 == 2:
        return {"calls": calls, "confirmed": confirmed}
    if calls % 6 == 3:
        return {"seen": {1, 2}}
    if calls % 6 == 4:
        return {(1, 2): "tuple key"}
    if calls % 6 == 5:
        cycle = []
        cycle.append(cycle)
        return cycle
    return {"calls": calls, "confirmed": confirmed, "pids": input["n_pids"]}
