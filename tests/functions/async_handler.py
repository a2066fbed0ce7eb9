"""Idiom: an `async def` entry function; the runtime awaits it on one event loop for all calls."""
import asyncio

lock = asyncio.Lock()
loops = set()


async def half(value):
    await asyncio.sleep(0)
    return value / 2


async def handler(data, context):
    loops.add(asyncio.get_running_loop())
    async with lock:
        calls = context.env["calls"] = context.env.get("calls", 0) + 1
        halves = await asyncio.gather(*(half(data[f"cpu_percent-{number}"]) for number in range(4)))
    if calls % 7 == 0:
        raise RuntimeError("raised in a coroutine")
    return {"halves": halves, "calls": calls, "loops": len(loops)}
