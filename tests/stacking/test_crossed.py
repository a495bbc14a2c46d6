"""The stack under cross-validation: a combiner that is judged on a group knows none of its labels, not even
by way of an expert.
"""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from components.contracts import (
    CROSS_VALIDATED,
    LABELS,
    REGIME_COLUMN,
    TIME,
    TRAINING_SET,
    ContractError,
    check_table,
    read_stamp,
    read_table,
    write_table,
)
from components.contracts.documents.experts import CROSS_VALIDATED_FILE
from components.contracts.gathered import place_of
from components.stacking.combiners import fit_combiner
from components.stacking.config import Settings
from components.stacking.crossed import Crossing, known_of, stack_splits
from components.stacking.run import OofInputs, run_stack_splits
from components.timeline import Settings as TimelineSettings
from components.timeline import Windows, cross_validated_splits
from tests.experts.statuses import status_of

BARS, SYMBOLS, HORIZON = 300, 12, 5
CALENDAR = (
    pl.datetime_range(
        datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC), "1d", time_unit="us", eager=True
    )
    .head(BARS)
    .cast(TIME)
)
TIMELINE = TimelineSettings(
    scheme="combinatorial", groups=4, train_share=0.5, validation_share=0.3, purge_bars=6, embargo_bars=2
)
WINDOWS = Windows((0, 150), (150, 240), (240, 300), (240, 300))
SETTINGS = Settings(combiners=["elasticnet"], min_train_bars=20)
STRENGTHS = {"good": 0.4, "noise": 0.0}


def rows() -> pl.DataFrame:
    symbols = pl.DataFrame({"symbol": [f"S{number:02d}" for number in range(SYMBOLS)]})
    return pl.DataFrame({"timestamp": CALENDAR}).join(symbols, how="cross")


def market() -> tuple[pl.DataFrame, pl.DataFrame]:
    """LABELS that are known six bars later, and a TRAINING_SET in one regime."""
    label = 0.02 * np.random.default_rng(2).normal(size=BARS * SYMBOLS)
    ends = np.minimum(np.arange(BARS) + 1 + HORIZON, BARS - 1)
    labels = rows().with_columns(
        pl.lit(HORIZON, pl.Int32).alias("horizon"),
        label_end=CALENDAR.gather(np.repeat(ends, SYMBOLS)),
        log_return=pl.Series(label),
        direction=pl.Series(np.sign(label)).cast(pl.Int8),
        sector_neutral_return=pl.Series(label),
    )
    training_set = rows().with_columns(pl.lit(0.0, pl.Float32).alias(REGIME_COLUMN), sector=pl.lit("s"))
    return labels.select(LABELS.columns.keys()), training_set


def crossing(timeline: TimelineSettings = TIMELINE) -> Crossing:
    splits = cross_validated_splits(WINDOWS, timeline, longest_horizon=HORIZON)
    return Crossing(splits, CALENDAR, timeline.purge_bars, timeline.embargo_bars)


def predicted(name: str, labels: pl.DataFrame, splits: Crossing) -> pl.DataFrame:
    """CROSS_VALIDATED predictions whose correlation with the label is the expert's strength."""
    parts, strength = [], STRENGTHS[name]
    for number, fold in enumerate(splits.splits.folds):
        random = np.random.default_rng([len(name), number])
        for path, group in zip(splits.splits.path_of[number], range(4), strict=True):
            if path < 0:
                continue
            start, end = splits.splits.groups[group]
            own = labels.slice(start * SYMBOLS, (end - start) * SYMBOLS)
            noise = 0.02 * random.normal(size=len(own))
            score = strength * own["log_return"].to_numpy() + np.sqrt(1 - strength**2) * noise
            about = {"split": number, "group": group, "path": int(path)}
            parts.append(
                own.select("timestamp", "symbol", "horizon").with_columns(
                    *(pl.lit(value, pl.Int32).alias(column) for column, value in about.items()),
                    period=pl.lit("1d"),
                    target=pl.lit("log_return"),
                    expert=pl.lit(name),
                    score=pl.Series(score),
                    uncertainty=pl.lit(0.02),
                )
            )
        assert len(fold.predict)
    table = pl.concat(part.select(CROSS_VALIDATED.columns.keys()) for part in parts)
    return table.sort(CROSS_VALIDATED.key)


@pytest.fixture(scope="module")
def scene():
    labels, training_set = market()
    splits = crossing()
    return labels, training_set, splits, {name: predicted(name, labels, splits) for name in STRENGTHS}


def stacked(scene, *, labels=None, experts=None, settings=SETTINGS) -> pl.DataFrame:
    own, training_set, splits, given = scene
    own, given = own if labels is None else labels, given if experts is None else experts
    return stack_splits(given, own, training_set, splits, settings, seed=1)


@pytest.fixture(scope="module")
def found(scene):
    return stacked(scene)


def of(table: pl.DataFrame, name: str, group: int) -> pl.DataFrame:
    return table.filter((pl.col("expert") == name) & (pl.col("group") == group)).drop("uncertainty")


def test_every_model_has_every_path_whole(found):
    check_table(found, CROSS_VALIDATED)
    counts = found.group_by("expert", "path").agg(pl.struct("timestamp", "symbol").n_unique())["timestamp"]
    assert set(found["expert"]) == {
        "good",
        "noise",
        "equal_weights",
        "best_single",
        "performance_weights",
        "z_elasticnet",
        "stack",
    }
    assert len(counts) == 7 * 3
    assert counts.unique().to_list() == [(240 - 6) * SYMBOLS]


def test_combiners_learn_from_other_groups_whom_to_trust(scene, found):
    label = scene[0].select("timestamp", "symbol", "log_return")
    both = found.join(label, on=("timestamp", "symbol"))
    worth = dict(both.group_by("expert").agg(pl.corr("score", "log_return", method="spearman")).rows())
    assert worth["best_single"] > worth["equal_weights"] + 0.05
    assert worth["z_elasticnet"] > worth["equal_weights"] + 0.05
    assert worth["stack"] > worth["equal_weights"] + 0.05, "it is chosen where it is better by more than luck"


@pytest.mark.parametrize("group", [0, 1, 3])
def test_labels_of_a_group_move_nothing_that_a_combiner_says_of_it(scene, found, group):
    """Planted: labels of the group, and of all bars whose label spans one of the group's."""
    start, end = scene[2].splits.groups[group]
    beside = pl.col("timestamp").is_between(
        CALENDAR[max(start - 6, 0)], CALENDAR[min(end + 7, BARS - 1)], closed="both"
    )
    spoiled = scene[0].with_columns(
        pl.when(beside).then(-50 * pl.col("log_return")).otherwise("log_return").alias("log_return")
    )
    other = stacked(scene, labels=spoiled)
    for name in ("equal_weights", "best_single", "performance_weights", "z_elasticnet", "stack"):
        assert of(found, name, group).equals(of(other, name, group)), name
    assert not of(found, "z_elasticnet", 2).equals(of(other, "z_elasticnet", 2)), "others learn from it"


def test_experts_that_learned_from_a_group_have_no_say_in_how_it_is_combined(scene, found):
    """Planted: scores of the last splits, none of which tests the first group, are turned round."""
    spoiled = {
        name: frame.with_columns(
            pl.when(pl.col("split") >= 3).then(-pl.col("score")).otherwise("score").alias("score")
        )
        for name, frame in scene[3].items()
    }
    assert (scene[2].splits.path_of[3:, 0] < 0).all()
    other = stacked(scene, experts=spoiled)
    assert of(found, "z_elasticnet", 0).equals(of(other, "z_elasticnet", 0))
    assert not of(found, "z_elasticnet", 3).equals(of(other, "z_elasticnet", 3))


def test_what_a_combiner_learns_from_by_hand(scene):
    """Groups of 59, 59, 58 and 58 bars; the second is judged: split 0 tests it with the first, 3 and 4 with
    the others. Labels span six bars, and eight bars after the group are left out.
    """
    splits = scene[2]
    assert splits.splits.groups == ((0, 59), (59, 118), (118, 176), (176, 234))
    tables = [
        pl.DataFrame({"timestamp": CALENDAR.gather(fold.predict)}).with_columns(
            split=pl.lit(number, pl.Int32),
            group=pl.Series(splits.splits.group_of(fold.predict), dtype=pl.Int32),
            symbol=pl.lit("A"),
            label=pl.lit(0.1),
            label_end=CALENDAR.gather(fold.predict + 6),
        )
        for number, fold in enumerate(splits.splits.folds)
    ]
    known = known_of(1, tables, splits)
    bars = CALENDAR.search_sorted(known["timestamp"]).to_list()
    assert bars == [*range(53), *range(126, 234)]
    assert known.group_by("group", "split").len().sort("group").rows() == [(0, 0, 53), (2, 3, 50), (3, 4, 58)]


def test_where_one_group_is_tested_at_a_time_nothing_is_fitted(scene):
    labels, training_set = scene[:2]
    splits = crossing(TIMELINE.model_copy(update={"scheme": "purged_kfold"}))
    experts = {name: predicted(name, labels, splits) for name in STRENGTHS}
    found = stack_splits(experts, labels, training_set, splits, SETTINGS, seed=1)
    assert set(found["expert"]) == {*STRENGTHS, "equal_weights"}


def test_a_combiner_that_fails_for_one_group_is_left_out_of_all_paths(scene, found, monkeypatch):
    fits = []

    def fails_once(method, *rest):
        fits.append(method)
        if method == "elasticnet" and fits.count(method) == 3:
            raise ValueError("did not converge")
        return fit_combiner(method, *rest)

    monkeypatch.setattr("components.stacking.crossed.fit_combiner", fails_once)
    other = stacked(scene)
    assert set(found["expert"]) - set(other["expert"]) == {"z_elasticnet"}
    assert other.filter(pl.col("expert") == "best_single").equals(
        found.filter(pl.col("expert") == "best_single")
    )


def test_an_expert_of_another_task_is_heard_where_it_is_known_to_be_worth_it(scene):
    labels, training_set, splits, experts = scene
    longer = experts["good"].with_columns(expert=pl.lit("guest"), horizon=pl.lit(20, pl.Int32))
    useless = longer.with_columns(expert=pl.lit("useless"), score=pl.col("score").reverse())
    alone = stack_splits({"noise": experts["noise"]}, labels, training_set, splits, SETTINGS, seed=1)
    given = {"noise": experts["noise"], "guest": longer, "useless": useless}
    found = stack_splits(given, labels, training_set, splits, SETTINGS, seed=1, guests=["guest", "useless"])
    assert set(found["horizon"]) == {HORIZON}
    assert not {"guest", "useless"} & set(found["expert"])

    def worth(table: pl.DataFrame) -> float:
        stack = table.filter(pl.col("expert") == "equal_weights")
        both = stack.join(labels.select("timestamp", "symbol", "log_return"), on=("timestamp", "symbol"))
        return both.select(pl.corr("score", "log_return")).item()

    assert worth(found) > worth(alone) + 0.15
    both = {"noise": experts["noise"], "guest": longer}
    with_one = stack_splits(both, labels, training_set, splits, SETTINGS, seed=1, guests=["guest"])
    assert found.equals(with_one)


def test_experts_of_other_splits_are_refused(scene):
    labels, training_set, splits, experts = scene
    fewer = {"good": experts["good"], "noise": experts["noise"].filter(pl.col("split") < 5)}
    with pytest.raises(ContractError, match=r"noise was cross-validated in 10 pairs .* 12 \(timeline.groups"):
        stack_splits(fewer, labels, training_set, splits, SETTINGS, seed=1)


def test_the_door_reads_the_experts_that_are_there(scene, tmp_path):
    labels, training_set, _, experts = scene
    about = {"code_version": "c", "config_hash": "h"}
    write_table(labels, tmp_path / "labels", LABELS, **about, inputs={})
    write_table(training_set, tmp_path / "rows", TRAINING_SET, **about, inputs={})
    origin = {"labels": read_stamp(tmp_path / "labels").content_sha256, "training_set": "t"}
    for position, name in enumerate((*experts, "broken")):
        place = place_of(tmp_path / "experts", position, name)
        place.mkdir(parents=True)
        status_of(name, "trained" if name in experts else "failed").write(place / "status.json")
        if name in experts:
            write_table(experts[name], place / CROSS_VALIDATED_FILE, CROSS_VALIDATED, **about, inputs=origin)
    judged = experts["good"].select("target", "horizon").row(0)
    run_stack_splits(
        OofInputs(tmp_path / "labels", tmp_path / "rows", tmp_path / "experts", *judged),
        tmp_path / "crossed",
        settings=SETTINGS.model_dump_json(),
        timeline=TIMELINE.model_dump_json(),
        seed=1,
        code="c",
    )
    assert read_table(tmp_path / "crossed", CROSS_VALIDATED)["expert"].n_unique() == 7
    assert read_stamp(tmp_path / "crossed").inputs == origin


def test_a_combiner_that_raises_in_one_group_is_left_out_of_all(scene, monkeypatch):
    calls = []

    def fall_late(known, experts):
        calls.append(known)
        if len(calls) > 2:
            raise ZeroDivisionError("no inverse")
        return dict.fromkeys(experts, 1.0)

    monkeypatch.setattr("components.stacking.combiners.shrunk_weights", fall_late)
    found = stacked(scene, settings=SETTINGS.model_copy(update={"combiners": ["shrunk"]}))
    assert "z_shrunk" not in set(found["expert"])
    assert "performance_weights" in set(found["expert"])
