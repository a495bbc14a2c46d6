"""The gates: each catches its planted fault and passes the clean case; luck is seldom approved, skill mostly
is.
"""

import copy
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from luck_market import measured, verdict_on
from pydantic import ValidationError

from components.contracts import ALL_PREDICTIONS, LABELS, UNIVERSE, ContractError, content_sha256, write_table
from components.contracts.documents.champion import ChampionRecord, NewestBars, NoChampion
from components.contracts.documents.evaluation import Evaluation
from components.contracts.documents.trials import Scored, Trials
from components.contracts.documents.verdict import Verdict
from components.gates.config import Settings
from components.gates.judge import judge as judge_candidate
from components.gates.promotion import Contest, newest_bars_only
from components.gates.read import (
    ChampionPredictions,
    read_candidate,
    read_champion_predictions,
    read_evaluation,
)


@dataclass(frozen=True)
class Measured:
    """A candidate; its evaluation as JSON holds it, so that tests can plant faults."""

    evaluation: dict
    predictions: pl.DataFrame
    labels: pl.DataFrame
    trials: Trials


@cache
def good_model() -> Measured:
    found = measured(3, true_ic=0.1, persistence=0.9)
    return Measured(found.evaluation.model_dump(mode="json"), found.predictions, found.labels, found.trials)


@pytest.fixture
def good() -> Measured:
    return good_model()


def judge(
    evaluation: dict,
    predictions: pl.DataFrame,
    labels: pl.DataFrame,
    champion: ChampionPredictions | None,
    settings: Settings,
    *,
    champion_after: datetime | None = None,
    trials: Trials | None = None,
) -> Verdict:
    """A verdict after these trials, or those of the good model's run."""
    read = Evaluation.model_validate_json(json.dumps(evaluation))
    contest = Contest(read, predictions, labels, champion, champion_after)
    return judge_candidate(contest, trials or good_model().trials, settings, code="c")


def verdict(good, change=None, champion=None, trials=None, **settings):
    evaluation = copy.deepcopy(good.evaluation)
    if change:
        change(evaluation["experts"]["stack"]["test"])
    return judge(evaluation, good.predictions, good.labels, champion, Settings(**settings), trials=trials)


def gate(result, name):
    return next(one for one in result.gates if one.name == name)


def test_a_good_model_is_approved(good):
    result = verdict(good)
    assert result.approved
    assert result.beats_champion
    assert result.champion_version is None
    assert result.reason == "all 19 gates passed, 3 were not asked; there is no champion yet"
    assert all(one.passed for one in result.gates)
    assert json.loads(json.dumps(result.model_dump(mode="json"), allow_nan=False))["gates"][0].keys() == {
        "name",
        "value",
        "threshold",
        "comparison",
        "passed",
        "reason",
        "level",
        "needed",
    }


def put(*path, value):
    def change(block):
        for key in path[:-1]:
            block = block[key]
        block[path[-1]] = value

    return change


def sinking(block):
    half = len(block["daily"]["rank_ic"]) // 2
    block["daily"]["rank_ic"] = [-0.1] * half + [0.5] * (len(block["daily"]["rank_ic"]) - half)


FAULTS = {
    "information_coefficient": put("ic", "mean", value=0.019),
    "significance": put("rank_ic", "t_hac", value=1.9),
    "steadiness": sinking,
    "drift": put("psi", "cross_section", value=0.26),
    "calibration": put("calibration", "inside_p10_p90", value=0.69),
    "illiquid_profit": put("liquidity", "least_traded_profit_share", value=0.51),
    "sharpe_outside_illiquid": put("liquidity", "sharpe_net_outside", value=0.4),
    "skill_outside_illiquid": put("liquidity", "rank_ic_outside", "t_hac", value=1.9),
    "information_ratio": put("portfolio", "long_only", "information_ratio_net", value=0.4),
    "sharpe": put("portfolio", "long_short", "sharpe_net", value=0.9),
    "sharpe_lower_limit": put("portfolio", "long_short", "sharpe_net_interval", value=[0.0, 3.0]),
    "drawdown": put("portfolio", "long_short", "max_drawdown", value=0.21),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_gate_catches_its_fault_and_no_other_does(good, name):
    result = verdict(good, FAULTS[name])
    assert [one.name for one in result.gates if not one.passed] == [name]
    assert not result.approved
    # Out of those that were asked: the rest could not have failed.
    assert result.reason.startswith("1 of 19 gates failed, 3 were not asked: ")
    assert result.reason.endswith(name)
    assert "but wanted" in gate(result, name).reason


def of_few_bars(bars):
    """All that is known of so few bars, as good as before."""

    def shorten(block):
        for key, value in block.items():
            if isinstance(value, dict):
                shorten(value)
            elif key == "bars":
                block[key] = bars
        if "daily" in block:
            block["daily"] = {name: values[:bars] for name, values in block["daily"].items()}

    return shorten


def first_bars(trials: Trials, bars: int) -> Trials:
    """The trials with returns on so many bars alone, on the first of which nothing is held yet."""

    def shorten(together: Scored) -> Scored:
        models = (
            model.model_copy(
                update={"net_return": model.net_return[:bars] + [None] * (len(model.net_return) - bars)}
            )
            for model in together.models
        )
        return together.model_copy(update={"models": tuple(models)})

    return trials.model_copy(update={"scored": tuple(map(shorten, trials.scored))})


@pytest.mark.parametrize("bars", [0, 1, 5, 59])
def test_no_gate_passes_on_few_bars_and_each_says_so(good, bars):
    result = verdict(good, of_few_bars(bars), trials=first_bars(good.trials, bars))
    own = [one for one in result.gates if one.level == "approval"]
    assert [one.name for one in own if one.passed] == []
    for one in own:
        if one.name not in ("test_bars", "ordered_bars"):
            assert one.value is None
            assert "60 needed (gates.min_test_bars), so it does not pass" in one.reason


def test_enough_bars_are_enough(good):
    asked = {"max_spa_p": {"nothing": 0.1}, "min_deflated_sharpe": 0.9}
    result = verdict(good, of_few_bars(60), trials=first_bars(good.trials, 61), **asked)
    failed = [one.name for one in result.gates if not one.passed]
    # The others order all 214 bars.
    assert failed == ["ordered_bars", "not_worse_than_equal_weights", "not_worse_than_best_single"]


def test_a_portfolio_of_few_bars_fails_by_its_own_bars(good):
    result = verdict(good, put("portfolio", "long_short", "bars", value=12))
    failed = [one.name for one in result.gates if not one.passed]
    assert failed == [
        "sharpe",
        "sharpe_lower_limit",
        "drawdown",
        "capacity",
        "illiquid_profit",
        "sharpe_outside_illiquid",
    ]
    assert "only 12 bars" in gate(result, "sharpe").reason


def test_significance_needs_bars_for_its_horizon(good):
    """Sixty bars say nothing about labels of ten bars, whatever t value stands in the evaluation."""
    evaluation = copy.deepcopy(good.evaluation)
    of_few_bars(90)(evaluation["experts"]["stack"]["test"])
    evaluation["horizon"] = 10
    result = judge(evaluation, good.predictions, good.labels, None, Settings())
    assert (
        "only 90 bars, 100 needed (for a t value at a horizon of 10)" in gate(result, "significance").reason
    )
    assert gate(result, "significance").value is None


def test_one_lucky_bar_is_not_approved():
    """A market of pure luck, and a candidate that knew everything on one bar of it."""
    found = measured(11, true_ic=0.0, persistence=0.0, lucky_bar=100)
    contest = Contest(found.evaluation, found.predictions, found.labels, None)
    result = judge_candidate(contest, found.trials, Settings(), code="c")
    assert not result.approved
    assert {"significance", "sharpe_lower_limit"} <= {one.name for one in result.gates if not one.passed}


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
@pytest.mark.parametrize("name", [name for name in FAULTS if name != "steadiness"])
def test_what_is_not_a_number_never_passes(good, name, value):
    result = verdict(good, put_number(name, value))
    assert not gate(result, name).passed
    assert "could not be computed" in gate(result, name).reason
    json.dumps(result.model_dump(mode="json"), allow_nan=False)


@pytest.mark.parametrize("value", ["0.5", True])
@pytest.mark.parametrize("name", [name for name in FAULTS if name != "steadiness"])
def test_what_is_of_another_type_is_refused_by_name(good, name, value):
    with pytest.raises(ValidationError, match=r"experts\.stack\.test\."):
        verdict(good, put_number(name, value))


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_number_of_bars_is_always_known(good, value):
    with pytest.raises(ValidationError, match=r"experts\.stack\.test\.ic\.bars"):
        verdict(good, put_number("test_bars", value))


def put_number(name, value):
    places = {
        "test_bars": ("ic", "bars"),
        "information_coefficient": ("ic", "mean"),
        "significance": ("rank_ic", "t_hac"),
        "drift": ("psi", "cross_section"),
        "calibration": ("calibration", "inside_p10_p90"),
        "illiquid_profit": ("liquidity", "least_traded_profit_share"),
        "sharpe_outside_illiquid": ("liquidity", "sharpe_net_outside"),
        "skill_outside_illiquid": ("liquidity", "rank_ic_outside", "t_hac"),
        "information_ratio": ("portfolio", "long_only", "information_ratio_net"),
        "sharpe": ("portfolio", "long_short", "sharpe_net"),
        "sharpe_lower_limit": ("portfolio", "long_short", "sharpe_net_interval"),
        "drawdown": ("portfolio", "long_short", "max_drawdown"),
    }
    return put(*places[name], value=[value, 1.0] if name == "sharpe_lower_limit" else value)


def test_a_block_of_unknown_numbers_fails_everything(good):
    def forget(block):
        for key, value in block.items():
            if isinstance(value, dict):
                forget(value)
            elif isinstance(value, float):
                block[key] = None
            elif isinstance(value, list):
                block[key] = [None if isinstance(one, float) else one for one in value]
            elif key == "bars":
                block[key] = 0
        block.get("portfolio", {}).get("long_short", {})["interval_level"] = 0.9
        block.get("portfolio", {}).get("long_only", {})["interval_level"] = 0.9

    result = verdict(good, forget)
    by_trials = ("spa", "deflated_sharpe", "overfitting")
    passed = {one.name for one in result.gates if one.passed and one.level == "approval"}
    assert passed == set(by_trials)


def test_an_empty_block_is_refused_by_the_names_of_its_keys(good, tmp_path):
    evaluation = copy.deepcopy(good.evaluation)
    block = evaluation["experts"]["stack"]["test"]
    block.clear()
    block.update(rows=0)
    (tmp_path / "evaluation").write_text(json.dumps(evaluation))
    with pytest.raises(ContractError, match=r"experts\.stack\.test\.labelled_rows: Field required"):
        Evaluation.read(tmp_path / "evaluation")


@pytest.mark.parametrize("baseline", ["median", "equal_weights", "best_single"])
def test_a_better_baseline_is_noticed(good, baseline):
    evaluation = copy.deepcopy(good.evaluation)
    daily = evaluation["experts"][baseline]["test"]["daily"]
    own = evaluation["experts"]["stack"]["test"]["daily"]["rank_ic"]
    daily["rank_ic"] = [None if value is None else value + 0.02 for value in own]
    result = judge(evaluation, good.predictions, good.labels, None, Settings())
    name = "better_than_median" if baseline == "median" else f"not_worse_than_{baseline}"
    assert [one.name for one in result.gates if not one.passed] == [name]
    assert gate(result, name).value == pytest.approx(-0.02)


def test_bars_without_an_order_count_against_the_candidate(good):
    evaluation = copy.deepcopy(good.evaluation)
    own, other = (evaluation["experts"][name]["test"]["daily"] for name in ("stack", "equal_weights"))
    other["rank_ic"] = [0.05] * len(own["rank_ic"])
    own["rank_ic"] = [0.06 if bar % 3 == 0 else None for bar in range(len(own["rank_ic"]))]
    found = gate(
        judge(evaluation, good.predictions, good.labels, None, Settings()), "not_worse_than_equal_weights"
    )
    assert not found.passed
    assert found.value == pytest.approx(0.02 - 0.05, abs=1e-3)


def test_bars_on_which_neither_gives_an_order_are_nothing_gained(good):
    """A candidate that speaks on two bars in three has two thirds of its gain."""
    evaluation = copy.deepcopy(good.evaluation)
    own, other = (evaluation["experts"][name]["test"]["daily"] for name in ("stack", "median"))
    bars = len(own["rank_ic"])
    other["rank_ic"] = [None] * bars
    own["rank_ic"] = [0.006 if bar % 3 else None for bar in range(bars)]
    found = gate(judge(evaluation, good.predictions, good.labels, None, Settings()), "better_than_median")
    assert found.value == pytest.approx(0.004, rel=0.02)
    assert not found.passed
    own["rank_ic"] = [0.006] * bars
    clean = gate(judge(evaluation, good.predictions, good.labels, None, Settings()), "better_than_median")
    assert clean.value == pytest.approx(0.006)
    assert clean.passed


def test_bars_that_a_candidate_leaves_out_altogether_count_against_it(good):
    evaluation = copy.deepcopy(good.evaluation)
    own, other = (evaluation["experts"][name]["test"]["daily"] for name in ("stack", "equal_weights"))
    bars = len(own["rank_ic"])
    other["rank_ic"], own["rank_ic"] = [0.05] * bars, [0.06] * bars
    for name, values in own.items():
        own[name] = values[: bars // 2]
    found = gate(
        judge(evaluation, good.predictions, good.labels, None, Settings()), "not_worse_than_equal_weights"
    )
    assert found.value == pytest.approx(0.03 - 0.05, abs=1e-3)
    assert not found.passed


def test_an_absent_baseline_does_not_pass_by_itself(good):
    evaluation = copy.deepcopy(good.evaluation)
    del evaluation["experts"]["median"]
    failed = gate(judge(evaluation, good.predictions, good.labels, None, Settings()), "better_than_median")
    assert not failed.passed
    assert "add that expert or take it out of gates.baselines" in failed.reason


def test_an_unknown_candidate_is_named(good):
    with pytest.raises(ContractError, match="no test results of 'zebra'"):
        verdict(good, candidate="zebra")


def worse(predictions: pl.DataFrame, share: float, seed: int = 0) -> pl.DataFrame:
    noise = np.random.default_rng(seed).normal(0, predictions["score"].std(), len(predictions))
    return predictions.with_columns((pl.col("score") * (1 - share) + share * pl.Series(noise)).alias("score"))


def test_a_worse_champion_is_beaten_and_a_better_one_is_not(good):
    noisy = worse(good.predictions, 0.9)
    beaten = verdict(good, champion=ChampionPredictions("4", noisy))
    assert beaten.beats_champion
    assert beaten.champion_version == "4"
    lost = judge(good.evaluation, noisy, good.labels, ChampionPredictions("5", good.predictions), Settings())
    assert not lost.beats_champion
    assert gate(lost, "better_than_champion").value < 0
    assert lost.approved, "the champion is a matter of promotion, not of approval"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda frame: frame, "same model as champion 7"),
        (
            lambda frame: frame.with_columns(pl.col("timestamp") + pl.duration(days=3000)),
            "only 0 bars in common",
        ),
        (
            lambda frame: frame.filter(
                pl.col("timestamp") < frame["timestamp"].unique().sort()[40]
            ).with_columns(pl.col("score") * -1),
            "only 40 bars in common",
        ),
        (lambda frame: frame.with_columns(pl.lit("log_return").alias("target")), "another horizon or target"),
        (
            lambda frame: frame.with_columns(pl.lit(10, dtype=pl.Int32).alias("horizon")),
            "another horizon or target",
        ),
    ],
)
def test_a_champion_that_cannot_be_compared_is_not_replaced(good, make, reason):
    result = verdict(good, champion=ChampionPredictions("7", make(good.predictions)))
    assert result.approved
    assert not result.beats_champion
    assert reason in gate(result, "better_than_champion").reason
    assert "not promoted automatically" in gate(result, "better_than_champion").reason


def test_only_the_candidates_test_window_is_held_against_the_champion(good):
    """On its validation window the candidate was chosen: what it says there must not win it the champion's
    place.
    """
    champion = worse(good.predictions, 0.9)
    expected = gate(verdict(good, champion=ChampionPredictions("1", champion)), "better_than_champion").value
    moments = good.labels["timestamp"].unique().sort()[:30]
    known = good.labels.filter(pl.col("timestamp").is_in(moments.implode())).select(
        "timestamp", "symbol", pl.col("sector_neutral_return").alias("score")
    )
    rest = good.predictions.drop("timestamp", "symbol", "score").head(len(known))
    seen = pl.concat([known, rest], how="horizontal").select(good.predictions.columns)
    ours, theirs = (
        pl.concat([seen.with_columns(pl.col("score") * sign), frame])
        for sign, frame in ((1, good.predictions), (-1, champion))
    )
    result = judge(good.evaluation, ours, good.labels, ChampionPredictions("1", theirs), Settings())
    assert gate(result, "better_than_champion").value == pytest.approx(expected)


@pytest.mark.parametrize("first_bars", [40, 200])
def test_what_a_champion_has_learned_from_is_no_contest(good, first_bars):
    """Planted fault: up to the end of its training the champion says the labels themselves, after it noise.

    Only the bars after it may count.
    """
    calendar = good.predictions["timestamp"].unique().sort()
    known_until = calendar[first_bars]
    labels = good.labels.select("timestamp", "symbol", pl.col("sector_neutral_return").alias("known"))
    learned = worse(good.predictions, 0.9).join(
        labels, on=["timestamp", "symbol"], how="left", maintain_order="left"
    )
    learned = learned.with_columns(
        pl.when(pl.col("timestamp") <= known_until)
        .then(pl.col("known").fill_null(0))
        .otherwise(pl.col("score"))
        .alias("score")
    )
    champion = ChampionPredictions("6", learned.drop("known"), known_until=known_until)
    assert not verdict(good, champion=champion).beats_champion
    result = judge(
        good.evaluation,
        good.predictions,
        good.labels,
        champion,
        Settings(min_champion_bars=10),
        champion_after=newest_bars_only(champion),
    )
    found = gate(result, "better_than_champion")
    if first_bars == 40:
        assert found.passed
        assert found.value > 1.28
    assert f"all after {known_until:%Y-%m-%d %H:%M}, where its training data ends" in found.reason
    few = judge(
        good.evaluation,
        good.predictions,
        good.labels,
        champion,
        Settings(min_champion_bars=10_000),
        champion_after=known_until,
    )
    assert "10000 needed" in gate(few, "better_than_champion").reason
    assert not few.beats_champion


def test_the_last_bar_that_the_champion_learned_from_does_not_count(good):
    """Planted fault: labels of that very bar are known at its close."""
    calendar = good.predictions["timestamp"].unique().sort()
    champion = ChampionPredictions("6", worse(good.predictions, 0.9), known_until=calendar[100])
    last = good.predictions.filter(pl.col("timestamp") >= calendar[100])
    both = judge(
        good.evaluation,
        last,
        good.labels,
        champion,
        Settings(min_champion_bars=10_000),
        champion_after=newest_bars_only(champion),
    )
    assert f"only {gate_bars(both)} bars in common" in gate(both, "better_than_champion").reason
    later = judge(
        good.evaluation,
        last.filter(pl.col("timestamp") > calendar[100]),
        good.labels,
        champion,
        Settings(min_champion_bars=10_000),
    )
    assert gate_bars(later) == gate_bars(both)


def gate_bars(result) -> int:
    return int(gate(result, "better_than_champion").reason.split()[1])


def test_bars_on_which_the_candidate_gives_no_order_count_for_the_champion(good):
    """Planted fault: a candidate that is as good on easy bars and silent on the others would not be worse on
    the bars that both ordered.
    """
    calendar = good.predictions["timestamp"].unique().sort()
    silent = (
        pl.when(pl.col("timestamp").is_in(calendar.gather_every(2).implode()))
        .then(0.0)
        .otherwise(pl.col("score"))
    )
    result = judge(
        good.evaluation,
        good.predictions.with_columns(silent.alias("score")),
        good.labels,
        ChampionPredictions("2", good.predictions),
        Settings(),
    )
    assert not result.beats_champion
    assert gate(result, "better_than_champion").value < -2


def test_a_champion_that_cannot_be_scored_on_newer_bars_is_compared_by_its_stored_predictions(good):
    last = good.predictions["timestamp"].max()
    champion = ChampionPredictions(
        "8", worse(good.predictions, 0.9), known_until=last, not_scored="another schema"
    )
    found = gate(verdict(good, champion=champion), "better_than_champion")
    assert found.passed
    assert "it can't be scored on newer bars: another schema" in found.reason
    retrained = judge(
        good.evaluation,
        good.predictions,
        good.labels,
        champion,
        Settings(),
        champion_after=newest_bars_only(champion),
    )
    assert not retrained.beats_champion, "a retraining has to win on newer bars"
    assert (
        "it can't be scored on newer bars: another schema" in gate(retrained, "better_than_champion").reason
    )
    scored = ChampionPredictions("8", champion.predictions, known_until=last)
    none = judge(
        good.evaluation,
        good.predictions,
        good.labels,
        scored,
        Settings(),
        champion_after=newest_bars_only(scored),
    )
    assert not none.beats_champion
    assert "only 0 bars in common" in gate(none, "better_than_champion").reason
    assert newest_bars_only(None) is None


def test_an_equally_good_champion_is_seldom_beaten(good):
    ours, wins = worse(good.predictions, 0.3, seed=999), 0
    for seed in range(40):
        wins += judge(
            good.evaluation,
            ours,
            good.labels,
            ChampionPredictions("1", worse(good.predictions, 0.3, seed=seed)),
            Settings(),
        ).beats_champion
    assert wins <= 9


def test_luck_is_not_approved():
    """Full run: 0, 2 and 2 approvals of 300 for first-order persistence 0, 0.9 and 0.98, and 1 of 200 for
    scores that never move. Here 6 seeds and no approval, which finds gates that are too lenient as often as
    at most one approval of 12 seeds does.
    """
    assert not any(verdict_on(seed, true_ic=0.0, persistence=0.98).approved for seed in range(1000, 1006))


def test_skill_is_approved():
    """Full run, 100 seeds: 95 approvals for a true IC of 0.08, 49 for 0.05, where 220 bars leave too much
    doubt. Here 4 seeds and no refusal, which finds gates that are too strict more often than at most one
    refusal of 6 seeds does.
    """
    assert all(verdict_on(seed, true_ic=0.08, persistence=0.9).approved for seed in range(1000, 1004))


@dataclass(frozen=True)
class Artifact:
    """What a door is given."""

    path: str


def write_all(good, folder: Path) -> dict[str, Artifact]:
    returns = pl.DataFrame({"net_return": [0.1, 0.2]})
    returns.write_parquet(folder / "returns")
    stamp = {**good.evaluation["stamp"], "returns_sha256": content_sha256(returns)}
    (folder / "evaluation").write_text(json.dumps({**good.evaluation, "stamp": stamp}))
    other = good.predictions.with_columns(pl.lit("median").alias("expert"))
    both = pl.concat([other, good.predictions]).sort(ALL_PREDICTIONS.key)
    write_table(both, folder / "predictions", ALL_PREDICTIONS, code_version="c", config_hash="h")
    (folder / "champion").mkdir()
    NoChampion().write(folder / "champion" / "champion.json")
    good.trials.write(folder / "trials")
    filled = good.labels.with_columns(
        pl.col("timestamp").alias("label_end"), pl.lit(0, dtype=pl.Int8).alias("direction")
    )
    write_table(filled.select(*LABELS.columns), folder / "labels", LABELS, code_version="c", config_hash="h")
    universe = good.labels.select(
        "timestamp", "symbol", pl.lit(1.0).alias("traded_value"), pl.lit(True).alias("tradable")
    )
    write_table(universe, folder / "universe", UNIVERSE, code_version="c", config_hash="h")
    return {
        name: Artifact(path=str(folder / name))
        for name in (
            *("evaluation", "predictions", "labels", "universe", "returns"),
            *("champion", "trials", "verdict"),
        )
    }


def test_the_door(good, tmp_path):
    from components.gates.component import judge as door

    outputs = door.python_func(**write_all(good, tmp_path), settings=Settings().model_dump_json(), code="c")
    assert outputs.approved is True
    assert outputs.beats_champion is True
    written = json.loads((tmp_path / "verdict").read_text())
    assert written["approved"] is True
    assert written["candidate"] == "stack"
    assert written["stamp"]["code_version"] == "c"


def test_returns_of_another_run_are_refused(good, tmp_path):
    paths = write_all(good, tmp_path)
    read_evaluation(Path(paths["evaluation"].path), Path(paths["returns"].path))
    pl.DataFrame({"net_return": [0.1, 0.3]}).write_parquet(paths["returns"].path)
    with pytest.raises(ContractError, match="was not made together with"):
        read_evaluation(Path(paths["evaluation"].path), Path(paths["returns"].path))


def champion_record(**change) -> ChampionRecord:
    about = {
        "version": 3,
        "run_id": "r",
        "bundle_sha256": "b",
        "inputs": {},
        "horizon": 5,
        "known_until": datetime(2024, 1, 31, tzinfo=UTC),
        "train_window": "",
        "history": [],
        "newest": None,
    }
    return ChampionRecord(**{**about, **change})


def test_champion_and_candidate_files_are_checked(good, tmp_path):
    write_all(good, tmp_path)
    file = tmp_path / "champion" / "champion.json"
    assert read_champion_predictions(tmp_path / "champion") is None
    champion_record().write(file)
    with pytest.raises(ContractError, match="Register the champion again"):
        read_champion_predictions(tmp_path / "champion")
    good.predictions.write_parquet(tmp_path / "champion" / "predictions.parquet")
    champion = read_champion_predictions(tmp_path / "champion")
    assert (champion.version, champion.not_scored) == ("3", None)
    newest = NewestBars(bars=0, first=None, last=None, not_scored="other schema")
    champion_record(newest=newest).write(file)
    champion = read_champion_predictions(tmp_path / "champion")
    assert (champion.known_until, champion.not_scored) == (datetime(2024, 1, 31, tzinfo=UTC), "other schema")
    assert len(champion.predictions) == len(good.predictions)
    file.write_text("{")
    with pytest.raises(ContractError, match=r"champion\.json is no ChampionRecord"):
        read_champion_predictions(tmp_path / "champion")
    file.write_text('{"version": 3}')
    with pytest.raises(ContractError, match=r"(?s)champion\.json is no ChampionRecord.*  run_id: Field req"):
        read_champion_predictions(tmp_path / "champion")
    task = {"target": "sector_neutral_return", "horizon": 5}
    assert len(read_candidate(tmp_path / "predictions", expert="stack", **task)) == len(good.predictions)
    written = pl.read_parquet(tmp_path / "predictions")
    beside = written.with_columns(target=pl.lit("log_return"), score=-pl.col("score"))
    both = pl.concat([written, beside]).sort(ALL_PREDICTIONS.key)
    write_table(both, tmp_path / "of_two_tasks", ALL_PREDICTIONS, code_version="c", config_hash="h")
    candidate = read_candidate(tmp_path / "of_two_tasks", expert="stack", **task)
    assert candidate["score"].to_list() == good.predictions["score"].to_list()
    with pytest.raises(
        ContractError, match="no predictions of 'zebra' for sector_neutral_return over 5 bars"
    ):
        read_candidate(tmp_path / "predictions", expert="zebra", **task)


def test_a_model_that_scores_all_alike_on_many_bars_is_caught(good):
    evaluation = copy.deepcopy(good.evaluation)
    evaluation["experts"]["stack"]["test"]["ic"]["bars"] = evaluation["windows"]["test"]["bars"] // 2
    failed = gate(judge(evaluation, good.predictions, good.labels, None, Settings()), "ordered_bars")
    assert not failed.passed
    assert failed.value == pytest.approx(0.5, abs=0.05)
    assert gate(
        judge(good.evaluation, good.predictions, good.labels, None, Settings()), "ordered_bars"
    ).passed
