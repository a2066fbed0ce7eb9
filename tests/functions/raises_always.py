"""Idiom: a function that raises at each call, with a cause, and must not disturb the runtime."""


class Broken(Exception):
    def __str__(self):
        raise ValueError("no text either")


def handler(input, context):
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    try:
        return input["net_io_counters_eth1-bytes_sent"]
    except KeyError as cause:
        if calls % 2:
            raise
        raise Broken("wrong interface") from cause
