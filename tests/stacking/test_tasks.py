"""One stack a task: alone it is the stack as ever; experts of other tasks take part as far as they are known
to order symbols by the label, and nothing of that is known too early.
"""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from components.contracts import ALL_PREDICTIONS, OOF, check_table, of_task, tasks_in
from components.scoring.stacker import read_stacker
from components.stacking.combine import stack_experts
from components.stacking.config import Settings
from components.stacking.guests import may_take_part
from components.stacking.served_form import write_model
from components.stacking.tasks import Course, stack_tasks
from components.timeline import Settings as TimelineSettings
from tests.stacking.made_scores import HORIZON, as_predictions, calendar_of, made_market, windows_of

BARS, SYMBOLS, FOLD, VALIDATION = 300, 15, 60, 180
JUDGED, LONG = ("log_return", HORIZON), ("log_return", 20)
CALENDAR = calendar_of(BARS + 40)
COURSE = Course(windows_of(VALIDATION, BARS - VALIDATION), CALENDAR, TimelineSettings(embargo_bars=20))
SETTINGS = Settings(combiners=["shrunk"])
TEST = CALENDAR[VALIDATION]


def native(seed: int = 1) -> pl.DataFrame:
    return made_market("alike", seed, bars=BARS, symbols=SYMBOLS, fold_bars=FOLD)


def with_guest(score: np.ndarray, unit: float = 100.0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """OOF and ALL_PREDICTIONS frames in which the expert `guest` learned a label over 20 bars in another
    unit: its score stands in the rows of the judged task, and in rows of its own.
    """
    judged = native()
    guest = {
        "score_guest": pl.Series(unit * score),
        "uncertainty_guest": pl.Series(unit * 0.02 * np.ones(len(score))),
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
