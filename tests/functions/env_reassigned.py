"""Idiom: context.env is replaced by a new dictionary at each call."""


def handler(input, context):
    before = context.env
    context.env = {"calls": before.get("calls", 0) + 1, "pids": (before.get("pids", []) + [input["n_pids"]])[-4:]}
    return {"calls": context.env["calls"], "pids": context.env["pids"], "keys": sorted(before)}
