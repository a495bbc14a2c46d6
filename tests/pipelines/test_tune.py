"""Search, ablation and evidence as commands on a run: what they write, what they refuse before anything runs,
and the pipeline that stops before training.
"""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from components.backtest.evaluate import evaluate
from components.backtest.market_facts import MarketFacts
from components.contracts import (
    BETA_COLUMN,
    REGIMES,
    RETURN_COLUMN,
    SECTOR_COLUMN,
    TRAINING_SET,
    AlphaloopError,
    write_table,
)
from components.experts.leaves import load_leaf
from components.experts.studies.search import SearchError
from components.market.universe import tradable_universe
from components.settings import ConfigError
from components.timeline import resolve_windows
from pipelines.commands import ablate, one_expert, tune
from pipelines.compute_config import ComputeSettings
from pipelines.config import Config
from pipelines.graphs.build import build_pipeline
from pipelines.leaves import resolve_leaf
from tests.experts.studies.tables_on_disk import HORIZON, TIMELINE, write_inputs
from tests.pipelines.small_run import FEW_FACTORS, RUNS_S, alphaloop, write_config

LEAF = "tunable/1d/base"


@pytest.fixture
def config(tmp_path):
    """A run with an expert of one's own, its search space and variants in a folder of one's own."""
    folder = tmp_path / "leaves" / "tunable"
    (folder / "1d").mkdir(parents=True)
    (folder / "1d" / "base.yaml").write_text(
        "expert: tunable\nperiod: 1d\nmodule: tests.experts.studies.tunable\n"
        "threads: 1\nsettings: {inner: {noise:"
        " 0.5}}\n"
    )
    (folder / "search.yaml").write_text("inner.noise: {low: 0.0, high: 1.0}\n")
    (folder / "ablations.yaml").write_text("full: {}\nclear: {inner: {noise: 0.0}}\n")
    return Config.model_validate(
        {
            "run": {"name": "small", "folder": str(tmp_path / "run")},
            "experts": {"leaves": ["median/1d/base", LEAF], "folder": str(tmp_path / "leaves")},
        }
    )


@pytest.fixture
def prepared(config, tmp_path, monkeypatch):
    """As if the pipeline had run up to the training set."""
    inputs = write_inputs(tmp_path / "tables")
    work = tmp_path / "run" / "experts" / "tunable"
    for module in (tune, ablate):
        monkeypatch.setattr(
            module, "expert_inputs", lambda name, config: (resolve_leaf(LEAF, config), inputs, work)
        )
    return work


def with_overrides(config: Config, **settings) -> Config:
    return config.model_copy(
        update={"experts": config.experts.model_copy(update={"overrides": {"tunable": settings}})}
    )


def test_tune_writes_a_leaf_that_is_trained_as_it_was_tried(config, prepared):
    table, said = tune.tune("tunable", config, tune.Request(trials=5))
    folder = prepared / "search"
    assert (folder / "study.db").exists()
    assert "The test window was not touched" in (folder / "tunable-1d-base.html").read_text()
    best = load_leaf(folder / "best.yaml")
    assert best.settings["inner"]["noise"] < 0.5
    assert (best.module, best.threads) == ("tests.experts.studies.tunable", 1)
    elsewhere = config.model_copy(
        update={"experts": config.experts.model_copy(update={"folder": str(folder / "leaves")})}
    )
    assert resolve_leaf(LEAF, elsewhere) == best
    assert [column.header for column in table.columns] == ["", "leaf's own", "best"]
    assert f"--set experts.folder={folder / 'leaves'}" in said
    assert "overrides" not in said


def test_tune_starts_from_the_runs_overrides_and_says_that_they_stand_over_the_best_leaf(config, prepared):
    _, said = tune.tune("tunable", with_overrides(config, inner={"noise": 0.25}), tune.Request(trials=1))
    assert load_leaf(prepared / "search" / "best.yaml").settings["inner"]["noise"] == 0.25
    assert "experts.overrides.tunable stands over any leaf" in said


def test_a_name_that_is_no_file_name_is_refused(config, prepared):
    with pytest.raises(ConfigError, match=r"--study '\.\./other'"):
        tune.tune("tunable", config, tune.Request(trials=1, study="../other"))


def test_what_is_not_in_order_is_told_before_anything_runs(config, tmp_path, monkeypatch):
    for module in (tune, ablate):
        monkeypatch.setattr(module, "expert_inputs", lambda *_: pytest.fail("the pipeline was started"))
    (tmp_path / "leaves" / "tunable" / "search.yaml").write_text("nose: {low: 0.0, high: 1.0}\n")
    (tmp_path / "leaves" / "tunable" / "ablations.yaml").unlink()
    with pytest.raises(ConfigError, match="no setting 'nose'"):
        tune.tune("tunable", config, tune.Request())
    with pytest.raises(ConfigError, match="There is no file of variants"):
        ablate.run_ablation("tunable", config, seeds=1, window="validation")
    with pytest.raises(ConfigError, match=r"There is no search space .*median.search\.yaml"):
        tune.tune("median", config, tune.Request())


def test_ablate_writes_figures_and_a_page(config, prepared):
    table, said = ablate.run_ablation("tunable", config, seeds=2, window="validation")
    found = json.loads((prepared / "ablations" / "validation" / "ablation.json").read_text())
    assert [one["name"] for one in found["variants"]] == ["full", "clear"]
    assert found["variants"][1]["difference"]["mean"] > 0
    assert table.row_count == 2
    assert "ablation.html" in said


def test_what_an_ablation_scores_on_the_test_window_counts_as_tried(config, prepared, monkeypatch):
    kept = []
    monkeypatch.setattr(ablate, "keep_variants", lambda *given: kept.append(given))
    ablate.run_ablation("tunable", config, seeds=1, window="validation")
    assert not kept
    ablate.run_ablation("tunable", config, seeds=2, window="test")
    ((_, name, _, scored, what),) = kept
    assert (name, what) == (config.run.name, "ablation of tunable/1d/base")
    found = json.loads((prepared / "ablations" / "test" / "ablation.json").read_text())
    calendar = pl.read_parquet(prepared.parents[2] / "tables" / "panel.parquet")["timestamp"]
    assert scored.test_start[:10] == found["first"][:10]
    assert scored.test_end[:10] == str(calendar.max())[:10], "labels end before the window does"
    assert {model.name: model.mean_rank_ic for model in scored.models} == pytest.approx(
        {f"tunable/1d/base: {one['name']}": one["rank_ic"]["mean"] for one in found["variants"]}
    )
    assert {model.kind for model in scored.models} == {"variant"}
    assert scored.market.hashes
    returns = {model.name.split(": ")[1]: np.array(model.net_return, dtype=float) for model in scored.models}
    for name, own in returns.items():
        expected = traded_by_a_run(config, prepared, name)
        np.testing.assert_allclose(own[-len(expected) :], expected, atol=1e-8)
        assert np.isnan(own[: -len(expected)]).all()
    assert returns["clear"].sum() != returns["full"].sum()


def test_an_ablation_trades_within_the_limits_of_the_runs_books(config, prepared, monkeypatch):
    """By the run's sizes and limits, from the context columns of the training set."""
    tables = prepared.parents[2] / "tables"
    path = tables / "training_set.parquet"
    names = pl.read_parquet(path)
    random = np.random.default_rng(2)
    context = {
        SECTOR_COLUMN: names["symbol"].rank("dense").to_numpy() % 3,
        BETA_COLUMN: random.uniform(0.5, 1.5, len(names)),
        RETURN_COLUMN: random.normal(0, 0.02, len(names)),
    }
    columns = [pl.Series(name, values, pl.Float32) for name, values in context.items()]
    write_table(names.with_columns(columns), path, TRAINING_SET, code_version="v1", config_hash="")
    limits = {"max_sector_weight": 0.05, "max_beta": 0.01, "volatility_target": 0.05}
    config = config.model_copy(update={"backtest": config.backtest.model_copy(update=limits)})
    kept = []
    monkeypatch.setattr(ablate, "keep_variants", lambda *given: kept.append(given))
    ablate.run_ablation("tunable", config, seeds=2, window="test")
    ((_, _, _, scored, _),) = kept
    for model in scored.models:
        own = np.array(model.net_return, dtype=float)
        expected = traded_by_a_run(config, prepared, model.name.split(": ")[1])
        np.testing.assert_allclose(own[-len(expected) :], expected, atol=1e-8)
        assert expected.any()


def traded_by_a_run(config, prepared, variant):
    """Net returns of long_short as `evaluate` has them, the mean over two seeds."""
    tables = prepared.parents[2] / "tables"
    panel, labels, training_set = (
        pl.read_parquet(tables / f"{name}.parquet") for name in ("panel", "labels", "training_set")
    )
    calendar = training_set["timestamp"].unique().sort()
    market = MarketFacts(
        labels=labels,
        panel=panel,
        regimes=training_set.select("timestamp", "symbol", "regime_state"),
        windows=resolve_windows(calendar, TIMELINE),
        calendar=calendar,
        universe=tradable_universe(panel, config.market.universe),
        context=training_set,
    )
    parts = []
    for seed in (3, 4):
        folds = sorted((prepared / "ablations" / "test" / variant / f"seed_{seed}").glob("fold_*/*.parquet"))
        scores = pl.concat([pl.read_parquet(path) for path in folds])
        given = {"period": pl.lit("1d"), "target": pl.lit("log_return"), "horizon": pl.lit(HORIZON)}
        _, table = evaluate(
            {"stack": scores.with_columns(**given)}, market, config.backtest, horizon=HORIZON, code="c"
        )
        parts.append(table.filter(expert="stack", strategy="long_short", window="backtest")["net_return"])
    return sum(parts).to_numpy() / len(parts)


def test_training_from_scratch_keeps_searches_and_ablations(tmp_path):
    for name in (
        "search/study.db",
        "ablations/validation/ablation.json",
        "fold_00/result.json",
        "status.json",
        "inputs.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    one_expert._clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"search", "ablations", "inputs.json"}


def test_explain_draws_the_newest_fit(config, tmp_path):
    work = tmp_path / "run" / "experts" / "tunable"
    with pytest.raises(AlphaloopError, match="tunable explains nothing of itself"):
        ablate.explain_newest("tunable", config)
    for age, fold in enumerate(("final", "fold_00")):
        model = work / fold / "model"
        model.mkdir(parents=True)
        (model / "manifest.json").write_text(
            json.dumps({"fold": fold, "train_window": "2020-01-01..2020-06-01"})
        )
        (model / "explain.json").write_text(
            json.dumps(
                {
                    "weights": {
                        "feature_gate": {"columns": [f"input_of_{fold}"], "mean": [0.01], "by_regime": {}}
                    },
                    "training": [],
                }
            )
        )
        os.utime(model / "explain.json", (1000 - age, 1000 - age))
    page = ablate.explain_newest("tunable", config).read_text()
    assert "input_of_final" in page
    assert "input_of_fold_00" not in page
    assert "Fit final, trained on 2020-01-01..2020-06-01." in page


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"weights": 3}',
        '{"weights": {"a": {}}}',
        '{"tasks": [7]}',
        '{"weights": {}, "tasks": [7]}',
        '{"weights": {"a": {"columns": ["x"], "mean": [1, 2]}}}',
        '{"weights": {}, "training": [3]}',
        '{"importance": {"momentum": 0.4}}',
    ],
)
def test_damaged_evidence_is_told_with_the_way_out(text, config, tmp_path):
    model = tmp_path / "run" / "experts" / "tunable" / "final" / "model"
    model.mkdir(parents=True)
    (model / "explain.json").write_text(text)
    with pytest.raises(
        AlphaloopError,
        match=(
            r"final left of itself can't be read: explain\.json.*Train the expert again: alphaloop experts"
            r" train tunable\."
        ),
    ) as caught:
        ablate.explain_newest("tunable", config)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "run" / "experts" / "tunable" / "explain.html").exists()


def composition(tmp_path) -> Path:
    """A fit of a composition of two members, whose second one was written last; returns its model folder."""
    model = tmp_path / "run" / "experts" / "tunable" / "final" / "model"
    for age, member in enumerate(("bull_0", "all_0")):
        path = model / "members" / member / "explain.json"
        path.parent.mkdir(parents=True)
        path.write_text(
            json.dumps(
                {
                    "weights": {"feature_gate": {"columns": [f"input_of_{member}"], "mean": [0.5]}},
                    "training": [],
                }
            )
        )
        os.utime(path, (1000 - age, 1000 - age))
    weights = [[0.75, 0.25], *[[1.0, 0.0]] * len(REGIMES)]
    rows = {REGIMES[0]: {"train_rows": 1234, "train_bars": 56, "model": "own", "weight": 0.25}}
    (model / "composed.json").write_text(
        json.dumps(
            {
                "settings": {},
                "ensemble": 1,
                "regimes": None,
                "columns": [],
                "members": ["all_0", "bull_0"],
                "weights_RM": weights,
                "spread": 16.0,
                "width": 1.5,
                "regime_rows": rows,
            }
        )
    )
    return model


def test_of_a_composition_the_first_member_is_drawn_and_the_weights_of_all(config, tmp_path):
    composition(tmp_path)
    page = ablate.explain_newest("tunable", config).read_text()
    assert "What tunable/1d/base (all_0, one of 2 members) attends to" in page
    assert "input_of_all_0" in page
    assert "input_of_bull_0" not in page
    for words in (
        "1,234</td><td>56</td>",
        "<td>0.750</td><td>0.250</td>",
        "<td>1.000</td><td>0.000</td>",
        "Spread 16",
        "multiplied by 1.500",
    ):
        assert words in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"members": []}, "members: List should have at least 1 item"),
        ({"weights_RM": [[1.0, 0.0]]}, "weights_RM is not"),
        ({"members": ["nobody", "bull_0"]}, "explain.json is missing"),
    ],
)
def test_a_damaged_composition_is_told(change, words, config, tmp_path):
    path = composition(tmp_path) / "composed.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(AlphaloopError, match=words):
        ablate.explain_newest("tunable", config)


def test_studies_of_one_expert_keep_leaves_of_their_own(config, prepared):
    tune.tune("tunable", config, tune.Request(trials=1))
    own = (prepared / "search" / "best.yaml").read_text()
    _, said = tune.tune(
        "tunable", with_overrides(config, inner={"noise": 0.25}), tune.Request(trials=1, study="second")
    )
    home = prepared / "search" / "studies" / "second"
    assert (prepared / "search" / "best.yaml").read_text() == own
    assert (prepared / "search" / "leaves" / "tunable" / "1d" / "base.yaml").read_text() == own
    assert load_leaf(home / "leaves" / "tunable" / "1d" / "base.yaml").settings["inner"]["noise"] == 0.25
    assert f"Best leaf: {home / 'best.yaml'}. Use it: --set experts.folder={home / 'leaves'}" in said


@pytest.mark.parametrize(
    ("storage", "words"), [("nonsense", "no database URL"), ("", r"Move that file away")]
)
def test_a_database_that_can_not_be_used_is_told_before_the_data_stages(
    storage, words, config, tmp_path, monkeypatch
):
    monkeypatch.setattr(tune, "expert_inputs", lambda *_: pytest.fail("the pipeline was started"))
    folder = tmp_path / "run" / "experts" / "tunable" / "search"
    folder.mkdir(parents=True)
    (folder / "study.db").write_text("not a database at all, but long enough to be read as one" * 20)
    with pytest.raises(SearchError, match=words):
        tune.tune("tunable", config, tune.Request(trials=1, storage=storage))


def test_the_configs_database_is_used_where_the_command_names_none(config, monkeypatch):
    monkeypatch.setattr(tune, "expert_inputs", lambda *_: pytest.fail("the pipeline was started"))
    config = config.model_copy(
        update={"compute": ComputeSettings(search_storage="postgresql://me@localhost:1/studies")}
    )
    with pytest.raises(SearchError, match=r"me@localhost:1/studies .*correct compute\.search_storage"):
        tune.tune("tunable", config, tune.Request(trials=1))
    with pytest.raises(SearchError, match="--storage is no database URL"):
        tune.tune("tunable", config, tune.Request(trials=1, storage="nonsense"))


def test_a_password_in_the_configs_database_is_refused_unseen():
    with pytest.raises(ValueError, match="Put the password into PGPASSWORD") as caught:
        Config.model_validate({"compute": {"search_storage": "postgresql://me:s3cr3t-words@host/name"}})
    assert "compute.search_storage holds a password in an address" in str(caught.value)


@pytest.mark.parametrize(("train", "last"), [(True, "train elasticnet"), (False, "inputs")])
def test_the_pipeline_stops_before_training_where_only_inputs_are_wanted(train, last, tmp_path):
    config = Config.model_validate({"run": {"folder": str(tmp_path)}, "selection": {"mode": "quick"}})
    options = {"leaf": "elasticnet/1d/base", "train": train}
    pipeline = build_pipeline("expert", config, folder=str(tmp_path), options=options)
    graphs = [component.dag for component in pipeline.pipeline_spec.components.values()]
    tasks = {task.task_info.name: task for graph in graphs for task in graph.tasks.values()}
    assert {"train elasticnet", "inputs"} & set(tasks) == {last}
    assert {"training_set", "labels", "catalog", "selection"} <= set(tasks[last].inputs.artifacts)


@pytest.mark.slow
@pytest.mark.timeout(RUNS_S)
def test_tune_and_train_its_best_leaf_on_a_run(tmp_path):
    path, folder = write_config(tmp_path / "small.yaml", tmp_path / "run"), tmp_path / "run"
    values = yaml.safe_load(path.read_text())
    values["features"] = FEW_FACTORS
    values["experts"] = {"leaves": ["median/1d/base", "elasticnet/1d/base"]}
    path.write_text(yaml.safe_dump(values))
    tuned = alphaloop("experts", "tune", "elasticnet", "--trials", "3", "--config", path, folder=folder)
    assert tuned.code == 0, tuned.text
    assert not (folder / "experts" / "elasticnet" / "final").exists()
    again = alphaloop("experts", "tune", "elasticnet", "--trials", "4", "--config", path, folder=folder)
    assert again.code == 0, again.text
    assert "[tune elasticnet] 4 of 4" in again.text
    assert "[tune elasticnet] 3 of 4" not in again.text
    assert {"training set", "audit"} <= again.stages("cached")
    leaves = folder / "experts" / "elasticnet" / "search" / "leaves"
    trained = alphaloop(
        "experts", "train", "elasticnet", "--config", path, "--set", f"experts.folder={leaves}", folder=folder
    )
    assert trained.code == 0, trained.text
    manifest = json.loads(
        (folder / "experts" / "elasticnet" / "final" / "model" / "manifest.json").read_text()
    )
    assert (
        manifest["leaf"]["settings"]
        == yaml.safe_load((leaves / "elasticnet" / "1d" / "base.yaml").read_text())["settings"]
    )
    assert Path(folder / "experts" / "elasticnet" / "search" / "study.db").exists()
