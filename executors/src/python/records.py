"""Standard streams and logging whose lines become records of the runtime's log."""

import io
import logging
import os
import signal
import sys

# Set by `install`: send(level, stream, text), and what a forked child calls.
_send = _tell_forked = None

# A forked child writes to its descriptors instead.
_forked = False


class Lines(io.RawIOBase):
    """The bytes below a text stream."""

    def __init__(self, fd, name, writer):
        self._fd = fd
        self.writer = writer
        self.name = f"<{name}>"
        self.mode = "wb"

    def writable(self):
        return True

    def fileno(self):
        return self._fd

    def isatty(self):
        return False

    def close(self):
        # a wrapper that goes out of use closes what it wraps; the stream below outlives all of them
        pass

    def write(self, data):
        return self.writer.bytes(bytes(data))


class LastResort(logging.Handler):
    """Gets what no handler of the function took: warnings, as in Python, and all that context.logger lets through."""

    def __init__(self, function):
        super().__init__()
        self._function = function

    def emit(self, record):
        if record.levelno < logging.WARNING and record.name != self._function:
            return
        try:
            _message(record, self.format(record))
        except Exception:
            self.handleError(record)


def _message(record, text):
    if _forked:
        sys.stderr.write(text + "\n")
    else:
        _send(record.levelno, record.name, text)


def _stream_handler_emit(original):
    def emit(self, record):
        # a message for one of our streams goes as one record with its own level, not as lines without one
        if not isinstance(getattr(self.stream, "buffer", None), Lines):
            return original(self, record)
        try:
            _message(record, self.format(record))
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)

    return emit


# What Python itself makes of a signal that nobody has asked for.
_USUAL = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
}

# The mask of the thread that is forking.
_mask = None


def _before_fork():
    """Keeps a signal to the child waiting until the child can make sense of it."""
    global _mask
    _mask = signal.pthread_sigmask(signal.SIG_BLOCK, _USUAL)


def _after_fork_in_parent():
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask)


def _after_fork_in_child():
    """A pool ends its workers by SIGTERM; the runtime's handlers, which mean to drain, must not swallow it there."""
    forked()
    for number, usual in _USUAL.items():
        # None: a handler that is not Python's
        if signal.getsignal(number) in (None, signal.SIG_DFL):
            signal.signal(number, usual)
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask)


def forked():
    """This is a child, also where a library has forked it without telling Python."""
    global _forked
    _forked = True
    _tell_forked()


def _text(lines):
    stream = io.TextIOWrapper(lines, encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True)
    stream.mode = "w"
    # past the encoder and the stream of bytes: `print` writes each of its arguments by itself
    stream.write = lines.writer.text
    return stream


def install(function, send, writer, forked):
    global _send, _tell_forked
    _send, _tell_forked = send, forked
    logging.lastResort = LastResort(function)
    if _streams:
        return
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
    # the originals stay referenced: whoever holds one may go on writing to it
    install.originals = sys.stdin, sys.stdout, sys.stderr
    for fd, name, level in (1, "stdout", logging.INFO), (2, "stderr", logging.WARNING):
        _streams.append(Lines(fd, name, writer(fd, name, level)))
    # both names, as `sys.stdout = sys.__stdout__` is how programs end a redirection of their own
    sys.stdout = sys.__stdout__ = _text(_streams[0])
    sys.stderr = sys.__stderr__ = _text(_streams[1])
    # descriptor 0 may belong to a source
    sys.stdin = sys.__stdin__ = open(os.devnull, encoding="utf-8")
    logging.StreamHandler.emit = _stream_handler_emit(logging.StreamHandler.emit)


def finish():
    """After each call: what was printed without a line break belongs to this event."""
    for lines in _streams:
        lines.writer.finish()


def finish_all():
    for lines in _streams:
        lines.writer.finish_all()


_streams = []
