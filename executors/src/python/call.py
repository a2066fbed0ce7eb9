"""What a call needs beyond the call itself: awaiting, and words for what went wrong."""

import importlib
import linecache
import os
import re
import sys
import traceback

import _gaugefn_records

# How the files of the runtime itself are named in tracebacks.
OWN = "<gaugefn>"

# Ways that are remembered, and the frames of the longest one.
_MOST_WAYS = 64
_DEEPEST = 50

# Letters of an error's line and of its report that are kept.
_LINE = 1000
_REPORT = 64 << 10

_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

_loop = None
_ways = {}


def awaited(result):
    """The result of an entry function; of an `async def` what it returns, on one event loop for all calls."""
    global _loop
    # neither is needed by a function without `async`, and asyncio takes longer to import than most functions
    import inspect

    if not inspect.isawaitable(result):
        return result
    import asyncio

    if _loop is None:
        _loop = asyncio.new_event_loop()
    return _loop.run_until_complete(_whole(result))


async def _whole(awaitable):
    return await awaitable


def end():
    """What Python does at its end, in its order."""
    raised = None
    for step in _end_loop, _end_threads, _end_functions:
        try:
            step()
        except BaseException as error:
            # a child that was forked for its end alone
            leave_if_child(error)
            raised = raised or error
    if raised is not None:
        raise raised


def _end_threads():
    """Waits for the jobs of pools, and for all threads that are no daemons."""
    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()


def _end_functions():
    import atexit

    atexit._run_exitfuncs()


def holding_up():
    """Where those threads are that hold up the end, in words to be appended."""
    import threading

    def place(thread):
        frame = sys._current_frames().get(thread.ident)
        while frame is not None and _aside(frame.f_code.co_filename):
            frame = frame.f_back
        return f" at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}" if frame else ""

    here, main = threading.current_thread(), threading.main_thread()
    found = place(main)
    if found:
        return f"; it is{found}"
    others = [thread for thread in threading.enumerate() if thread not in (here, main) and not thread.daemon]
    return "".join(f"; thread '{thread.name}' is{place(thread) or ' running'}" for thread in others)


def _aside(filename):
    return filename.startswith("<") or filename.startswith(os.path.dirname(os.__file__))


def _end_loop():
    """Ends the event loop as asyncio.run() would."""
    global _loop
    loop, _loop = _loop, None
    if loop is None:
        return
    import asyncio

    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


# Who loads the function. Its own names: a function may put something else in the place of the module's.
_getpid, _exit = os.getpid, os._exit
_HOME = _getpid()


def leave_if_child(error=None):
    """Ends a child that the function has forked: it must not answer for its parent."""
    if _getpid() != _HOME:
        _exit(last_words(error))


def last_words(error):
    """What Python does where the last line of a forked child has run, or raised this error: the exit code."""
    _gaugefn_records.forked()
    code, text = 0, ""
    if isinstance(error, SystemExit):
        code = error.code
        if code is None:
            code = 0
        elif not isinstance(code, int):
            code, text = 1, f"{code}\n"
    elif error is not None:
        code, text = 1, describe(error, "")[1]
    # streams of the child's own may be closed
    try:
        sys.stderr.write(text)
    except Exception:
        pass
    for stream in sys.stdout, sys.stderr:
        try:
            stream.flush()
        except Exception:
            pass
    return code & 0xFF


def describe(error, root):
    """One line with the innermost place in the function's own files, and the traceback as Python prints it."""
    try:
        way = _way(error)
        if way is None:
            whole = traceback.TracebackException(type(error), error, error.__traceback__)
            line = _line(error, whole)
            place = _place(whole.stack, root)
            _strip(whole)
            report = both_ends(whole.format(), _REPORT)
        else:
            place, head = _known(way, error, root)
            # without the frames, but Python may look into them for what was meant
            last = traceback.TracebackException(type(error), error, error.__traceback__, limit=0, compact=True)
            line = _line(error, last)
            report = both_ends([head, *last.format_exception_only()], _REPORT)
    except BaseException:
        # whatever the methods of the exception, or of what has loaded the code, have done
        line, place, report = _bare(error, root)
    return plain(f"{line} ({place})" if place else line), plain(report)


def _bare(error, root):
    """As `describe`, of what is Python's own: the type, the frames, and the text if it can be had."""
    line = type.__dict__["__name__"].__get__(type(error))
    try:
        text = str(error)
    except BaseException:
        text = "<no text: its __str__ fails>"
    stack, at = [], BaseException.__dict__["__traceback__"].__get__(error)
    while at is not None:
        code = at.tb_frame.f_code
        stack.append(traceback.FrameSummary(code.co_filename, at.tb_lineno, code.co_name, lookup_line=False))
        at = at.tb_next
    line = _one_line(f"{line}: {text}" if text else line)
    frames = (f'  File "{at.filename}", line {at.lineno}, in {at.name}\n{_source(at)}' for at in stack if not _hidden(at))
    report = both_ends(["Traceback (most recent call last):\n", *frames, line, "\n"], _REPORT)
    return line, _place(stack, root), report


def _source(at):
    try:
        line = linecache.getline(at.filename, at.lineno).strip()
    except BaseException:
        line = ""
    return line and f"    {line}\n"


def both_ends(pieces, most):
    """The pieces together, at most so many letters of them: from both ends, and how many there were between."""
    head = tail = ""
    total, half = 0, most // 2
    for piece in pieces:
        total += len(piece)
        room = half - len(head)
        head += piece[:room]
        tail = (tail + piece[room:])[-half:]
    left_out = total - len(head) - len(tail)
    return f"{head}\n… {left_out} letters are left out …\n{tail}" if left_out else head + tail


def plain(text):
    """Text that every log and store takes as it is: what steers a terminal, and lone surrogates, as escapes."""
    return _ODD.sub(lambda odd: odd[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))


def _way(error):
    """Where the error went: each frame's code with the instruction in it. None where the report has more than that."""
    if error.__cause__ is not None or error.__context__ is not None:
        return None
    if isinstance(error, SyntaxError) or hasattr(error, "exceptions"):
        return None
    way, at = [], error.__traceback__
    while at is not None:
        if len(way) == _DEEPEST:
            return None
        way.append((at.tb_frame.f_code, at.tb_lasti))
        at = at.tb_next
    return way


def _known(way, error, root):
    """The place, and the report's head. An event that always fails goes the same way each time, and looking up the
    lines of its frames takes longer than most calls."""
    # two codes that are equal may stand in different files
    key = (root, *((id(code), instruction) for code, instruction in way))
    found = _ways.get(key)
    if found is None:
        whole = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
        place = _place(whole.stack, root)
        _strip(whole)
        head = "".join(["Traceback (most recent call last):\n", *whole.stack.format()])
        if len(_ways) == _MOST_WAYS:
            _ways.clear()
        # an id is taken as long as the code is there
        found = _ways[key] = place, head, [code for code, _ in way]
    return found[:2]


def _line(error, whole):
    if not isinstance(error, SyntaxError):
        return _one_line("".join(whole.format_exception_only()))
    # Python prints the place first, and the error last, before the notes
    lines = [line for text in whole.format_exception_only() for line in text.splitlines()]
    name = type(error).__name__
    return _one_line(next((line for line in reversed(lines) if line.startswith(name)), lines[-1]))


def _one_line(text):
    return " ".join(both_ends([text.strip()], _LINE).split())


def _place(stack, root):
    frames = [frame for frame in stack if not _hidden(frame)]
    inside = [frame for frame in frames if _inside(frame.filename, root)]
    for frame in reversed(inside or frames):
        return f"{frame.filename}:{frame.lineno} in {frame.name}"
    return None


def _inside(filename, root):
    installed = {"site-packages", "dist-packages"} & set(filename.split(os.sep))
    return filename.startswith(root.rstrip(os.sep) + os.sep) and not installed


def _hidden(frame):
    """The runtime itself, and the import machinery, which Python leaves out as well."""
    return frame.filename.startswith((OWN, "<frozen importlib")) or frame.filename == importlib.__file__


def _strip(whole):
    """Takes out what is no code of the function's: hidden frames, and the event loop around an `async def`."""
    seen, left = set(), [whole]
    while left:
        whole = left.pop()
        if whole is None or id(whole) in seen:
            continue
        seen.add(id(whole))
        frames = list(whole.stack)
        start = 0
        for n, frame in enumerate(frames):
            if frame.filename.startswith(OWN) and frame.name == "_whole":
                start = n + 1
        kept = [frame for frame in frames[start:] if not _hidden(frame)]
        whole.stack = traceback.StackSummary.from_list(kept)
        left += [whole.__cause__, whole.__context__, *(getattr(whole, "exceptions", None) or ())]


def offender(result):
    """Where json.dumps stumbles: the path and the type of the first value that is no JSON; None if all of it is."""
    found = _offender(result)
    return found and plain(_one_line(found))


def _offender(result):
    # a stack of its own: the result may be nested more deeply than Python's allows
    path, opened, stack = [], set(), []

    def enter(step, value):
        if value is None or isinstance(value, (str, int, float)):
            return None
        if not isinstance(value, (dict, list, tuple)):
            return f"{''.join(path)}{step}: {type(value).__name__}"
        if id(value) in opened:
            return f"{''.join(path)}{step}: contains itself"
        opened.add(id(value))
        path.append(step)
        keyed = isinstance(value, dict)
        stack.append((value, keyed, iter(value.items() if keyed else enumerate(value))))
        return None

    found = enter("$", result)
    while stack and found is None:
        value, keyed, items = stack[-1]
        for key, item in items:
            if not keyed:
                found = enter(f"[{key}]", item)
            elif key is None or isinstance(key, (str, int, float)):
                found = enter(_step(str(key)), item)
            else:
                found = f"{''.join(path)}: key of type {type(key).__name__}"
            if found or stack[-1][0] is not value:
                break
        else:
            stack.pop()
            path.pop()
            opened.discard(id(value))
    return found


def _step(key):
    return f".{key}" if key.isidentifier() else f'["{key}"]'
