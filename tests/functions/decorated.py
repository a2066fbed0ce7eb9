"""Idiom: an entry function behind decorators, with and without functools.wraps."""
import functools


def counted(function):
    @functools.wraps(function)
    def inner(*args, **options):
        inner.calls += 1
        return function(*args, **options) | {"calls": inner.calls}

    inner.calls = 0
    return inner


def labelled(label):
    return lambda function: lambda data, context: {"label": label} | function(data, context)


@labelled("vm")
@counted
def handler(data, context):
    """Reports the number of processes."""
    return {"pids": data["n_pids"], "name": handler.__name__}
