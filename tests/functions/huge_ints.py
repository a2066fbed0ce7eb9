"""Idiom: integers beyond 2^64 in state and result, digit for digit."""


def handler(input, context):
    product = context.env.get("product", 1) * (input["n_pids"] + 1) % 10**200
    context.env["product"] = product
    return {
        "product": product,
        "negative": -product,
        "edges": [2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 2**64 + 1],
        "bytes": input["virtual_memory-total"] ** 4,
    }
