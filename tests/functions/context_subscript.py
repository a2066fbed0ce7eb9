"""Idiom: context["env"] raises TypeError; the function catches and reports it."""


def handler(input, context):
    errors = []
    try:
        context["env"]["calls"] = 1
    except TypeError as error:
        errors.append(f"{type(error).__name__}: {error}")
    try:
        context["calls"] = 1
    except TypeError as error:
        errors.append(f"{type(error).__name__}: {error}")
    return {"errors": errors, "env": context.env, "pids": input["n_pids"]}
