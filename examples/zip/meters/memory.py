"""Memory: which share of it holds cached content."""
from meters import percent


def cache(input, env):
    cached = input["virtual_memory-cached"] + input["virtual_memory-buffers"]
    return {"percent-memory-cache": percent(cached, input["virtual_memory-total"])}
