"""Small frames with a planted linear signal, in the form that experts and the trainer take."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from components.contracts import CatalogEntry

INPUTS = {
    "trend_a": "trend",
    "trend_b": "trend",
    "reversion_a": "mean_reversion",
    "volume_a": "volume_liquidity",
    "regime_a": "regime",
}
SIGNAL_INPUTS = ("trend_a", "reversion_a")
TIME = pl.Datetime("us", "UTC")


def panel(bars: int = 120, symbols: int = 20, *, seed: int = 0, strength: float = 0.6) -> pl.DataFrame:
    """Rows of `timestamp, symbol, sector`, the inputs, `regime_state`, `volatility_20`, `sector_code`,
    `industry_code`, `signal` and `label`.

    label = volatility * (strength * signal + sqrt(1 - strength^2) * noise), so the attainable correlation
    within a bar is `strength`.
    """
    rng = np.random.default_rng(seed)
    rows = bars * symbols
    start = datetime(2020, 1, 1, tzinfo=UTC)
    times = pl.Series([start + timedelta(days=bar) for bar in range(bars)], dtype=TIME)
    inputs = {name: rng.uniform(-0.5, 0.5, rows).astype(np.float32) for name in INPUTS}
    signal = sum(inputs[name].astype(float) for name in SIGNAL_INPUTS) / np.sqrt(len(SIGNAL_INPUTS) / 12)
    volatility = np.tile(rng.uniform(0.01, 0.03, symbols), bars)
    return pl.DataFrame(
        {
            "timestamp": times.gather(np.repeat(np.arange(bars), symbols)),
            "symbol": np.tile([f"S{number:02d}" for number in range(symbols)], bars),
            "sector": np.tile([f"sector_{number % 3}" for number in range(symbols)], bars),
            **inputs,
            "regime_state": np.repeat(rng.integers(0, 4, bars), symbols).astype(np.float32),
            "volatility_20": volatility.astype(np.float32),
            "sector_code": np.tile((7 + np.arange(symbols) % 3).astype(np.float32), bars),
            "industry_code": np.tile((100 + np.arange(symbols) % 6).astype(np.float32), bars),
            "signal": signal,
            "label": volatility * (strength * signal + np.sqrt(1 - strength**2) * rng.standard_normal(rows)),
        }
    )


def fit_and_predict_frames(
    rows: pl.DataFrame, *, lookback: int = 0, train: float = 0.6, stopping: float = 0.2
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The frames that the trainer would hand to `fit` and `predict`: bars in order go to train, early
    stopping and predict.
    """
    times = rows["timestamp"].unique().sort()
    first, second = times[int(len(times) * train)], times[int(len(times) * (train + stopping))]
    part = (
        pl.when(pl.col("timestamp") < first)
        .then(pl.lit("train"))
        .when(pl.col("timestamp") < second)
        .then(pl.lit("early_stopping"))
        .otherwise(pl.lit("predict"))
    )
    parted = rows.drop("signal").with_columns(part.alias("part"))
    fit = parted.filter(pl.col("part") != "predict")
    history_from = times[max(int(len(times) * (train + stopping)) - lookback, 0)]
    wanted = parted.filter(
        (pl.col("part") == "predict") | ((pl.col("timestamp") >= history_from) & (lookback > 0))
    )
    predict = wanted.with_columns(
        pl.when(pl.col("part") == "predict").then(pl.col("part")).otherwise(pl.lit("history")).alias("part"),
        pl.lit(None, dtype=pl.Float64).alias("label"),
    )
    return fit, predict


def training_tables(
    rows: pl.DataFrame, *, horizon: int = 2
) -> tuple[pl.DataFrame, pl.DataFrame, list[CatalogEntry]]:
    """A training set, its labels (one horizon; the last bars unlabelled) and its catalog."""
    training_set = rows.select("timestamp", "symbol", "sector", *INPUTS, "regime_state", "volatility_20")
    times = rows["timestamp"].unique().sort()
    bars = times.search_sorted(rows["timestamp"]) + 1 + horizon
    inside = bars < len(times)
    labels = rows.select("timestamp", "symbol").with_columns(
        pl.lit(horizon, dtype=pl.Int32).alias("horizon"),
        times.gather(bars.clip(0, len(times) - 1)).alias("label_end"),
        rows["label"].alias("log_return"),
        rows["label"].sign().cast(pl.Int8).alias("direction"),
        rows["label"].alias("sector_neutral_return"),
    )
    blank = [
        pl.when(inside).then(pl.col(name)).alias(name)
        for name in ("label_end", "log_return", "direction", "sector_neutral_return")
    ]
    catalog = [
        CatalogEntry(name, name, group, "input", "rank", 0, "", "test") for name, group in INPUTS.items()
    ]
    context = [
        CatalogEntry(name, name, "regime", "context", "none", 0, "", "test")
        for name in ("regime_state", "volatility_20")
    ]
    return training_set, labels.with_columns(blank), [*catalog, *context]
