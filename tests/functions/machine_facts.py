"""Idiom: os.cpu_count, multiprocessing and psutil tell about the machine."""
import multiprocessing
import os

import psutil


def handler(input, context):
    return {
        "cpus": [os.cpu_count(), multiprocessing.cpu_count(), psutil.cpu_count(), len(psutil.cpu_percent(percpu=True))],
        "memory": psutil.virtual_memory().total,
        "alive": psutil.Process().is_running() and psutil.Process().pid == os.getpid(),
        "share": input["n_pids"] / os.cpu_count(),
    }
