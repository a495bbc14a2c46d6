"""A bundle of several tasks says what training said of each: by heads of one graph, or by a model each."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from components.contracts import REGIME_COLUMN, write_manifest
from components.contracts.classes import CLASS_COLUMNS
from components.experts.leaves import Leaf, expert_module
from components.experts.model_each import ModelEach, expert_of, load_warm
from components.experts.protocol import Task
from components.scoring import Model, ScoringError, score_table
from components.scoring.graph import Graph
from components.scoring.parts import form_folder, further_tasks
from components.scoring.stacker import Head, Pool, read_stacker
from components.stacking.combiners import EQUAL, Combiner
from components.stacking.served_form import served_files
from tests.experts.market import INPUTS, fit_and_predict_frames, panel
from tests.scoring.small_bundle import LOOKBACK, SETTINGS, bundle_of, resealed

OWN, LONGER, CLASS = ("log_return", 2), ("log_return", 4), ("direction", 2)
ALSO = {"patchtst": (LONGER,), "lightgbm": (LONGER, CLASS)}
HEAD = Head(1.0, 0.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> SimpleNamespace:
    """Experts of several tasks, fitted, saved and exported, and what they say of each task."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = panel(bars=160, symbols=12, seed=2, strength=0.4)
    fit, _ = fit_and_predict_frames(rows)
    _, ask = fit_and_predict_frames(rows, lookback=LOOKBACK - 1)
    labels = {LONGER: 3 * pl.col("label"), CLASS: pl.col("label").sign()}
    experts, said = {}, {}
    for name, also in ALSO.items():
        module = expert_module(Leaf(expert=name, period="1d"))
        leaf = Leaf(expert=name, period="1d")
        experts[name] = expert = expert_of(module, module.Settings(**SETTINGS[name]), leaf, also)
        named = [labels[task].alias(f"also_{number}") for number, task in enumerate(also)]
        task = Task(period="1d", horizon=2, target="log_return", groups=INPUTS, seed=3, threads=1, also=also)
        expert.fit(fit.with_columns(named), task, advance=lambda share, what: None)
        asked = ask.with_columns(column.alias(column.meta.output_name()) for column in named)
        said[name] = dict(zip((OWN, *also), expert.predict_tasks(asked), strict=True))
        (folder / name).mkdir()
        expert.save(folder / name)
        expert.export(folder / name)
        write_manifest(folder / name, {"expert": name, "train_window": "2020-01-01..2021-01-01"})
    return SimpleNamespace(
        folder=folder, rows=ask.drop("part", "label"), frame=ask, experts=experts, said=said
    )


def equal_weights(experts: list[str], head: Head = HEAD) -> dict[str, str | bytes]:
    return served_files(EQUAL, Combiner(EQUAL, dict.fromkeys(experts, 1 / len(experts))), experts, head)


@pytest.fixture(scope="module")
def bundle(world):
    further = {
        LONGER: equal_weights(list(ALSO)),
        CLASS: equal_weights(["lightgbm"], Head(1, 0, 1, 1, pool=Pool((-1, 0, 1), 1.0))),
    }
    files = equal_weights(list(ALSO)) | {
        f"further/{target}_{horizon}/{name}": content
        for (target, horizon), given in further.items()
        for name, content in given.items()
    }
    return bundle_of(world, files, world.folder / "made", experts=tuple(ALSO), further=tuple(further))


def test_who_has_heads_answers_by_them_and_who_has_not_by_a_model_each(world):
    assert not isinstance(world.experts["patchtst"], ModelEach)
    assert isinstance(world.experts["lightgbm"], ModelEach)
    assert (world.folder / "lightgbm" / "further" / "direction_2" / "model.onnx").exists()
    assert not (world.folder / "patchtst" / "further" / "log_return_4" / "model.onnx").exists()
    for name in ALSO:
        own, longer = world.said[name][OWN], world.said[name][LONGER]
        assert not np.allclose(own["score"], longer["score"])
        # The label of the further task is three times as large, and so is its band.
        assert (longer["uncertainty"] / own["uncertainty"]).median() == pytest.approx(3, rel=0.25)
        covered = world.frame.filter(pl.col("part") == "predict").select("timestamp", "symbol")
        assert longer.select("timestamp", "symbol").equals(covered)
    assert set(CLASS_COLUMNS) <= set(world.said["lightgbm"][CLASS].columns)


def test_a_saved_expert_says_the_same_of_every_task(world):
    module = expert_module(Leaf(expert="patchtst", period="1d"))
    again = module.Expert.load(world.folder / "patchtst").predict_tasks(world.frame)
    for found, task in zip(again, (OWN, LONGER), strict=True):
        assert found.equals(world.said["patchtst"][task])
    leaf = Leaf(expert="patchtst", period="1d")
    warm = load_warm(module, world.folder / "patchtst", world.experts["patchtst"], leaf, ALSO["patchtst"])
    assert len(warm.further) == 1
    leaf = Leaf(expert="lightgbm", period="1d")
    module = expert_module(leaf)
    again = load_warm(module, world.folder / "lightgbm", world.experts["lightgbm"], leaf, ALSO["lightgbm"])
    assert again.further["log_return_4"].predict(world.frame).equals(world.said["lightgbm"][LONGER])


def test_every_task_is_scored_as_in_training(world, bundle):
    model = Model.load(bundle, threads=1)
    assert [(one.target, one.horizon) for one in (model, *model.further)] == [OWN, CLASS, LONGER]
    assert {one.lookback_bars for one in (model, *model.further)} == {LOOKBACK}
    bars = world.said["patchtst"][OWN]["timestamp"].unique()
    for one in (model, *model.further):
        task = (one.target, one.horizon)
        outputs = {name: said[task] for name, said in world.said.items() if task in said}
        assert one.stacker.experts == tuple(outputs)
        found = score_table(one, world.rows, bars=bars)
        ranked = [_standing(table) for table in outputs.values()]
        assert np.abs(found["score"].to_numpy() - np.mean(ranked, axis=0)).max() < 1e-4
        if task != CLASS:
            width = np.mean([table["uncertainty"].to_numpy() for table in outputs.values()], axis=0)
            assert found["p90"].to_numpy() - found["score"].to_numpy() == pytest.approx(width, rel=1e-4)
        else:
            chances = outputs["lightgbm"].select(CLASS_COLUMNS).to_numpy()
            assert np.abs(found.select(CLASS_COLUMNS).to_numpy() - chances).max() < 1e-6
    model.warm_up()


def test_all_tasks_at_once_are_what_each_is_alone_and_run_each_graph_once(bundle, monkeypatch):
    model = Model.load(bundle, threads=1)
    rng = np.random.default_rng(1)
    window = rng.normal(size=(20, LOOKBACK, len(model.columns))).astype(np.float32)
    context = np.zeros((20, len(model.context)), dtype=np.float32)
    given = (window[:, -1], context, window)
    alone = [one.expert_outputs(*given) for one in (model, *model.further)]
    ran, run = [], Graph.__call__
    monkeypatch.setattr(
        Graph, "__call__", lambda graph, **named: ran.append(graph.path) or run(graph, **named)
    )
    found = model.outputs_of_tasks(*given)
    for one, wanted in zip(found, alone, strict=True):
        assert one.names == wanted.names
        np.testing.assert_array_equal(one.score, wanted.score)
        np.testing.assert_array_equal(one.uncertainty, wanted.uncertainty)
    # A network with two heads, and a forest for each of three tasks.
    assert len(ran) == len(set(ran)) == 4


def test_inputs_are_those_that_any_task_takes_though_the_judged_one_takes_less(world, bundle, tmp_path):
    files = equal_weights(["lightgbm"]) | {
        f"further/log_return_4/{name}": content for name, content in equal_weights(list(ALSO)).items()
    }
    model = Model.load(bundle_of(world, files, tmp_path, experts=tuple(ALSO), further=(LONGER,)), threads=1)
    whole = Model.load(bundle, threads=1)
    assert model.context == model.further[0].context == whole.context
    assert REGIME_COLUMN in model.context
    assert model.lookback_bars == LOOKBACK
    bars = world.said["patchtst"][OWN]["timestamp"].unique()
    found, wanted = (score_table(one, world.rows, bars=bars) for one in (model.further[0], whole.further[1]))
    assert found.equals(wanted)


def test_an_expert_of_another_task_counts_in_the_band_by_its_width(bundle):
    stacker = read_stacker(bundle / "stacker", threads=1)
    uncertainty = np.array([[0.02, 0.04], [2.0, 8.0]])
    found = replace(stacker, width_E=np.array([1.0, 0.01])).scores(np.zeros(2), uncertainty, None)
    np.testing.assert_allclose(found.p90 - found.score, [0.02, 0.06])
    plain = stacker.scores(np.zeros(2), uncertainty, None)
    np.testing.assert_allclose(plain.p90 - plain.score, [1.01, 4.02])


def test_a_bundle_that_names_a_task_without_its_stack_is_refused(bundle, tmp_path):
    import shutil

    copy = shutil.copytree(bundle, tmp_path / "bundle")
    shutil.rmtree(copy / "stacker" / "further" / "direction_2")
    with pytest.raises(ScoringError, match=r"further/direction_2/stacker\.json"):
        Model.load(resealed(copy))


@pytest.mark.parametrize(
    "told",
    [None, "log_return_4", ["log_return_4"], [{"target": "log_return"}],
     [{"target": "log_return", "horizon": "4"}], [{"target": ["log_return"], "horizon": 4}],
     [{"target": "log_return", "horizon": 4}] * 2],
)  # fmt: skip
def test_a_manifest_whose_tasks_are_none_is_refused(bundle, tmp_path, told):
    manifest = json.loads((bundle / "manifest.json").read_text())
    with pytest.raises(ScoringError, match=r"manifest's `tasks` are"):
        further_tasks({**manifest, "tasks": told}, bundle, OWN)
    assert further_tasks(manifest, bundle, OWN) == [CLASS, LONGER]
    assert further_tasks({}, bundle, OWN) == []


def test_an_expert_that_lost_the_model_of_a_further_task_is_refused(tmp_path):
    """Its own model would answer in its place, in another unit."""
    expert = tmp_path / "lightgbm"
    expert.mkdir()
    told = [{"target": target, "horizon": horizon} for target, horizon in (OWN, LONGER)]
    write_manifest(expert, {"expert": "lightgbm", "tasks": told})
    assert form_folder(expert, OWN) == form_folder(expert, CLASS) == expert
    with pytest.raises(ScoringError, match=r"further/log_return_4 is missing, but lightgbm learned"):
        form_folder(expert, LONGER)
    (expert / "further" / "log_return_4").mkdir(parents=True)
    assert form_folder(expert, LONGER).name == "log_return_4"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("by_sector", "yes", "by_sector is 'yes'; expected true or false"),
        ("by_sector", "no", "expected true or false"),
        ("by_sector", 1, "expected true or false"),
        ("widths", [1.0], "no attribute 'items'"),
        ("widths", {"lightgbm": -1.0}, "expected finite numbers above 0"),
        ("widths", {"lightgbm": float("nan")}, "expected finite numbers above 0"),
    ],
)
def test_a_stacker_with_an_odd_value_is_refused(tmp_path, name, value, words):
    values = json.loads(equal_weights(["lightgbm"])["stacker.json"])
    for given in ({}, {name: value}):
        (tmp_path / "stacker.json").write_text(json.dumps(values | given))
        if given:
            with pytest.raises(ScoringError, match=words):
                read_stacker(tmp_path, threads=1)
        else:
            assert not read_stacker(tmp_path, threads=1).by_sector


def _standing(table: pl.DataFrame) -> np.ndarray:
    """Deviation from the bar's mean in its spread, cut off at 5: by Polars, not by the code under test."""
    score = pl.col("score")
    away = (score - score.mean().over("timestamp")) / score.std().over("timestamp")
    return table.select(away.clip(-5, 5)).to_series().to_numpy()
