"""Replays of ticks made up for tests: figures, curves, and the predictions and labels that they are of."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from components.contracts import ALL_PREDICTIONS, LABELS
from components.contracts.documents.tick_replay import (
    Kept,
    Orders,
    PartFigures,
    Profit,
    Strategy,
    TickReplay,
    TickReplayStamp,
)
from components.contracts.tick_schemas import CURVE

START = datetime(2026, 1, 5, 14, tzinfo=UTC)
STEPS = 600
STAMP = {"code_version": "c", "config_hash": "h"}


def profit(total: float, half: float) -> Profit:
    return Profit(total=total, interval=(total - half, total + half), bps_of_traded=1.0)


def figures(**changed) -> PartFigures:
    """Those of a good strategy, some of them changed."""
    good = {
        "part": "all",
        "steps": STEPS,
        "paper": profit(1_000.0, 200.0),
        "at_mid": profit(900.0, 200.0),
        "gross": profit(700.0, 200.0),
        "net": profit(600.0, 200.0),
        "kept_at_mid": Kept(share=0.9, interval=(0.8, 1.0)),
        "implementable": Kept(share=0.6, interval=(0.4, 0.8)),
        "information_ratio": 8.0,
        "information_ratio_interval": (3.0, 12.0),
        "trades": 200,
        "hit_rate": 0.55,
        "average_return_bps": 0.4,
        "max_drawdown": 0.01,
        "turnover": 50.0,
        "cost_share": 0.3,
        "fill_ratio": 0.9,
    }
    return PartFigures(**{**good, **changed})


ORDERS = Orders(**dict.fromkeys(Orders.model_fields, 0))


def replay(**changed) -> TickReplay:
    names = ("causal_cnn", "touch_imbalance")
    strategies = [
        Strategy(
            expert=name,
            policy="taker",
            latency="measured",
            whole=figures(**changed),
            by={"symbol": [], "hour": [], "regime": []},
            orders=ORDERS,
        )
        for name in names
    ]
    return TickReplay(
        stamp=TickReplayStamp(code="c", config_hash="h", inputs={}),
        target="trade_class",
        horizon=20,
        paper_price="mid",
        capital=10_000.0,
        symbols=["S1"],
        sessions=1,
        step_seconds=1.0,
        block_steps=10,
        level=0.9,
        latencies=["measured"],
        decisions=dict.fromkeys(names, 1_000),
        acted=dict.fromkeys(names, 400),
        stale=dict.fromkeys(names, 0),
        strategies=strategies,
    )


def curve(gain: float) -> pl.DataFrame:
    """Two strategies whose net profits differ by `gain` a step on the mean."""
    rng = np.random.default_rng(3)
    moments = [START + timedelta(seconds=number) for number in range(STEPS)]
    parts = []
    for expert, mean in (("causal_cnn", 1.0 + gain), ("touch_imbalance", 1.0)):
        parts.append(
            pl.DataFrame(
                {
                    "expert": expert,
                    "policy": "taker",
                    "latency": "measured",
                    "symbol": "S1",
                    "timestamp": moments,
                    "session": "d",
                    "mid": 200.0,
                    "position": 0.0,
                    "traded": 1.0,
                    "at_mid": 1.0,
                    "gross": mean + rng.standard_normal(STEPS),
                    "fees": 0.0,
                }
            )
        )
    return pl.concat(parts).cast(CURVE.columns)


def samples(skill: float, rows: int = 4_000, share: float = 0.1) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Predictions and labels every 50 ms, over 20 samples; `skill` is how far chances tell paying moves."""
    rng = np.random.default_rng(5)
    moments = pl.Series([START + timedelta(milliseconds=50 * number) for number in range(rows)])
    pays = rng.choice([-1, 0, 1], rows, p=[share / 2, 1 - share, share / 2])
    seen = skill * pays + rng.standard_normal(rows)
    up, down = 0.3 / (1 + np.exp(-seen)), 0.3 / (1 + np.exp(seen))
    predictions = pl.DataFrame(
        {
            "timestamp": moments,
            "symbol": "S1",
            "period": "50ms",
            "horizon": 20,
            "target": "trade_class",
            "expert": "causal_cnn",
            "fold": "test",
            "train_window": "w",
            "score": up - down,
            "uncertainty": 0.1,
            "p10": None,
            "p50": None,
            "p90": None,
            "head_scale": None,
            "head_bias": None,
            "p_down": down,
            "p_none": 1 - up - down,
            "p_up": up,
        }
    )
    labels = pl.DataFrame({name: [None] * rows for name in LABELS.columns}).with_columns(
        timestamp=moments,
        symbol=pl.lit("S1"),
        horizon=20,
        label_end=moments + timedelta(seconds=1),
        log_return=pl.Series(pays * 1e-4),
        trade_class=pl.Series(pays),
    )
    kinds = {**ALL_PREDICTIONS.columns, **ALL_PREDICTIONS.optional}
    predictions = predictions.cast({name: kinds[name] for name in predictions.columns})
    kinds = {**LABELS.columns, **LABELS.optional}
    return predictions, labels.cast({name: kinds[name] for name in labels.columns})
