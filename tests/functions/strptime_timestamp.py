"""Idiom: datetime.strptime(input["timestamp"], "%Y-%m-%d %H:%M:%S.%f")."""
from datetime import datetime


def handler(input, context):
    now = datetime.strptime(input["timestamp"], "%Y-%m-%d %H:%M:%S.%f")
    before = context.env.get("before", now)
    context.env["before"] = now
    return {"iso": now.isoformat(), "weekday": now.strftime("%A"), "step": (now - before).total_seconds()}
