"""Scores a champion on bars that are newer than anything it has learned from, so that a candidate meets it
out of sample on the newest data.

Bars up to the champion's training end are never scored with its final model, which has learned from them: for
those its stored walk-forward predictions stand.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from components.contracts import PREDICTIONS, check_table
from components.registry.bundle import PREDICTIONS_FILE

FOLD = "after_training"


def trained_until(bundle: Path) -> str:
    """The newest moment (ISO, UTC) that any part of the bundle has learned from; labels of its last training
    bars reach up to it.

    The stored walk-forward predictions train the served combiner, so their last bar counts as well.
    """
    manifests = [
        json.loads(path.read_text(encoding="utf-8")) for path in bundle.glob("experts/*/manifest.json")
    ]
    moments = [
        datetime.fromisoformat(found["known_until"]) for found in manifests if found.get("known_until")
    ]
    moments.append(
        pl.scan_parquet(bundle / PREDICTIONS_FILE).select(pl.col("timestamp").max()).collect().item()
    )
    return max(moments).isoformat()


def score_newest(
    bundle: Path, manifest: Mapping[str, Any], stored: pl.DataFrame, rows: pl.DataFrame, schema: str
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The stored predictions followed by the bundle's own on later bars.

    Parameters
    ----------
    stored : PREDICTIONS of the bundle's walk-forward
    rows : TRAINING_SET table; bars up to the training end serve as history only
    schema : feature schema of `rows`

    Returns
    -------
    The PREDICTIONS table, and `bars`, `first`, `last` (ISO) of what was scored, `not_scored`: why the bundle
    can't be scored on these rows, or None.
    """
    from components.scoring import Model, ScoringError, score_table

    known_until = datetime.fromisoformat(trained_until(bundle))
    bars = rows.select(pl.col("timestamp").unique().sort()).filter(pl.col("timestamp") > known_until)[
        "timestamp"
    ]
    nothing = {"bars": 0, "first": None, "last": None, "not_scored": None}
    if bars.is_empty():
        return stored, nothing
    if manifest["schema"] != schema:
        return stored, {
            **nothing,
            "not_scored": (
                f"it was trained on features of schema {manifest['schema']}, these are of schema {schema}"
            ),
        }
    try:
        scores = score_table(Model.load(bundle), rows, bars=bars.to_list())
    except ScoringError as error:
        return stored, {**nothing, "not_scored": str(error)}
    constant = {
        "period": manifest["period"],
        "target": manifest["target"],
        "expert": "stack",
        "fold": FOLD,
        "train_window": manifest.get("train_window", ""),
    }
    newest = scores.with_columns(
        pl.lit(manifest["horizon"], pl.Int32).alias("horizon"),
        **{name: pl.lit(value) for name, value in constant.items()},
    )
    newest = newest.filter(pl.col("timestamp") > known_until).select(PREDICTIONS.columns.keys())
    table = check_table(
        pl.concat([stored.select(PREDICTIONS.columns.keys()), newest]).sort(PREDICTIONS.key),
        PREDICTIONS,
        source=f"predictions of {bundle}",
    )
    return table, {
        "bars": newest["timestamp"].n_unique(),
        "first": bars[0].isoformat(),
        "last": bars[-1].isoformat(),
        "not_scored": None,
    }
