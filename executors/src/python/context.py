"""The second argument of every entry function."""

import datetime
import logging
import sys
import time


class Context:
    """What a function knows of its surroundings, and what it keeps between calls.

    host, port, input_key, output_key   where the input comes from and the result goes; information only
    function_getmtime                   when the function's file was modified, local, YYYY-MM-DD HH:MM:SS
    last_execution                      None, then the local datetime of the last confirmed call
    env                                 a dict that lives as long as the function; anything may be in it
    function_name, event_id, attempt    the function's label; the event being worked on; how often it was tried
    deadline                            the local datetime by which this call must be finished, None without a limit
    logger                              a logging.Logger with the function's name, from INFO upwards
    metrics                             count(name), gauge(name, value), observe(name, value), each with **labels

    set_env(new)                        the same as env = new
    confirm_execution()                 sets last_execution; called after each call by itself
    get_remaining_time_in_millis()      milliseconds to the deadline, sys.maxsize without one
    help()                              prints this text
    """

    host = None
    port = None
    input_key = None
    output_key = None
    function_getmtime = None
    last_execution = None
    env = None
    function_name = None
    event_id = None
    attempt = None
    deadline = None
    logger = None
    metrics = None

    def __init__(self, host, port, input_key, output_key, function_getmtime):
        self.host = host
        self.port = port
        self.input_key = input_key
        self.output_key = output_key
        self.function_getmtime = function_getmtime
        self.last_execution = None
        self.env = {}

    def set_env(self, new):
        self.env = new

    def confirm_execution(self):
        self.last_execution = datetime.datetime.now()

    def get_remaining_time_in_millis(self):
        if _ends is None:
            return sys.maxsize
        return max(0, int((_ends - time.monotonic()) * 1000))

    def help(self):
        print(__class__.__doc__)


class Metrics:
    """Measurements of a function's own, beside those of the runtime: gaugefn_function_<name>{function, labels}.

    One that the page of metrics cannot show is a ValueError that says what to change.
    """

    def __init__(self, function, send):
        self._function = function
        self._send = send

    def count(self, name, value=1, **labels):
        """Adds a whole number, not negative."""
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
            raise ValueError(f"metric {name!r}: a count grows by a whole number from 0, not by {value!r}")
        self._record("count", name, value, labels)

    def gauge(self, name, value, **labels):
        """Sets a number that may go up and down."""
        self._record("gauge", name, float(value), labels)

    def observe(self, name, value, **labels):
        """Adds a number to a distribution."""
        self._record("observe", name, float(value), labels)

    def _record(self, kind, name, value, labels):
        if not isinstance(name, str) or not name.isascii():
            raise ValueError(f"metric {_shown(name)}: a name has letters, digits and _, and no digit first")
        pairs = []
        for label, given in labels.items():
            text = str(given)
            for part in label, text:
                try:
                    part.encode()
                except UnicodeEncodeError:
                    raise ValueError(
                        f"metric '{name}': label {_shown(label)}={_shown(text)} cannot be written as UTF-8; encode it "
                        "with errors='backslashreplace', say"
                    ) from None
            pairs.append((label, text))
        self._send(self._function, kind, name, value, pairs)


def _shown(text):
    """As in a message, which is for people."""
    text = ascii(text)
    return text if len(text) <= 100 else text[:100] + "…"


# when the current call must be finished, by time.monotonic(); no attribute: vars(context) is the function's business
_ends = None


def make(function, host, port, input_key, output_key, modified, send):
    stamp = datetime.datetime.fromtimestamp(modified).strftime("%Y-%m-%d %H:%M:%S")
    context = Context(host, port, input_key, output_key, stamp)
    context.function_name = function
    context.logger = logging.getLogger(function)
    context.logger.setLevel(logging.INFO)
    context.metrics = Metrics(function, send)
    return context


def begin(context, event_id, attempt, seconds):
    """Before each call; `seconds` are left for it, None without a limit."""
    global _ends
    context.event_id = event_id
    context.attempt = attempt
    if seconds is None:
        _ends = context.deadline = None
    else:
        _ends = time.monotonic() + seconds
        context.deadline = datetime.datetime.now() + datetime.timedelta(seconds=seconds)
