"""Idiom: an entry function with other parameter names, called by position."""


def handler(metrics: dict, ctx: object) -> dict:
    ctx.env["calls"] = ctx.env.get("calls", 0) + 1
    return {"pids": metrics["n_pids"], "calls": ctx.env["calls"]}
