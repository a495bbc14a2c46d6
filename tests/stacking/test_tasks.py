"""One stack a task: alone it is the stack as ever; experts of other tasks take part as far as they are known
to order symbols by the label, and nothing of that is known too early.
"""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars import selectors

from components.contracts import (
    ALL_PREDICTIONS,
    LABELS,
    OOF,
    PREDICTIONS,
    TRAINING_SET,
    check_table,
    of_task,
    read_stamp,
    read_table,
    tasks_in,
    write_table,
)
from components.contracts.documents.comparison import Comparison
from components.contracts.gathered import place_of
from components.metrics import t_value
from components.scoring.stacker import read_stacker
from components.stacking import guests
from components.stacking.combine import stack_experts
from components.stacking.config import Settings
from components.stacking.guests import may_take_part
from components.stacking.run import OofInputs, OofOutputs, StackInputs, StackOutputs, run_build_oof, run_stack
from components.stacking.served_form import write_model
from components.stacking.tasks import Course, stack_tasks
from components.timeline import Settings as TimelineSettings
from tests.experts.statuses import status_of
from tests.stacking.made_scores import HORIZON, as_predictions, calendar_of, made_market, windows_of

BARS, SYMBOLS, FOLD, VALIDATION = 300, 15, 60, 180
JUDGED, LONG = ("log_return", HORIZON), ("log_return", 20)
CALENDAR = calendar_of(BARS + 40)
COURSE = Course(windows_of(VALIDATION, BARS - VALIDATION), CALENDAR, TimelineSettings(embargo_bars=20))
SETTINGS = Settings(combiners=["shrunk"])
TEST = CALENDAR[VALIDATION]


def native(seed: int = 1) -> pl.DataFrame:
    return made_market("alike", seed, bars=BARS, symbols=SYMBOLS, fold_bars=FOLD)


def with_guest(
    score: np.ndarray, unit: float = 100.0, doubt: np.ndarray | float = 0.02
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """OOF and ALL_PREDICTIONS frames in which the expert `guest` learned a label over 20 bars in another
    unit: its score stands in the rows of the judged task, and in rows of its own.
    """
    judged = native()
    guest = {
        "score_guest": pl.Series(unit * score),
        "uncertainty_guest": pl.Series(unit * doubt * np.ones(len(score))),
    }
    own = judged.select(OOF.columns.keys()).with_columns(
        horizon=pl.lit(20, pl.Int32),
        label_end=pl.col("timestamp") + pl.duration(days=21),
        label=unit * pl.col("label"),
        **guest,
    )
    predictions = pl.concat([as_predictions(judged), as_predictions(own)]).sort(ALL_PREDICTIONS.key)
    judged = judged.with_columns(**guest)
    return pl.concat([judged, own], how="diagonal").sort(OOF.key), predictions


def related(seed: int = 5) -> np.ndarray:
    """Scores with a correlation of 0.2 to the judged label."""
    label = native()["label"].to_numpy() / 0.01
    noise = np.random.default_rng(seed).normal(size=len(label)) * label.std()
    return 0.01 * (0.2 * label + 0.98 * noise)


def test_one_task_alone_is_stacked_as_ever():
    oof = native()
    predictions = as_predictions(oof)
    alone = stack_experts(oof, predictions, SETTINGS, COURSE.windows, CALENDAR, embargo_bars=20, seed=1)
    found = stack_tasks(oof, predictions, JUDGED, SETTINGS, COURSE, seed=1)
    assert found.predictions.equals(alone.predictions)
    assert found.comparison == alone.comparison
    assert found.model == alone.model
    assert (found.comparison.guests, found.comparison.further) == ({}, [])


def test_an_expert_of_another_task_takes_part_and_has_its_own_stack(tmp_path):
    oof, predictions = with_guest(related())
    found = stack_tasks(oof, predictions, JUDGED, SETTINGS, COURSE, seed=1)
    check_table(found.predictions, ALL_PREDICTIONS)
    assert tasks_in(found.predictions) == sorted([JUDGED, LONG])
    assert found.comparison.guests["guest"] > 1.645
    assert "guest" in found.comparison.experts
    long = of_task(found.predictions, *LONG)
    assert {"guest", "stack"} <= set(long["expert"])
    assert [(one.target, one.horizon, one.experts) for one in found.comparison.further] == [
        (*LONG, ["guest"])
    ]
    # Its band is a hundred times as wide as the label: in the judged stack it counts in the label's unit.
    stack = of_task(found.predictions, *JUDGED).filter(pl.col("expert") == "equal_weights")
    both = stack.join(native().select("timestamp", "symbol", "label"), on=("timestamp", "symbol"))
    inside = both.select(pl.col("label").is_between("p10", "p90").mean()).item()
    assert inside == pytest.approx(0.8, abs=0.05)
    alone = stack_tasks(native(), as_predictions(native()), JUDGED, SETTINGS, COURSE, seed=1).predictions
    usual = alone.filter(pl.col("expert") == "equal_weights")["uncertainty"].mean()
    assert stack["uncertainty"].mean() == pytest.approx(usual, rel=0.2)
    write_model(found.model, tmp_path)
    served = read_stacker(tmp_path, threads=1)
    assert served.guests == ("guest",)
    assert served.width_E[served.experts.index("guest")] < 0.1
    assert read_stacker(tmp_path / "further" / "log_return_20", threads=1).experts == ("guest",)
    assert "widths" not in json.loads((tmp_path / "further" / "log_return_20" / "stacker.json").read_text())


def test_the_unit_of_another_task_moves_nothing_of_the_judged_stack():
    """A band that differs from row to row counts by what it holds, whatever it is counted in."""
    doubt = 0.02 * np.random.default_rng(6).lognormal(size=len(native()))

    def stacked(unit: float) -> pl.DataFrame:
        oof, predictions = with_guest(related(), unit, doubt)
        found = stack_tasks(oof, predictions, JUDGED, SETTINGS, COURSE, seed=1)
        assert "guest" in found.comparison.experts
        return of_task(found.predictions, *JUDGED).filter(pl.col("expert") == "equal_weights")

    one, other = stacked(1.0), stacked(1000.0)
    for name in ("score", "uncertainty", "p10", "p90"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-6)


def test_what_a_guest_is_worth_is_told_by_bars_that_overlap_as_the_judged_labels_do(monkeypatch):
    asked = []

    def told(values: np.ndarray, *, horizon: int) -> float:
        asked.append((len(values), horizon))
        return t_value(values, horizon=horizon)

    monkeypatch.setattr(guests, "t_value", told)
    oof, predictions = with_guest(related())
    found = stack_tasks(oof, predictions, JUDGED, SETTINGS, COURSE, seed=1).comparison.guests["guest"]
    known = of_task(oof, *JUDGED).filter(pl.col("label_end") < CALENDAR[VALIDATION - 20])
    ranks = pl.corr("score_guest", "label", method="spearman")
    daily = known.group_by("timestamp", maintain_order=True).agg(ic=ranks)["ic"].to_numpy()
    assert asked == [(len(daily), HORIZON)]
    assert found == pytest.approx(t_value(daily, horizon=HORIZON), rel=1e-6)


def test_an_expert_of_another_task_that_orders_the_other_way_round_stays_outside():
    oof, predictions = with_guest(-related())
    found = stack_tasks(oof, predictions, JUDGED, SETTINGS, COURSE, seed=1)
    assert found.comparison.guests["guest"] < -1.645
    assert "guest" not in found.comparison.experts


def test_what_an_expert_of_another_task_is_worth_is_not_told_by_the_test_window():
    """Without any relation before it and with perfect foresight in it: it stays outside."""
    label = native()["label"].to_numpy()
    noise = 0.01 * np.random.default_rng(3).normal(size=len(label))
    known = (native()["timestamp"] < TEST).to_numpy()
    oof, predictions = with_guest(np.where(known, noise, label))
    found = stack_tasks(oof, predictions, JUDGED, SETTINGS, COURSE, seed=1)
    assert "guest" not in found.comparison.experts
    assert abs(found.comparison.guests["guest"]) < 3
    alone = stack_tasks(native(), as_predictions(native()), JUDGED, SETTINGS, COURSE, seed=1)
    judged = of_task(found.predictions, *JUDGED)
    assert judged.select(alone.predictions.columns).equals(alone.predictions)


def test_without_a_clear_guest_a_constant_expert_of_the_task_is_the_stack():
    """As a run in which all learned the task has it: there too nothing else is left."""
    noise = 0.01 * np.random.default_rng(3).normal(size=BARS * SYMBOLS)
    others = pl.col("expert").is_in([f"e{number}" for number in range(1, 5)])
    own, constant = pl.col("expert") == "e0", pl.lit(0.001)
    for score, members in ((noise, ["e0"]), (related(), ["guest"])):
        oof, predictions = with_guest(score)
        oof = oof.drop(selectors.matches("_e[1-4]$")).with_columns(
            score_e0=pl.when(pl.col("score_e0").is_not_null()).then(constant)
        )
        said = predictions.filter(~others).with_columns(score=pl.when(own).then(constant).otherwise("score"))
        found = stack_tasks(oof, said, JUDGED, Settings(combiners=[]), COURSE, seed=1)
        assert found.comparison.experts == members
        assert of_task(found.predictions, *JUDGED)["expert"].unique().is_in(["stack"]).any()


@pytest.mark.parametrize(("bars_before", "seen"), [(20, False), (22, True)])
def test_no_label_within_the_longer_embargo_of_a_block_moves_its_scores(bars_before, seen):
    """From so many bars before the last block on all labels are upside down; the embargo has 20."""
    oof, predictions = with_guest(related())
    course = replace(COURSE, timeline=TimelineSettings(embargo_bars=20))
    before = stack_tasks(oof, predictions, JUDGED, SETTINGS, course, seed=1).predictions
    block = VALIDATION + FOLD
    turned = oof.with_columns(
        label=pl.when(pl.col("label_end") >= CALENDAR[block - bars_before])
        .then(-5 * pl.col("label"))
        .otherwise("label")
    )
    after = stack_tasks(turned, predictions, JUDGED, SETTINGS, course, seed=1).predictions
    earlier = pl.col("timestamp") < CALENDAR[block]
    judged = pl.col("horizon") == HORIZON
    assert after.filter(earlier & judged).equals(before.filter(earlier & judged))
    assert after.filter(~earlier & judged).equals(before.filter(~earlier & judged)) is not seen


def test_the_embargo_of_its_own_is_that_of_the_longest_label(monkeypatch):
    """Where the timeline names none, a guest over 20 bars makes it that of 20."""
    asked = []
    monkeypatch.setattr(TimelineSettings, "embargo", lambda self, horizon: asked.append(horizon) or horizon)
    oof, predictions = with_guest(related())
    stack_tasks(oof, predictions, JUDGED, SETTINGS, COURSE, seed=1)
    stack_tasks(native(), as_predictions(native()), JUDGED, SETTINGS, COURSE, seed=1)
    assert asked == [20, 20, HORIZON]


@pytest.mark.parametrize(
    ("own", "target", "may"),
    [
        ("log_return", "sector_neutral_return", True),
        ("direction", "log_return", True),
        ("log_return", "direction", False),
        ("realised_volatility", "log_return", False),
    ],
)
def test_only_orders_by_what_symbols_earn_take_part(own, target, may):
    assert may_take_part(own, target) is may


def test_from_the_experts_folders_to_the_stacks_of_all_tasks(tmp_path):
    """`e0` answers the judged task and another, `guest` another alone."""
    judged, (_, everything) = native(), with_guest(related(), unit=1.0)
    labels = pl.concat(
        judged.select(
            "timestamp",
            "symbol",
            pl.lit(horizon, pl.Int32).alias("horizon"),
            "label_end",
            "log_return",
            direction=pl.col("log_return").sign().cast(pl.Int8),
            sector_neutral_return=2 * pl.col("log_return"),
        )
        for horizon in (HORIZON, 20)
    ).sort(LABELS.key)
    rows = judged.select("timestamp", "symbol", sector=pl.lit("s"), regime_state=pl.lit(0.0, pl.Float32))
    about = {"code_version": "c", "config_hash": "h"}
    write_table(labels, tmp_path / "labels", LABELS, **about)
    write_table(rows, tmp_path / "rows", TRAINING_SET, **about)
    origin = {
        "labels": read_stamp(tmp_path / "labels").content_sha256,
        "training_set": read_stamp(tmp_path / "rows").content_sha256,
        "timeline": "t",
    }
    for position, (name, own) in enumerate({"guest": LONG, "e0": JUDGED, "e1": JUDGED}.items()):
        place = place_of(tmp_path / "experts", position, name)
        place.mkdir(parents=True)
        trained = status_of(name).model_copy(update={"target": own[0], "horizon": own[1]})
        trained.write(place / "status.json")
        said = everything.filter(pl.col("expert") == name).with_columns(
            train_window=pl.lit("2010-01-01..2015-01-01")
        )
        said = of_task(said, *own)
        if name == "e0":
            twice = said.with_columns(target=pl.lit("sector_neutral_return"))
            said = pl.concat([said, twice]).sort(PREDICTIONS.key)
        write_table(said, place / "predictions.parquet", PREDICTIONS, inputs=origin, **about)
    paths = {name: tmp_path / name for name in ("oof", "said", "audit", "all", "model", "comparison")}
    settings = SETTINGS.model_dump_json()
    run_build_oof(
        OofInputs(tmp_path / "labels", tmp_path / "rows", tmp_path / "experts", *JUDGED),
        OofOutputs(paths["oof"], paths["said"], paths["audit"]),
        settings=settings,
        code="c",
    )
    table = read_table(paths["oof"], OOF)
    other = ("sector_neutral_return", HORIZON)
    assert tasks_in(table) == sorted([JUDGED, LONG, other])
    members = {
        task: {
            name for name in ("e0", "e1", "guest") if of_task(table, *task)[f"score_{name}"].null_count() == 0
        }
        for task in (JUDGED, LONG, other)
    }
    assert members == {JUDGED: {"e0", "e1", "guest"}, LONG: {"guest"}, other: {"e0"}}
    assert (of_task(table, *other)["label"] / of_task(table, *JUDGED)["label"]).median() == pytest.approx(2)
    timeline = TimelineSettings(
        train_share=0.3, validation_share=0.3, fold_bars=FOLD, purge_bars=21, embargo_bars=20
    )
    run_stack(
        StackInputs(paths["oof"], paths["said"], tmp_path / "rows", *JUDGED),
        StackOutputs(paths["all"], paths["model"], paths["comparison"]),
        settings=settings,
        timeline=timeline.model_dump_json(),
        seed=1,
        code="c",
    )
    found = read_table(paths["all"], ALL_PREDICTIONS)
    stacks = found.filter(pl.col("expert") == "stack").group_by("target", "horizon").len()
    assert sorted(stacks.select("target", "horizon").rows()) == sorted([JUDGED, LONG, other])
    comparison = Comparison.read(paths["comparison"])
    assert "guest" in comparison.experts
    assert {(one.target, one.horizon) for one in comparison.further} == {LONG, other}
