"""gaugefn beside the Python loops of benches/peers, alternately, in one run. Called by scripts/bench.

What is measured, all with the yardstick function handler_vm and events of about 2 KB:

seed loop     the loop that the default deployment replaces, without its sleep. It sets each event itself, outside of
              the time that counts.
loop          gaugefn runs the default deployment without its pause (period 0, trigger = always): GET, parse, compare,
              function, serialise, SET, over and over, as the seed loop does. The key gets another event every few
              milliseconds. The server counts the SETs.
key to key    gaugefn runs the default deployment with watch = notify, and each value it reads is new. A driver sets
              the event after the next whenever a result is stored, so the runtime always has work. Results count by
              the wall clock, and the driver's own work on the same cores and server is in the figure.
SET to result as key to key, but each event is set when the result of the one before is stored: the whole way, from
              before the SET is sent, the notification and two process wake-ups included.
file to key   gaugefn reads events from a file as fast as it can and stores every result: no GET and no wait for a
              change, writes pipelined by batches, so this shows the engine and is no comparison of like with like.
invoke        `gaugefn invoke` over the same events, results to a file: parse, function, serialise, no Redis. Beside
              it the floor, the same three steps in a tight Python loop with json and with orjson.
stream        through consumer groups, batches and all: see streams.py.

Start-up is outside of all figures: gaugefn's runs over a file are the difference between many events and one.
"""
import argparse
import contextlib
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import streams
from driver import Connection, Watched
from report import heading, row

ROOT = pathlib.Path(__file__).resolve().parents[1]
PEERS = ROOT / "benches/peers"
HANDLER = PEERS / "handler_vm.py"
LINES = (ROOT / "tests/data/metrics.jsonl").read_bytes().splitlines()


def start_redis(folder):
    """A server of our own on a free loopback port; returns (process, port)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    options += ["--dir", folder]
    server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    for _ in range(100):
        try:
            Connection(port).close()
            return server, port
        except ConnectionRefusedError:
            time.sleep(0.05)
    server.terminate()
    raise SystemExit("bench: redis-server did not start within 5 s")


class Bench:
    def __init__(self, gaugefn, port, passes, folder):
        self.gaugefn, self.port, self.folder = gaugefn, port, pathlib.Path(folder)
        self.events = LINES * passes
        self.environment = {
            "PATH": os.environ["PATH"],
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(port),
            "REDIS_OUTPUT_KEY": "result",
            "USER_MODULE_PATH": str(HANDLER),
        }
        self.one, self.many = self.folder / "one.jsonl", self.folder / "many.jsonl"
        self.one.write_bytes(LINES[0] + b"\n")
        # long enough that start-up, some ten milliseconds, does not matter even where it varies
        self.many_count = 4 * len(self.events)
        self.many.write_bytes(b"".join(line + b"\n" for line in self.events * 4))

    def peer(self, script, *arguments):
        output = subprocess.run([sys.executable, PEERS / script, *arguments], stdout=subprocess.PIPE, check=True)
        return float(output.stdout)

    def loop(self, seconds=2):
        """Results per second of the default deployment without its pause."""
        options = {"REDIS_MONITOR_PERIOD": "0", "GAUGEFN__FUNCTIONS__DEFAULT__SOURCE__TRIGGER": "always"}
        runtime, control = self.started(options)
        try:
            time.sleep(0.2)
            before, start, own = self.sets(control), time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                control.call("SET", "metrics", LINES[own % len(LINES)])
                own += 1
                time.sleep(0.005)
            return (self.sets(control) - before - own) / (time.perf_counter() - start)
        finally:
            self.stopped(runtime)
            control.close()

    def sets(self, control):
        """How many SETs the server has run."""
        return int(control.call("INFO", "commandstats").split(b"cmdstat_set:calls=")[1].split(b",")[0])

    def started(self, options):
        """The default deployment with these variables as well, once it has stored a result; and a connection."""
        with open(self.folder / "run.log", "wb") as log:
            runtime = subprocess.Popen([self.gaugefn, "run"], env=self.environment | options, stdout=log, stderr=log)
        control = Connection(self.port)
        control.call("DEL", "metrics", "result")
        control.call("SET", "metrics", LINES[-1])
        deadline = time.monotonic() + 20
        while control.call("GET", "result") is None:
            if runtime.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"bench: gaugefn stored no result:\n{(self.folder / 'run.log').read_text()}")
            time.sleep(0.01)
        return runtime, control

    def stopped(self, runtime):
        runtime.send_signal(signal.SIGTERM)
        runtime.wait(timeout=30)
        if runtime.returncode != 0:
            raise SystemExit(f"bench: gaugefn run ended with {runtime.returncode} after SIGTERM")

    def key_to_key(self):
        """Rate and latencies of the default deployment."""
        # announced for this measurement alone: the others should not pay for it
        with contextlib.closing(Connection(self.port)) as control:
            control.call("CONFIG", "SET", "notify-keyspace-events", "K$")
        runtime, control = self.started({"GAUGEFN__FUNCTIONS__DEFAULT__SOURCE__WATCH": "notify"})
        try:
            keys = Watched(self.port, "metrics", "result")
            keys.latencies(LINES)
            cuts = statistics.quantiles(keys.latencies(self.events), n=100)
            # last: it leaves results under way
            rate = keys.rate(self.events)
            keys.close()
        finally:
            self.stopped(runtime)
            control.call("CONFIG", "SET", "notify-keyspace-events", "")
            control.close()
        return {"key": rate, "p50": cuts[49] * 1e6, "p99": cuts[98] * 1e6}

    def timed(self, command, environment):
        start = time.perf_counter()
        with open(self.folder / "run.log", "wb") as log, open(self.folder / "output", "wb") as output:
            subprocess.run(command, env=environment, stdout=output, stderr=log, check=True)
        return time.perf_counter() - start

    def from_file(self):
        def run(path):
            function = "GAUGEFN__FUNCTIONS__DEFAULT__"
            options = {
                f"{function}SOURCE__USE": "file",
                f"{function}SOURCE__PATH": str(path),
                }
            return self.timed([self.gaugefn, "run"], self.environment | options)

        control = Connection(self.port)
        control.call("CONFIG", "RESETSTAT")
        seconds = run(self.many) - run(self.one)
        stored = self.sets(control)
        control.close()
        if stored != self.many_count + 1:
            raise SystemExit(f"bench: gaugefn stored {stored} results of {self.many_count + 1} events")
        return (self.many_count - 1) / seconds

    def invoke(self):
        def run(path):
            seconds = self.timed([self.gaugefn, "invoke", HANDLER, "--event", path], self.environment)
            answers = (self.folder / "output").read_bytes().splitlines()
            if len(answers) != len(path.read_bytes().splitlines()) or b"null" in answers:
                raise SystemExit(f"bench: gaugefn invoke did not answer every event of {path}")
            return seconds

        return (run(self.many) - run(self.one)) / (self.many_count - 1) * 1e6

    def streams(self):
        return streams.Streams(self.gaugefn, HANDLER, self.port, self.folder, self.peer).round(self.events * 10)

    def keys(self):
        seed = self.peer("seed_loop.py", "--port", str(self.port), "--events", str(len(self.events)))
        return self.key_to_key() | {
            "seed": seed,
            "loop": self.loop(),
            "file": self.from_file(),
            "json": self.peer("floor.py", "json"),
            "orjson": self.peer("floor.py", "orjson"),
            "invoke": self.invoke(),
        }


def keys_table(rounds):
    heading(f"{'key to key':<44}{'min–max':>17}", "÷ seed")
    row(rounds, "seed loop, key to key", "seed", "events/s", "seed")
    row(rounds, "gaugefn, loop", "loop", "events/s", "seed")
    row(rounds, "gaugefn, key to key", "key", "events/s", "seed")
    row(rounds, "gaugefn, file to key", "file", "events/s", "seed")
    row(rounds, "gaugefn, SET to result, p50", "p50", "µs")
    row(rounds, "gaugefn, SET to result, p99", "p99", "µs")
    print()
    heading("", "÷ json", "÷ orjson")
    row(rounds, "floor, json", "json", "µs/event", "json", "orjson")
    row(rounds, "floor, orjson", "orjson", "µs/event", "json", "orjson")
    row(rounds, "gaugefn invoke", "invoke", "µs/event", "json", "orjson")


# what is measured in a round, and how it is printed
PARTS = {"keys": (Bench.keys, keys_table), "streams": (Bench.streams, streams.table)}


def main():
    parser = argparse.ArgumentParser(description="gaugefn beside the Python loops of benches/peers")
    parser.add_argument("--gaugefn", required=True, type=pathlib.Path, help="the release binary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--passes", type=int, default=10, help="over the 500 events, in each measurement of a round")
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    arguments = parser.parse_args()
    parts = [PARTS[arguments.only]] if arguments.only else PARTS.values()
    with tempfile.TemporaryDirectory(prefix="gaugefn-bench-") as folder:
        server, port = start_redis(folder)
        try:
            bench = Bench(arguments.gaugefn.resolve(), port, arguments.passes, folder)
            rounds = []
            for number in range(arguments.rounds):
                print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
                rounds.append({name: value for measure, _ in parts for name, value in measure(bench).items()})
        finally:
            server.terminate()
            server.wait()
    print(f"{len(rounds)} rounds, medians")
    for _, table in parts:
        print()
        table(rounds)


if __name__ == "__main__":
    main()
