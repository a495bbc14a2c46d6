"""A run that is fed with a slow table: fused, turned into inputs, audited, chosen in each fold, seen by the
experts of its modality, and served.
"""

import json
import subprocess

import httpx
import numpy as np
import polars as pl
import pytest
import yaml

from components.contracts import read_chosen, require_json, verify_bundle
from components.market.simulator import simulate
from components.scoring.expert import ServedExpert
from pipelines.config import load_config
from tests.pipelines.small_run import COMMAND, FEW_FACTORS, RUNS_S, SETTINGS, alphaloop
from tests.serving.live_service import free_port, stop, until

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
    """The small market's config with two slow tables, an expert on base and on rich inputs, an ensemble,
    models by regime and quick selection.
    """
    settings = {
        **SETTINGS,
        "run": {"name": "fed", "seed": 7, "folder": str(place / "run")},
        "market": {**SETTINGS["market"], "simulator": {"symbols": 16, "bars": 480, "sectors": 4}},
        "timeline": {"train_share": 0.6, "validation_share": 0.2, "fold_bars": 96},
        "fusion": FUSION,
        "features": FEW_FACTORS,
        "selection": {"mode": "quick"},
        "experts": {
            "leaves": ["median/1d/base", "elasticnet/1d/base", "lightgbm/1d/base", "lightgbm/1d/rich"],
            "overrides": {
                "lightgbm": {"rounds": 40, "ensemble": 2},
                "lightgbm_rich": {"regimes": {"fewest_rows": 200}},
            },
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
    assert len(selections) == 3
    for expert in ("elasticnet", "lightgbm", "lightgbm_rich"):
        models = {path.parent.name: path for path in (place / "run" / "experts" / expert).glob("*/model")}
        assert set(models) == set(selections[0].by_fold)
        columns = {fold: verify_bundle(path)["columns"] for fold, path in models.items()}
        assert any(
            all(set(columns[fold]) == set(chosen.of(fold)) for fold in columns) for chosen in selections
        )
        assert expert == "lightgbm_rich" or not any("quality_rank" in names for names in columns.values())
    catalog = json.loads(artifact(place, "build-features*/catalog").read_text())
    assert {
        entry["column"]: entry["modality"]
        for entry in catalog
        if entry["column"] in ("quality_rank", "rate_zscore")
    } == {"quality_rank": "rich", "rate_zscore": "base"}


def test_base_and_rich_of_an_expert_go_side_by_side_to_the_report_and_the_registered_model(place, done):
    predictions = pl.read_parquet(artifact(place, "stack*/all_predictions"))
    found = {name: predictions.filter(pl.col("expert") == name) for name in ("lightgbm", "lightgbm_rich")}
    assert all(len(one) for one in found.values())
    both = found["lightgbm"].join(found["lightgbm_rich"], on=("timestamp", "symbol", "horizon"))
    assert (both["score"] != both["score_right"]).mean() > 0.9
    bundle = next((place / "run" / "registry").glob("**/bundle"))
    assert {"lightgbm", "lightgbm_rich"} <= set(require_json(bundle / "manifest.json")["experts"])
    served = {name: ServedExpert(bundle / "experts" / name, threads=1) for name in found}
    assert "quality_rank" not in served["lightgbm"].form.columns
    report = (place / "run" / "report.html").read_text()
    assert "LightGBM, rich" in report
    rich = require_json(place / "run" / "experts" / "lightgbm_rich" / "status.json")
    assert (rich["expert"], rich["modality"], rich["status"]) == ("lightgbm_rich", "rich", "trained")


def test_an_ensemble_and_models_by_regime_asked_for_in_the_config_are_trained(place, done):
    folder = place / "run" / "experts"
    members = {
        name: {path.name for path in (folder / name / "final" / "model" / "members").glob("*")}
        for name in ("lightgbm", "lightgbm_rich", "elasticnet")
    }
    assert members["elasticnet"] == set()
    assert len(members["lightgbm"]) == 2
    assert len(members["lightgbm_rich"]) > 2


def test_the_registered_model_of_both_answers_requests(place, config, done):
    symbols = pl.read_parquet(artifact(place, "build-features*/factors"))["symbol"].unique().sort().to_list()
    port = free_port()
    past = "serving.max_feature_age_hours=null"  # the market lies in the past
    command = [*COMMAND, "serve", "--config", str(config), "--port", str(port), "--set", past]
    command.append("--keyless")
    service = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:

            def ready() -> bool:
                assert service.poll() is None, "the service ended; start it by hand to see why"
                return client.get("/readyz").status_code == 200

            until(ready, seconds=300, what="the service")
            answer = client.post("/signals", json={"symbols": symbols[:2]}).json()
        assert [signal["symbol"] for signal in answer["signals"]] == symbols[:2]
        assert all(signal["p10"] < signal["score"] < signal["p90"] for signal in answer["signals"])
    finally:
        stop(service)


def test_one_expert_is_trained_by_its_name_in_the_run(place, config, done):
    again = alphaloop(
        "experts",
        "resume",
        "lightgbm_rich",
        "--config",
        config,
        folder=place / "run",
        environment={"ALPHALOOP_DATA": str(place / "data")},
    )
    assert again.code == 0, again.text
    assert "lightgbm_rich" in again.text


def test_a_changed_slow_file_is_joined_anew(place, config, done):
    notes = pl.read_parquet(place / "data" / "notes.parquet")
    notes.with_columns(pl.col("score") * 2).write_parquet(place / "data" / "notes.parquet")
    # One expert is enough: what comes after the training set knows no slow file.
    again = alphaloop(
        "experts",
        "resume",
        "median",
        "--config",
        config,
        folder=place / "run",
        environment={"ALPHALOOP_DATA": str(place / "data")},
    )
    assert again.code == 0, again.text
    assert {"fusion", "fusion page", "features", "training set"} <= again.stages("finished")
    assert {"validation", "data docs"} <= again.stages("cached")
