"""More than two hundred honest factors, of the kinds that an audit is tempted to accuse: they read the past
only, some of them all of it.
"""

import numpy as np
import polars as pl

from tests.audit.planted import CLOSE, RETURN, VOLUME, content_noise, own

WINDOWS = (2, 3, 5, 10, 20, 40, 60, 120)
RANGE = pl.col("high") - pl.col("low")
WINDOWED = {
    "momentum": lambda w: CLOSE / CLOSE.shift(w) - 1,
    "mean_ratio": lambda w: CLOSE / CLOSE.rolling_mean(w),
    "deviation": lambda w: RETURN.rolling_std(max(w, 3)),
    "sum": VOLUME.rolling_sum,
    "highest": lambda w: CLOSE / CLOSE.rolling_max(w),
    "lowest": lambda w: CLOSE / CLOSE.rolling_min(w),
    "median": lambda w: VOLUME / VOLUME.rolling_median(w),
    "quantile": lambda w: CLOSE.rolling_quantile(0.8, window_size=w) / CLOSE,
    "ewm": lambda w: CLOSE.ewm_mean(span=w) / CLOSE,
    "ewm_unadjusted": lambda w: CLOSE.ewm_mean(span=w, adjust=False),
    "ewm_deviation": lambda w: RETURN.ewm_std(span=w),
    "zscore": lambda w: (VOLUME - VOLUME.rolling_mean(max(w, 3))) / VOLUME.rolling_std(max(w, 3)),
    "correlation": lambda w: pl.rolling_corr(CLOSE, VOLUME, window_size=max(w, 5)),
    "rank_in_window": lambda w: CLOSE.rolling_rank(max(w, 3)) / max(w, 3),
    "amihud": (RETURN.abs() / (VOLUME * CLOSE)).rolling_mean,
    "range_mean": (RANGE / CLOSE).rolling_mean,
    "up_share": lambda w: (RETURN > 0).cast(pl.Float64).rolling_mean(w),
    "skewness": lambda w: RETURN.rolling_skew(max(w, 5)),
    "single_precision": (
        lambda w: (CLOSE.cast(pl.Float32).rolling_mean(w) / CLOSE.cast(pl.Float32)).cast(pl.Float32)
    ),
    "part_window": lambda w: VOLUME.rolling_mean(w, min_samples=1),
    "filled": lambda w: pl.when(VOLUME % 7 == 0).then(None).otherwise(VOLUME).forward_fill().rolling_mean(w),
    "clipped": lambda w: RETURN.clip(-2 * RETURN.rolling_std(max(w, 5)), 2 * RETURN.rolling_std(max(w, 5))),
}
EXPANDING = {
    "expanding_mean": CLOSE.cum_sum() / CLOSE.cum_count(),
    "expanding_variance": (
        (CLOSE**2).cum_sum() / CLOSE.cum_count() - (CLOSE.cum_sum() / CLOSE.cum_count()) ** 2
    ),
    "drawdown": CLOSE / CLOSE.cum_max() - 1,
    "recovery": CLOSE / CLOSE.cum_min() - 1,
    "on_balance_volume": (RETURN.sign().fill_null(0.0) * VOLUME).cum_sum(),
    "cumulative_return": RETURN.fill_null(0.0).cum_sum(),
    "cumulative_single": VOLUME.cast(pl.Float32).cum_sum(),
    "bars_listed": pl.int_range(pl.len()).cast(pl.Float64),
    "past_split_adjustment": CLOSE / CLOSE.first(),
    "vwap_since_start": (CLOSE * VOLUME).cum_sum() / VOLUME.cum_sum(),
    "last_pivot": CLOSE.shift(2).gt(CLOSE.shift(1)).and_(CLOSE.shift(2).gt(CLOSE.shift(3))).cast(pl.Float64),
    "known_label_mean": (CLOSE / CLOSE.shift(5)).log().rolling_mean(20, min_samples=5),
}
CALENDAR = {
    "weekday": pl.col("timestamp").dt.weekday().cast(pl.Float64),
    "month": pl.col("timestamp").dt.month().cast(pl.Int8),
    "quarter_end": pl.col("timestamp").dt.month() % 3 == 0,
    "day_of_month": pl.col("timestamp").dt.day().cast(pl.Float32),
    "season": (pl.col("timestamp").dt.ordinal_day() * 2 * np.pi / 365.25).sin(),
    "week_start_gap": own(
        (pl.col("timestamp") - pl.col("timestamp").shift(1)).dt.total_hours().cast(pl.Float64)
    ),
    "sector_name": pl.col("sector"),
}
CROSS_SECTION = {
    "rank_of_day": lambda x: x.rank().over("timestamp"),
    "zscore_of_day": lambda x: (x - x.mean().over("timestamp")) / x.std().over("timestamp"),
    "against_sector": lambda x: x - x.mean().over("timestamp", "sector"),
    "median_of_day": lambda x: x - x.median().over("timestamp"),
    "share_of_day": lambda x: x / x.sum().over("timestamp"),
    "decile": lambda x: (x.rank().over("timestamp") / x.count().over("timestamp") * 10).floor(),
    "range_of_day": (
        lambda x: (x - x.min().over("timestamp")) / (x.max().over("timestamp") - x.min().over("timestamp"))
    ),
}
INNER = {
    "volume": VOLUME,
    "intraday": CLOSE / pl.col("open") - 1,
    "range": RANGE / CLOSE,
    "momentum": own(CLOSE / CLOSE.shift(10) - 1),
    "slow": own(CLOSE.ewm_mean(span=30) / CLOSE),
}


def build_clean_library(panel: pl.DataFrame) -> pl.DataFrame:
    """`timestamp`, `symbol` and all honest factors; works on any stretch of a panel sorted by (timestamp,
    symbol).
    """
    inner = panel.with_columns(value.alias(f"__{name}") for name, value in INNER.items())
    columns = [own(make(w)).alias(f"{name}_{w}") for name, make in WINDOWED.items() for w in WINDOWS]
    columns += [own(expression).alias(name) for name, expression in EXPANDING.items()]
    columns += [expression.alias(name) for name, expression in CALENDAR.items()]
    columns += [
        make(pl.col(f"__{of}")).alias(f"{name}_{of}") for name, make in CROSS_SECTION.items() for of in INNER
    ]
    table = inner.select("timestamp", "symbol", *columns)
    return table.with_columns(content_noise(panel).alias("content_noise"), *_numpy_columns(panel))


def _numpy_columns(panel: pl.DataFrame) -> list[pl.Series]:
    """What people write in NumPy: per-symbol loops, recursions, prefix sums over the whole table, seeded
    draws in the order of time.
    """
    close, symbol = panel["close"].to_numpy(), panel["symbol"].to_numpy()
    order = np.argsort(symbol, kind="stable")
    starts = np.flatnonzero(np.r_[True, symbol[order][1:] != symbol[order][:-1]])
    recursion, regression, prefix = (np.full(len(panel), np.nan) for _ in range(3))
    for rows in np.split(order, starts[1:]):
        values = close[rows]
        state = values[0]
        for k, row in enumerate(rows):
            state = 0.9 * state + 0.1 * values[k]
            recursion[row] = state
        logs = np.log(values)
        time = np.arange(len(logs), dtype=float)
        sums = [np.cumsum(one) for one in (time, logs, time * logs, time**2)]
        n = time + 1
        spread = sums[3] - sums[0] ** 2 / n
        with np.errstate(all="ignore"):
            regression[rows] = np.where(n > 5, (sums[2] - sums[0] * sums[1] / n) / spread, np.nan)
        total = np.cumsum(np.r_[0.0, values])
        prefix[rows[9:]] = (total[10:] - total[:-10])[: max(len(rows) - 9, 0)] / 10
    draws = np.random.default_rng(0).normal(size=len(panel))
    return [
        pl.Series("recursion", recursion),
        pl.Series("expanding_regression", regression),
        pl.Series("prefix_mean", prefix),
        pl.Series("seeded_draws", draws),
        pl.Series(
            "matrix_product",
            np.column_stack([np.log(close), close, np.sqrt(close)]) @ np.array([0.3, 0.01, -0.2]),
        ),
    ]
