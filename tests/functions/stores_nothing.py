"""Idiom: a function that stores nothing by design; each kind of empty result in turn."""
EMPTY = [None, {}, 0, "", [], (), False, 0.0, -0.0, 0j, set(), b""]


def handler(input, context):
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    return EMPTY[calls % len(EMPTY)]
