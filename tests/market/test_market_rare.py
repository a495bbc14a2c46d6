"""Rarely traded symbols of the simulator: as many bars without a trade as were asked for, where it says."""

from pathlib import Path

import polars as pl
import pytest

from components.contracts import RAW_PANEL, check_table
from components.market.config import Settings
from components.market.load import load_panel
from components.market.simulator import simulate, simulate_to_files

KEYS = ["timestamp", "symbol"]


def rare(untraded: str, **simulator) -> Settings:
    market = {"symbols": 30, "bars": 400, **simulator}
    return Settings(simulator={**market, "rare": {"share": 0.3, "traded_share": 0.4, "untraded": untraded}})


@pytest.mark.parametrize("untraded", ["zeros", "nulls", "missing"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_named_bars_have_no_trade_and_all_others_are_as_they_were(untraded, seed):
    full = simulate(Settings(simulator={"symbols": 30, "bars": 400}), seed)
    market = simulate(rare(untraded), seed)
    check_table(market.panel, RAW_PANEL)
    idle = market.faults
    assert idle["kind"].unique().to_list() == ["no_trade"]
    assert idle["symbol"].n_unique() == 9
    bars = full.panel.filter(pl.col("symbol").is_in(idle["symbol"].implode())).height
    assert len(idle) / bars == pytest.approx(0.6, abs=0.03)
    traded = market.panel.join(idle, on=KEYS, how="anti")
    assert traded.equals(full.panel.join(idle, on=KEYS, how="anti", maintain_order="left"))
    assert market.truth.select(KEYS).equals(traded.select(KEYS))
    rows = market.panel.with_columns(pl.col("close").shift(1).over("symbol").alias("before"))
    rows = rows.join(idle, on=KEYS, how="semi")
    assert len(rows) == (0 if untraded == "missing" else len(idle))
    if untraded == "zeros":
        assert rows.select("open", "high", "low", "volume").unique().rows() == [(0, 0, 0, 0)]
        assert rows["close"].equals(rows["before"].alias("close"))
    if untraded == "nulls":
        assert rows.select("open", "high", "low", "close", "volume").unique().rows() == [
            (None, None, None, None, 0)
        ]


def test_another_seed_chooses_other_symbols_and_none_are_there_unless_asked_for():
    chosen = [set(simulate(rare("zeros"), seed).faults["symbol"]) for seed in (0, 1, 2)]
    assert len({frozenset(symbols) for symbols in chosen}) > 1
    assert simulate(Settings(), 0).faults.is_empty()


def test_planted_faults_stay_as_they_are():
    kinds = ["bad_print", "stale_prices", "unadjusted_split", "duplicates", "last_bar_not_final"]
    market = simulate(rare("zeros", faults=kinds, fault_symbols=12), 3)
    planted = market.faults.filter(pl.col("kind") != "no_trade")
    assert set(planted["kind"]) == set(kinds)
    assert (market.panel.join(planted, on=KEYS, how="semi")["high"] > 0).all()
    assert planted.join(market.faults.filter(pl.col("kind") == "no_trade"), on=KEYS, how="semi").is_empty()


def test_a_column_that_is_left_out_is_absent_here_and_in_the_files(tmp_path):
    settings = rare("zeros").model_copy(update={"columns": {"open": ""}})
    loaded = load_panel(settings, data_folder=Path(), seed=0)
    assert loaded.panel["open"].null_count() == len(loaded.panel)
    simulate_to_files(settings, 0, tmp_path)
    written = pl.read_parquet(tmp_path / "panel.parquet")
    assert "open" not in written.columns
    assert pl.read_parquet(tmp_path / "faults.parquet").equals(loaded.faults)
