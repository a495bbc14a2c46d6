"""A champion on new data: scored on bars that it has not learned from, and on no other."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from components.contracts import PREDICTIONS, TIME, write_manifest
from components.registry.bundle import PREDICTIONS_FILE
from components.registry.newest import FOLD, score_newest, trained_until
from components.scoring import Model, score_table
from components.scoring.form import SERVED_FORMAT, Form, Linear, Unit, write_form

BARS = pl.datetime_range(
    datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 9, tzinfo=UTC), "1d", time_unit="us", eager=True
).cast(TIME)
SYMBOLS = [f"S{number}" for number in range(8)]
KNOWN = 29
STORED_SCORE = 7.0


def rows() -> pl.DataFrame:
    random = np.random.default_rng(1)
    keys = (
        pl.DataFrame({"timestamp": BARS})
        .join(pl.DataFrame({"symbol": SYMBOLS}), how="cross")
        .sort("timestamp", "symbol")
    )
    numbers = {name: pl.Series(random.normal(size=len(keys)), dtype=pl.Float32) for name in ("a", "b")}
    context = {
        "regime_state": pl.Series([1.0] * len(keys), dtype=pl.Float32),
        "volatility_20": pl.Series([0.02] * len(keys), dtype=pl.Float32),
    }
    return keys.with_columns(pl.lit("x").alias("sector"), **numbers, **context)


def stored() -> pl.DataFrame:
    """What the champion said out of sample on the ten bars before the end of its training."""
    frame = (
        rows()
        .select("timestamp", "symbol")
        .filter(pl.col("timestamp").is_in(BARS[KNOWN - 10 : KNOWN - 1].implode()))
    )
    about = {
        "period": "1d",
        "target": "log_return",
        "expert": "stack",
        "fold": "fold_00",
        "train_window": "w",
    }
    numbers = dict.fromkeys(
        ("score", "uncertainty", "p10", "p50", "p90", "head_scale", "head_bias"), STORED_SCORE
    )
    return frame.with_columns(
        horizon=pl.lit(5, pl.Int32), **{name: pl.lit(value) for name, value in {**about, **numbers}.items()}
    ).select(PREDICTIONS.columns.keys())


@pytest.fixture
def bundle(tmp_path) -> Path:
    """Two linear experts that learned up to bar KNOWN."""
    for name, weights in (("one", (1.0, 0.0)), ("two", (0.5, 0.5))):
        folder = tmp_path / "experts" / name
        folder.mkdir(parents=True)
        write_form(
            folder,
            Form(
                "row", ("a", "b"), 0, Linear(weights, 0.0, 5.0), 1.0, 0.0, Unit(0.02, 0.001), 2.0, 1.0, 2.56
            ),
        )
        write_manifest(
            folder,
            {
                "expert": name,
                "known_until": BARS[KNOWN].isoformat(),
                "train_window": "2023-01-01..2024-01-20",
            },
        )
    names = ["one", "two"]
    stack = {
        "format": SERVED_FORMAT,
        "method": "equal_weights",
        "experts": names,
        "served_experts": names,
        "regimes": ["bear", "neutral", "bull", "high_volatility"],
        "graph": None,
    }
    head = {
        "head_scale": 0.01,
        "head_bias": 0.0,
        "band_low": 1.3,
        "band_high": 1.3,
        "weights": dict.fromkeys(names, 0.5),
    }
    (tmp_path / "stacker").mkdir()
    (tmp_path / "stacker" / "stacker.json").write_text(json.dumps({**stack, **head}))
    (tmp_path / "catalog.json").write_text("[]")
    (tmp_path / "features.json").write_text(
        json.dumps({"schema": "s1", "columns": ["a", "b"], "context": ["regime_state", "volatility_20"]})
    )
    stored().write_parquet(tmp_path / PREDICTIONS_FILE)
    write_manifest(
        tmp_path,
        {
            "schema": "s1",
            "experts": names,
            "period": "1d",
            "horizon": 5,
            "target": "log_return",
            "train_window": "2023-01-01..2024-01-20",
            "served_format": SERVED_FORMAT,
        },
    )
    return tmp_path


def manifest(bundle: Path) -> dict:
    return json.loads((bundle / "manifest.json").read_text())


def test_training_ends_where_the_last_of_its_parts_has_learned(bundle):
    assert trained_until(bundle) == BARS[KNOWN]
    for path in bundle.glob("experts/*/manifest.json"):
        path.write_text("{}")
    assert trained_until(bundle) == BARS[KNOWN - 2]


def test_bars_that_the_champion_has_learned_from_are_never_scored(bundle):
    """Planted fault: the bundle can score any bar, and would shine on those of its own training."""
    table, about = score_newest(bundle, manifest(bundle), stored(), rows(), "s1")
    new = table.filter(pl.col("fold") == FOLD)
    assert new["timestamp"].min() == BARS[KNOWN + 1]
    assert sorted(new["timestamp"].unique()) == list(BARS[KNOWN + 1 :])
    assert table.filter(pl.col("timestamp") <= BARS[KNOWN]).equals(stored())
    assert about.model_dump(mode="json") == {
        "bars": len(BARS) - KNOWN - 1,
        "first": BARS[KNOWN + 1].isoformat(),
        "last": BARS[-1].isoformat(),
        "not_scored": None,
    }
    expected = score_table(Model.load(bundle), rows()).filter(pl.col("timestamp") > BARS[KNOWN])
    assert new["score"].to_list() == expected["score"].to_list()
    assert new["score"].n_unique() > 10
    assert new.select("period", "horizon", "target", "expert", "train_window").unique().rows() == [
        ("1d", 5, "log_return", "stack", "2023-01-01..2024-01-20")
    ]


def test_the_future_of_a_bar_does_not_change_its_score(bundle):
    table, _ = score_newest(bundle, manifest(bundle), stored(), rows(), "s1")
    cut = BARS[KNOWN + 4]
    changed = rows().with_columns(
        pl.when(pl.col("timestamp") > cut).then(pl.col("a") + 1000).otherwise(pl.col("a")).alias("a")
    )
    again, _ = score_newest(bundle, manifest(bundle), stored(), changed, "s1")
    assert again.filter(pl.col("timestamp") <= cut).equals(table.filter(pl.col("timestamp") <= cut))
    assert not again.equals(table)


def test_without_newer_bars_the_stored_predictions_stand(bundle):
    table, about = score_newest(
        bundle, manifest(bundle), stored(), rows().filter(pl.col("timestamp") <= BARS[KNOWN]), "s1"
    )
    assert table.equals(stored())
    assert about.model_dump(mode="json") == {"bars": 0, "first": None, "last": None, "not_scored": None}


def test_other_features_are_not_scored_and_it_is_said(bundle):
    table, about = score_newest(bundle, manifest(bundle), stored(), rows(), "s2")
    assert table.equals(stored())
    assert about.not_scored == "it was trained on features of schema s1, these are of schema s2"
    table, about = score_newest(bundle, manifest(bundle), stored(), rows().drop("b"), "s1")
    assert table.equals(stored())
    assert "'b'" in about.not_scored


def test_a_bundle_of_before_served_forms_is_not_scored_and_it_is_said(bundle):
    about = manifest(bundle)
    for path in bundle.glob("experts/*/served.json"):
        path.unlink()
    (bundle / "manifest.json").unlink()
    write_manifest(bundle, {key: value for key, value in about.items() if key not in ("sha256", "files")})
    table, said = score_newest(bundle, manifest(bundle), stored(), rows(), "s1")
    assert table.equals(stored())
    assert said.not_scored
