"""Idiom: sys.exit, exit and SystemExit end only the call."""
import sys


def handler(input, context):
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    if calls % 4 == 1:
        sys.exit(3)
    if calls % 4 == 2:
        raise SystemExit("a text for the shell")
    if calls % 4 == 3:
        exit()
    return {"calls": calls, "confirmed": context.last_execution is not None}
