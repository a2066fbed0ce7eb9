"""Meters: each takes the metrics and the state kept between calls, and returns its part of the result."""


def percent(part, whole):
    return 100.0 * part / whole if whole else 0.0
