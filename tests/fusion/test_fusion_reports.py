"""The reports and the doors: every planted fault is counted and none is seen in a clean table; coverage,
strict mode, page and artifacts.
"""

import json
import os
import re
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from small_tables import START, small_panel, small_slow, small_table

from components.contracts import (
    FUSED,
    LEARNABLE,
    PANEL,
    TRAINING_SET,
    CatalogEntry,
    read_stamp,
    read_table,
    write_catalog,
    write_table,
)
from components.fusion.component import draw_fusion, find_slow_source, fuse, make_learnable
from components.fusion.config import Settings
from components.fusion.errors import FusionError
from components.fusion.fuse import fuse_panel
from components.fusion.page import write_fusion_page
from components.fusion.read import from_frame
from components.fusion.time_audit import audit_feed, audit_table

CLEAN = [("A", 24 * day, 24 * day + 5, 10.0 + day) for day in range(40)]
FEED_COUNTS = (
    "duplicates",
    "contradicted",
    "republications",
    "amendments",
    "older_observations",
    "no_values",
    "gaps",
    "symbols_with_long_pause",
)
VALUE_COUNTS = ("missing", "out_of_range", "conflicting", "unit_jumps", "frozen")


def counts(rows, **changes) -> dict[str, int]:
    feed = from_frame(small_table(**changes), small_slow(rows)).feeds[0]
    found = audit_feed(feed)
    return {name: found[name] for name in FEED_COUNTS} | {
        name: found["by_column"]["x"][name] for name in VALUE_COUNTS
    }


def test_a_clean_table_has_no_fault():
    assert counts(CLEAN) == dict.fromkeys((*FEED_COUNTS, *VALUE_COUNTS), 0)


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ([("A", 48, 53, 12.0)], {"duplicates": 1}),
        ([("A", 48, 53, 99.0)], {"contradicted": 2, "conflicting": 2, "missing": 2, "no_values": 2}),
        ([("A", 24 * 39, 24 * 39 + 9, 49.0)], {"republications": 1}),
        ([("A", 24 * 39, 24 * 39 + 9, 47.5)], {"amendments": 1}),
        ([("A", 24 * 39, 24 * 39 + 9, None)], {"republications": 1, "no_values": 1, "missing": 1}),
        ([("A", 24 * 3, 24 * 20 + 1, 13.5)], {"amendments": 1, "older_observations": 1}),
        ([("A", 24 * 3, 24 * 20 + 1, 13.0)], {"republications": 1, "older_observations": 1}),
        ([("A", 24 * 40, 24 * 40 + 5, 50_000.0), ("A", 24 * 41, 24 * 41 + 5, 51.0)], {"unit_jumps": 1}),
        ([("A", 24 * 40, 24 * 40 + 5, 0.05), ("A", 24 * 41, 24 * 41 + 5, 51.0)], {"unit_jumps": 1}),
        ([("A", 24 * 40, 24 * 40 + 5, 50_000.0), ("A", 24 * 41, 24 * 41 + 5, 51_000.0)], {}),
        ([("A", 24 * day, 24 * day + 5, 5.0) for day in range(40, 60)], {"frozen": 20}),
        ([("A", 24 * day, 24 * day + 5, 5.0) for day in range(40, 59)], {}),
        ([("A", 24 * 41, 24 * 41 + 5, 5.0)], {"gaps": 1}),
        ([("A", 24 * 800, 24 * 800 + 5, 5.0)], {"gaps": 1, "symbols_with_long_pause": 1}),
        ([("A", 24 * 40, 24 * 40 + 5, 7.0), ("B", 0, 5, 7.0)], {}),
    ],
)
def test_each_planted_fault_is_counted_once(planted, found):
    assert counts(CLEAN + planted) == dict.fromkeys((*FEED_COUNTS, *VALUE_COUNTS), 0) | found


def test_long_weekends_of_a_series_in_local_days_are_no_gaps():
    days = [date(2024, 3, 4) + timedelta(days=k) for k in range(40)]
    quoted = [day for day in days if day.weekday() < 5 and day not in (date(2024, 3, 29), date(2024, 4, 1))]
    table = small_table(
        key="market",
        frequency="day",
        known="",
        release_lag_days=1,
        timezone="America/New_York",
        column={"normalisation": "none"},
    )
    feed = from_frame(
        table, pl.DataFrame({"observed": quoted, "value": [float(k) for k in range(len(quoted))]})
    ).feeds[0]
    found = audit_feed(feed)
    assert (found["first"], found["last"], found["longest_gap_days"], found["gaps"]) == (
        "2024-03-04",
        "2024-04-12",
        5.0,
        1,
    )
    short = from_frame(
        table,
        pl.DataFrame({"observed": [day for day in quoted if day < date(2024, 3, 28)], "value": [1.0] * 18}),
    ).feeds[0]
    assert audit_feed(short)["gaps"] == 0


def test_values_out_of_range_are_counted_and_missing():
    assert counts(CLEAN, column={"highest": 48.5})["out_of_range"] == 1
    assert counts(CLEAN, column={"highest": 48.5})["missing"] == 1


def test_lags_and_symbols_are_told():
    slow = from_frame(
        small_table(company="company"),
        small_slow([("A", 0, 24, 1.0, "x"), ("A", 24, 96, 1.0, "y"), ("Z", 0, 24, 1.0, "z")]),
    )
    found = audit_table(slow, ["A", "B"])
    assert found["feeds"][0]["lag_days"] == {
        "least": 1.0,
        "p01": 1.0,
        "median": 1.0,
        "p99": 2.96,
        "most": 3.0,
    }
    assert (found["symbols"], found["symbols_without_panel"], found["panel_symbols_without_table"]) == (
        2,
        1,
        ["B"],
    )
    assert found["companies_by_ticker"] == {"by_company_column": ["A"], "by_identity": [], "told_apart": True}


BARS = [(hour, symbol, hour) for hour in range(10) for symbol in "AB"]


@pytest.fixture
def folder(tmp_path):
    small_slow(
        [("A", 0, 2, 1.0), ("A", 3, 5, 2.0), ("B", 8, 9, 3.0), ("Z", 1, 1, 1.0), (None, 1, 1, 1.0)]
    ).write_parquet(tmp_path / "slow.parquet")
    return tmp_path


def slow_settings(**changes) -> Settings:
    return Settings(**{"tables": (small_table(),), "verified_rows": 20} | changes)


def test_coverage_says_what_fell_out(folder):
    fusion = fuse_panel(small_panel(BARS), slow_settings(), folder)
    [entry] = fusion.report["coverage"]
    assert entry["coverage"] == 9 / 20
    assert entry["by_year"] == {"2024": 9 / 20}
    assert entry["symbols_without"] == []
    assert entry["symbols_below"] == ["B"]
    assert (entry["dates_below"], entry["dates"]) == (9, 10)
    assert entry["age_days"] == {"median": pytest.approx(3 / 24), "most": pytest.approx(6 / 24)}
    assert fusion.report["checks"] == {
        "rows_verified": 20,
        "values_compared": 20,
        "seed": 1,
        "smallest_margin_s": 0.0,
    }
    assert fusion.report["tables"][0]["refused"][0]["rows"] == 1
    assert re.match(r"x \(slow\) covers 45% of the panel's rows", fusion.notes[0])
    assert fusion.report["config"]["min_coverage"] == 0.7


def test_strict_mode_refuses_what_falls_out_and_passes_what_covers(folder):
    with pytest.raises(FusionError, match=r"1 symbols \(B\) and 9 of 10 dates"):
        fuse_panel(small_panel(BARS), slow_settings(strict=True), folder)
    covered = small_panel([bar for bar in BARS if bar[1] == "A" and bar[0] >= 2])
    assert fuse_panel(covered, slow_settings(strict=True), folder).notes == ()


def test_the_page_stands_alone_and_escapes_names(folder):
    fusion = fuse_panel(small_panel(BARS), slow_settings(), folder)
    fusion.report["tables"][0]["path"] = "<script>alert(1)</script>"
    write_fusion_page(folder / "page", fusion.report)
    page = (folder / "page").read_text()
    assert "<script>alert" not in page
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="http', page)
    assert all(f'id="{name}"' in page for name in ("coverage", "times", "faults", "tickers", "config"))


def artifact(path) -> SimpleNamespace:
    return SimpleNamespace(path=str(path))


def test_the_fusion_door_writes_what_it_found_with_its_origin(folder, monkeypatch):
    monkeypatch.setenv("ALPHALOOP_DATA", str(folder))
    stamp = write_table(small_panel(BARS), folder / "panel", PANEL, code_version="c", config_hash="h")
    outputs = {name: artifact(folder / "out" / name) for name in ("fused", "report")}
    panel, settings = artifact(folder / "panel"), slow_settings().model_dump_json()
    with pytest.raises(FusionError, match="changed since this run began: they were an-older-one"):
        fuse.python_func(panel=panel, settings=settings, source="an-older-one", code="c", **outputs)
    assert not (folder / "out").exists()
    found = find_slow_source.python_func(settings=settings)
    fuse.python_func(panel=panel, settings=settings, source=found, code="c", **outputs)
    fused = read_table(outputs["fused"].path, FUSED)
    assert fused["x"].to_list()[:8] == [None, None, None, None, 1.0, None, 1.0, None]
    inputs = read_stamp(outputs["fused"].path).inputs
    assert inputs["panel"] == stamp.content_sha256
    assert inputs["slow_tables"] == found
    assert json.loads(Path(outputs["report"].path).read_text())["coverage"][0]["column"] == "x"
    page = artifact(folder / "out" / "page")
    draw_fusion.python_func(report=outputs["report"], code="c", page=page)
    drawn = Path(page.path).read_text()
    assert drawn.startswith("<!doctype html>")
    write_fusion_page(folder / "again", fuse_panel(small_panel(BARS), slow_settings(), folder).report)
    assert drawn == (folder / "again").read_text()


def test_the_learnable_door_writes_rows_and_report(tmp_path):
    times = [START + timedelta(days=k) for k in range(4)]
    training_set = pl.DataFrame(
        {"timestamp": times, "symbol": ["A"] * 4, "sector": ["s"] * 4, "f": [1.0, None, 1.0, 1.0]}
    ).with_columns(pl.col("timestamp").dt.cast_time_unit("us"), pl.col("f").cast(pl.Float32))
    stamp = write_table(
        training_set, tmp_path / "training_set", TRAINING_SET, code_version="c", config_hash="h"
    )
    write_catalog([CatalogEntry("f", "f", "g", "input", "none", 0, "", "")], tmp_path / "catalog")
    settings = Settings.model_validate({"datasets": {"base": {"max_missing_ratio": 0.5}}})
    made, report = artifact(tmp_path / "learnable"), artifact(tmp_path / "report")
    make_learnable.python_func(
        training_set=artifact(tmp_path / "training_set"),
        catalog=artifact(tmp_path / "catalog"),
        settings=settings.model_dump_json(),
        modality="base",
        code="c",
        learnable=made,
        report=report,
    )
    assert read_table(made.path, LEARNABLE)["timestamp"].to_list() == [times[0], times[2], times[3]]
    assert read_stamp(made.path).inputs == {"training_set": stamp.content_sha256}
    assert json.loads(Path(report.path).read_text())["dropped"] == [
        {"rule": "max_missing_ratio", "symbol": "A", "rows": 1, "period": "1d"}
    ]


def test_real_fundamentals_join_as_one_by_one():
    folder = Path(os.environ.get("ALPHALOOP_DATA", "data"))
    if not (folder / "us_fundamentals_pit.parquet").exists():
        pytest.skip("us_fundamentals_pit.parquet is not in ALPHALOOP_DATA")
    columns = [
        {"name": "equity_share", "column": "equity", "divide_by": "assets"},
        {"name": "growth", "column": "assets", "transform": "percent_change", "observations": 4},
    ]
    table = small_table(
        path="us_fundamentals_pit.parquet",
        observed="period_end",
        known="known_at",
        frequency="day",
        columns=columns,
        max_age_days=200,
    )
    days = [24 * (day - 3000) for day in range(0, 900, 3)]
    panel = small_panel(
        [(day, symbol, day) for day in days for symbol in ("AAPL", "IBM", "NRG", "ZYNE", "NDLS")]
    )
    fusion = fuse_panel(panel, Settings(tables=(table,), verified_rows=len(panel)), folder)
    assert fusion.report["checks"]["values_compared"] == 2 * len(panel)
    assert fusion.fused["equity_share"].is_not_null().sum() > 500
