"""The labels door reads a stamped panel and writes a stamped labels table."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import polars as pl

from components.contracts import LABELS, PANEL, read_stamp, read_table, write_table
from components.labels.component import make_labels
from components.labels.config import Settings


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
