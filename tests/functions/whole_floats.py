"""Idiom: floats without a fraction stay floats, from the event to the result."""


def handler(input, context):
    cpus = [value for key, value in input.items() if key.startswith("cpu_percent-")]
    return {
        "all-floats": all(type(value) is float for value in cpus),
        "ints": sum(type(value) is int for value in input.values()),
        "whole": [value for value in cpus if value.is_integer()],
        "constants": [12.0, -0.0, 1e15, 1e16, 1e22, 1e-7, 5e-324, 1.7976931348623157e308, 0.1 + 0.2],
        "rounded": float(round(cpus[0])),
        "frequency": input["cpu_freq_current"],
    }
