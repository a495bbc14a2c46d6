"""The search of settings: its space, its blindness to the test window, resuming after a kill, pruning,
workers, and what it says of luck.
"""

import html
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from components.experts import leaves
from components.experts.leaves import Leaf, list_leaves, load_leaf
from components.experts.studies import judging, search, study, tries
from components.experts.studies.database import Database, SearchError
from components.experts.studies.judging import daily_brier_skill, daily_ic, read_tables, stored_numbers
from components.experts.studies.search import expected_maximum
from components.experts.studies.search_page import search_page, verdict
from components.experts.studies.search_space import Choices, Range, distributions, read_space, with_values
from components.experts.studies.study import SearchPlan
from components.experts.studies.tries import Try
from components.experts.training.train import train_expert
from components.settings import ConfigError, validate_settings
from pipelines.config import LEAVES
from tests.experts.studies import tunable
from tests.experts.studies.tables_on_disk import begin_of_test, ruin_the_test_window, write_inputs

TUNABLE = Leaf(
    expert="tunable",
    period="1d",
    module="tests.experts.studies.tunable",
    settings=tunable.Settings().model_dump(),
)
ELASTICNET = Leaf(
    expert="elasticnet", period="1d", threads=1, settings={"penalties": 4, "smallest_penalty": 0.01}
)
ELASTICNET_SPACE = {
    "l1_ratio": Range(low=0.1, high=1.0),
    "smallest_penalty": Range(low=0.001, high=0.1, log=True),
    "monitor": Choices(choices=("rmse", "rank_correlation")),
}
NOISE_SPACE = {"inner.noise": Range(low=0.0, high=2.0), "width": Range(low=1, high=9)}
# Stands still in its third try, when a fold of it is finished.
KILLED = """
import sys, time
from pathlib import Path
from components.experts.studies import search, tries
from tests.experts.studies.test_search import killed_plan

train, calls = tries.train_expert, []

def train_and_wait(*arguments, **options):
    def wait(*_):
        Path(sys.argv[1], "waiting").touch()
        time.sleep(120)

    calls.append(1)
    return train(*arguments, **(options | {"after_fold": wait} if len(calls) == 3 else options))

tries.train_expert = train_and_wait
search.search(killed_plan(Path(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("tables"))


def filled(leaf: Leaf) -> Leaf:
    from components.experts.leaves import expert_module

    return leaf.model_copy(
        update={
            "settings": (
                validate_settings(expert_module(leaf).Settings, leaf.settings, source="").model_dump(
                    mode="json"
                )
            )
        }
    )


def plan_for(inputs, folder, leaf=ELASTICNET, space=ELASTICNET_SPACE, trials=4, **changes) -> SearchPlan:
    return SearchPlan(inputs=inputs, leaf=filled(leaf), space=space, folder=folder, trials=trials, **changes)


def killed_plan(folder: Path) -> SearchPlan:
    """The search that a child makes."""
    return plan_for(write_inputs(folder / "tables"), folder / "search", TUNABLE, NOISE_SPACE, trials=4)


def told(found) -> list[tuple]:
    """What a study is made of, but for what was killed."""
    return [
        (one.state, one.values, one.value, one.daily.tolist())
        for one in found.tries
        if one.state != "stopped"
    ]


# The space


def test_shipped_spaces_hold_every_leaf_of_their_expert(monkeypatch):
    monkeypatch.setattr(leaves, "known_experts", cache(leaves.known_experts))
    seen = set()
    for name in list_leaves(LEAVES):
        path = LEAVES / name.split("/")[0] / "search.yaml"
        if path.exists():
            leaf = load_leaf(LEAVES / f"{name}.yaml")
            assert len(read_space(path, leaf)) > 3
            seen.add(leaf.expert)
    assert seen == {
        "elasticnet",
        "gru",
        "lightgbm",
        "xgboost",
        "patchtst",
        "tft",
        "adaptive_tft",
        "median_regression",
    }


def test_a_space_is_read_with_the_kinds_of_its_settings(tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text(
        "direction: {low: -1, high: 1}\nwidth: {low: 2, high: 16, log: true}\ninner.noise: {low: 0, high: 2,"
        " step: 0.5}\ninner.kind: {choices: [a, b]}\n"
    )
    drawn = distributions(read_space(path, filled(TUNABLE)), tunable.Settings)
    assert [type(one).__name__ for one in drawn.values()] == [
        "FloatDistribution",
        "IntDistribution",
        "FloatDistribution",
        "CategoricalDistribution",
    ]
    assert (
        drawn["direction"].low,
        drawn["width"].log,
        drawn["inner.noise"].step,
        drawn["inner.kind"].choices,
    ) == (-1.0, True, 0.5, ("a", "b"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wdith: {low: 2, high: 8}", ("line 1", "no setting 'wdith'", "Did you mean 'width'?")),
        ("inner.nose: {low: 0, high: 1}", ("no setting 'inner.nose'", "Did you mean 'inner.noise'?")),
        ("inner: {choices: [1, 2]}", ("tunable has a section 'inner'", "inner.noise, inner.kind")),
        (
            "\ndirection: {low: -2, high: 1}",
            ("line 2", "direction=-2 is refused by tunable", "greater than or equal to -1"),
        ),
        ("width: {low: 0, high: 9}", ("width=0 is refused",)),
        ("width: {low: 8, high: 2}", ("low=8 is not below high=2",)),
        ("width: {low: 0.5, high: 9}", ("whole number",)),
        ("inner.kind: {low: 1, high: 2}", ("is no number", "choices")),
        ("width: {low: 5, high: 9}", ("itself has 4", "Widen the range")),
        ("width: {choices: [8, 16]}", ("one of 8, 16", "itself has 4")),
        ("inner.noise: {low: 0, high: 1, log: true}", ("log needs a low above 0",)),
        (
            "inner.noise: {low: 0, high: 1, step: 0.3}",
            ("line 1", "steps of 0.3 from low=0 don't end at high=1", "set high to 0.9"),
        ),
        ("width: {low: 1, high: 6, step: 10}", ("don't end at high=6", "set high to 11")),
        ("width: 3", ("expected {low: ..., high: ...}",)),
        ("width: {low: 2, hihg: 8}", ("hihg", "Did you mean 'high'?")),
        ("- 1", ("holds a list",)),
    ],
)
def test_a_wrong_space_is_named_with_file_and_field(text, words, tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_space(path, filled(TUNABLE))
    assert "search.yaml" in str(caught.value)
    assert len(str(caught.value).splitlines()) < 10
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "choices", ["[[4, 8], [16]]", "[4, [8]]", "[4, {a: 8}]", "[4, 2020-01-01]", "[4, .nan]"]
)
def test_choices_that_are_no_plain_values_are_told_in_one_line(choices, tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text(f"width: {{choices: {choices}}}")
    with pytest.raises(
        ConfigError,
        match=r"search\.yaml, line 1: choices: a choice must be one number, word, true, false or null",
    ) as caught:
        read_space(path, filled(TUNABLE))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.filterwarnings("error")
def test_steps_that_divide_the_range_pass_without_a_warning(tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text("inner.noise: {low: 0.0, high: 0.3, step: 0.1}\nwidth: {low: 1, high: 10, step: 3}\n")
    drawn = distributions(read_space(path, filled(TUNABLE)), tunable.Settings)
    assert [one.high for one in drawn.values()] == [0.3, 10]


def test_a_missing_space_says_how_one_looks(tmp_path):
    with pytest.raises(ConfigError, match=r"low: 0\.001"):
        read_space(tmp_path / "search.yaml", filled(TUNABLE))


# The objective


def test_the_first_try_is_the_leaf_and_its_value_the_mean_daily_rank_ic_of_known_labels(inputs, tmp_path):
    found = search.search(plan_for(inputs, tmp_path, trials=1))
    own = found.tries[0]
    assert own.own
    assert found.best is own
    assert found.gain == 0 == found.luck
    leaf = filled(ELASTICNET)
    assert own.values == {name: leaf.settings[name] for name in ELASTICNET_SPACE}
    training_set, labels = pl.read_parquet(inputs.training_set), pl.read_parquet(inputs.labels)
    whole = read_tables(inputs, "test")
    assignment = inputs.assignment(leaf, inputs.seed)
    predictions = train_expert(whole.given, assignment, tmp_path / "whole").predictions
    known = labels.filter(pl.col("label_end") < begin_of_test(training_set))
    days = predictions.join(known, on=("timestamp", "symbol")).sort("timestamp").partition_by("timestamp")
    slow = [spearmanr(day["score"], day["log_return"]).statistic for day in days]
    # 30 validation days; the labels of the last three are known only when the test window has begun.
    assert len(own.daily) == len(slow) == 27
    assert own.daily == pytest.approx(slow, abs=1e-8)
    assert own.value == pytest.approx(np.mean(slow))


def values_after(change, place) -> list[tuple]:
    return told(
        search.search(plan_for(write_inputs(place / "tables", change=change), place / "search", trials=2))
    )


def test_nothing_of_the_test_window_moves_a_value(tmp_path, inputs):
    clean = told(search.search(plan_for(inputs, tmp_path / "clean", trials=2)))
    assert values_after(ruin_the_test_window, tmp_path / "ruined") == clean


def test_a_search_that_sees_labels_of_the_test_window_is_caught(tmp_path, inputs, monkeypatch):
    monkeypatch.setattr(judging, "blind", lambda training_set, labels, _: (training_set, labels))
    clean = told(search.search(plan_for(inputs, tmp_path / "clean", trials=2)))
    assert values_after(ruin_the_test_window, tmp_path / "ruined") != clean


def test_tables_for_validation_hold_only_times_and_symbols_of_the_test_window(inputs):
    tables, begins = read_tables(inputs), begin_of_test(pl.read_parquet(inputs.training_set))
    unseen = tables.given.training_set.filter(pl.col("timestamp") >= begins)
    assert len(unseen) == 30 * 12
    assert unseen.null_count().row(0) == (0, 0, *[len(unseen)] * (unseen.width - 2))
    assert tables.given.labels["label_end"].max() < begins
    assert tables.wanted["timestamp"].max() < begins


def test_days_without_an_order_count_as_nothing_found():
    times = pl.Series([1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4]).cast(pl.Datetime("us", "UTC"))
    symbols = list("abcabcababc")
    scores = pl.DataFrame(
        {"timestamp": times, "symbol": symbols, "score": [1.0, 2, 3, 5, 5, 5, 1, 2, 1, 2, 3]}
    )
    labels = pl.DataFrame(
        {"timestamp": times, "symbol": symbols, "label": [1.0, 2, 3, 1, 2, 3, 1, 2, 7, 7, 7]}
    )
    # Day 2 has one score for all, day 3 two symbols, day 4 one label for all.
    assert daily_ic(scores, labels)["ic"].to_list() == pytest.approx([1.0, 0.0])


# Going on


def test_a_search_goes_on_with_the_tries_of_an_unbroken_one(inputs, tmp_path):
    def go(place, trials):
        return search.search(plan_for(inputs, tmp_path / place, TUNABLE, NOISE_SPACE, trials))

    unbroken = go("unbroken", 11)
    go("broken", 4)
    assert told(go("broken", 11)) == told(unbroken)
    assert len({str(one.values) for one in unbroken.tries}) == 11
    assert told(go("broken", 5)) == told(unbroken)


@pytest.mark.parametrize("moment", ["in training", "after it"])
def test_an_interrupted_try_is_made_again(moment, inputs, tmp_path, monkeypatch):
    unbroken = search.search(plan_for(inputs, tmp_path / "unbroken", TUNABLE, NOISE_SPACE))
    calls = []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 3 and moment == "in training":
            raise KeyboardInterrupt
        result = train_expert(*arguments, **options)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(tries, "train_expert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search.search(plan_for(inputs, tmp_path / "broken", TUNABLE, NOISE_SPACE))
    plan = plan_for(inputs, tmp_path / "broken", TUNABLE, NOISE_SPACE)
    states = [one.state for one in search._found(study.open_study(plan), plan).tries]
    assert (len(states), states.index("stopped")) == (3, 2)
    went_on = search.search(plan_for(inputs, tmp_path / "broken", TUNABLE, NOISE_SPACE))
    assert told(went_on) == told(unbroken)
    assert [one.state for one in went_on.tries].count("stopped") == 1
    assert not list((tmp_path / "broken" / "tries").iterdir())


def test_a_killed_search_goes_on(tmp_path):
    broken = tmp_path / "broken"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(broken)], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(broken / "waiting", child)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    assert list((broken / "search" / "tries").glob("*try_0002/fold_*/result.json"))
    went_on = search.search(killed_plan(broken))
    unbroken = search.search(killed_plan(tmp_path / "unbroken"))
    assert told(went_on) == told(unbroken)
    stopped = [one for one in went_on.tries if one.state == "stopped"]
    assert [one.number for one in stopped] == [2]
    assert [
        one.number for one in went_on.tries if one.values == stopped[0].values and one.state != "stopped"
    ] == [3]


def wait_for(path: Path, child: subprocess.Popen) -> None:
    for _ in range(1200):
        assert child.poll() is None
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError("the child did not come so far")


def test_workers_share_a_study_and_stop_at_the_number_wanted_though_one_is_killed(inputs, tmp_path, capfd):
    (tmp_path / "kills").touch()
    leaf = TUNABLE.model_copy(update={"settings": {"dies_with": str(tmp_path / "kills")}})
    plan = plan_for(inputs, tmp_path, leaf, NOISE_SPACE, trials=7, workers=2)
    found = search.search(plan)
    # A child that died stays a process until its parent looks, and must not be waited for.
    assert "1 of 2 workers died (exit code -9)" in capfd.readouterr().err
    counted = [one for one in found.tries if one.state != "stopped"]
    assert sorted(one.number for one in found.tries) == list(range(8))
    assert len(counted) == 7
    assert {one.state for one in counted} <= {"complete", "pruned"}
    assert len({str(one.values) for one in counted}) == 7
    alone = search.search(replace(plan, folder=tmp_path / "alone", trials=1, workers=1))
    assert found.own.value == alone.own.value


def test_what_stops_a_worker_is_told(inputs, tmp_path):
    plan = plan_for(replace(inputs, target="no_such_target"), tmp_path, TUNABLE, NOISE_SPACE, workers=2)
    with pytest.raises(SearchError, match="no target 'no_such_target'"):
        search.search(plan)


def test_no_try_is_begun_after_the_time(inputs, tmp_path):
    with pytest.raises(SearchError, match="No try of study elasticnet-1d-base has ended well yet"):
        search.search(plan_for(inputs, tmp_path, timeout_s=0.0))


# Pruning and failing


def test_what_is_far_behind_is_given_up_and_nothing_else(tmp_path):
    # After three folds of 15 days there are enough for a t value.
    long = write_inputs(tmp_path / "tables", bars=320)
    found = search.search(
        plan_for(long, tmp_path, TUNABLE, {"direction": Range(low=-1.0, high=1.0)}, trials=16)
    )
    behind = {one.number for one in found.tries if one.values["direction"] < 0}
    assert behind == {one.number for one in found.tries if one.state == "pruned"}
    assert 0 < len(behind) < 16
    assert all(len(one.daily) < len(found.own.daily) for one in found.tries if one.number in behind)


def test_a_try_that_fails_counts_and_the_search_goes_on(inputs, tmp_path, capsys):
    found = search.search(
        plan_for(
            inputs,
            tmp_path,
            TUNABLE,
            {"fails": Choices(choices=(False, True)), "width": Range(low=2, high=9)},
            trials=8,
        )
    )
    states = [one.state for one in found.tries]
    assert len(states) == 8
    assert set(states) == {"complete", "failed"}
    assert all(("was told to fail" in one.reason) == one.values["fails"] for one in found.tries)
    assert (
        "failed: Expert tunable, fold_00: fit failed: RuntimeError: was told to fail"
        in capsys.readouterr().err
    )


def test_a_leaf_that_fails_itself_leaves_nothing_to_compare_with(inputs, tmp_path):
    leaf = TUNABLE.model_copy(update={"settings": {"fails": True}})
    with pytest.raises(SearchError, match="was told to fail"):
        search.search(plan_for(inputs, tmp_path, leaf, {"width": Range(low=2, high=9)}, trials=2))


def test_a_study_of_other_data_or_space_is_refused(inputs, tmp_path):
    search.search(plan_for(inputs, tmp_path / "search", trials=1))
    other = write_inputs(tmp_path / "tables", seed=2)
    with pytest.raises(SearchError, match=r"made with other data:.*--study elasticnet-1d-base-2"):
        search.search(plan_for(other, tmp_path / "search", trials=1))
    with pytest.raises(SearchError, match="other space, code"):
        search.search(
            plan_for(
                replace(inputs, code="v2"),
                tmp_path / "search",
                space={"l1_ratio": Range(low=0.1, high=0.9)},
                trials=1,
            )
        )
    search.search(plan_for(other, tmp_path / "search", trials=1, study="second"))


def test_a_password_is_never_shown(inputs, tmp_path):
    url = "postgresql+psycopg://me:s3cret@localhost:1/none"
    assert "s3cret" not in Database(url, "--storage").shown
    keyed = "postgresql://u@h/db?sslmode=verify-full&sslpassword=s3cret"
    assert "s3cret" not in Database(keyed, "--storage").shown
    assert "s3cret" not in repr(Database(url, "--storage"))
    with pytest.raises(SearchError) as caught:
        search.search(plan_for(inputs, tmp_path, storage=url))
    assert "s3cret" not in str(caught.value)
    assert "me:***@localhost" in str(caught.value)
    with pytest.raises(SearchError, match="no database URL") as caught:
        search.search(plan_for(inputs, tmp_path, storage="me:s3cret"))
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_no_database_is_told(inputs, tmp_path):
    (tmp_path / "study.db").write_text("not a database at all, but long enough to be read as one" * 20)
    with pytest.raises(
        SearchError,
        match=r"study\.db can't be used: file is not a database\. Move that file away .*--storage",
    ):
        search.search(plan_for(inputs, tmp_path))
    with pytest.raises(
        SearchError, match=r"Move that file away, name another one in --storage, or leave --storage out"
    ):
        search.search(plan_for(inputs, tmp_path / "other", storage=f"sqlite:///{tmp_path / 'study.db'}"))
    (tmp_path / "study.db").rename(tmp_path / "moved.db")
    study.require_usable(study.database_of("", tmp_path, ""))


# Luck


@pytest.mark.parametrize("tries", [2, 5, 30, 100])
def test_the_expected_maximum_is_that_of_normal_draws(tries):
    drawn = np.random.default_rng(0).standard_normal((20_000, tries)).max(axis=1).mean()
    assert expected_maximum(tries) == pytest.approx(drawn, rel=0.1)


def test_luck_is_the_gain_of_the_best_of_equal_tries():
    rng = np.random.default_rng(1)
    gains, lucks = [], []
    for _ in range(150):
        common = rng.standard_normal(300)
        tries = [
            Try(number, "complete", {}, 0.0, number == 0, 0.1 + 0.1 * (common + rng.standard_normal(300)))
            for number in range(20)
        ]
        gains.append(max(one.daily.mean() for one in tries) - tries[0].daily.mean())
        lucks.append(search._luck(tries, tries[0], 1, 20))
    assert np.mean(lucks) == pytest.approx(np.mean(gains), rel=0.15)


def test_the_page_says_what_was_done_and_how_much_is_luck(inputs, tmp_path):
    plan = plan_for(inputs, tmp_path, trials=6)
    found = search.search(plan)
    page = html.unescape(search_page(found, plan))
    for words in (
        "The test window was not touched",
        "Luck:",
        "Importance",
        "smallest_penalty",
        "best so far",
        verdict(found)[:40],
    ):
        assert words in page
    assert set(found.importances) == set(ELASTICNET_SPACE)
    assert sum(found.importances.values()) == pytest.approx(1)
    settings = with_values(plan.leaf.settings, found.best.values)
    assert found.best_leaf.settings == settings


@pytest.mark.parametrize(
    ("gain", "luck", "words"),
    [
        (0.01, 0.02, "no evidence"),
        (0.03, 0.02, "more than one standard error"),
        (0.022, 0.02, "less than one standard error"),
    ],
)
def test_the_verdict_follows_gain_and_luck(gain, luck, words):
    own, best = (Try(number, "complete", {}, 0.1, number == 0, np.zeros(3)) for number in range(2))
    found = search.StudyResult("study", "", [own, best], best, own, TUNABLE, gain, 0.005, luck, {})
    assert words in verdict(found)


def test_too_few_days_are_no_evidence_and_know_no_luck():
    rng = np.random.default_rng(2)
    made = [Try(number, "complete", {}, 0.0, number == 0, 0.1 * rng.normal(size=40)) for number in range(5)]
    assert search._luck(made, made[0], 5, 5) is None
    assert search._luck(made, made[0], 1, 5) > 0
    assert search._luck(made[:1], made[0], 5, 1) == 0
    found = search.StudyResult("study", "", made, made[1], made[0], TUNABLE, 0.4, None, None, {})
    assert "40 days" in verdict(found)
    assert "no evidence" in verdict(found)
    assert not tries._hopeless(made[1].daily - 9, made[0].daily, 5)
    assert tries._hopeless(made[1].daily - 9, made[0].daily, 1)


def test_numbers_of_a_network_are_counted_from_the_file(tmp_path):
    from safetensors.numpy import save_file

    assert stored_numbers(tmp_path) is None
    save_file({"a": np.zeros((3, 4)), "b": np.zeros(5)}, tmp_path / "weights.safetensors")
    assert stored_numbers(tmp_path) == 17


def test_of_classes_a_try_is_worth_its_brier_skill(inputs, tmp_path):
    plan = plan_for(replace(inputs, target="direction"), tmp_path / "search", TUNABLE, NOISE_SPACE, trials=2)
    found = search.search(plan)
    tables = read_tables(plan.inputs)
    said = train_expert(
        tables.given,
        plan.inputs.assignment(plan.leaf, plan.inputs.seed),
        tmp_path / "own",
        until="validation",
    ).predictions
    np.testing.assert_allclose(found.own.daily, tables.quality(said)["quality"], atol=1e-8)
    assert found.own.value == pytest.approx(
        daily_brier_skill(said, tables.wanted, (-1, 0, 1))["quality"].mean()
    )
    page = search_page(found, plan)
    assert "Mean daily Brier skill of" in page
    assert "RankIC" not in page
