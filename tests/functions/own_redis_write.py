"""Idiom: the function opens a Redis connection of its own and writes the output key itself."""
import json

import redis

connection = None


def handler(input, context):
    global connection
    if connection is None:
        connection = redis.Redis(host=context.host, port=context.port)
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    connection.set(context.output_key, json.dumps({"own": calls, "pids": input["n_pids"]}))
    if calls % 3 == 0:
        return {"returned": calls}
