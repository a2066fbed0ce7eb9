"""Peer 2: the best that Python does over a Redis stream with a consumer group: redis-py + hiredis + orjson, batches, one pipeline for outputs and acknowledgements.

usage: python3 stream_loop.py --port 6379 --events 50000 [--count 100] [--handler handler_vm] [--json json|orjson]
Fills the stream first (not timed), then prints events per second.
"""
import argparse
import importlib
import pathlib
import time

import redis

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=6379)
parser.add_argument("--events", type=int, default=50000)
parser.add_argument("--count", type=int, default=100)
parser.add_argument("--handler", default="handler_vm")
parser.add_argument("--json", default="orjson")
args = parser.parse_args()

codec = importlib.import_module(args.json)
handler = importlib.import_module(args.handler).handler
context = type("Context", (), {"env": {}})()
client = redis.Redis(port=args.port)
lines = (pathlib.Path(__file__).parents[2] / "tests/data/metrics.jsonl").read_bytes().splitlines()

client.delete("peer:in", "peer:out")
pipe = client.pipeline(transaction=False)
for i in range(args.events):
    pipe.xadd("peer:in", {"data": lines[i % len(lines)]})
    if i % 1000 == 999:
        pipe.execute()
pipe.execute()
client.xgroup_create("peer:in", "peer", "0")

start, done = time.perf_counter(), 0
while done < args.events:
    entries = client.xreadgroup("peer", "one", {"peer:in": ">"}, count=args.count, block=1000)[0][1]
    pipe = client.pipeline(transaction=False)
    for _, fields in entries:
        pipe.xadd("peer:out", {"data": codec.dumps(handler(codec.loads(fields[b"data"]), context))})
    pipe.xack("peer:in", "peer", *(entry_id for entry_id, _ in entries))
    pipe.execute()
    done += len(entries)
print(f"{args.events / (time.perf_counter() - start):.0f}")
client.delete("peer:in", "peer:out")
