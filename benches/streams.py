"""From a Redis stream to a Redis stream, gaugefn beside benches/peers/stream_loop.py. Part of compare.py.

Both read the same events through a consumer group of a stream that was filled before, and add their results to another
stream: the peer in batches of 100, outputs and acknowledgements in one pipeline; gaugefn as a config file says, with
the function in a worker process and one transaction for results, state and acknowledgement of a batch. gaugefn's time
runs from the first acknowledged batch to the last, as counted from outside.
"""
import os
import signal
import subprocess
import time

from driver import Connection, command
from report import heading, row

INPUT, OUTPUT, GROUP = "bench:in", "bench:out", "bench"

CONFIG = """
[redis]
url = "redis://127.0.0.1:{port}/0"

[functions.vm]
source = {{ use = "redis_stream", stream = "{input}", group = "{group}", field = "data" }}
loader = {{ use = "file", path = "{handler}" }}
state = {{ use = "{state}" }}
sinks.result = {{ use = "redis_stream", stream = "{output}", max_length = 0 }}
"""

# how often the server is asked how far it is: a hundred questions a second cost it nothing that could be measured
LOOK = 0.01


class Streams:
    def __init__(self, gaugefn, handler, port, folder, peer):
        self.gaugefn, self.handler, self.port, self.folder, self.peer = gaugefn, handler, port, folder, peer

    def round(self, events):
        """Events per second of the peer with either codec, and of gaugefn with either state."""
        arguments = ["--port", str(self.port), "--events", str(len(events))]
        return {
            "stream json": self.peer("stream_loop.py", *arguments, "--json", "json"),
            "stream memory": self.run("memory", events),
            "stream orjson": self.peer("stream_loop.py", *arguments, "--json", "orjson"),
            "stream redis": self.run("redis", events),
        }

    def run(self, state, events):
        """Acknowledged events per second, with this state store."""
        control = Connection(self.port)
        control.call("FLUSHALL")
        fill(control, events)
        config = self.folder / f"{state}.toml"
        names = {"input": INPUT, "output": OUTPUT, "group": GROUP}
        config.write_text(CONFIG.format(port=self.port, handler=self.handler, state=state, **names))
        log = self.folder / "stream.log"
        with open(log, "wb") as file:
            words = [self.gaugefn, "run", "--config", config]
            runtime = subprocess.Popen(words, env={"PATH": os.environ["PATH"]}, stdout=file, stderr=file)
        try:
            rate = timed(control, len(events), runtime)
        except TimeoutError as error:
            raise SystemExit(f"bench: {error}:\n{log.read_text()}") from error
        finally:
            runtime.send_signal(signal.SIGTERM)
            runtime.wait(timeout=30)
            control.call("FLUSHALL")
            control.close()
        if "commit: atomic (redis)" not in log.read_text() or runtime.returncode != 0:
            raise SystemExit(f"bench: gaugefn's commits are not atomic, or its end was not clean:\n{log.read_text()}")
        return rate


def fill(control, events):
    for start in range(0, len(events), 1000):
        batch = events[start : start + 1000]
        control.socket.sendall(b"".join(command("XADD", INPUT, "*", "data", event) for event in batch))
        for _ in batch:
            control.reply()


def timed(control, count, runtime):
    """The rate between the first and the last look at which something was acknowledged."""
    first, last = None, (0, 0.0)
    while last[0] < count:
        time.sleep(LOOK)
        # a result is there exactly when its event is acknowledged
        now, done = time.perf_counter(), control.call("XLEN", OUTPUT)
        if done > last[0]:
            last = (done, now)
            first = first or last
        elif runtime.poll() is not None or (first and now - last[1] > 20):
            raise TimeoutError(f"gaugefn acknowledged {done} of {count} events")
    if pending := control.call("XPENDING", INPUT, GROUP)[0]:
        raise TimeoutError(f"{pending} events have results and are still pending")
    return (last[0] - first[0]) / (last[1] - first[1])


def table(rounds):
    against = "stream json", "stream orjson"
    heading(f"{'stream to stream':<44}{'min–max':>17}", "÷ json", "÷ orjson")
    row(rounds, "stream_loop.py, json", "stream json", "events/s", *against)
    row(rounds, "stream_loop.py, orjson", "stream orjson", "events/s", *against)
    row(rounds, "gaugefn, state memory, atomic", "stream memory", "events/s", *against)
    row(rounds, "gaugefn, state redis, atomic", "stream redis", "events/s", *against)
