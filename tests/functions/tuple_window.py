"""Idiom: a list of (datetime, float) tuples in context.env, pruned by age."""
import datetime

MINUTE = datetime.timedelta(seconds=60)


def moment(text):
    form = "%Y-%m-%d %H:%M:%S.%f" if "." in text else "%Y-%m-%d %H:%M:%S"
    return datetime.datetime.strptime(text, form)


def handler(input, context):
    now = moment(input["timestamp"])
    window = context.env.setdefault("window", [])
    window.append((now, input["cpu_percent-0"]))
    context.env["window"] = [(at, value) for at, value in window if now - at < MINUTE]
    kinds = {type(entry) for entry in context.env["window"]} | {type(entry[0]) for entry in context.env["window"]}
    return {
        "average": sum(value for _, value in context.env["window"]) / len(context.env["window"]),
        "kinds": sorted(kind.__name__ for kind in kinds),
    }
