"""Idiom: a child process of sys.executable, its output captured, and one that writes to stdout."""
import subprocess
import sys

PROGRAM = "import sys, json; print(json.dumps({'double': 2 * int(sys.argv[1]), 'stdin': sys.stdin.read()}))"


def handler(input, context):
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    if calls % 25 == 1:
        done = subprocess.run([sys.executable, "-c", PROGRAM, str(input["n_pids"])], capture_output=True, text=True, check=True)
        context.env["child"] = done.stdout
        subprocess.run(["echo", "written by a child"], check=True)
    return {"calls": calls, "child": context.env["child"]}
