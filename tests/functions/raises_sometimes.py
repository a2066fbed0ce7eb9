"""Idiom: a function that raises at some calls; what it put into context.env before stays."""


def handler(input, context):
    context.env["calls"] = context.env.get("calls", 0) + 1
    context.env.setdefault("pids", []).append(input["n_pids"])
    del context.env["pids"][:-3]
    if input["n_pids"] % 3 == 0:
        context.env["failed"] = context.env.get("failed", 0) + 1
        raise ValueError(f"{input['n_pids']} is a multiple of three")
    return dict(context.env)
