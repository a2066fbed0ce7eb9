"""Idiom: dataclass instances of the function's own module in context.env."""
from dataclasses import asdict, dataclass, field


@dataclass
class Meter:
    name: str
    count: int = 0
    highest: float = 0.0
    recent: list = field(default_factory=list)

    def add(self, value):
        self.count += 1
        self.highest = max(self.highest, value)
        self.recent = (self.recent + [value])[-3:]


def handler(input, context):
    for key in ("virtual_memory-percent", "cpu_percent-3"):
        meter = context.env.setdefault(key, Meter(key))
        assert type(meter) is Meter
        meter.add(input[key])
    return [asdict(meter) for meter in context.env.values()]
