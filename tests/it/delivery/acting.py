"""Counts the events that it was called with, and does with each what the event says."""

import ctypes
import json
import os
import signal
import sys
import time

CALLS = open("calls", "a", buffering=1)


def handler(event, context):
    CALLS.write(json.dumps({"i": event["i"], "attempt": context.attempt, "life": os.environ.get("LIFE")}) + "\n")
    env = context.env
    env["n"] = env.get("n", 0) + 1
    env.setdefault("seen", []).append(event["i"])
    result = {"i": event["i"], "n": env["n"], "life": os.environ.get("LIFE")}
    match event.get("do"):
        case "raise":
            raise ValueError("cannot stand it")
        case "raise once":
            if context.attempt == 1:
                raise ValueError("cannot stand it yet")
        case "sleep":
            # as long as the file is there
            while os.path.exists("sleep"):
                time.sleep(0.01)
        case "hang":
            time.sleep(600)
        case "exit":
            os._exit(9)
        case "kill the parent":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        case "segv":
            ctypes.string_at(0)
        case "sys.exit":
            sys.exit(9)
        case "object":
            result["at"] = {"place": object()}
        case "grow":
            env["window"] = "x" * 5000
        case "bulk":
            result["p"] = "x" * 3_000_000
        case "astray":
            result["n"] = None
        case "nothing":
            return None
    return result
