"""A factors table built in pieces has the bytes of one built whole, whatever the pieces."""

import numpy as np
import polars as pl
import pytest

from components.contracts import FACTORS, write_table
from components.contracts.cut import blocks, cut_of
from components.features import in_pieces
from components.features.build import build_supported
from components.features.config import DeclaredFormula, Groups, Selection, Settings, SlowColumn
from components.features.in_pieces import build_in_pieces
from components.features.library import FACTORS as LIBRARY
from components.features.library import GROUPS
from components.features.panels import PanelOnDisk
from components.features.regime_config import Regimes
from components.settings import config_hash

# Factors whose measures are ranked across symbols between windows, twice over.
ROUNDS = ("alpha_003", "alpha_015")
SETTINGS = Settings(
    groups=Groups(
        **dict.fromkeys(GROUPS, False) | {"trend": True, "volatility": True, "regime": True, "formulas": True}
    ),
    factors=Selection(
        exclude=tuple(f.name for f in LIBRARY if f.group == "formulas" and f.name not in ROUNDS)
    ),
    slow=(SlowColumn(name="rate", normalisation="zscore"),),
    formulas=(
        DeclaredFormula(name="mined_a", formula="mul(momentum_20_rank, volatility_20)"),
        DeclaredFormula(name="mined_b", formula="sub(momentum_20_rank, rate)", normalisation="zscore"),
    ),
    regimes=Regimes(model="hmm", fit_bars=150, refit_months=4),
)
STAMPED = {"code_version": "c1", "inputs": {"panel": "p1"}}


@pytest.fixture(scope="module")
def panel(random_panel) -> pl.DataFrame:
    """Seven symbols of 500 bars, some missing; one symbol comes late, some rows become known late, and one so
    late that it is the latest for as long as anything looks back.
    """
    bars = random_panel(21, bars=500, symbols=7, missing=0.004)
    moments = bars["timestamp"].unique().sort()
    name = bars["symbol"].unique().sort()[3]
    bars = bars.filter((pl.col("symbol") != name) | (pl.col("timestamp") >= moments[200]))
    late = pl.int_range(pl.len()) % 997 == 5
    very_late = (pl.col("symbol") == "S01") & (pl.col("timestamp") == moments[100])
    by = pl.when(very_late).then(pl.duration(days=2000)).when(late).then(pl.duration(days=3))
    return bars.with_columns(known_time=pl.col("known_time") + by.otherwise(pl.duration(days=0)))


@pytest.fixture(scope="module")
def fused(panel) -> pl.DataFrame:
    return panel.select("timestamp", "symbol", rate=pl.col("timestamp").dt.day().cast(pl.Float64))


@pytest.fixture(scope="module")
def whole(panel, fused, tmp_path_factory):
    """The file of the table built whole, and its stamp."""
    path = tmp_path_factory.mktemp("whole") / "whole"
    return path, written_whole(panel.join(fused, on=["timestamp", "symbol"], how="left"), SETTINGS, path)


def written_whole(panel, settings, path):
    table, _, _ = build_supported(panel, settings)
    return write_table(table, path, FACTORS, config_hash=config_hash(settings), **STAMPED)


def in_pieces_of(rows, panel, fused, settings, folder):
    panel.write_parquet(folder / "panel", row_group_size=1000)
    slow = None
    if fused is not None:
        fused.write_parquet(folder / "fused", row_group_size=700)
        slow = pl.scan_parquet(folder / "fused")
    scan = pl.scan_parquet(folder / "panel")
    source = PanelOnDisk(scan, cut_of(scan, rows), slow)
    stamp = build_in_pieces(source, settings, folder / "pieces", **STAMPED)
    assert {path.name for path in folder.iterdir()} <= {"panel", "fused", "pieces"}
    return stamp


@pytest.mark.parametrize("rows", [10**9, 1300, 400])
def test_pieces_of_any_size_give_the_bytes_of_the_whole(panel, fused, rows, whole, tmp_path):
    path, stamp = whole
    assert in_pieces_of(rows, panel, fused, SETTINGS, tmp_path) == stamp
    assert (tmp_path / "pieces").read_bytes() == path.read_bytes()


def test_a_row_that_is_not_seen_to_be_late_would_show(panel, fused, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(in_pieces, "late_rows", lambda rows, length: _nobody_late(rows))
    stamp = in_pieces_of(1300, panel, fused, SETTINGS, tmp_path)
    assert stamp.content_sha256 != whole[1].content_sha256


def _nobody_late(rows):
    others = rows.group_by("_time").agg(pl.col("own").max()).sort("_time")["own"]
    return np.zeros(len(rows), dtype=bool), others


@pytest.mark.parametrize("rows", [10**9, 900])
def test_coarser_periods_too(random_panel, rows, tmp_path):
    bars = random_panel(5, bars=600, symbols=6, missing=0.01, period="4h")
    settings = Settings(groups=Groups(**dict.fromkeys(GROUPS, False) | {"trend": True}), coarser=("1d",))
    assert in_pieces_of(rows, bars, None, settings, tmp_path) == written_whole(bars, settings, tmp_path / "w")


def test_symbols_gone_before_the_first_coarser_bar_may_be_a_block_by_themselves(random_panel, tmp_path):
    """First, in the middle and last, each alone in its block."""
    bars = random_panel(7, bars=120, symbols=3, missing=0, period="1h")
    first_day = bars.filter(pl.col("symbol") == "S01").head(20)
    gone = [first_day.with_columns(symbol=pl.lit(name)) for name in ("A", "S01b", "Z")]
    bars = pl.concat([bars, *gone]).sort("timestamp", "symbol")
    settings = Settings(groups=Groups(**dict.fromkeys(GROUPS, False) | {"trend": True}), coarser=("1d",))
    assert in_pieces_of(20, bars, None, settings, tmp_path) == written_whole(bars, settings, tmp_path / "w")


def test_coarser_bars_of_before_a_piece_are_seen_as_long_as_they_are_not_stale(random_panel, tmp_path):
    """Symbols that were away for four to seven days, in pieces of one day."""
    bars = random_panel(6, bars=40, symbols=4, missing=0, period="4h")
    begin = bars["timestamp"].min() + pl.duration(days=14)
    away = pl.col("symbol").replace_strict({f"S{k:02d}": 4 + k for k in range(4)}, return_dtype=pl.Int64)
    gone = pl.col("timestamp").is_between(begin, begin + pl.duration(days=away), closed="left")
    settings = Settings(groups=Groups(**dict.fromkeys(GROUPS, False) | {"trend": True}), coarser=("1d",))
    bars = bars.filter(~gone | (pl.col("symbol") == "S00"))
    assert in_pieces_of(4, bars, None, settings, tmp_path) == written_whole(bars, settings, tmp_path / "w")


def test_blocks_hold_about_so_many_rows_and_cut_no_item():
    assert blocks(np.array([10, 10, 10, 10]), 20).tolist() == [0, 0, 1, 1]
    assert blocks(np.array([50, 1, 1, 30]), 20).tolist() == [0, 1, 1, 1]
    assert blocks(np.array([3]), 20).tolist() == [0]
