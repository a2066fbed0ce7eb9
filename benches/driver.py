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


def closed_loop(port, events, input_key, output_key):
    """Sets each event once the result of the one before is stored; returns the seconds from SET to result of each.

    The wait is for the server's own notification that the output key was written: no polling delays the runtime,
    and the result is there for every reader at that moment. The time starts before the SET is sent.
    """
    writer, listener = Connection(port), Connection(port)
    listener.call("SUBSCRIBE", f"__keyspace@0__:{output_key}")
    seconds = []
    for frame in [command("SET", input_key, event) for event in events]:
        start = time.perf_counter()
        writer.socket.sendall(frame)
        while listener.reply()[2] != b"set":
            pass
        seconds.append(time.perf_counter() - start)
        writer.reply()
    writer.close()
    listener.close()
    return seconds
