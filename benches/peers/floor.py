"""The floor: parse, handler, serialise in one tight Python loop, no Redis. usage: python3 floor.py [json|orjson] [handler_vm|handler_trivial]; prints microseconds per event."""
import importlib
import pathlib
import sys
import time

codec = importlib.import_module(sys.argv[1] if len(sys.argv) > 1 else "orjson")
handler = importlib.import_module(sys.argv[2] if len(sys.argv) > 2 else "handler_vm").handler
context = type("Context", (), {"env": {}})()
lines = (pathlib.Path(__file__).parents[2] / "tests/data/metrics.jsonl").read_bytes().splitlines()
best = 1e9
for _ in range(7):
    start = time.perf_counter()
    for line in lines:
        codec.dumps(handler(codec.loads(line), context))
    best = min(best, (time.perf_counter() - start) / len(lines))
print(f"{best * 1e6:.2f}")
