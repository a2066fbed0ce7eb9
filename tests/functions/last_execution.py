"""Idiom: context.last_execution and context.function_getmtime, their types and when they change."""
import datetime
import os


def handler(input, context):
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    last, before = context.last_execution, context.env.get("before")
    context.env["before"] = last
    changed = datetime.datetime.fromtimestamp(os.path.getmtime(__file__)).strftime("%Y-%m-%d %H:%M:%S")
    if calls % 4 == 2:
        raise RuntimeError("a call that raises is confirmed, too")
    return {
        "calls": calls,
        "kind": type(last).__name__,
        "naive-and-past": None if last is None else last.tzinfo is None and last <= datetime.datetime.now(),
        "moved-on": None if before is None else last > before,
        "recent": None if last is None else (datetime.datetime.now() - last).total_seconds() < 60,
        "changed": [type(context.function_getmtime).__name__, context.function_getmtime == changed],
    }
