"""The doors and the command: artifacts in, artifacts out; mixed origins and missing champions are refused."""

import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
import pytest

from components.contracts import (
    ALL_PREDICTIONS,
    LABELS,
    TRAINING_SET,
    OutputError,
    write_catalog,
    write_table,
)
from components.contracts.documents.champion import ChampionRecord
from components.drift.component import detect_drift, make_reference
from components.drift.tables import DriftError, check_current, read_current
from components.timeline import Settings as TimelineSettings
from pipelines.commands.drift import check_drift
from pipelines.config import Config

STAMP = {"code_version": "c", "config_hash": "h"}


@dataclass(frozen=True)
class Artifact:
    path: str


def artifact(path) -> Artifact:
    return Artifact(str(path))


@pytest.fixture(scope="module")
def written(made, tmp_path_factory):
    """The stages' tables as files with stamps."""
    folder = tmp_path_factory.mktemp("tables")
    floats = [entry.column for entry in made.entries]
    rows = made.past.select("timestamp", "symbol", pl.lit("x").alias("sector"), *floats)
    labels = made.labels.with_columns(
        pl.col("timestamp").alias("label_end"),
        pl.lit(1, dtype=pl.Int8).alias("direction"),
        pl.col("log_return").alias("sector_neutral_return"),
    ).select(*LABELS.columns)
    predictions = made.said.with_columns(
        *(pl.lit("f").alias(name) for name in ("fold", "train_window")),
        *(
            pl.lit(0.0).alias(name)
            for name in ("uncertainty", "p10", "p50", "p90", "head_scale", "head_bias")
        ),
    ).select(*ALL_PREDICTIONS.columns)
    stamps = {
        "training_set": write_table(rows, folder / "training_set", TRAINING_SET, **STAMP).content_sha256,
        "labels": write_table(labels, folder / "labels", LABELS, **STAMP).content_sha256,
    }
    write_table(predictions, folder / "predictions", ALL_PREDICTIONS, **STAMP, inputs=stamps)
    write_table(
        made.current.select("timestamp", "symbol", pl.lit("x").alias("sector"), *floats),
        folder / "current",
        TRAINING_SET,
        **STAMP,
    )
    write_catalog(made.entries, folder / "catalog")
    return folder


def referenced(written, settings, target, **other):
    paths = {
        name: artifact(written / name) for name in ("training_set", "labels", "predictions", "catalog")
    } | other
    make_reference.python_func(
        **paths,
        settings=settings.model_dump_json(),
        timeline=TimelineSettings().model_dump_json(),
        horizon=2,
        target="log_return",
        code="c",
        reference=artifact(target),
    )


CHAMPION = ChampionRecord(
    version=4,
    run_id="r",
    bundle_sha256="ab",
    inputs={},
    horizon=5,
    known_until=datetime(2024, 1, 31, tzinfo=UTC),
    train_window="",
    history=[],
    newest=None,
)


def test_reference_then_drift(made, written, drift_settings, tmp_path):
    champion = tmp_path / "champion"
    referenced(written, drift_settings, champion / "reference")
    assert json.loads((champion / "reference" / "reference.json").read_text())["stamp"]["code_version"] == "c"
    CHAMPION.write(champion / "champion.json")
    detect_drift.python_func(
        current=artifact(written / "current"),
        champion=artifact(champion),
        settings=drift_settings.model_dump_json(),
        code="c",
        drift=artifact(tmp_path / "drift"),
        labels=artifact(written / "labels"),
    )
    result = json.loads((tmp_path / "drift" / "drift.json").read_text())
    assert result["verdict"] == "no_drift"
    assert result["reference"]["version"] == 4
    assert {"index.html", "evidently.html"} <= set(os.listdir(tmp_path / "drift"))


def test_a_reference_that_can_not_be_read_is_no_failure_of_the_check(made, written, drift_settings, tmp_path):
    """A reviewer's word must still be heard, so the check goes on and says why nothing was compared."""
    champion = tmp_path / "champion"
    referenced(written, drift_settings, champion / "reference")
    CHAMPION.write(champion / "champion.json")
    (champion / "reference" / "sketch.parquet").write_bytes(b"cut off")
    given = {
        "current": artifact(written / "current"),
        "champion": artifact(champion),
        "drift": artifact(tmp_path / "drift"),
    }
    detect_drift.python_func(**given, settings=drift_settings.model_dump_json(), code="c")
    result = json.loads((tmp_path / "drift" / "drift.json").read_text())
    assert result["verdict"] == "not_enough_data"
    assert "the reference of champion 4 can't be used" in result["reason"]


def test_predictions_of_other_data_are_refused(made, written, drift_settings, tmp_path):
    rows = pl.read_parquet(written / "training_set").with_columns(pl.col("value") + 1)
    write_table(rows, tmp_path / "other", TRAINING_SET, **STAMP)
    with pytest.raises(DriftError, match="predictions were made from training_set"):
        referenced(written, drift_settings, tmp_path / "reference", training_set=artifact(tmp_path / "other"))


def test_command_with_a_table(made, drift_settings, tmp_path):
    config = Config(run={"folder": str(tmp_path / "run")}, drift=drift_settings)
    made.current.write_csv(tmp_path / "current.csv")
    _, drifted = check_drift(
        config, tmp_path / "current.csv", reference=made.folder, output=tmp_path / "same"
    )
    assert not drifted
    made.current.with_columns(pl.col("rank_a") + 1).write_parquet(tmp_path / "current.parquet")
    shown, drifted = check_drift(
        config, tmp_path / "current.parquet", reference=made.folder, output=tmp_path / "moved"
    )
    assert drifted
    from rich.console import Console

    console = Console(record=True, width=160)
    console.print(shown)
    assert "rank_a" in console.export_text()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.parquet", None, "does not exist"),
        ("cut.parquet", b"PAR1 and no more", "can't be read as a table"),
        ("empty.csv", b"timestamp,symbol\n", "no rows"),
    ],
)
def test_files_that_are_no_tables_are_refused(made, drift_settings, tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DriftError, match=words):
        check_drift(
            Config(drift=drift_settings), tmp_path / name, reference=made.folder, output=tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_a_folder_of_tables_is_one_table_and_the_newer_answer_counts(made, drift_settings, tmp_path):
    """As the answer log lies: a folder by hour, parts of several champions with other columns, a row that was
    asked for twice.
    """
    moments = made.current["timestamp"].unique().sort()
    late = pl.col("timestamp") >= moments[len(moments) // 2]
    answers = made.current.with_columns(answered_at=pl.col("timestamp"))
    parts = {
        "hour=b/a": answers.filter(~late),
        "hour=a/b": answers.filter(late).with_columns(other=pl.lit(1.0)),
        "hour=z/old": answers.with_columns(
            pl.col("rank_a") + 9, answered_at=pl.col("answered_at") - pl.duration(hours=1)
        ),
    }
    for name, part in parts.items():
        (tmp_path / "log" / name).parent.mkdir(parents=True)
        part.write_parquet(tmp_path / "log" / f"{name}.parquet")
    kept = check_current(read_current(tmp_path / "log"), ["rank_a"])
    assert kept.equals(check_current(made.current, ["rank_a"]))
    (tmp_path / "bare").mkdir()
    with pytest.raises(DriftError, match="holds no Parquet file"):
        check_drift(
            Config(drift=drift_settings), tmp_path / "bare", reference=made.folder, output=tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_report_is_left_alone(made, drift_settings, tmp_path):
    made.current.write_parquet(tmp_path / "current.parquet")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="--output"):
        check_drift(
            Config(drift=drift_settings),
            tmp_path / "current.parquet",
            reference=made.folder,
            output=tmp_path / "out",
        )
    assert (tmp_path / "out").read_text() == "mine"


def test_without_a_champion_the_command_says_what_to_do(made, drift_settings, tmp_path):
    made.current.write_parquet(tmp_path / "current.parquet")
    config = Config(run={"folder": str(tmp_path / "run")}, drift=drift_settings)
    with pytest.raises(DriftError, match="no champion of 'demo'"):
        check_drift(config, tmp_path / "current.parquet", output=tmp_path / "out")


def test_a_folder_without_a_reference_is_refused(made, drift_settings, tmp_path):
    made.current.write_parquet(tmp_path / "current.parquet")
    shutil.copytree(made.folder, tmp_path / "reference")
    (tmp_path / "reference" / "reference.json").unlink()
    with pytest.raises(DriftError, match="no whole drift reference"):
        check_drift(
            Config(drift=drift_settings),
            tmp_path / "current.parquet",
            reference=tmp_path / "reference",
            output=tmp_path / "out",
        )
