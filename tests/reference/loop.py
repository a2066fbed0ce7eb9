"""The reference loop: what the replaced image does with a function, as far as its stored results show it.

usage: python3 loop.py FUNCTION.py EVENTS.jsonl
For each event one line {"stored": text or null}: the text under the output key after that event.
Redis is a dictionary here, also for a function that opens a connection of its own.
The function's file is copied to a folder of its own as usermodule.py, the name it has in the image.
"""
import asyncio
import datetime
import inspect
import json
import os
import pathlib
import shutil
import sys
import tempfile
import traceback
import types


class Memory(dict):
    """Redis without a server: one dictionary for the loop and for the function's own connections."""

    def __call__(self, *args, **options):
        return self

    def set(self, key, value):
        self[key] = value if isinstance(value, str) else str(value)


class Context:
    host = None
    port = None
    input_key = None
    output_key = None
    function_getmtime = None
    last_execution = None
    env = None

    def confirm_execution(self):
        self.last_execution = datetime.datetime.now()

    def set_env(self, new):
        self.env = new

    def help(self):
        print("host, port, input_key, output_key, function_getmtime, last_execution, env")


def run(redis, events):
    context = Context()
    context.host, context.port = os.environ.get("REDIS_HOST", "localhost"), int(os.environ.get("REDIS_PORT", "6379"))
    context.input_key = os.environ.get("REDIS_INPUT_KEY", "metrics")
    context.output_key = os.environ.get("REDIS_OUTPUT_KEY", "result")
    context.env = {}
    import usermodule

    changed = datetime.datetime.fromtimestamp(os.path.getmtime(usermodule.__file__))
    context.function_getmtime = changed.strftime("%Y-%m-%d %H:%M:%S")
    coroutines = asyncio.new_event_loop()
    for event in events:
        redis.set(context.input_key, event)
        value = redis.get(context.input_key)
        if value:
            output, data = None, json.loads(value)
            try:
                output = usermodule.handler(data, context)
                if inspect.isawaitable(output):  # not in the image, which would try to store the coroutine
                    output = coroutines.run_until_complete(output)
            except BaseException:
                traceback.print_exc()
            try:
                if output and context.output_key:
                    redis.set(context.output_key, json.dumps(output))
                context.confirm_execution()
            except BaseException:
                traceback.print_exc()
        yield {"stored": redis.get(context.output_key)}


if __name__ == "__main__":
    function, events = sys.argv[1:]
    # what the function and its subprocesses print must not mix with the answers
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.modules["redis"] = types.SimpleNamespace(Redis=(memory := Memory()))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy2(function, os.path.join(folder, "usermodule.py"))
        sys.path.insert(0, folder)
        for answer in run(memory, pathlib.Path(events).read_text().splitlines()):
            print(json.dumps(answer), file=answers)
        answers.flush()
