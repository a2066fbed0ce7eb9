"""A function of several modules: this file is the entry, the package `meters` does the work."""
from meters import cpu, memory, network

METERS = (network.egress, memory.cache, cpu.averages)


def handler(input, context):
    result = {"timestamp": input["timestamp"]}
    for meter in METERS:
        result.update(meter(input, context.env))
    return result
