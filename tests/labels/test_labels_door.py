"""The labels door reads a stamped panel and writes a stamped labels table."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from components.contracts import LABELS, PANEL, read_stamp, read_table, write_table
from components.labels.component import make_labels
from components.labels.config import Settings
from components.labels.judged import LabelsRefused
from components.labels.run import Inputs, Outputs, run
from components.memory.limits import Limit
from components.memory.need import TooLittleMemory


def test_the_door_writes_labels_with_their_origin(tmp_path, capsys):
    bars = pl.DataFrame(
        {"timestamp": [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=t) for t in range(20)]}
    ).with_columns(pl.col("timestamp").dt.cast_time_unit("us"))
    price = pl.lit(10.0) + pl.int_range(pl.len())
    panel = bars.with_columns(
        symbol=pl.lit("A"),
        period=pl.lit("1h"),
        event_time="timestamp",
        known_time="timestamp",
        sector=pl.lit(None, pl.String),
        volume=pl.lit(1.0),
        **dict.fromkeys(("open", "high", "low", "close"), price),
    )
    source, target = (
        SimpleNamespace(path=str(tmp_path / "panel.parquet")),
        SimpleNamespace(path=str(tmp_path / "labels.parquet")),
    )
    stamp = write_table(panel.select(*PANEL.columns), source.path, PANEL, code_version="c", config_hash="h")
    make_labels.python_func(panel=source, settings=Settings().model_dump_json(), code="c", labels=target)
    labels = read_table(target.path, LABELS)
    assert len(labels) == 60
    assert labels.filter(pl.col("horizon") == 5)["log_return"].is_not_null().sum() == 14
    assert read_stamp(target.path).inputs == {"panel": stamp.content_sha256}
    assert "rows labelled" in capsys.readouterr().err


def spoiled(steps: dict[int, float]) -> pl.DataFrame:
    """A daily panel of eight symbols; the prices of some change their level at a bar."""
    rng = np.random.default_rng(5)
    close = 40 * np.exp(np.cumsum(rng.normal(0, 0.015, (300, 8)), axis=0))
    for number, (bar, factor) in enumerate(steps.items()):
        close[bar:, number] *= factor
    times = pl.Series([datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=bar) for bar in range(300)])
    moments = times.cast(pl.Datetime("us", "UTC")).gather(np.repeat(np.arange(300), 8))
    return pl.DataFrame({"timestamp": moments, "symbol": [f"S{number}" for number in range(8)] * 300}).select(
        "timestamp",
        "symbol",
        pl.lit("1d").alias("period"),
        event_time=pl.col("timestamp") - pl.duration(hours=7),
        known_time="timestamp",
        **{name: pl.Series(close.ravel()) for name in ("open", "high", "low", "close")},
        volume=pl.lit(1e6),
        sector=pl.lit(None, pl.String),
    )


def labelled(panel: pl.DataFrame, folder, **settings) -> pl.DataFrame:
    write_table(panel, folder / "panel.parquet", PANEL, code_version="c", config_hash="h")
    run(
        Inputs(folder / "panel.parquet"),
        Outputs(folder / "labels.parquet"),
        settings=Settings(**settings).model_dump_json(),
        code="c",
    )
    return read_table(folder / "labels.parquet", LABELS)


SPLITS = {60: 0.2, 90: 0.1, 130: 0.25, 170: 10.0, 220: 0.2, 250: 0.05}


@pytest.fixture(params=["whole", "pieces"])
def way(request, monkeypatch) -> str:
    """With room for all labels at once, and without."""
    free = {"whole": 2**40, "pieces": 1}[request.param]
    monkeypatch.setattr("components.labels.run.FEWEST_ROWS", 400)
    for asked in ("room", "target"):
        monkeypatch.setattr(f"components.memory.limits.{asked}", lambda: free)
    return request.param


def test_splits_that_nobody_found_stop_the_run_and_are_named(tmp_path, way):
    with pytest.raises(LabelsRefused, match=r"squared labels; the farthest is S\d at 2024") as told:
        labelled(spoiled(SPLITS), tmp_path)
    assert "labels.max_far_share (now 0.05)" in str(told.value)
    assert not (tmp_path / "labels.parquet").exists()
    assert len(labelled(spoiled(SPLITS), tmp_path, max_far_share=1.0)) == 300 * 8 * 3


def test_one_jump_is_said_and_a_calm_panel_is_not(tmp_path, capsys, way):
    labelled(spoiled({150: 0.3}), tmp_path)
    said = capsys.readouterr().err
    assert "squared labels; the farthest is S0 at 2024" in said
    assert ("in pieces of about 400 rows" in said) == (way == "pieces")
    labelled(spoiled({}), tmp_path)
    assert "squared labels" not in capsys.readouterr().err


def test_labels_that_can_never_fit_are_refused_before_they_are_begun(tmp_path, monkeypatch):
    little = Limit("memory of the machine", 2**20, 0)
    for asked in ("end", "limit"):
        monkeypatch.setattr(f"components.memory.need.{asked}", lambda root: little)
    monkeypatch.setattr("components.memory.limits.limits", lambda root: [little])
    with pytest.raises(TooLittleMemory, match=r"2,400 rows of 11 columns labels needs about \d+ MiB"):
        labelled(spoiled({}), tmp_path)
    assert not (tmp_path / "labels.parquet").exists()
