"""Idiom: getattr(context.env, name, None), which never finds a key of a dictionary."""


def handler(input, context):
    last = getattr(context.env, "last", None)
    context.env["last"] = input["n_pids"]
    try:
        context.env.last = input["n_pids"]
    except AttributeError as error:
        refused = str(error)
    return {"last": last, "refused": refused, "now": context.env["last"], "plain": type(context.env) is dict}
