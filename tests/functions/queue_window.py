"""Idiom: a queue.Queue as a window in context.env, which no codec can carry."""
import queue


def handler(input, context):
    if "window" not in context.env:
        context.env["window"], context.env["total"] = queue.Queue(maxsize=12), 0.0
    window = context.env["window"]
    if window.full():
        context.env["total"] -= window.get_nowait()
    window.put(input["virtual_memory-percent"])
    context.env["total"] += input["virtual_memory-percent"]
    return {"average": context.env["total"] / window.qsize(), "size": window.qsize()}
