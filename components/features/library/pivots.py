"""Distances of the close to the pivot levels that the bar before gives: classic, Fibonacci and Camarilla; in
shares of the close before.
"""

import polars as pl

from components.features import kernels as k
from components.features.library.declare import Factor, Measure, c

GROUP = "pivots"

MEASURES = (
    Measure("pivot", "symbol", k.lag(c("typical_price"), 1)),
    Measure("span_before", "row", c("high_before") - c("low_before")),
)


def _distance(name: str, level: pl.Expr, source: str) -> Factor:
    return Factor(f"pivot_{name}", GROUP, 2, (c("close") - level) / c("close_before"), source, "row")


FACTORS = (
    _distance("classic", c("pivot"), "floor traders' pivot (H + L + C) / 3"),
    _distance("classic_r1", 2 * c("pivot") - c("low_before"), "floor traders' first resistance"),
    _distance("classic_s1", 2 * c("pivot") - c("high_before"), "floor traders' first support"),
    _distance("classic_r2", c("pivot") + c("span_before"), "floor traders' second resistance"),
    _distance("classic_s2", c("pivot") - c("span_before"), "floor traders' second support"),
    _distance(
        "fibonacci_r1",
        c("pivot") + 0.382 * c("span_before"),
        "Fibonacci pivot, resistance at 38.2 % of the range",
    ),
    _distance(
        "fibonacci_s1",
        c("pivot") - 0.382 * c("span_before"),
        "Fibonacci pivot, support at 38.2 % of the range",
    ),
    _distance(
        "fibonacci_r2",
        c("pivot") + 0.618 * c("span_before"),
        "Fibonacci pivot, resistance at 61.8 % of the range",
    ),
    _distance(
        "fibonacci_s2",
        c("pivot") - 0.618 * c("span_before"),
        "Fibonacci pivot, support at 61.8 % of the range",
    ),
    _distance(
        "camarilla_r3",
        c("close_before") + 1.1 / 4 * c("span_before"),
        "Stott 1989, Camarilla third resistance",
    ),
    _distance(
        "camarilla_s3", c("close_before") - 1.1 / 4 * c("span_before"), "Stott 1989, Camarilla third support"
    ),
    _distance(
        "camarilla_r4",
        c("close_before") + 1.1 / 2 * c("span_before"),
        "Stott 1989, Camarilla fourth resistance",
    ),
    _distance(
        "camarilla_s4", c("close_before") - 1.1 / 2 * c("span_before"), "Stott 1989, Camarilla fourth support"
    ),
)
