"""What the codec carries and what it names. Each function gets `carry` and `load` of tests.rs."""

import base64
import collections
import dataclasses
import datetime
import decimal
import enum
import io
import json
import math
import pathlib
import queue
import random
import re
import socket
import struct
import sys
import threading
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, time, timedelta, timezone
from decimal import Decimal

NOW = datetime.datetime(2024, 5, 1, 12, 30, 15, 250)
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
DEPTH = 200

ATOMS = [
    None, True, False, 0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64, -(2**63) - 1, 10**30, -(7**400),
    1 << 20_000,
    0.0, -0.0, 1.0, -1.5, 0.1, 1e16, 1e-7, 1.7976931348623157e308, 5e-324, 1e300 * 1e10, -math.inf, math.nan,
    1j, complex(-0.0, math.nan), complex(1.5, -math.inf),
    "", "text", "ü漢🙂", 'quote " backslash \\ line\n\r\t\b\f\x00\x1f\x7f\u2028', "$tuple", "$", "x" * 5000,
    "\ud800", "a\udfffz", "\udc80\ud800", "é\ud83d",
    b"", b"\x00\xff" * 9, bytearray(), bytearray(b"abc"),
    NOW, NOW.replace(microsecond=0), NOW.replace(fold=1), datetime.datetime.min, datetime.datetime.max,
    NOW.replace(tzinfo=timezone.utc), NOW.replace(tzinfo=timezone(timedelta(hours=2))),
    NOW.replace(tzinfo=timezone(timedelta(hours=-3, minutes=-30), "NST")), NOW.replace(tzinfo=timezone(timedelta(0), "Z")),
    NOW.replace(tzinfo=timezone(timedelta(seconds=1, microseconds=-5))), NOW.replace(tzinfo=timezone.max),
    NOW.replace(tzinfo=timezone.min), NOW.replace(tzinfo=BERLIN),
    datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN), NOW.replace(tzinfo=zoneinfo.ZoneInfo("UTC")),
    date(2024, 2, 29), date.min, date.max, time(), time(23, 59, 59, 999999, fold=1), time(1, 2, 3, tzinfo=timezone.utc),
    time(1, 2, tzinfo=BERLIN), time.max,
    timedelta(), timedelta(days=-1, microseconds=1), timedelta(1, 2, 3), timedelta.min, timedelta.max,
    timezone.utc, timezone(timedelta(hours=2), "X"), BERLIN,
    Decimal("1.10"), Decimal("-0"), Decimal("1E+500"), Decimal("NaN"), Decimal("sNaN123"), Decimal("-Infinity"),
    Decimal("0." + "1" * 60),
]

NESTED = [
    [], [1, [2, [3]]], (), (1,), ((), [()]), {}, {"a": {"b": []}}, {"$a": 1}, {"a": 1, "$b": 2}, {"$tuple": [1]}, {"": 1},
    {1: "int", "1": "text", 1.5: "float", None: "none", (1, 2): "tuple", frozenset({1}): "frozen"}, {True: 1}, {"\ud800": 1},
    {2**70: -(2**70)}, {b"k": b"v"}, {NOW: NOW}, {math.nan: 1},
    set(), {1, 2.5, "a", None, (1, 2)}, frozenset(), frozenset({frozenset({1}), "x"}), {True, 2}, {-0.0},
    deque(), deque([1, 2, 3]), deque([1.5, None], maxlen=5), deque(maxlen=0), deque([deque([(NOW, 1.5)], 3)], 2**40),
    OrderedDict(), OrderedDict(b=1, a=2), OrderedDict({1: OrderedDict()}), Counter(), Counter("abracadabra"), Counter({1: -2, "x": 2.5}),
    defaultdict(), defaultdict(list, a=[1]), defaultdict(deque, {1: deque([2])}), defaultdict(int, {"x": 1}), defaultdict(Counter),
    [{"name": "a", "value": 1.0}] * 3,
]


def same(one, other):
    """Equal in value, type, order and whatever else there is to see."""
    if type(one) is not type(other):
        return False
    kind = type(one)
    if kind is float:
        return struct.pack("d", one) == struct.pack("d", other) or one != one and other != other
    if kind is complex:
        return same(one.real, other.real) and same(one.imag, other.imag)
    if kind in (list, tuple, deque):
        return getattr(one, "maxlen", None) == getattr(other, "maxlen", None) and len(one) == len(other) and all(map(same, one, other))
    if kind in (dict, OrderedDict, Counter, defaultdict):
        factories = getattr(one, "default_factory", None) is getattr(other, "default_factory", None)
        return factories and same(list(one.items()), list(other.items()))
    if kind in (set, frozenset):
        return same(sorted(one, key=_order), sorted(other, key=_order))
    if kind is datetime.datetime or kind is time:
        return same(one.tzinfo, other.tzinfo) and one.fold == other.fold and one.replace(tzinfo=None) == other.replace(tzinfo=None)
    if kind is timezone:
        return one.__getinitargs__() == other.__getinitargs__() and (one is timezone.utc) == (other is timezone.utc)
    if kind is Decimal:
        return one.as_tuple() == other.as_tuple()
    if kind.__module__ == "numpy":
        return same_numpy(one, other)
    return one == other


def same_numpy(one, other):
    if one.dtype != other.dtype or one.dtype.char != other.dtype.char or one.shape != other.shape:
        return False
    flags = lambda x: (x.flags.c_contiguous, x.flags.f_contiguous)
    array = type(one).__name__ == "ndarray"
    if array and (not other.flags.writeable or flags(one) != flags(other) and any(flags(one))):
        return False
    if one.dtype.kind == "f" and one.dtype.itemsize == 16 or one.dtype.char == "G":
        # ten bytes of sixteen count
        return repr(one) == repr(other)
    return one.tobytes() == other.tobytes()


def _order(value):
    if isinstance(value, tuple):
        words = str([_order(item) for item in value])
    elif isinstance(value, frozenset):
        words = str(sorted(_order(item) for item in value))
    else:
        words = hex(value) if type(value) is int else repr(value)
    return type(value).__name__ + words


def _hashable(value):
    try:
        hash(value)
    except (TypeError, ValueError):
        return False
    return True


def assert_carried(carry, env):
    back, lost, texts = carry(env)
    assert lost == [], lost
    assert same(env, back), f"{env!r}\nbecame\n{back!r}\nby {texts}"
    assert [text for text in carry(back)[2]] == texts, "the text of what came back differs"
    return texts


def every_type(carry, load):
    for value in ATOMS + NESTED:
        for env in ({"k": value}, {"k": [value, {"in": (value,)}]}, value):
            assert_carried(carry, env)
    for key in [atom for atom in ATOMS if _hashable(atom)] + [(1, ("a", NOW)), frozenset({1, "x"})]:
        assert_carried(carry, {key: 1})
        assert_carried(carry, {"k": {key: {key: key}}})
        assert_carried(carry, {"k": {key}})
    everything = {f"{type(value).__name__} {n}": value for n, value in enumerate(ATOMS + NESTED)}
    assert len(assert_carried(carry, everything)) == len(everything)


def texts(carry, load):
    env = {
        "count": 3, "ratio": 1.0, (1, "b"): None, "big": 2**64, "nan": math.nan, "z": -0.0, "c": 1 - 2j, "s": "\ud800",
        "b": b"ab", "ba": bytearray(b"ab"), "t": (1,), "set": {"b", "a"}, "fs": frozenset([1]), "d": {1: 2}, "o": OrderedDict(a=1),
        "cn": Counter("aab"), "dd": defaultdict(list, a=[]), "q": deque([1], 5), "dec": Decimal("1.10"), "day": date(2024, 5, 1),
        "tm": time(12, 30), "now": NOW, "utc": NOW.replace(tzinfo=timezone.utc), "fold": NOW.replace(fold=1, tzinfo=BERLIN),
        "td": timedelta(-1, 2, 3), "zone": BERLIN, "$x": {"$x": 1},
    }
    wanted = [
        ('"count"', "3"), ('"ratio"', "1.0"), ('{"$tuple":[1,"b"]}', "null"), ('"big"', '{"$int":"0x10000000000000000"}'),
        ('"nan"', '{"$float":"nan"}'), ('"z"', "-0.0"), ('"c"', '{"$complex":[1.0,-2.0]}'), ('"s"', '{"$str":"7aCA"}'),
        ('"b"', '{"$bytes":"YWI="}'), ('"ba"', '{"$bytearray":"YWI="}'), ('"t"', '{"$tuple":[1]}'), ('"set"', '{"$set":["a","b"]}'),
        ('"fs"', '{"$frozenset":[1]}'), ('"d"', '{"$dict":[[1,2]]}'), ('"o"', '{"$ordereddict":[["a",1]]}'),
        ('"cn"', '{"$counter":[["a",2],["b",1]]}'), ('"dd"', '{"$defaultdict":{"factory":"list","items":[["a",[]]]}}'),
        ('"q"', '{"$deque":{"maxlen":5,"items":[1]}}'), ('"dec"', '{"$decimal":"1.10"}'), ('"day"', '{"$date":"2024-05-01"}'),
        ('"tm"', '{"$time":"12:30:00"}'), ('"now"', '{"$datetime":"2024-05-01T12:30:15.000250"}'),
        ('"utc"', '{"$datetime":"2024-05-01T12:30:15.000250+00:00"}'),
        ('"fold"', '{"$datetime":{"at":"2024-05-01T12:30:15.000250","fold":1,"zone":"Europe/Berlin"}}'),
        ('"td"', '{"$timedelta":[-1,2,3]}'), ('"zone"', '{"$timezone":{"zone":"Europe/Berlin"}}'), ('"$x"', '{"$dict":[["$x",1]]}'),
    ]
    found = [(key.decode(), value.decode()) for key, value in assert_carried(carry, env)]
    assert found == wanted, [pair for pair in zip(found, wanted) if pair[0] != pair[1]]


def other_envs(carry, load):
    assert assert_carried(carry, {}) == []
    assert assert_carried(carry, [1, (2,)]) == [(b"", b'[1,{"$tuple":[2]}]')]
    assert assert_carried(carry, None) == [(b"", b"null")]
    assert assert_carried(carry, OrderedDict(b=1, a=2)) == [(b"", b'{"$ordereddict":[]}'), (b'"b"', b"1"), (b'"a"', b"2")]
    assert assert_carried(carry, defaultdict(list, a=[1])) == [
        (b"", b'{"$defaultdict":{"factory":"list","items":[]}}'), (b'"a"', b"[1]")]
    assert_carried(carry, Counter({1: 5, "b": 2}))

    moved = OrderedDict(a=1, b=2)
    moved.move_to_end("a")
    assert_carried(carry, moved)
    assert_carried(carry, {"k": moved})

    # the rest of such a dict survives what cannot be encoded, as that of a plain one does
    env = defaultdict(lambda: 0, a=1, lock=threading.Lock())
    back, lost, _ = carry(env)
    assert back == {"a": 1} and lost == [
        "context.env itself (a collections.defaultdict whose factory is a function and no built-in type)", "'lock' (a _thread.lock)"], lost

    class Space:
        pass

    for env, name in [(Space(), "a tests.other_envs.<locals>.Space"), (type("D", (dict,), {})(), "a tests.D"), (print, "a builtin_function_or_method")]:
        back, lost, found = carry(env)
        assert (back, lost, found) == ({}, [f"context.env ({name})"], []), lost
    assert carry([1, threading.Lock()])[1] == ["context.env[1] (a _thread.lock)"]


class Point(collections.namedtuple("Point", "x y")):
    pass


@dataclasses.dataclass
class Sample:
    value: float


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    pass


class Evil:
    def __repr__(self):
        raise AssertionError("code of the function's ran")

    __eq__ = __hash__ = __getattribute__ = __iter__ = __len__ = __bool__ = __repr__
    __hash__ = object.__hash__


class Zone(datetime.tzinfo):
    def utcoffset(self, when):
        raise AssertionError("code of the function's ran")


def lost(carry, load):
    held = [socket.socket(), open("/dev/null"), threading.Lock(), queue.Queue()]
    sock, file, lock, jobs = held
    cases = {
        "lock": (lock, " (a _thread.lock)"),
        "jobs": (jobs, " (a queue.Queue)"),
        "file": (file, " (an _io.TextIOWrapper)"),
        "gen": ((n for n in ()), " (a generator)"),
        "fn": (lambda: 0, " (a function)"),
        "point": (Point(1, 2), " (a tests.Point)"),
        "sample": (Sample(1.5), " (a tests.Sample)"),
        "colour": (Colour.RED, " (a tests.Colour)"),
        "level": (Level.LOW, " (a tests.Level)"),
        "text": (Text("x"), " (a tests.Text)"),
        "evil": (Evil(), " (a tests.Evil)"),
        "class": (Sample, " (a type)"),
        "module": (json, " (a module)"),
        "path": (pathlib.PurePosixPath("/"), " (a pathlib.PurePosixPath)"),
        "pattern": (re.compile("x"), " (a re.Pattern)"),
        "range": (range(3), " (a range)"),
        "thread": (threading.current_thread(), " (a threading._MainThread)"),
        "cache": ({"conn": sock}, ".conn (a socket.socket)"),
        "deep": ({"a b": [(1, {"x": deque([{Level.LOW}])})]}, '["a b"][0][1].x[0]{…} (a tests.Level)'),
        "by key": ({1: {Point(1, 2): 1}}, "[1].keys() (a tests.Point)"),
        "by number": ({5: [lock]}, "[5][0] (a _thread.lock)"),
        "ordered": (OrderedDict(a=lock), "['a'] (a _thread.lock)"),
        "default": (defaultdict(lambda: 0), " (a collections.defaultdict whose factory is a function and no built-in type)"),
        "moment": (NOW.replace(tzinfo=Zone()), " (a datetime.datetime in a time zone that is a tests.Zone)"),
        "fromfile": (zoneinfo.ZoneInfo.from_file(_zone_file()), " (a zoneinfo.ZoneInfo without a key)"),
        "long path": (_nest(lock, 20), "[0]" * 8 + "… (a _thread.lock)"),
        "it's": (lock, " (a _thread.lock)"),
    }
    env = {"first": 1} | {key: value for key, (value, _) in cases.items()} | {"last": (NOW, deque([1.5], 2))}
    back, lost, texts = carry(env)
    assert same(back, {"first": 1, "last": env["last"]}), back
    wanted = [f"{key!r}{words}" for key, (_, words) in cases.items()]
    assert lost == wanted, [pair for pair in zip(lost, wanted) if pair[0] != pair[1]]

    back, lost, _ = carry({Point(1, 2): 1, Evil(): 2, "x" * 100: lock, (1, lock): 3, "kept": 4})
    assert back == {"kept": 4}
    assert lost == ["a key (a tests.Point)", "a key (a tests.Evil)", "'" + "x" * 59 + "… (a _thread.lock)", "a key[1] (a _thread.lock)"], lost

    back, lost, _ = carry({math.nan: 1, float("nan"): 2})
    assert list(back.values()) == [1] and lost == ["nan (a second key with this text)"], lost
    sock.close(), file.close()


def _zone_file():
    for folder in zoneinfo.TZPATH:
        found = pathlib.Path(folder, "Europe/Berlin")
        if found.is_file():
            return io.BytesIO(found.read_bytes())
    raise AssertionError("no time zone database: install tzdata")


def _nest(value, levels):
    for _ in range(levels):
        value = [value]
    return value


def recursion(carry, load):
    ring = []
    ring.append(ring)
    pair = {"a": {}}
    pair["a"]["b"] = pair
    many = [0]
    many[0] = [many, many, many]
    line = deque()
    line.append((line,))
    env = {"ring": ring, "pair": pair, "many": many, "line": line, "kept": 1}
    env["me"] = env
    back, lost, _ = carry(env)
    assert back == {"kept": 1}, back
    assert [words.split(" ")[0].split("[")[0].split(".")[0] for words in lost] == ["'ring'", "'pair'", "'many'", "'line'", "'me'"], lost
    for words, kind in zip(lost, ["list", "dict", "list", "deque", "dict"]):
        assert re.search(rf"… \(a (collections\.)?(list|tuple|{kind}) that contains itself\)$", words), words

    assert_carried(carry, {"deepest": _nest(1, DEPTH)})
    back, lost, _ = carry({"deeper": _nest(1, DEPTH + 1), "far": _nest(1, 100_000)})
    assert back == {} and [words[-33:] for words in lost] == ["(nested more than 200 levels deep)"[-33:]] * 2, lost

    # one object in two places comes back as two
    shared = [1]
    back, _, _ = carry({"a": shared, "b": shared})
    assert back == {"a": [1], "b": [1]} and back["a"] is not back["b"]


def refusals(carry, load):
    start = "the saved state cannot be read, entry "
    for key, value, wanted in [
        ('"k"', '{"$graph":1}', '"k": $.$graph: unknown tag \'$graph\', written by a newer version'),
        ('"k"', "[1,2", '"k": the text ends at byte 4, in the middle'),
        ('"k"', "[1,[{}]] x", '"k": the end was expected at byte 9'),
        ('"k"', '[0,{"a":{"$set":[[]]}}]', "\"k\": $[1].a.$set: unhashable type: 'list'"),
        ('"k"', '{"a":1,"a":2}', '"k": something is in it twice'),
        ('"k"', '{"$set":[1,true]}', '"k": $.$set: something is in it twice'),
        ('"k"', '{"$decimal":"x"}', '"k": $.$decimal: '),
        ('"k"', '{"$date":"2023-02-29"}', '"k": $.$date: day is out of range for month'),
        ('"k"', '{"$datetime":{"at":"2024-01-01T00:00:00","zone":"No/Where"}}', '"k": $.$datetime: '),
        ('"k"', '{"$defaultdict":{"factory":"eval","items":[]}}', "\"k\": $.$defaultdict: 'eval' is no built-in type"),
        ('"k"', '{"$deque":{"maxlen":1,"items":[1,2]}}', '"k": $.$deque: 2 items are more than its maxlen'),
        ('"k"', "9" * 50, f'"k": {"9" * 50} is beyond 128 bits'),
        ("[]", "1", "[]: unhashable type: 'list'"),
        ('{"$tuple":', "1", '{"$tuple":: $.$tuple: the text ends'),
    ]:
        try:
            found = load([(key, value)])
        except ValueError as error:
            assert str(error).startswith(start + wanted), error
        else:
            raise AssertionError(f"{value} became {found!r}")
    try:
        load([("", "[]"), ('"a"', "1")])
    except ValueError as error:
        assert "list indices must be integers" in str(error), error
    assert load([]) == {}
    assert load([('"k"', str(2**64 - 1))]) == {"k": 2**64 - 1}


def no_numpy(carry, load):
    assert "numpy" not in sys.modules
    sys.modules["numpy"] = None
    for text in ('{"$numpy":{"dtype":"<f8","value":1.5}}', '{"$ndarray":{"dtype":"<f8","shape":[0],"data":""}}'):
        try:
            load([('"k"', text)])
        except ValueError as error:
            assert "needs numpy, which cannot be imported" in str(error) and "install it" in str(error), error
        else:
            raise AssertionError("it was loaded")
    assert_carried(carry, {"k": 1})
    # a module of that name that is none
    sys.modules["numpy"] = sys
    assert carry({"k": object()})[1] == ["'k' (an object)"]


def no_imports(carry, load):
    before = set(sys.modules)
    carry({"a": [1, 2.5, "x", deque([1])], "b": object(), "c": {1}})
    assert set(sys.modules) == before, set(sys.modules) - before


def _random(rng, depth, hashable=False, extra=()):
    pick = rng.random()
    if depth == 0 or pick < 0.4:
        choice = rng.randrange(16)
        if choice == 0:
            return rng.randrange(-(2 ** rng.randrange(1, 200)), 2 ** rng.randrange(1, 200))
        if choice == 1:
            return struct.unpack("d", rng.randbytes(8))[0]
        if choice == 2:
            return "".join(chr(rng.choice([rng.randrange(128), rng.randrange(0x110000), rng.randrange(0xD800, 0xE000)])) for _ in range(rng.randrange(9)))
        if choice == 3:
            return rng.randbytes(rng.randrange(9))
        if choice == 4:
            return datetime.datetime.fromtimestamp(rng.randrange(-(10**9), 4 * 10**9), rng.choice([None, timezone.utc, BERLIN])).replace(fold=rng.randrange(2))
        if choice == 5:
            return timedelta(rng.randrange(-999, 999), rng.randrange(86400), rng.randrange(10**6))
        if choice == 6:
            return Decimal((rng.randrange(2), tuple(rng.randrange(10) for _ in range(9)), rng.randrange(-20, 20)))
        if choice < 9 and extra:
            return rng.choice(extra)(rng)
        atom = rng.choice(ATOMS)
        return atom if _hashable(atom) or not hashable else None
    inner = lambda h=hashable: _random(rng, depth - 1, h, () if h else extra)
    count = rng.randrange(5)
    if hashable:
        return rng.choice([tuple, frozenset])([inner() for _ in range(count)])
    kind = rng.randrange(10)
    if kind < 3:
        return rng.choice([list, tuple])([inner() for _ in range(count)])
    if kind == 3:
        return rng.choice([set, frozenset])([inner(True) for _ in range(count)])
    if kind == 4:
        return deque([inner() for _ in range(count)], rng.choice([None, count, count + 3]))
    if kind < 8:
        return {"".join(rng.choice("ab$é") for _ in range(rng.randrange(4))): inner() for _ in range(count)}
    pairs = [(inner(True), inner()) for _ in range(count)]
    return rng.choice([dict, OrderedDict, lambda pairs: defaultdict(dict, pairs), lambda pairs: _counter(pairs)])(pairs)


def _counter(pairs):
    counter = Counter()
    for key, value in pairs:
        counter[key] = value
    return counter


def random_values(carry, load, seeds=range(1500), extra=()):
    for seed in seeds:
        rng = random.Random(seed)
        env = {f"k{n}": _random(rng, 4, extra=extra) for n in range(3)}
        try:
            assert_carried(carry, env)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from None


def random_numpy(carry, load):
    import numpy

    def array(rng):
        dtype = rng.choice(["?", "<i2", ">i4", "<u8", "<f2", "<f4", ">f8", "<c16", "<U3", "S4", "<M8[us]", "<m8[s]", [("a", "<f4"), ("b", "<i2", (2,))]])
        shape = tuple(rng.randrange(4) for _ in range(rng.randrange(4)))
        dtype = numpy.dtype(dtype)
        count = math.prod(shape)
        memory = bytes(rng.randrange(2) for _ in range(count)) if dtype == "?" else bytes(4 * count * 3) if dtype.kind == "U" else rng.randbytes(dtype.itemsize * count)
        made = numpy.frombuffer(memory, dtype).reshape(shape) if count else numpy.zeros(shape, dtype)
        return rng.choice([lambda x: x.copy(), numpy.asfortranarray, lambda x: x.T.copy(order="K"), lambda x: x.copy()[..., ::-1] if x.ndim else x.copy()])(made)

    def scalar(rng):
        kind = rng.choice([numpy.int8, numpy.uint64, numpy.float32, numpy.float64, numpy.bool_, numpy.complex64])
        return kind(rng.randrange(100))

    random_values(carry, load, range(600), (array, scalar))


def every_numpy(carry, load):
    import numpy as np

    scalars = [
        np.bool_(True), np.int8(-1), np.uint8(255), np.int16(-2), np.int32(3), np.int64(2**63 - 1), np.uint64(2**64 - 1), np.longlong(5), np.ulonglong(6),
        np.intc(1), np.float16(0.1), np.float32(0.1), np.float64(0.1), np.float64("nan"), np.float32("-inf"), np.float64(-0.0), np.longdouble("0.1"),
        np.complex64(1 + 2j), np.complex128(complex(-0.0, math.inf)), np.clongdouble(1j), np.str_("ü"), np.str_(""), np.str_("a\x00"), np.str_("\ud800"),
        np.bytes_(b""), np.bytes_(b"a\x00"), np.datetime64("2024-05-01T12:00", "ns"), np.datetime64("NaT"), np.datetime64("2024", "Y"),
        np.timedelta64(5, "D"), np.timedelta64(7), np.timedelta64(3, "25s"), np.void(b"abc"), np.array((1, 2.5), [("a", "i4"), ("b", "f8")])[()],
    ]
    for value in scalars:
        assert_carried(carry, {"k": value})
        assert_carried(carry, {"k": deque([value, value], 3), "other": (value,)})
        if _hashable(value):
            assert_carried(carry, {value: 1, "k": {value}})
    arrays = [
        np.arange(6, dtype="<f8").reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.arange(6).reshape(2, 3).T, np.arange(10)[::2],
        np.arange(10)[::-1], np.array(5), np.array([]), np.zeros((0, 3)), np.zeros((3, 0), order="F"), np.array([True, False]), np.array([1 + 2j]),
        np.array(["a", "ücd"]), np.array([b"x", b"yz"]), np.array(["2024-05-01", "NaT"], "M8[D]"), np.array([1, 2], "m8[ms]"), np.array([1, 2], ">i4"),
        np.array([1], np.longlong), np.array([0.1], np.longdouble), np.array([0.1], np.float16), np.broadcast_to(np.arange(3), (2, 3)),
        np.array([(1, 2.5, "x")], [("a", "<i4"), ("b", ">f8"), ("c", "<U3")]), np.zeros(2, [("a", "i1", (2, 3)), ("n", [("x", "f4"), ("y", "?")])]),
        np.zeros(2, [(("title", "name"), "i4"), ("b", "S2")]), np.zeros(3, np.dtype([("a", "i1"), ("b", "f8")], align=True)), np.zeros(2, "V5"),
        np.arange(24).reshape(2, 3, 4), np.arange(24).reshape(2, 3, 4)[:, 1:, ::2], np.full((2, 2), np.nan),
    ]
    for value in arrays:
        assert_carried(carry, {"k": value})
        assert_carried(carry, {"k": [value, {"a": value}]})
    back = carry({"k": np.arange(3)})[0]["k"]
    back[0] = 7
    back.resize(5)
    assert carry({"k": np.float64(0.1)})[2] == [(b'"k"', b'{"$numpy":{"dtype":"<f8","value":0.1}}')]
    assert carry({"k": np.float32(0.1)})[2] == [(b'"k"', b'{"$numpy":{"dtype":"<f4","value":0.10000000149011612}}')]
    assert carry({"k": np.array([[1.5]])})[2] == [(b'"k"', b'{"$ndarray":{"dtype":"<f8","shape":[1,1],"order":"C","data":"AAAAAAAA+D8="}}')]
    for text in ('{"$ndarray":{"dtype":"<f8","shape":[2],"data":"AAAAAAAA+D8="}}', '{"$ndarray":{"dtype":"O","shape":[1],"data":"AAAAAAAA+D8="}}', '{"$numpy":{"dtype":"O","data":"AAAAAAAA+D8="}}',
                 '{"$ndarray":{"dtype":[["a","O"]],"shape":[1],"data":"AAAAAAAA+D8="}}', '{"$numpy":{"dtype":"O","value":1}}', '{"$numpy":{"dtype":"T","value":"a"}}',
                 '{"$numpy":{"dtype":"<f8","data":"AAAA"}}', '{"$numpy":{"dtype":"nope","value":1}}', '{"$ndarray":{"dtype":"<f8","shape":[99999999999,99999999999],"data":""}}'):
        try:
            load([('"k"', text)])
        except ValueError:
            pass
        else:
            raise AssertionError(text)


def lost_numpy(carry, load):
    import numpy as np
    import pandas as pd

    class Mine(np.float64):
        @property
        def dtype(self):
            raise AssertionError("code of the function's ran")

    class MyArray(np.ndarray):
        pass

    cases = {
        "objects": (np.array([{}, None]), " (a numpy.ndarray of dtype object)"),
        "fields": (np.zeros(1, [("a", "O")]), " (a numpy.ndarray of dtype [('a', 'O')])"),
        "mine": (Mine(1), " (a tests.lost_numpy.<locals>.Mine of a class derived from numpy's)"),
        "view": (np.zeros(1).view(MyArray), " (a tests.lost_numpy.<locals>.MyArray)"),
        "masked": (np.ma.array([1]), " (a numpy.ma.MaskedArray)"),
        "record": (np.rec.array([(1,)], dtype=[("a", "i4")]), " (a numpy.rec.recarray)"),
        "rng": (np.random.default_rng(1), " (a numpy.random._generator.Generator)"),
        "dtype": (np.dtype("f8"), " (a numpy.dtypes.Float64DType)"),
        "text": (np.array(["a"], np.dtypes.StringDType()), " (a numpy.ndarray of dtype StringDType())"),
    }
    env = {key: value for key, (value, _) in cases.items()} | {"frame": {"df": pd.DataFrame({"a": [1]})}, "stamp": pd.Timestamp(0), "kept": np.arange(3)}
    back, lost, _ = carry(env)
    assert list(back) == ["kept"] and same(back["kept"], env["kept"])
    for found, (key, (_, words)) in zip(lost, cases.items()):
        assert found == f"{key!r}{words}", (found, words)
    assert [re.sub(r"\(a pandas\S*\.", "(a pandas.", words) for words in lost[len(cases):]] == ["'frame'.df (a pandas.DataFrame)", "'stamp' (a pandas.Timestamp)"], lost


def kept_file(carry, load):
    import numpy as np

    texts = kept()
    env = load(texts)
    wanted = {
        "none": None, "true": True, "false": False, "int": -(2**63), "big": -(2**70), "float": 0.1, "zero": -0.0, "large": 1e300, "nan": math.nan,
        "inf": [math.inf, -math.inf], "complex": complex(1.5, math.nan), "text": 'ü "quoted" \\ \n\x00🙂', "surrogate": "a\ud800", "bytes": b"\x00\xff", "bytearray": bytearray(b"abc"),
        "decimal": Decimal("1.10"), "date": date(2024, 5, 1), "time": time(12, 30, 0, 5), "time in zone": time(12, 30, fold=1, tzinfo=BERLIN),
        "datetime": datetime.datetime(2024, 5, 1, 12, 30), "datetime utc": datetime.datetime(2024, 5, 1, 12, 30, tzinfo=timezone.utc),
        "datetime offset": datetime.datetime(2024, 5, 1, 12, 30, 0, 1, timezone(timedelta(hours=-5, minutes=-30))),
        "datetime named": datetime.datetime(2024, 5, 1, 12, 30, tzinfo=timezone(timedelta(hours=2), "CEST")),
        "datetime fold": datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN), "timedelta": timedelta(-1, 2, 3),
        "timezone": [timezone.utc, timezone(timedelta(hours=2), "CEST"), BERLIN], "list": [1, [2.0, "three"]], "tuple": (1, (2,)), "set": {1, "a"},
        "frozenset": frozenset([(1, 2)]), "deque": deque([(datetime.datetime(2024, 5, 1), 1.5)], 5), "deque without end": deque([]), "dict": {"a": {"b": 1}},
        "dict of ints": {1: "one", "1": "text"}, "dict like a tag": {"$tuple": [1]}, "ordereddict": OrderedDict(b=1, a=2), "counter": Counter(a=2, b=1),
        "defaultdict": defaultdict(list, a=[1]), "defaultdict without": defaultdict(None, {1: 2}), "numpy": [np.float64(0.1), np.int64(5), np.bool_(True), np.str_("ü")],
        "numpy data": np.datetime64(1, "s"), "ndarray": np.array([[1.5, -2.0]]), "ndarray fortran": np.asfortranarray(np.arange(4, dtype="<i2").reshape(2, 2)),
        "ndarray fields": np.array([(1, [2, 3])], [(("A", "a"), "<i4"), ("b", "|i1", (2,))]), (1, "key"): "of a tuple", 5: "of an int",
    }
    assert list(env) == list(wanted)
    for key in wanted:
        assert same(env[key], wanted[key]), (key, env[key], wanted[key])
    again = [(key.decode(), value.decode()) for key, value in carry(wanted)[2]]
    assert again == texts, [pair for pair in zip(again, texts) if pair[0] != pair[1]]
