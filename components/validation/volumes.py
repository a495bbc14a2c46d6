"""Volume that says nothing, and volume whose unit changes.

A volume that is null, 0 or one number throughout a symbol's history counts as absent there: it tells no
trading from faults. Where the unit changes on one date (lots to shares), prices stay; the older volume can't
be compared with the newer one and is null in the clean panel.
"""

import numpy as np
import polars as pl

from components.validation.config import Settings
from components.validation.findings import finding

FOUND_SILENT, FOUND_UNIT = "silent_volume", "volume_unit"
# Bars below which a volume that never changed is no sign yet.
MIN_SILENT_BARS = 20
# Bars on both sides whose median volumes are compared, and how many of them must have traded.
UNIT_BARS, MIN_UNIT_BARS = 20, 15
# Bars on both sides that must lie near these medians already: the change is sudden.
EDGE_BARS = 3
# Smallest change of a unit. Below `ANY_RATIO` it must be near a power of ten, and so many symbols, and so
# large a share of those at the bar, must change together: one alone may have found a crowd, or lost it.
LEAST_RATIO, ANY_RATIO = 8.0, 30.0
TOGETHER_SYMBOLS, TOGETHER_SHARE = 3, 0.1
# How far from a power of ten a smaller one may lie (log), the noise of two medians.
TEN_TOLERANCE = 0.35
# Ranges after the change in ranges before it, up to which trading itself did not change.
CALM_RANGE_RATIO = 1.6
# Share of the volumes on each side that must lie on their side of the middle.
PARTED_SHARE = 0.9


def silent_symbols(numbered: pl.DataFrame, settings: Settings) -> pl.Series:
    """Symbols whose volume says nothing: null, or the same number in all of their bars.

    A volume of 0 throughout counts only with `zero_volume: keep`; else bars that move without volume are set
    aside.
    """
    volume = pl.col("volume").drop_nulls()
    said = (
        numbered.drop_nulls("symbol")
        .group_by("symbol")
        .agg(volume.n_unique().alias("numbers"), volume.max().alias("number"), pl.len().alias("bars"))
    )
    long_enough = (pl.col("numbers") == 0) | (pl.col("bars") >= MIN_SILENT_BARS)
    one_number = (pl.col("numbers") <= 1) & long_enough
    usable = pl.col("number").is_finite() & (pl.col("number") > 0)
    none_traded = (pl.col("number") == 0) & pl.lit(settings.zero_volume == "keep")
    return said.filter(one_number & (usable | none_traded).fill_null(True))["symbol"].sort()


def as_absent(bars: pl.DataFrame, symbols: pl.Series) -> pl.DataFrame:
    """`bars` with the volume of `symbols` as checks see an absent one: a number that never changes."""
    silent = pl.col("symbol").is_in(symbols.implode())
    return bars.with_columns(pl.when(silent).then(1.0).otherwise(pl.col("volume")).alias("volume"))


def told_silent(bars: pl.DataFrame, symbols: pl.Series) -> pl.DataFrame:
    """One finding for each of `symbols`, at its newest bar."""
    silent = bars.filter(pl.col("symbol").is_in(symbols.implode())).sort("timestamp")
    return finding(silent.group_by("symbol", maintain_order=True).last(), FOUND_SILENT)


def volume_units(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars at which the unit of a symbol's volume changes, for good:

    `row`, `symbol`, `timestamp`, `seen_at` (the bar that confirmed it) and `ratio` (new volume over old).

    The medians of `UNIT_BARS` bars on both sides differ by a ratio above `ANY_RATIO`, or by a power of ten in
    several symbols at once; the change takes one bar, nearly all volumes lie on their side of it, and ranges
    stay as they were: where trading itself grows (an index takes the share in, a crowd finds it), ranges grow
    with it.
    """
    by = "symbol"
    logs = pl.when(pl.col("volume") > 0).then(pl.col("volume").log())
    bars = bars.sort(by, "timestamp").with_columns(
        logs.alias("log_volume"), (pl.col("high") / pl.col("low")).log().alias("span")
    )
    medians = {
        "before": _behind("log_volume", UNIT_BARS, MIN_UNIT_BARS, 0.5),
        "after": _ahead("log_volume", UNIT_BARS, MIN_UNIT_BARS, 0.5),
        "just_before": _behind("log_volume", EDGE_BARS, 1, 0.5),
        "just_after": _ahead("log_volume", EDGE_BARS, 1, 0.5),
        "span_before": _behind("span", UNIT_BARS, MIN_UNIT_BARS, 0.5),
        "span_after": _ahead("span", UNIT_BARS, MIN_UNIT_BARS, 0.5),
    }
    measured = bars.select(
        "row",
        by,
        "timestamp",
        "log_volume",
        *(value.over(by).alias(name) for name, value in medians.items()),
        pl.col("log_volume").shift(1).over(by).alias("last"),
        pl.coalesce(
            pl.col("timestamp").shift(1 - UNIT_BARS).over(by), pl.col("timestamp").last().over(by)
        ).alias("seen_at"),
    )
    change = pl.col("after") - pl.col("before")
    measured = measured.with_columns(change.alias("change"), (pl.col("before") + change / 2).alias("middle"))
    found = _parted(measured, measured.filter(_changes_unit()))
    present = measured.group_by("timestamp").agg(pl.len().alias("present"))
    alike = pl.len().over("timestamp")
    together = (alike >= TOGETHER_SYMBOLS) & (alike >= TOGETHER_SHARE * pl.col("present"))
    far = pl.col("change").abs() > float(np.log(ANY_RATIO))
    return (
        found.join(present, on="timestamp", maintain_order="left")
        .filter(far | together)
        .select("row", by, "timestamp", "seen_at", pl.col("change").exp().alias("ratio"))
    )


def _changes_unit() -> pl.Expr:
    size, side = pl.col("change").abs(), pl.col("change").sign()
    tens = float(np.log(10))
    to_ten = (size - (size / tens).round() * tens).abs()
    unit = (size > float(np.log(ANY_RATIO))) | (
        (size > float(np.log(LEAST_RATIO))) & (to_ten < TEN_TOLERANCE)
    )
    here = ((pl.col("log_volume") - pl.col("middle")) * side > 0) & (
        (pl.col("last") - pl.col("middle")) * side < 0
    )
    at_once = (pl.col("just_after") - pl.col("just_before")) * side > 0.6 * size
    ranges = pl.col("span_after") / pl.col("span_before")
    return unit & here & at_once & ranges.is_between(1 / CALM_RANGE_RATIO, CALM_RANGE_RATIO)


def _parted(measured: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Those of `found` whose volumes, over `UNIT_BARS` on both sides, nearly all lie on their side of the
    middle.
    """
    by = "symbol"
    low, high = 1 - PARTED_SHARE, PARTED_SHARE
    quantiles = measured.join(found, on=by, how="semi", maintain_order="left").select(
        "row",
        *(
            value.over(by).alias(name)
            for name, value in {
                "most_before": _behind("log_volume", UNIT_BARS, MIN_UNIT_BARS, high),
                "least_before": _behind("log_volume", UNIT_BARS, MIN_UNIT_BARS, low),
                "most_after": _ahead("log_volume", UNIT_BARS, MIN_UNIT_BARS, high),
                "least_after": _ahead("log_volume", UNIT_BARS, MIN_UNIT_BARS, low),
            }.items()
        ),
    )
    up = (pl.col("most_before") < pl.col("middle")) & (pl.col("least_after") > pl.col("middle"))
    down = (pl.col("least_before") > pl.col("middle")) & (pl.col("most_after") < pl.col("middle"))
    rising = pl.col("change") > 0
    return found.join(quantiles, on="row").filter(pl.when(rising).then(up).otherwise(down)).sort("timestamp")


def before_unit(units: pl.DataFrame) -> pl.DataFrame:
    """`symbol` and `unit_from`: the bar from which on a symbol's volume is in the unit of its newest bar."""
    return units.group_by("symbol").agg(pl.col("timestamp").max().alias("unit_from"))


def _behind(name: str, bars: int, at_least: int, quantile: float) -> pl.Expr:
    """A quantile over the `bars` bars before each."""
    return pl.col(name).rolling_quantile(quantile, "linear", bars, min_samples=at_least).shift(1)


def _ahead(name: str, bars: int, at_least: int, quantile: float) -> pl.Expr:
    """A quantile over each bar and those after it."""
    turned = pl.col(name).reverse().rolling_quantile(quantile, "linear", bars, min_samples=at_least)
    return turned.reverse()
