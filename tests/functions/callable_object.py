"""Idiom: `handler` is an object with __call__, which keeps state of its own."""


class Average:
    def __init__(self, key):
        self.key, self.total, self.calls = key, 0.0, 0

    def __call__(self, data, context):
        self.total += data[self.key]
        self.calls += 1
        return {"average": self.total / self.calls, "calls": self.calls}


handler = Average("virtual_memory-percent")
