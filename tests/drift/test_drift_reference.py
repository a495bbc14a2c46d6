"""The reference: what it holds, that the future does not change it, and that a broken one is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.io.plugins import register_io_source

from components.contracts import CatalogEntry
from components.drift import learned
from components.drift.reference import make_reference, read_reference
from components.drift.tables import DriftError
from components.drift.windows import window_and_rest
from components.timeline import Settings as TimelineSettings
from components.timeline import Span


def remade(made, settings, folder, **changed):
    parts = {
        "training_set": made.past.drop("score"),
        "labels": made.labels,
        "predictions": made.said,
    } | changed
    return make_reference(
        parts["training_set"],
        parts["labels"],
        parts["predictions"],
        made.entries,
        settings,
        parts.get("timeline", TimelineSettings()),
        folder,
    )


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_scan_is_read_some_columns_at_a_time_and_gives_the_same_files(
    made, drift_settings, tmp_path, monkeypatch, at_once
):
    rows, read = made.past.drop("score"), []

    def reading(names, predicate, n_rows, batch_size):
        read.append(set(names or rows.columns))
        yield rows.select(names or rows.columns)

    monkeypatch.setattr(learned, "COLUMNS_AT_ONCE", at_once)
    table = register_io_source(reading, schema=rows.schema)
    remade(made, drift_settings, tmp_path, training_set=table, labels=made.labels.lazy())
    for name in ("sketch.parquet", "sample.parquet", "reference.json"):
        assert (tmp_path / name).read_bytes() == (made.folder / name).read_bytes()
    assert read[0] == {"timestamp", "symbol"}
    assert {len(columns) for columns in read[1:]} <= set(range(1, at_once + 1))
    assert set.union(*read[1:]) == {entry.column for entry in made.entries}


def test_values_of_another_window_are_noticed(made, drift_settings, tmp_path, monkeypatch):
    """Planted: columns that are read from the first bar on, while the window begins later."""
    timeline = TimelineSettings(train=Span(start=made.past["timestamp"].unique().sort()[40].date()))
    honest = remade(made, drift_settings, tmp_path / "a", timeline=timeline)
    assert honest.columns["rank_a"].bars == honest.bars == made.about.bars - 40
    cut = learned.Learned.read
    monkeypatch.setattr(
        learned.Learned,
        "read",
        lambda one, names: cut(replace(one, values=made.past.lazy().head(len(one.rows))), names),
    )
    assert remade(made, drift_settings, tmp_path / "b", timeline=timeline).columns != honest.columns


def test_it_holds_sketches_of_inputs_context_and_score(made):
    kept = read_reference(made.folder)
    assert kept.sketch.columns == [*(entry.column for entry in made.entries), "score"]
    assert set(kept.sketch.dtypes) == {pl.Float32}
    assert kept.sketch["value"].is_sorted()
    assert kept.about.rows == len(made.past)
    assert kept.about.columns["rank_a"].effective_rows > 5 * kept.about.columns["market"].effective_rows
    assert len(kept.sample) <= 3000
    assert kept.sample["bar"].n_unique() == kept.about.bars


def test_codes_of_names_are_no_quantities_that_could_drift(made, drift_settings, tmp_path):
    """The reference is the one without them; planted under another name, the same numbers are watched like
    any others.
    """
    code = (pl.col("symbol").str.slice(1).cast(pl.Int32) % 4 * 200_000).cast(pl.Float32)
    codes = made.past.drop("score").with_columns(
        code.alias("sector_code"), pl.lit(None, pl.Float32).alias("industry_code"), code.alias("planted")
    )
    entries = [
        CatalogEntry(name, name, "style", "context", "none", 1, "", "")
        for name in ("sector_code", "industry_code")
    ]
    planted = CatalogEntry("planted", "planted", "style", "context", "none", 1, "", "")
    said = made.labels.filter(pl.col("timestamp").is_in(made.past["timestamp"].unique().implode()))
    kept = make_reference(
        codes,
        said,
        made.said,
        [*made.entries, *entries],
        drift_settings,
        TimelineSettings(),
        tmp_path / "codes",
    )
    assert kept == make_reference(
        codes, said, made.said, made.entries, drift_settings, TimelineSettings(), tmp_path / "plain"
    )
    assert list(read_reference(tmp_path / "codes").about.columns) == [
        *(entry.column for entry in made.entries),
        "score",
    ]
    assert (
        "planted"
        in make_reference(
            codes,
            said,
            made.said,
            [*made.entries, planted],
            drift_settings,
            TimelineSettings(),
            tmp_path / "planted",
        ).columns
    )


def test_the_calendar_and_the_market_are_not_for_the_classifier(made):
    assert made.about.adversarial.columns == ("rank_a", "rank_b", "value", "sparse")


def test_bars_after_the_test_window_do_not_change_it(made, drift_settings, tmp_path):
    timeline = TimelineSettings(test=Span(end=made.past["timestamp"].unique().sort()[-40].date()))
    first = remade(made, drift_settings, tmp_path / "a", timeline=timeline)
    late = pl.col("timestamp").dt.date() > timeline.test.end
    mutated = made.past.drop("score").with_columns(
        pl.when(late).then(pl.col(c) + 1e6).otherwise(pl.col(c)).alias(c)
        for c in ("rank_a", "value", "market")
    )
    scores = made.said.with_columns(pl.when(late).then(9.0).otherwise(pl.col("score")).alias("score"))
    again = remade(
        made, drift_settings, tmp_path / "b", timeline=timeline, training_set=mutated, predictions=scores
    )
    assert first == again
    for name in ("sketch.parquet", "sample.parquet", "reference.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_warm_up_is_not_missing(made, drift_settings, tmp_path):
    late = made.past["timestamp"].unique().sort()[60]
    rows = made.past.drop("score").with_columns(
        pl.when(pl.col("timestamp") >= late).then(pl.col("rank_a")).alias("rank_a")
    )
    about = remade(made, drift_settings, tmp_path, training_set=rows).columns["rank_a"]
    assert (about.first_bar, about.missing) == (60, 0)


def test_window_and_rest_by_hand():
    inside, rest = window_and_rest(np.arange(12)[:, None], 2)
    assert inside[:3, 0].tolist() == [1, 3, 5]
    # Far from bars 4 and 5 are all bars but 2 to 7.
    assert rest[4, 0] == 66 - (2 + 3 + 4 + 5 + 6 + 7)


def test_too_short_a_window_is_refused(made, drift_settings, tmp_path):
    few = made.past.filter(pl.col("timestamp") < made.past["timestamp"].unique().sort()[25]).drop("score")
    with pytest.raises(DriftError, match="25 bars; 30 are needed"):
        remade(made, drift_settings, tmp_path, training_set=few)


def test_without_the_stacks_predictions_it_is_refused(made, drift_settings, tmp_path):
    with pytest.raises(DriftError, match="No prediction of 'stack'"):
        remade(made, drift_settings, tmp_path, predictions=made.said.with_columns(expert=pl.lit("median")))


@pytest.mark.parametrize("fault", ["missing", "cut off", "other format", "other columns"])
def test_a_broken_reference_is_refused(made, tmp_path, fault):
    folder = shutil.copytree(made.folder, tmp_path / "reference")
    if fault == "missing":
        (folder / "sample.parquet").unlink()
    elif fault == "cut off":
        whole = (folder / "sketch.parquet").read_bytes()
        (folder / "sketch.parquet").write_bytes(whole[: len(whole) // 2])
    elif fault == "other format":
        (folder / "reference.json").write_text(
            json.dumps(json.loads((folder / "reference.json").read_text()) | {"format": 1})
        )
    else:
        pl.read_parquet(folder / "sketch.parquet").drop("value").write_parquet(folder / "sketch.parquet")
    with pytest.raises(DriftError, match="no whole drift reference"):
        read_reference(folder)
