"""Idiom: the function changes and empties the event it was given."""


def handler(input, context):
    size = len(input)
    for key in [key for key in input if key.startswith("net_io")]:
        del input[key]
    input["cpus"] = [input.pop(f"cpu_percent-{number}") for number in range(16)]
    context.env.setdefault("kept", []).append(input)
    del context.env["kept"][:-2]
    result = {"size": size, "left": sorted(input), "cpus": list(input["cpus"]), "before": len(context.env["kept"][0])}
    input.clear()
    return result
