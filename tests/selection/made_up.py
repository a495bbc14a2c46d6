"""Made-up training sets whose truth is known, small enough for tests."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from components.contracts import CatalogEntry
from components.selection.config import QUICK, Settings
from components.selection.purpose import Purpose
from components.selection.select import select_inputs
from components.timeline import Settings as Timeline

HORIZON = 5
TIMELINE = Timeline(train_share=0.6, validation_share=0.2, fold_bars=60, purge_bars=6, embargo_bars=2)
SETTINGS = Settings(
    mode="quick",
    threads=1,
    fewest_inputs=4,
    most_rows=3_000,
    quick=QUICK.model_copy(
        update={"rounds": 12, "shap_rows": 200, "permutation_inputs": 6, "usual_windows": 0}
    ),
    forward_draws=200,
)


def noise(rng, bars, symbols, memory=0.8):
    """Autoregressive noise a symbol, shape (bars, symbols)."""
    steps = rng.standard_normal((bars, symbols))
    values = steps.copy()
    for bar in range(1, bars):
        values[bar] = memory * values[bar - 1] + np.sqrt(1 - memory**2) * steps[bar]
    return values


def market(seed=0, *, bars=600, symbols=40, inputs=8, strength=0.0, extra=None, scale=1.0):
    """Training set, labels and catalog.

    `noise_00` carries `strength` standard deviations of the label; `extra` maps a name to f(label, rng) of
    shape (bars, symbols).
    """
    rng = np.random.default_rng(seed)
    moves = scale * rng.standard_normal((bars + HORIZON + 2, symbols))
    label = sum(moves[lead : lead + bars] for lead in range(2, HORIZON + 2)) / np.sqrt(HORIZON)
    columns = {f"noise_{number:02d}": noise(rng, bars, symbols) for number in range(inputs)}
    label = label + strength * columns["noise_00"]
    for name, make in (extra or {}).items():
        columns[name] = make(label, rng)
    calendar = [datetime(2020, 1, 1, 21, tzinfo=UTC) + timedelta(days=day) for day in range(bars)]
    names = [f"S{number:02d}" for number in range(symbols)]
    key = pl.DataFrame({"timestamp": np.repeat(np.arange(bars), symbols), "symbol": names * bars})
    stamps = pl.Series("timestamp", calendar).cast(pl.Datetime("us", "UTC"))
    bar = key["timestamp"].to_numpy()
    training = pl.DataFrame({"timestamp": stamps[bar], "symbol": key["symbol"], "sector": ["A"] * len(key)})
    training = training.with_columns(
        pl.Series(name, values.ravel().astype(np.float32)) for name, values in columns.items()
    )
    training = training.with_columns(
        pl.lit(1.0, dtype=pl.Float32).alias("regime_state"),
        pl.lit(0.01, dtype=pl.Float32).alias("volatility_20"),
    )
    end = bar + HORIZON + 1
    known = end < bars
    values = np.where(known, label.ravel(), np.nan)
    labels = pl.DataFrame(
        {
            "timestamp": stamps[bar],
            "symbol": key["symbol"],
            "horizon": np.full(len(key), HORIZON, dtype=np.int32),
            "label_end": stamps[np.minimum(end, bars - 1)],
            "log_return": values,
            "direction": np.zeros(len(key), dtype=np.int8),
            "sector_neutral_return": values,
        }
    ).with_columns(
        pl.col("log_return", "sector_neutral_return").fill_nan(None),
        pl.when(pl.Series(known)).then("label_end").alias("label_end"),
    )
    return training, labels, catalog(columns)


def catalog(names):
    """One input entry a name."""
    return [
        CatalogEntry(
            column=name,
            factor=name,
            group="made_up",
            role="input",
            normalisation="none",
            warm_up_bars=1,
            expression="",
            source="test",
        )
        for name in names
    ]


def choose(tables, settings=SETTINGS, timeline=TIMELINE, **given):
    """`select_inputs` with what the tests have in common."""
    about = {"family": "tree", "horizon": HORIZON, "target": "sector_neutral_return", "seed": 3, **given}
    return select_inputs(*tables, Purpose(**about), settings=settings, timeline=timeline)


def decisions(found, fold):
    """Decision of each factor in a fold."""
    return dict(found.evidence.filter(pl.col("fold") == fold).select("factor", "decision").iter_rows())
