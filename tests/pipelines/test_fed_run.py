"""A run that is fed with a slow table: fused, turned into inputs, audited, chosen in each fold, seen by the
experts of its modality, and served.
"""

import json

import numpy as np
import polars as pl
import pytest
import yaml

from components.contracts import read_chosen, verify_bundle
from components.market.simulator import simulate
from pipelines.config import load_config
from tests.pipelines.small_run import RUNS_S, SETTINGS, alphaloop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(RUNS_S)]

QUALITY = {"name": "quality", "column": "score", "normalisation": "rank"}
FUSION = {
    "tables": [
        {
            "name": "notes",
            "path": "notes.parquet",
            "observed": "period_end",
            "known": "published",
            "columns": [QUALITY],
            "modality": "rich",
        },
        {
            "name": "rates",
            "path": "rates.csv",
            "key": "market",
            "observed": "date",
            "release_lag_days": 2,
            "columns": [{"name": "rate", "normalisation": "zscore"}],
            "modality": "base",
        },
    ]
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fed")


@pytest.fixture(scope="module")
def config(place):
    """The small market's config with two slow tables, a rich expert and quick selection."""
    settings = {
        **SETTINGS,
        "run": {"name": "fed", "seed": 7, "folder": str(place / "run")},
        "market": {**SETTINGS["market"], "simulator": {"symbols": 16, "bars": 480, "sectors": 4}},
        "timeline": {"train_share": 0.6, "validation_share": 0.2, "fold_bars": 96},
        "fusion": FUSION,
        "selection": {"mode": "quick"},
        "experts": {
            "leaves": ["median/1d/base", "elasticnet/1d/base", "lightgbm/1d/rich"],
            "overrides": {"lightgbm": {"rounds": 40}},
        },
    }
    path = place / "fed.yaml"
    path.write_text(yaml.safe_dump(settings))
    write_slow_tables(path, place / "data")
    return path


def write_slow_tables(config, folder) -> None:
    """A number of each symbol every 40 bars, published ten days later, and one of the whole
    market every day.
    """
    loaded = load_config(config)
    panel = simulate(loaded.market, loaded.run.seed).panel
    symbols, days = panel["symbol"].unique().sort(), panel["timestamp"].dt.date().unique().sort()
    ends = days.gather_every(40)
    random = np.random.default_rng(5)
    notes = pl.DataFrame({"period_end": ends}).join(pl.DataFrame({"symbol": symbols}), how="cross")
    notes = notes.with_columns(
        published=pl.col("period_end") + pl.duration(days=10),
        score=pl.Series(random.standard_normal(len(notes))),
    )
    folder.mkdir()
    notes.write_parquet(folder / "notes.parquet")
    pl.DataFrame({"date": days, "rate": random.standard_normal(len(days)).cumsum()}).write_csv(
        folder / "rates.csv"
    )


@pytest.fixture(scope="module")
def done(place, config):
    return alphaloop(
        "run", "--config", config, folder=place / "run", environment={"ALPHALOOP_DATA": str(place / "data")}
    )


def artifact(place, pattern: str):
    return max(
        (place / "run" / "artifacts").glob(f"alphaloop-training-*/{pattern}"),
        key=lambda path: path.stat().st_mtime,
    )


def test_the_run_ends_with_its_pages(place, done):
    assert done.code == 0, done.text
    assert {path.name for path in (place / "run" / "evidence").iterdir()} >= {
        "audit.html",
        "fusion.html",
        "selection_tree_rich.html",
        "selection_linear_base.html",
    }
    assert "evidence/selection_tree_rich.html" in (place / "run" / "report.html").read_text()


def test_slow_values_become_inputs_no_earlier_than_they_were_known(place, done):
    factors = pl.read_parquet(artifact(place, "build-features*/factors"))
    assert {"quality", "quality_rank", "rate", "rate_zscore"} <= set(factors.columns)
    first_known = factors.filter(pl.col("quality").is_not_null())["timestamp"].min().date()
    notes = pl.read_parquet(place / "data" / "notes.parquet")
    assert first_known > notes["published"].min()
    assert factors["quality"].null_count() < len(factors) / 4


def test_experts_see_their_modality_and_what_was_chosen_for_the_fold(place, done):
    selections = [
        read_chosen(path)
        for path in (place / "run" / "artifacts").glob("alphaloop-training-*/select-factors*/selection")
    ]
    assert len(selections) == 2
    for expert in ("elasticnet", "lightgbm"):
        models = {path.parent.name: path for path in (place / "run" / "experts" / expert).glob("*/model")}
        assert set(models) == set(selections[0].by_fold)
        columns = {fold: verify_bundle(path)["columns"] for fold, path in models.items()}
        assert any(
            all(set(columns[fold]) == set(chosen.of(fold)) for fold in columns) for chosen in selections
        )
        assert expert == "lightgbm" or not any("quality_rank" in names for names in columns.values())
    catalog = json.loads(artifact(place, "build-features*/catalog").read_text())
    assert {
        entry["column"]: entry["modality"]
        for entry in catalog
        if entry["column"] in ("quality_rank", "rate_zscore")
    } == {"quality_rank": "rich", "rate_zscore": "base"}


def test_a_changed_slow_file_is_joined_anew(place, config, done):
    notes = pl.read_parquet(place / "data" / "notes.parquet")
    notes.with_columns(pl.col("score") * 2).write_parquet(place / "data" / "notes.parquet")
    again = alphaloop(
        "run", "--config", config, folder=place / "run", environment={"ALPHALOOP_DATA": str(place / "data")}
    )
    assert again.code == 0, again.text
    assert {"fusion", "fusion page", "features", "training set"} <= again.stages("finished")
    assert {"validation", "data docs"} <= again.stages("cached")
