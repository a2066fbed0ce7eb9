"""Parts of numpy's values that have a text, and values of such parts. Loaded only where there are any."""

import math

import numpy
import numpy.lib.format

# booleans, numbers, durations, moments, text, bytes, structures; objects have no memory of their own
KINDS = "biufcmMSUV"

SCALARS = frozenset(numpy.sctypeDict.values())


def dtype_parts(dtype):
    """A dtype as its text, or as a list of its fields; TypeError if another dtype would come back."""
    parts = None
    if _fits(dtype):
        candidates = [dtype.str, f"{dtype.str[0]}{dtype.char}"] if dtype.names is None else [dtype.descr]
        parts = next((some for some in candidates if _same(dtype_of(some), dtype)), None)
    if parts is None:
        raise TypeError(f"of dtype {dtype}")
    return parts


def _fits(dtype):
    return dtype.kind in KINDS and not dtype.hasobject


def _same(one, other):
    # long and long long are equal and yet two types
    return one == other and one.char == other.char and one.type is other.type


def dtype_of(parts):
    """The dtype of what `dtype_parts` gave."""
    dtype = numpy.dtype(parts) if isinstance(parts, str) else numpy.lib.format.descr_to_dtype(parts)
    if not _fits(dtype):
        # numbers from a file would be taken for the addresses of objects
        raise ValueError(f"no state has elements of dtype {dtype}")
    return dtype


def scalar_parts(value):
    """(dtype, plain value, None) or (dtype, None, memory)."""
    if type(value) not in SCALARS:
        raise TypeError("of a class derived from numpy's")
    dtype = value.dtype
    parts = dtype_parts(dtype)
    if dtype.kind == "U":
        # item() would drop zeros at the end
        return parts, str.__str__(value), None
    if dtype.kind == "S":
        return parts, bytes(value), None
    if dtype.kind in "biu" or dtype.kind == "f" and dtype.itemsize <= 8:
        return parts, value.item(), None
    return parts, None, value.tobytes()


def scalar_type(parts):
    return dtype_of(parts).type


def scalar_of_memory(parts, memory):
    return _array(parts, (), "C", memory)[()]


def array_parts(value):
    """dtype, shape, order, memory"""
    flags = value.flags
    order = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
    if value.dtype.itemsize == 0:
        raise TypeError("of elements without size")
    return dtype_parts(value.dtype), value.shape, order, value.tobytes(order)


def array_of(parts, shape, order, memory):
    # a copy owns its memory and may be written to
    return _array(parts, shape, order, memory).copy(order="K")


def _array(parts, shape, order, memory):
    dtype = dtype_of(parts)
    if len(memory) != dtype.itemsize * math.prod(shape):
        raise ValueError(f"{len(memory)} bytes are not {math.prod(shape)} times {dtype.itemsize}")
    return numpy.ndarray(tuple(shape), dtype, memory, order=order)
