"""Ichimoku (Hosoda 1969): averages of the range, and the cloud as it stands at the bar.

The cloud over a bar was drawn 26 bars before it, so it is made of values of 26 bars ago. Nothing is moved
back from the future: the lagging line (chikou) is the close against the close of 26 bars ago, and the cloud
that is drawn ahead is compared at the bar that draws it.
"""

import polars as pl

from components.features import kernels as k
from components.features.library.declare import Factor, Measure, c, share

GROUP, SOURCE = "ichimoku", "Hosoda 1969, Ichimoku"
DISPLACED_BARS = 26


def _middle(bars: int) -> pl.Expr:
    return (k.highest(c("high"), bars) + k.lowest(c("low"), bars)) / 2


MEASURES = (
    Measure("tenkan", "symbol", _middle(9)),
    Measure("kijun", "symbol", _middle(26)),
    Measure("span_a_ahead", "row", (c("tenkan") + c("kijun")) / 2),
    Measure("span_b_ahead", "symbol", _middle(52)),
    Measure("span_a", "symbol", k.lag(c("span_a_ahead"), DISPLACED_BARS)),
    Measure("span_b", "symbol", k.lag(c("span_b_ahead"), DISPLACED_BARS)),
)

FACTORS = (
    Factor(
        "ichimoku_tenkan",
        GROUP,
        9,
        (c("close") / c("tenkan")).log(),
        f"{SOURCE}: close over the middle of 9 bars",
        "row",
    ),
    Factor(
        "ichimoku_kijun",
        GROUP,
        26,
        (c("close") / c("kijun")).log(),
        f"{SOURCE}: close over the middle of 26 bars",
        "row",
    ),
    Factor(
        "ichimoku_cross", GROUP, 26, (c("tenkan") / c("kijun")).log(), f"{SOURCE}: tenkan over kijun", "row"
    ),
    Factor(
        "ichimoku_span_a",
        GROUP,
        52,
        (c("close") / c("span_a")).log(),
        f"{SOURCE}: close over senkou A of 26 bars ago",
        "row",
    ),
    Factor(
        "ichimoku_span_b",
        GROUP,
        78,
        (c("close") / c("span_b")).log(),
        f"{SOURCE}: close over senkou B of 26 bars ago",
        "row",
    ),
    Factor(
        "ichimoku_cloud",
        GROUP,
        78,
        (c("span_a") / c("span_b")).log(),
        f"{SOURCE}: thickness of the cloud at the bar, signed",
        "row",
    ),
    Factor(
        "ichimoku_cloud_ahead",
        GROUP,
        52,
        (c("span_a_ahead") / c("span_b_ahead")).log(),
        f"{SOURCE}: thickness of the cloud drawn ahead, signed",
        "row",
    ),
    Factor(
        "ichimoku_place",
        GROUP,
        78,
        (c("close") - c("span_a")).sign() / 2 + (c("close") - c("span_b")).sign() / 2,
        f"{SOURCE}: 1 above the cloud, -1 below, 0 inside",
        "row",
        "none",
    ),
    Factor(
        "ichimoku_chikou",
        GROUP,
        27,
        share(c("close"), k.lag(c("close"), DISPLACED_BARS)).log(),
        f"{SOURCE}: close over the close of 26 bars ago",
    ),
)
