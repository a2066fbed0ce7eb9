"""Idiom: the function reads its input and its last result from Redis with a connection of its own."""
import json

from redis import Redis


def handler(input, context):
    connection = context.env.setdefault("connection", Redis(context.host, context.port))
    again = json.loads(connection.get(context.input_key))
    last = connection.get(context.output_key)
    return {"same": again == input, "calls": json.loads(last)["calls"] + 1 if last else 1}
