"""Idiom: text outside ASCII, in the source and in the result, stored as ASCII escapes."""

TEXT = "Zürich, Belo Horizonte: ação, 東京, 🐍"
LINES = """one
two
"""


def handler(input, context):
    return {
        TEXT: TEXT[input["n_pids"] % len(TEXT)],
        "length": len(TEXT),
        "control": "\x00\x1f\x7f\x80\u2028\b\f\n\r\t\"\\/",
        "surrogate": "\ud83d alone \udc0d",
        "beyond": "\U0010ffff\uffff\ufeff",
        "lines": LINES,
    }
