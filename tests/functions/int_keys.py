"""Idiom: dictionaries with int keys as state and, with other odd keys, as result."""


def handler(input, context):
    for number in range(16):
        totals = context.env.setdefault(number, [0, 0.0])
        totals[0] += 1
        totals[1] += input[f"cpu_percent-{number}"]
    result = {number: context.env[number][1] / context.env[number][0] for number in range(16)}
    result[-1] = {2.5: "float", True: "bool", None: "none", 10**30: "huge", 1e16: "whole float"}
    result["0"] = sum(type(key) is int for key in context.env)
    return result
