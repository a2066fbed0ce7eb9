"""The other side of a running function: sets a key, waits for the result, over bare sockets.

A client library costs about as much per command as the runtime under test; this costs one send and one receive.
"""
import socket
import time

import hiredis


def command(*words):
    """The words (text or bytes) in Redis' wire format."""
    words = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Connection:
    """One loopback connection; replies in order."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = hiredis.Reader()

    def reply(self):
        while (message := self.reader.gets()) is False:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("redis-server closed the connection")
            self.reader.feed(data)
        if isinstance(message, hiredis.ReplyError):
            raise message
        return message

    def call(self, *words):
        self.socket.sendall(command(*words))
        return self.reply()

    def close(self):
        self.socket.close()


class Watched:
    """An input key that is set, and an output key whose writes are awaited.

    The wait is for the server's own notification that the output key was written: no polling disturbs the runtime,
    and at that moment the result is there for every reader.
    """

    def __init__(self, port, input_key, output_key):
        self.input_key = input_key
        self.writer, self.listener = Connection(port), Connection(port)
        self.listener.call("SUBSCRIBE", f"__keyspace@0__:{output_key}")

    def frames(self, events):
        return [command("SET", self.input_key, event) for event in events]

    def send(self, frame):
        self.writer.socket.sendall(frame)

    def stored(self):
        """Waits until the output key has been written once more."""
        while self.listener.reply()[2] != b"set":
            pass

    def latencies(self, events):
        """Seconds from sending each event to its stored result; the next is sent when the one before is stored."""
        seconds = []
        for frame in self.frames(events):
            start = time.perf_counter()
            self.send(frame)
            self.stored()
            seconds.append(time.perf_counter() - start)
            self.writer.reply()
        return seconds

    def rate(self, events):
        """Results per second, by the wall clock, while the next event is always there before the last one's result.

        At each result the event after the next is set, so the runtime never waits and each value it reads is new.
        Where it reads an event after that one was replaced, the replaced one is skipped and no result is counted.
        """
        frames = self.frames(events)
        for frame in frames[:2]:
            self.send(frame)
            self.writer.reply()
        self.stored()
        start = time.perf_counter()
        for frame in frames[2:]:
            self.send(frame)
            self.writer.reply()
            self.stored()
        return len(frames[2:]) / (time.perf_counter() - start)

    def close(self):
        self.writer.close()
        self.listener.close()
