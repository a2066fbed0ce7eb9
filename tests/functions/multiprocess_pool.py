"""Idiom: a multiprocessing pool and a process with a queue, with a function of the module."""
import multiprocessing


def mean(values):
    return sum(values) / len(values)


def answer(queue, value):
    queue.put((value, multiprocessing.current_process().name))


def handler(input, context):
    calls = context.env["calls"] = context.env.get("calls", 0) + 1
    if calls % 25 == 1:
        with multiprocessing.Pool(2) as pool:
            halves = [[input[f"cpu_percent-{number}"] for number in range(first, 16, 2)] for first in (0, 1)]
            context.env["means"] = pool.map(mean, halves)
        queue = multiprocessing.Queue()
        process = multiprocessing.Process(target=answer, args=(queue, input["n_pids"]), name="one")
        process.start()
        context.env["answer"] = queue.get(timeout=20)
        process.join()
        context.env["exit"] = process.exitcode
    return {key: context.env[key] for key in ("calls", "means", "answer", "exit")}
