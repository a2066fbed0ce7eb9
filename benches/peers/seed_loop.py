"""Peer 1: the loop that the default deployment runs today (redis-py, json, GET, compare, handler, SET), without the sleep.

usage: python3 seed_loop.py --port 6379 --events 10000 [--handler handler_vm]      prints events per second
It rewrites the input key itself before each step, outside of the time that counts, so that every read is a change.
"""
import argparse
import importlib
import json
import pathlib
import time

import redis

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=6379)
parser.add_argument("--events", type=int, default=10000)
parser.add_argument("--handler", default="handler_vm")
args = parser.parse_args()

handler = importlib.import_module(args.handler).handler
context = type("Context", (), {"env": {}})()
client = redis.Redis(port=args.port, decode_responses=True)
lines = (pathlib.Path(__file__).parents[2] / "tests/data/metrics.jsonl").read_text().splitlines()

last, busy = None, 0.0
for i in range(args.events):
    client.set("metrics", lines[i % len(lines)])
    start = time.perf_counter()
    data = json.loads(client.get("metrics"))
    if data != last:
        last = data
        client.set("out", json.dumps(handler(data, context)))
    busy += time.perf_counter() - start
print(f"{args.events / busy:.0f}")
