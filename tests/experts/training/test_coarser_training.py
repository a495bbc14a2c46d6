"""An expert of a coarser period: which inputs it sees, from which rows it learns, and what it predicts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from components.contracts import ContractError, verify_bundle
from components.experts.errors import ExpertError
from components.experts.leaves import Leaf
from components.experts.training.frames import input_groups, labelled_at_news
from components.experts.training.inputs import Assignment, TrainingTables
from components.experts.training.train import train_expert
from components.timeline import Settings as TimelineSettings
from tests.experts.market import panel, training_tables
from tests.experts.training import fragile

START = datetime(2020, 1, 1, tzinfo=UTC)
TIMELINE = TimelineSettings(
    train_share=0.6, validation_share=0.2, fold_bars=100, purge_bars=3, embargo_bars=2
)
DAYS = Leaf(expert="fragile", period="1d", module="tests.experts.training.fragile")
OF_DAYS = ("trend_a", "volume_a")


@pytest.fixture(autouse=True)
def _fresh():
    fragile.FITS.clear()
    fragile.FRAMES.clear()
    fragile.FAIL_AT.update(fit=0, error=RuntimeError)


def hourly(bars: int) -> TrainingTables:
    """Tables of hours; two of the inputs were made from days."""
    rows = panel(bars=bars, symbols=5, seed=1)
    number = (pl.col("timestamp") - START).dt.total_days()
    rows = rows.with_columns(timestamp=pl.lit(START, rows.schema["timestamp"]) + pl.duration(hours=number))
    training_set, labels, catalog = training_tables(rows)
    catalog = [replace(entry, period="1d") if entry.column in OF_DAYS else entry for entry in catalog]
    return TrainingTables(training_set, labels, catalog)


@pytest.fixture(scope="module")
def tables() -> TrainingTables:
    return hourly(1500)


def train(tables, folder, leaf=DAYS, period="1h"):
    return train_expert(tables, Assignment(leaf, TIMELINE, period, 2, "log_return", 1, "v1"), folder)


def test_it_sees_the_inputs_of_its_period_learns_once_a_day_and_predicts_every_bar(tables, tmp_path):
    trained = train(tables, tmp_path)
    manifest = verify_bundle(trained.model_folder)
    assert manifest["columns"] == list(OF_DAYS)
    times = tables.training_set["timestamp"].unique().sort()
    assert trained.predictions["timestamp"].unique().sort().equals(times[900:])
    assert len(trained.predictions) == 600 * 5
    assert trained.predictions["period"].unique().to_list() == ["1h"]
    learned = [frame.filter(pl.col("label").is_not_null(), part="train") for frame in fragile.FRAMES[::2]]
    assert [fit.train_rows for fit in trained.status.folds[:2]] == [len(frame) for frame in learned[:2]]
    assert len(learned[0]) < 900 / 24 * 5
    for frame in fragile.FRAMES[:-1:2]:
        learned = frame.filter(pl.col("label").is_not_null())
        assert learned["timestamp"].dt.hour().unique().to_list() == [0]
        assert set(learned["part"]) == {"train", "early_stopping"}
        assert learned["timestamp"].n_unique() >= 20
        # What is learned is what was labelled there.
        key = ["timestamp", "symbol"]
        known = learned.join(tables.labels, on=key)
        assert known["label"].equals(known["log_return"], check_names=False)


def test_an_expert_of_the_panels_own_period_sees_none_of_the_coarser(tables):
    found = input_groups(tables.training_set, tables.catalog, "base")
    assert set(found) == {"trend_b", "reversion_a", "regime_a"}


def test_news_come_with_each_symbols_first_bar_after_a_day():
    # Sessions of two bars; B misses the first bar of the second, C lists in it.
    hours = [(0, 15), (0, 16), (1, 15), (1, 16), (2, 15), (2, 16)]
    rows = [
        (START + timedelta(days=day, hours=hour), symbol, 1.0)
        for day, hour in hours
        for symbol in "ABC"
        if not (symbol == "B" and (day, hour) == (1, 15)) and not (symbol == "C" and (day, hour) < (1, 16))
    ]
    frame = pl.DataFrame(rows, schema=["timestamp", "symbol", "label"], orient="row")
    frame = frame.with_columns(label_end=pl.col("timestamp") + timedelta(hours=9), also_0=pl.lit(2.0))
    found = labelled_at_news(frame, "1d")
    learned = found.filter(pl.col("label").is_not_null())
    assert [
        (moment.day, moment.hour, symbol) for moment, symbol in learned["timestamp", "symbol"].rows()
    ] == [
        (2, 15, "A"),
        (2, 16, "B"),
        (3, 15, "A"),
        (3, 15, "B"),
        (3, 15, "C"),
    ]
    for name in ("also_0", "label_end"):
        assert found[name].is_null().equals(found["label"].is_null(), check_names=False)


def test_folds_with_too_few_days_say_so(tmp_path):
    words = (
        "fragile learns at the bars at which one of 1d has just become known: fold_00 has 10 of them to learn"
        " from and 2 for early stopping, 20 and 1 are needed"
    )
    with pytest.raises(ExpertError, match=words):
        train(hourly(500), tmp_path)
    assert not fragile.FITS


def test_a_finer_leaf_windows_of_a_coarser_period_and_inputs_that_are_not_there_are_refused(tables, tmp_path):
    with pytest.raises(ContractError, match="for period 1h, finer than the panel's bars of 1d"):
        train(tables, tmp_path, DAYS.model_copy(update={"period": "1h"}), period="1d")
    windowed = DAYS.model_copy(update={"settings": {"lookback": 4}})
    with pytest.raises(
        ExpertError, match="reads windows of 4 bars, and there are no windows of 1d in a run of 1h"
    ):
        train(tables, tmp_path, windowed)
    with pytest.raises(ContractError, match="lacks any input column of the period 4h"):
        train(tables, tmp_path, DAYS.model_copy(update={"period": "4h"}))
