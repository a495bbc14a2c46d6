"""Markets at the level of experts' scores and labels: what the experts know is planted, and labels overlap
as they do in a run.
"""

from datetime import UTC, datetime
from typing import Literal

import numpy as np
import polars as pl
from scipy.signal import lfilter

from components.contracts import ALL_PREDICTIONS, OOF, TIME
from components.timeline import Windows

Kind = Literal["null", "alike", "differ", "one", "regimes"]
HORIZON, EMBARGO = 5, 2
REGIME_BARS = 40
# Autoregression of what experts know, and the share of their variance that all of them have in common.
PERSISTENCE, COMMON = 0.9, 0.4
# Information coefficient of each expert, in regimes of even and of odd number.
SKILLS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "null": ((0.0,) * 5,) * 2,
    "alike": ((0.03,) * 5,) * 2,
    "differ": ((0.06, 0.04, 0.02, 0.0, 0.0),) * 2,
    "one": ((0.08, 0.0, 0.0, 0.0, 0.0),) * 2,
    "regimes": ((0.09, 0.09, 0.0, 0.0, 0.02), (0.0, 0.0, 0.09, 0.09, 0.02)),
}


def calendar_of(bars: int) -> pl.Series:
    """So many days."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    return (
        pl.datetime_range(start, datetime(2040, 1, 1, tzinfo=UTC), "1d", time_unit="us", eager=True)
        .head(bars)
        .cast(TIME)
    )


def windows_of(validation: int, test: int) -> Windows:
    """A validation window and a test window from the first bar on."""
    both = (validation, validation + test)
    return Windows(train=(0, 1), validation=(0, validation), test=both, backtest=both)


def made_market(kind: Kind, seed: int, *, bars: int, symbols: int, fold_bars: int) -> pl.DataFrame:
    """An OOF frame of five experts `e0` to `e4`.

    What an expert knows is one of five independent autoregressive signals, seen under noise that is partly
    common to all experts; the return of a bar holds each signal as strongly as SKILLS says of its expert.
    """
    rng = np.random.default_rng(seed)
    calendar = calendar_of(bars + HORIZON + 2)
    skills_2E = np.array(SKILLS[kind])
    experts = skills_2E.shape[1]
    turns = np.arange(bars + HORIZON + 1) // REGIME_BARS % 2
    shape = (experts, len(turns) + 50, symbols)
    own = lfilter([np.sqrt(1 - PERSISTENCE**2)], [1, -PERSISTENCE], rng.normal(size=shape), axis=1)[:, 50:]
    common = lfilter([np.sqrt(1 - PERSISTENCE**2)], [1, -PERSISTENCE], rng.normal(size=shape[1:]), axis=0)[
        50:
    ]
    score = np.sqrt(1 - COMMON) * own + np.sqrt(COMMON) * common
    # The mean over the horizon has a signal left of about this share, and noise of 1 / sqrt(horizon).
    left = np.mean(PERSISTENCE ** np.arange(1, HORIZON + 1))
    strength = skills_2E[turns].T[:, :, None] / (left * np.sqrt(1 - COMMON) * np.sqrt(HORIZON))
    bar_return = (strength * own).sum(axis=0) + rng.standard_t(4, size=own.shape[1:]) / np.sqrt(2)
    label = np.lib.stride_tricks.sliding_window_view(bar_return[1:], HORIZON, axis=0).sum(axis=-1)[:bars]
    frame = pl.DataFrame({"timestamp": calendar.head(bars)}).join(
        pl.DataFrame({"symbol": [f"S{i:03d}" for i in range(symbols)]}), how="cross"
    )
    number = np.repeat(np.arange(bars), symbols)
    columns = {}
    for expert in range(experts):
        columns[f"score_e{expert}"] = 0.01 * score[expert, :bars].ravel()
        columns[f"uncertainty_e{expert}"] = rng.uniform(0.01, 0.03, bars * symbols)
    frame = frame.with_columns(
        period=pl.lit("1d"),
        horizon=pl.lit(HORIZON, pl.Int32),
        target=pl.lit("log_return"),
        fold=pl.Series([f"fold_{bar // fold_bars:02d}" for bar in number]),
        label=pl.Series(0.01 * label.ravel()),
        label_end=calendar[HORIZON + 1 : bars + HORIZON + 1].gather(number),
        log_return=pl.Series(0.01 * label.ravel()),
        regime=pl.Series(np.where(turns[number] == 0, "bull", "bear")),
        **{name: pl.Series(values) for name, values in columns.items()},
    )
    return frame.select(*OOF.columns, *columns)


def as_predictions(oof: pl.DataFrame) -> pl.DataFrame:
    """The ALL_PREDICTIONS frame of an OOF frame's experts."""
    names = [name.removeprefix("score_") for name in oof.columns if name.startswith("score_")]
    frames = [
        oof.select(
            "timestamp", "symbol", "period", "horizon", "target", "fold", score=pl.col(f"score_{name}")
        ).with_columns(
            expert=pl.lit(name),
            train_window=pl.lit("w"),
            uncertainty=pl.lit(0.02),
            p10=pl.col("score") - 0.02,
            p50=pl.col("score"),
            p90=pl.col("score") + 0.02,
            head_scale=pl.lit(1.0),
            head_bias=pl.lit(0.0),
        )
        for name in names
    ]
    return pl.concat(f.select(ALL_PREDICTIONS.columns.keys()) for f in frames).sort(ALL_PREDICTIONS.key)
