"""Idiom: an `if __name__ == "__main__"` block that must not run, and what the module knows of itself."""
import os
import sys

ran_as_main = False


def handler(input, context):
    return {
        "ran-as-main": ran_as_main,
        "name": __name__,
        "file": os.path.splitext(os.path.basename(__file__))[0],
        "registered": sys.modules[__name__].handler is handler,
        "folder-first": sys.path[0] == os.path.dirname(os.path.abspath(__file__)),
        "qualified": f"{handler.__module__}.{handler.__qualname__}",
        "pids": input["n_pids"],
    }


if __name__ == "__main__":
    ran_as_main = True
    sys.exit("the runtime must import this file, not run it")
