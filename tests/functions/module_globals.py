"""Idiom: state in globals of the module, which is imported once."""
import itertools

calls = 0
history = []
numbers = itertools.count(100)


def handler(input, context):
    global calls
    calls += 1
    history.append(input["n_pids"])
    del history[:-5]
    return {"calls": calls, "history": history, "number": next(numbers), "env": len(context.env)}
