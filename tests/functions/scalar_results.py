"""Idiom: results that are no objects: numbers, text, true, lists, a tuple."""


def handler(input, context):
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    pids = input["n_pids"]
    return [pids, float(pids), f"{pids} processes", True, [pids, [None, False]], (pids, "tuple"), [0], "0"][calls % 8]
