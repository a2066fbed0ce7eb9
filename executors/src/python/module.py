"""Imports the file of a function and finds its entry function; later, newer versions of it beside the one that runs."""

import difflib
import importlib
import importlib.machinery
import importlib.util
import inspect
import keyword
import os
import re
import sys

from _gaugefn_call import describe, leave_if_child, plain


class Refused(Exception):
    """The function cannot be used: one line that says why and what to do, and a traceback or None."""

    def __init__(self, line, report=None):
        super().__init__(line)
        self.line = plain(line)
        self.report = report


class Version:
    """One loaded version of the function, and what of the interpreter belongs to it."""

    def __init__(self, root):
        self.root = root
        self.handler = None
        self._modules = {}
        self._path = None

    def load(self, entry, wanted, paths, site):
        _extend_path(entry, self.root, paths, site)
        self.handler = _find(entry, self.root, wanted)

    def load_beside(self, old, entry, wanted, paths, site):
        """As a first version would be loaded; after it, the interpreter is the old version's again."""
        kept, path = old.modules(), sys.path[:]
        _refuse_extensions(kept)
        for name in kept:
            sys.modules.pop(name, None)
        if old.root != self.root:
            # an unpacked folder of its own, soon to be removed
            sys.path[:] = [place for place in path if not _below(place, old.root)]
        bytecode = sys.dont_write_bytecode, sys.pycache_prefix
        # byte code is known by size and second of its source, and a new version may have both of the old one
        sys.dont_write_bytecode, sys.pycache_prefix = True, os.path.join(self.root, "no byte code is here")
        try:
            self.load(entry, wanted, paths, site)
            self._path = sys.path[:]
        finally:
            sys.dont_write_bytecode, sys.pycache_prefix = bytecode
            self._modules = self.modules()
            for name in self._modules:
                sys.modules.pop(name, None)
            sys.modules.update(kept)
            sys.path[:] = path
        _refuse_extensions(self._modules)

    def take_place(self):
        """From now on, imports mean this version's modules."""
        global _serving
        if _serving is self:
            return
        for name in _serving.modules():
            sys.modules.pop(name, None)
        sys.modules.update(self._modules)
        sys.path[:] = self._path
        importlib.invalidate_caches()
        _serving = self

    def modules(self):
        """What is imported from the function's own folder."""
        return {name: module for name, module in list(sys.modules.items()) if _is_from(module, self.root)}


# The version that runs.
_serving = None


def load(entry, root, wanted, paths, site):
    """A version with the entry function `wanted`, `name` or `module.name`, of the file `entry` inside `root`."""
    global _serving
    version = Version(root)
    if _serving is None:
        version.load(entry, wanted, paths, site)
        _serving = version
    else:
        version.load_beside(_serving, entry, wanted, paths, site)
    return version


def _is_from(module, root):
    # whatever may stand in sys.modules instead of a module
    try:
        file = getattr(module, "__file__", None)
        places = [file] if file else list(getattr(module, "__path__", ()))
        return any(isinstance(place, str) and _below(place, root) and not _is_installed(place, root) for place in places)
    except Exception:
        return False


def _below(place, root):
    return place == root or place.startswith(root.rstrip(os.sep) + os.sep)


def _is_installed(place, root):
    """A folder such as /opt may hold a virtual environment, or a whole Python, beside the function."""
    import sysconfig

    if {"site-packages", "dist-packages"} & set(os.path.relpath(place, root).split(os.sep)):
        return True
    return any(_below(place, sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))


def _refuse_extensions(modules):
    """A shared library is loaded once per process, whatever stands in its file later."""
    for name, module in modules.items():
        file = getattr(module, "__file__", None) or ""
        if file.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
            raise Refused(
                f"module '{name}' is a C extension in the function's folder ({file}): such a function needs a new "
                f"worker to change; restart gaugefn, or install the extension elsewhere"
            )


def _extend_path(entry, root, paths, site):
    """Puts the function's folders first, then what settings name; `site` goes before what is installed."""
    first = list(dict.fromkeys([os.path.dirname(entry), root, *paths]))
    sys.path[:] = first + [path for path in sys.path if path not in first]
    if site is not None:
        import site as installed

        places = (n for n, path in enumerate(sys.path) if os.path.basename(path) in ("site-packages", "dist-packages"))
        sys.path.insert(next(places, len(sys.path)), site)
        # for its .pth files
        installed.addsitedir(site)


def _find(entry, root, wanted):
    """The entry function itself."""
    module = _import(entry, root, wanted)
    prefix, _, name = wanted.rpartition(".")
    owner = _owner(module, entry, root, prefix, wanted) if prefix else module
    try:
        found = getattr(owner, name)
    except AttributeError:
        raise Refused(_missing(owner, entry, name)) from None
    if not callable(found):
        raise Refused(
            f"'{wanted}' in {entry} is of type {type(found).__name__} and cannot be called; wanted: {_form(name)}"
        )
    _check_parameters(found, entry, name)
    return found


def _form(name):
    return f"def {name}(input, context)"


def _import(entry, root, wanted):
    importlib.invalidate_caches()
    try:
        name = _importable_name(entry, root)
        module = importlib.import_module(name) if name else _import_by_path(entry)
        leave_if_child()
        return module
    except BaseException as error:
        leave_if_child(error)
        raise _refusal(error, entry, root, wanted) from None


def _importable_name(entry, root):
    """The dotted name under which a plain import finds just this file, the longest one first; None without one."""
    stem, ending = os.path.splitext(os.path.relpath(entry, root))
    if ending != ".py":
        return None
    parts = stem.split(os.sep)
    for first in range(len(parts)):
        base, names = os.path.join(root, *parts[:first]), parts[first:]
        if not all(name.isidentifier() and not keyword.iskeyword(name) for name in names):
            continue
        if names[0] in sys.modules:
            # `json.py`: the standard library's own stays where others look for it
            continue
        if base not in sys.path:
            sys.path.insert(1, base)
        spec = importlib.util.find_spec(names[0])
        if spec is None:
            continue
        if len(names) == 1:
            if spec.origin and os.path.exists(spec.origin) and os.path.samefile(spec.origin, entry):
                return names[0]
            continue
        top = os.path.join(base, names[0])
        # a folder without __init__.py loses against a module of the same name further back, such as `code`
        if any(os.path.exists(place) and os.path.samefile(place, top) for place in spec.submodule_search_locations or ()):
            return ".".join(names[:-1] if names[-1] == "__init__" else names)
    return None


def _import_by_path(entry):
    name = re.sub(r"\W", "_", os.path.splitext(os.path.basename(entry))[0])
    if not name.isidentifier() or keyword.iskeyword(name):
        name = "_" + name
    while name in sys.modules:
        name += "_"
    # a loader of its own, as the ending may be none that Python knows
    loader = importlib.machinery.SourceFileLoader(name, entry)
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, entry, loader=loader))
    # dataclasses and pickle look there for the module of a class
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    # as after a plain import: a module may have put something else in its place
    return sys.modules.get(name, module)


def _refusal(error, entry, root, wanted):
    line, report = describe(error, root)
    name = wanted.rpartition(".")[2]
    if isinstance(error, SyntaxError):
        place = f"{error.filename or entry}:{error.lineno}" if error.lineno else error.filename or entry
        version = ".".join(map(str, sys.version_info[:2]))
        return Refused(f"{place}: {line}; correct it: Python {version} is wanted, with '{_form(name)}'", report)
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        remedy = f"install '{top}' (option requirements or venv) or put it beside the file"
    elif isinstance(error, SystemExit):
        remedy = "a function's file must not end the program: keep that under if __name__ == \"__main__\""
    else:
        remedy = "the file must import without an error"
    return Refused(f"importing {entry} failed: {line}; {remedy}", report)


def _owner(module, entry, root, prefix, wanted):
    """What `prefix` of `prefix.name` stands for: the file itself, something in it, or a module beside it."""
    stem = os.path.splitext(os.path.relpath(entry, root))[0].replace(os.sep, ".")
    if any(known == prefix or known.endswith("." + prefix) for known in (module.__name__, stem)):
        return module
    owner = module
    for part in prefix.split("."):
        owner = getattr(owner, part, None)
    if owner is not None:
        return owner
    try:
        return importlib.import_module(prefix)
    except ModuleNotFoundError as error:
        if error.name and (prefix == error.name or prefix.startswith(error.name + ".")):
            raise Refused(
                f"'{wanted}' names a module '{prefix}' that is not there; "
                f"the function's file is {entry}, wanted in it: {_form(wanted.rpartition('.')[2])}"
            ) from None
        raise _refusal(error, entry, root, wanted) from None
    except BaseException as error:
        raise _refusal(error, entry, root, wanted) from None


def _missing(owner, entry, name):
    place = getattr(owner, "__file__", None) or entry
    own = getattr(owner, "__name__", None)
    functions = [
        key
        for key, value in vars(owner).items()
        if callable(value) and not key.startswith("__") and getattr(value, "__module__", own) == own
    ]
    if not functions:
        return f"{place} has no function '{name}', and no other one; wanted: {_form(name)}"
    shown = ", ".join(functions[:10]) + (", …" if len(functions) > 10 else "")
    near = difflib.get_close_matches(name, functions, 1)
    question = f"did you mean '{near[0]}'?" if near else "name one of these as the handler, or write it;"
    return f"{place} has no function '{name}', only {shown}; {question} wanted: {_form(name)}"


def _check_parameters(found, entry, name):
    """Refuses only what can never be called with two arguments: a wrapper's own parameters count."""
    if hasattr(found, "__signature__"):
        return
    try:
        signature = inspect.signature(found, follow_wrapped=False)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, None)
    except TypeError:
        code = getattr(inspect.unwrap(found), "__code__", None)
        place = f"{code.co_filename}:{code.co_firstlineno}" if code else entry
        raise Refused(
            f"{place}: '{name}{signature}' cannot take two arguments by position, the input and the context; "
            f"wanted: {_form(name)}"
        ) from None
