"""Scores a champion on bars that are newer than anything it has learned from, so that a candidate meets it
out of sample on the newest data.

Bars up to the champion's training end are never scored with its final model, which has learned from them: for
those its stored walk-forward predictions stand.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from components.contracts import PREDICTIONS, check_table, require_json
from components.contracts.documents.champion import NewestBars
from components.registry.bundle import PREDICTIONS_FILE

FOLD = "after_training"


def trained_until(bundle: Path) -> datetime:
    """The newest moment (UTC) that any part of the bundle has learned from; labels of its last training
    bars reach up to it.

    The stored walk-forward predictions train the served combiner, so their last bar counts as well.
    """
    manifests = [require_json(path) for path in bundle.glob("experts/*/manifest.json")]
    moments = [
        datetime.fromisoformat(found["known_until"]) for found in manifests if found.get("known_until")
    ]
    moments.append(
        pl.scan_parquet(bundle / PREDICTIONS_FILE).select(pl.col("timestamp").max()).collect().item()
    )
    return max(moments)


def score_newest(
    bundle: Path, manifest: Mapping[str, Any], stored: pl.DataFrame, rows: pl.DataFrame, schema: str
) -> tuple[pl.DataFrame, NewestBars]:
    """The stored predictions followed by the bundle's own on later bars.

    Parameters
    ----------
    stored : PREDICTIONS of the bundle's walk-forward
    rows : TRAINING_SET table; bars up to the training end serve as history only
    schema : feature schema of `rows`

    Returns
    -------
    The PREDICTIONS table, and what was scored.
    """
    from components.scoring import Model, ScoringError, score_table

    known_until = trained_until(bundle)
    calendar = rows.select(pl.col("timestamp").unique().sort())
    bars = calendar.filter(pl.col("timestamp") > known_until)["timestamp"]
    if bars.is_empty():
        return stored, _nothing(None)
    if manifest["schema"] != schema:
        theirs = f"it was trained on features of schema {manifest['schema']}"
        return stored, _nothing(f"{theirs}, these are of schema {schema}")
    try:
        scores = score_table(Model.load(bundle), rows, bars=bars.to_list())
    except ScoringError as error:
        return stored, _nothing(str(error))
    newest = _as_predictions(scores.filter(pl.col("timestamp") > known_until), manifest)
    together = pl.concat([stored.select(PREDICTIONS.columns.keys()), newest]).sort(PREDICTIONS.key)
    table = check_table(together, PREDICTIONS, source=f"predictions of {bundle}")
    scored = newest["timestamp"].n_unique()
    return table, NewestBars(bars=scored, first=bars[0], last=bars[-1], not_scored=None)


def _nothing(reason: str | None) -> NewestBars:
    return NewestBars(bars=0, first=None, last=None, not_scored=reason)


def _as_predictions(scores: pl.DataFrame, manifest: Mapping[str, Any]) -> pl.DataFrame:
    constant = {
        "period": manifest["period"],
        "target": manifest["target"],
        "expert": "stack",
        "fold": FOLD,
        "train_window": manifest.get("train_window", ""),
    }
    return scores.with_columns(
        pl.lit(manifest["horizon"], pl.Int32).alias("horizon"),
        **{name: pl.lit(value) for name, value in constant.items()},
    ).select(PREDICTIONS.columns.keys())
