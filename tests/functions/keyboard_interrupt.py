"""Idiom: KeyboardInterrupt and other exceptions beyond Exception end only the call."""


class Beyond(BaseException):
    pass


def handler(input, context):
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    if calls % 4:
        raise (KeyboardInterrupt, Beyond, GeneratorExit)[calls % 4 - 1]()
    return {"calls": calls}
