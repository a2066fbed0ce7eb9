"""Idiom: the function calls context.set_env, confirm_execution and help itself."""
import datetime


def handler(input, context):
    answers = [context.help(), context.set_env({**context.env, "calls": context.env.get("calls", 0) + 1})]
    context.last_execution = None
    answers.append(context.confirm_execution())
    return {
        "answers": answers,
        "calls": context.env["calls"],
        "now": isinstance(context.last_execution, datetime.datetime),
        "pids": input["n_pids"],
    }
