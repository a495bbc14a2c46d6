"""Configs of runs on order books that are small enough for a test: minutes of two simulated symbols."""

from pathlib import Path
from typing import Any

import yaml

SETTINGS: dict[str, Any] = {
    "run": {"name": "small-ticks", "seed": 3},
    "ticks": {"source": "simulator", "simulator": {"symbols": 2, "session_minutes": 5}},
    "tick_features": {
        "sample": "250ms",
        # Minutes hold no long past to scale by.
        "normalisation": {"values": 50, "every_samples": 2, "least_values": 10},
        "audit": {"days": 1, "cuts": 1, "rows": 20_000},
    },
    # An order of one level and next to no fee: moves of five seconds pay, and there is something to learn.
    "tick_labels": {
        "horizons_ms": [250, 5_000],
        "primary_horizon_ms": 5_000,
        "order_value": 5_000.0,
        "fee_bps": 0.1,
        "fewest_moves": 5,
    },
    "tick_replay": {
        "capital": 5_000.0,
        "maker_fee_bps": 0.1,
        "taker_fee_bps": 0.1,
        "policies": ["taker", "passive"],
        "latency": {"fixed_ms": [10.0]},
        "bootstrap_draws": 100,
    },
    "tick_gates": {"candidate": "lightgbm"},
    "timeline": {
        "train_share": 0.4,
        "validation_share": 0.2,
        "fold_bars": 400,
        "purge_bars": 21,
        "embargo_bars": 10,
    },
    "experts": {
        "leaves": ["touch_imbalance/250ms/base", "elasticnet/250ms/base", "lightgbm/250ms/base"],
        "overrides": {"lightgbm": {"rounds": 30}},
    },
}


def write_config(path: Path, folder: Path, **sections: dict[str, Any]) -> Path:
    """A small config at `path` with `folder` as its run folder; keys of `sections` stand over its own."""
    merged = {name: {**SETTINGS.get(name, {}), **sections.get(name, {})} for name in {*SETTINGS, *sections}}
    merged["run"]["folder"] = str(folder)
    path.write_text(yaml.safe_dump(merged))
    return path
