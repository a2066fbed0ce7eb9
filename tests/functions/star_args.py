"""Idiom: an entry function that takes *args and **options."""


def handler(*args, **options):
    data, context = args
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    return {"args": len(args), "options": options, "calls": calls, "pids": data["n_pids"]}
