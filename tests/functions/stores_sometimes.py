"""Idiom: only every fifth call returns a result; in between the old one stays."""
EMPTY = [{}, None, 0, "", []]


def handler(input, context):
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    if calls % 5 == 2:
        return {"calls": calls, "pids": input["n_pids"]}
    return EMPTY[calls % 5]
