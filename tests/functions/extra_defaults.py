"""Idiom: an entry function with further parameters that have defaults, one of them mutable."""


def handler(data, context=None, window=3, recent=[], *, scale=1000, **options):
    recent.append(data["n_pids"])
    del recent[:-window]
    return {"recent": recent, "scaled": sum(recent) * scale, "options": options, "context": context is not None}
