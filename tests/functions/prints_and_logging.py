"""Idiom: prints, writes to sys.stderr, and logging.basicConfig at import."""
import logging
import sys

logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(message)s")
logger = logging.getLogger(__name__)


def handler(input, context):
    print("pids:", input["n_pids"], flush=True)
    print("no line end", end="")
    print("über\nzwei Zeilen", file=sys.stderr)
    sys.stdout.write("")
    logger.debug("debug %d", input["n_pids"])
    logging.warning("warning with %% and {braces}")
    try:
        1 / 0
    except ZeroDivisionError:
        logger.exception("caught")
    return {"level": logging.getLogger().level, "debug": logger.isEnabledFor(logging.DEBUG), "name": logger.name, "pids": input["n_pids"]}
