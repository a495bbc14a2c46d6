"""Which cuts an audit makes has nothing to do with the speed of the machine, and tables that are scans are
audited as tables that are held, of which some columns at a time are read.
"""

import time
from functools import partial
from itertools import count

import polars as pl
import pytest
from polars.io.plugins import register_io_source

from components.audit import columns, scan
from components.audit.config import Settings
from components.audit.factors import audit_factors
from components.audit.page import page_html
from components.audit.whole_run import Tables, audit_run
from components.contracts import CatalogEntry
from components.labels.build import build_labels
from components.labels.config import Settings as LabelSettings

CLOSE = pl.col("close")
QUICK = Settings(cuts=1, guided_cuts=1, scan_cuts=3, warm_up_starts=1)
ENTRIES = [
    CatalogEntry(name, name, "trend", "input", "none", 21, "", "") for name in ("fast", "slow", "range")
]
OF_LABELS = partial(build_labels, settings=LabelSettings(horizons=(1, 5), primary_horizon=5))


def honest(panel: pl.DataFrame) -> pl.DataFrame:
    return panel.select(
        "timestamp",
        "symbol",
        "known_time",
        fast=(CLOSE / CLOSE.shift(5)).over("symbol").cast(pl.Float32),
        slow=(CLOSE / CLOSE.shift(20)).over("symbol").cast(pl.Float32),
        range=((pl.col("high") - pl.col("low")) / CLOSE).cast(pl.Float32),
    )


def leaking(panel: pl.DataFrame) -> pl.DataFrame:
    ahead = (CLOSE.shift(-1) / CLOSE).over("symbol")
    return honest(panel).with_columns(panel.select(ahead.cast(pl.Float32).alias("range")))


def scanned(table: pl.DataFrame, read: list[set[str]]) -> pl.LazyFrame:
    """A scan that notes which columns are read together."""

    def reading(names, predicate, n_rows, batch_size):
        read.append(set(names or table.columns))
        found = table.select(names or table.columns)
        found = found if n_rows is None else found.head(n_rows)
        yield found if predicate is None else found.filter(predicate)

    return register_io_source(reading, schema=table.schema)


@pytest.mark.parametrize(("build", "at_once"), [(honest, 2), (leaking, 1)])
def test_scans_are_audited_as_tables_are(build, at_once, market, monkeypatch):
    """In one table rows are missing, and one label is not what its builder gives."""
    panel = market(0, n_bars=120, n_symbols=12)
    factors, labels = build(panel), OF_LABELS(panel)
    if build is leaking:
        factors = factors.filter((pl.col("symbol") != "S02") | (pl.col("timestamp").dt.day() != 7))
        labels = labels.with_columns(pl.col("log_return") + 1e-3)
    held = audit_run(Tables(panel, factors, labels, ENTRIES), build, OF_LABELS, settings=QUICK, seed=0)
    read: list[set[str]] = []
    monkeypatch.setattr(columns, "COLUMNS_AT_ONCE", at_once)
    tables = Tables(panel, scanned(factors, read), scanned(labels, read), ENTRIES)
    assert audit_run(tables, build, OF_LABELS, settings=QUICK, seed=0).to_json() == held.to_json()
    wanted = {"fast", "slow", "range"}
    assert max(len(names & wanted) for names in read) == at_once
    assert set.union(*read) >= wanted | {"log_return", "label_end"}
    assert {leak.check for leak in held.leaks} >= (
        {"whole_history", "gap", "too_good"} if build is leaking else set()
    )
    assert held.passed is (build is honest)


def test_a_fault_in_the_table_that_was_handed_over_is_found_in_whichever_block(market, monkeypatch):
    panel = market(0, n_bars=120, n_symbols=12)
    monkeypatch.setattr(columns, "COLUMNS_AT_ONCE", 1)
    for name in ("fast", "slow", "range"):
        filled = honest(panel).with_columns(pl.col(name).fill_null(1.0) + (pl.col("symbol") == "S04"))
        leaks = audit_factors(
            panel, honest, seed=0, factors=filled.lazy(), warm_up_bars=21, settings=QUICK
        ).leaks
        assert [leak.factor for leak in leaks if leak.check == "whole_history"] == [name]


def test_a_slow_machine_makes_the_same_cuts(market, monkeypatch):
    """Planted: a clock that says that hours have passed whenever it is asked."""
    panel, settings = market(0, n_bars=100, n_symbols=10), Settings(cuts=1, guided_cuts=0)
    quick = audit_factors(panel, honest, seed=0, settings=settings)
    hours = count(0, 3600)
    for clock in ("perf_counter", "monotonic", "process_time", "time"):
        monkeypatch.setattr(time, clock, lambda: next(hours))
    slow = audit_factors(panel, honest, seed=0, settings=settings)
    monkeypatch.undo()
    assert slow.to_json() == quick.to_json()
    assert [cut["kind"] for cut in slow.checked["cuts"]].count("scan") == settings.scan_cuts


def test_a_large_panel_is_scanned_at_fewer_cuts_and_that_is_told(market, monkeypatch):
    panel, settings = market(0, n_bars=100, n_symbols=10), Settings(cuts=1, guided_cuts=0, staggered_builds=0)

    def scans(**known) -> tuple[int, int]:
        """Cuts that were made and cuts that were left out."""
        result = audit_factors(panel, honest, seed=0, settings=settings, **known)
        made = [cut["kind"] for cut in result.checked["cuts"]].count("scan")
        left_out = result.checked["scan_cuts_left_out"]
        said = f"Not made: {left_out} of the cuts that audit.scan_cuts asks for"
        assert (said in page_html(result)) == (f"cuts; {left_out} more not made" in page_html(result))
        assert any(note.startswith(said) for note in result.checked["notes"]) == (left_out > 0)
        return made, left_out

    a_build = len(panel) * (panel.width + 3)
    assert scans() == scans(warm_up_bars=21) == (8, 0)
    monkeypatch.setattr(scan, "SCAN_VALUES", 3 * a_build)
    assert scans() == (3, 5)
    monkeypatch.setattr(scan, "SCAN_VALUES", 0)
    assert scans() == scans(warm_up_bars=21) == (0, 8)


def test_a_panel_that_is_cut_at_every_bar_leaves_none_out(market):
    panel, settings = market(0, n_bars=30, n_symbols=10), Settings(cuts=1, guided_cuts=0, scan_cuts=60)
    assert audit_factors(panel, honest, seed=0, settings=settings).checked["scan_cuts_left_out"] == 0
