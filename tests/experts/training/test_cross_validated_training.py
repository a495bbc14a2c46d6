"""An expert under cross-validation: what each split may learn from, what is kept, and that neither the
walk-forward nor the served model knows of it.
"""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from components.contracts import CROSS_VALIDATED, ChosenInputs, ContractError, check_table, verify_bundle
from components.experts.errors import ExpertError
from components.experts.leaves import Leaf
from components.experts.training.inputs import Assignment, TrainingTables
from components.experts.training.train import train_expert
from components.timeline import Settings as TimelineSettings
from components.timeline import TimelineError
from tests.experts.market import panel, training_tables
from tests.experts.training import fragile

WALKING = TimelineSettings(train_share=0.5, validation_share=0.2, fold_bars=20, purge_bars=3, embargo_bars=2)
CROSSED = WALKING.model_copy(update={"scheme": "combinatorial", "groups": 4, "test_groups": 2})
LEAF = Leaf(expert="fragile", period="1d", module="tests.experts.training.fragile")
SYMBOLS = 6


@pytest.fixture(autouse=True)
def _fresh():
    fragile.FITS.clear()
    fragile.FRAMES.clear()
    fragile.FAIL_AT.update(fit=0, error=RuntimeError)


@pytest.fixture(scope="module")
def tables():
    """160 bars, of which the test window begins with the 113th."""
    return training_tables(panel(bars=160, symbols=SYMBOLS, seed=1))


def train(tables, folder, timeline=CROSSED, *, leaf=LEAF, chosen=None, **how):
    """The expert trained on a target over two bars, known three bars later."""
    assignment = Assignment(leaf, timeline, "1d", 2, "log_return", 1, "v1")
    return train_expert(TrainingTables(*tables, chosen=chosen), assignment, folder, **how)


def bars_of(tables) -> pl.Series:
    return tables[0]["timestamp"].unique().sort()


def frames_of_splits(tables, folder, leaf=LEAF) -> list[pl.DataFrame]:
    """What each of the six splits learned from, which are fitted last."""
    fragile.FRAMES.clear()
    train(tables, folder, leaf=leaf)
    return [frame for frame in fragile.FRAMES if not (frame["part"] == "predict").any()][-6:]


def test_every_bar_before_the_test_window_is_predicted_once_a_path(tables, tmp_path):
    trained = train(tables, tmp_path)
    found = check_table(trained.cross_validated, CROSS_VALIDATED)
    for path in range(3):
        own = found.filter(pl.col("path") == path)
        assert own["timestamp"].unique().sort().equals(bars_of(tables)[: 112 - 3]), (
            "less what reaches into it"
        )
        assert len(own) == 109 * SYMBOLS
    assert found.group_by("group").agg(pl.col("split").n_unique())["split"].to_list() == [3] * 4
    assert [fit.fold for fit in trained.status.cross_validation] == [
        f"cv_{number:02d}" for number in range(6)
    ]


def test_walk_forward_and_served_model_are_the_same_with_and_without_it(tables, tmp_path):
    crossed = train(tables, tmp_path)
    fits = len(fragile.FITS)
    plain = train(tables, tmp_path, WALKING)
    assert len(fragile.FITS) == fits, "the scheme is no part of the key of the walk-forward's folds"
    assert_frame_equal(crossed.predictions, plain.predictions)
    assert plain.cross_validated is None
    assert crossed.model_folder == plain.model_folder
    assert verify_bundle(crossed.model_folder)["fold"] == "final"


def test_splits_that_are_done_are_kept_and_those_of_other_groups_are_not(tables, tmp_path):
    whole = train(tables, tmp_path / "unbroken")
    walked = len(whole.status.folds)
    fragile.FITS.clear()
    fragile.FAIL_AT.update(fit=walked + 4)
    with pytest.raises(ExpertError, match="fragile, cv_03: fit failed"):
        train(tables, tmp_path)
    fragile.FAIL_AT.update(fit=0)
    resumed = train(tables, tmp_path)
    assert resumed.status.resumed_folds == walked + 3
    assert_frame_equal(resumed.cross_validated, whole.cross_validated)
    fragile.FITS.clear()
    train(tables, tmp_path, CROSSED.model_copy(update={"scheme": "purged_kfold"}))
    assert len(fragile.FITS) == 4


def test_what_is_tested_and_what_lies_beside_it_moves_no_fit_of_its_split(tables, tmp_path):
    """Planted: inputs and labels of the second group, and of the bars that purge and embargo leave out."""
    training_set, labels, catalog = tables
    plain = frames_of_splits(tables, tmp_path / "plain")
    bars = bars_of(tables)
    tested = pl.col("timestamp").is_between(bars[28 - 3], bars[54 + 3 + 2])
    nine = pl.lit(9.0, dtype=pl.Float32)
    spoiled = (
        training_set.with_columns(
            pl.when(tested).then(nine).otherwise(name).alias(name) for name in ("trend_a", "trend_b")
        ),
        labels.with_columns(pl.when(tested).then(5.0).otherwise("log_return").alias("log_return")),
        catalog,
    )
    moved = frames_of_splits(spoiled, tmp_path / "spoiled")
    same = [one.equals(other) for one, other in zip(plain, moved, strict=True)]
    assert same == [True, False, False, True, True, False], "0, 3 and 4 test the second group"


def test_a_lookback_keeps_windows_whole_and_shows_no_label_of_what_is_tested(tables, tmp_path):
    frame = frames_of_splits(tables, tmp_path, LEAF.model_copy(update={"settings": {"lookback": 4}}))[3]
    bars = bars_of(tables)
    held = frame["timestamp"].unique().sort()
    assert held.equals(bars.filter(bars.is_between(held[0], held[-1]))), "no bar is missing"
    between = frame.filter(pl.col("timestamp").is_between(bars[28], bars[81]))
    assert between["part"].unique().to_list() == ["history"]
    assert between["label"].null_count() == len(between) == 54 * SYMBOLS


@pytest.mark.parametrize(
    ("bar", "known", "words"),
    [
        (54, 61, "rows are learned from in which labels of the tested bars before them are not yet known"),
        (20, 30, "labels became known after .*the last bar before predictions begin"),
        (54, 57, ""),
    ],
)
def test_a_label_that_spans_more_than_the_purge_is_refused(tables, tmp_path, bar, known, words):
    """Planted: one label that is known late, of a tested bar or of one before it; the last is as it is."""
    training_set, labels, catalog = tables
    bars = bars_of(tables)
    one = (pl.col("timestamp") == bars[bar]) & (pl.col("symbol") == "S00")
    given = labels.with_columns(pl.when(one).then(bars[known]).otherwise("label_end").alias("label_end"))
    if not words:
        train((training_set, given, catalog), tmp_path)
        return
    with pytest.raises(TimelineError, match=rf"cv_\d\d: .*{words}.*timeline.purge_bars"):
        train((training_set, given, catalog), tmp_path)


def test_no_split_goes_on_from_a_warm_model_though_folds_do(tables, tmp_path):
    """Not even one that begins behind all that the warm model knows."""
    train(tables, tmp_path / "first", WALKING.model_copy(update={"train_share": 0.25}))
    warmed = train(tables, tmp_path / "second", warm_from=tmp_path / "first" / "fold_00" / "model")
    assert all(fit.warm for fit in warmed.status.folds)
    assert not any(fit.warm for fit in warmed.status.cross_validation)


def test_whoever_watches_folds_is_told_of_no_split(tables, tmp_path):
    seen = []
    status = train(tables, tmp_path, after_fold=lambda number, total, _: seen.append((number, total))).status
    folds = len(status.folds)
    assert seen == [(number, folds) for number in range(folds - 1)], "the served model predicts nothing"


def test_inputs_that_were_chosen_without_the_splits_are_refused(tables, tmp_path):
    folds = [fit.fold for fit in train(tables, tmp_path / "all", WALKING).status.folds]
    chosen = ChosenInputs("", dict.fromkeys(folds, ("trend_a",)))
    with pytest.raises(ContractError, match="no inputs for cv_00"):
        train(tables, tmp_path / "few", chosen=chosen)
