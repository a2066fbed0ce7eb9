"""Tests of the function; they need neither gaugefn nor any package: python3 -m unittest"""

import unittest
from types import SimpleNamespace

from main import WINDOW, handler


def event(*loads):
    metrics = {"timestamp": "2024-05-01 12:00:00.123456", "n_pids": 99}
    return metrics | {f"cpu_percent-{cpu}": load for cpu, load in enumerate(loads)}


class HandlerTest(unittest.TestCase):
    def setUp(self):
        self.context = SimpleNamespace(env={})

    def test_all_processors_count(self):
        result = handler(event(10.0, 30.0), self.context)
        self.assertEqual(result, {"timestamp": "2024-05-01 12:00:00.123456", "load": 20.0, "average": 20.0})

    def test_the_average_moves(self):
        handler(event(100.0), self.context)
        self.assertEqual(handler(event(50.0), self.context)["average"], 75.0)
        for _ in range(WINDOW):
            result = handler(event(50.0), self.context)
        self.assertEqual(result["average"], 50.0)

    def test_without_processors_there_is_no_result(self):
        self.assertIsNone(handler(event(), self.context))


if __name__ == "__main__":
    unittest.main()
