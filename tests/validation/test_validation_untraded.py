"""Bars without a trade are told apart from faults, count as there, and stay out of prices and quarantine."""

from pathlib import Path

import polars as pl
import pytest

from components.market.config import Settings as MarketSettings
from components.market.load import Market, load_panel
from components.validation.config import Settings
from components.validation.examine import examine
from components.validation.page import page_values
from components.validation.terminal import terminal_table
from components.validation.validate import validate_panel
from tests.validation.test_validation_examine import change, found, place, random_walk

NOTHING = {"open": 0.0, "high": 0.0, "low": 0.0, "volume": 0.0}
LAST = {"close": pl.col("last")}
FORMS = {
    "zeros with the last close": NOTHING | LAST,
    "only the range is 0": {"open": pl.col("last"), "high": 0.0, "low": 0.0, "volume": 0.0} | LAST,
    "zeros throughout": NOTHING | {"close": 0.0},
    "nulls": dict.fromkeys(["open", "high", "low", "close"]) | {"volume": 0.0},
    "nulls with the last close": dict.fromkeys(["open", "high", "low"]) | {"volume": 0.0} | LAST,
    "NaN": dict.fromkeys(["open", "high", "low", "close"], float("nan")) | {"volume": 0.0},
}


def untraded(seed: int, bars: list[int], values: dict) -> pl.DataFrame:
    """A market whose symbol S2 has `values` at these bars, `last` being the close of its latest other bar."""
    frame = random_walk(seed)
    idle = pl.any_horizontal(*(place(frame, "S2", bar) for bar in bars))
    last = pl.when(~idle).then("close").forward_fill().over("symbol")
    return change(frame.with_columns(last.alias("last")), idle, **values).drop("last")


@pytest.mark.parametrize("form", FORMS)
def test_a_bar_without_a_trade_is_told_and_nothing_else_is_found(form):
    frame = untraded(3, [20, 21, 50, 159], FORMS[form])
    assert found(frame) == {"no_trade": [("S2", 20), ("S2", 21), ("S2", 50), ("S2", 159)]}
    result = validate_panel(frame, Settings())
    assert not result.failures
    assert result.quarantine.is_empty()
    assert len(result.panel) == len(frame) - 4
    assert result.health["rows_without_trade"] == 4


@pytest.mark.parametrize(
    "values",
    [
        NOTHING | LAST | {"volume": 5_000.0},
        NOTHING | {"close": pl.col("last") * 1.02},
        NOTHING | {"close": pl.col("last") * -1},
        NOTHING | LAST | {"open": pl.col("last") * 1.1},
        NOTHING | LAST | {"high": pl.col("last")},
        NOTHING | LAST | {"volume": -1.0},
        NOTHING | LAST | {"high": float("inf")},
        dict.fromkeys(["open", "high", "low", "close"]) | {"volume": 900.0},
        dict.fromkeys(["open", "high", "low", "close", "volume"]),
    ],
)
def test_what_moves_or_was_traded_stays_a_fault(values):
    frame = untraded(3, [20, 50], values)
    result = validate_panel(frame, Settings())
    assert result.health["rows_without_trade"] == 0
    assert "no_trade" not in found(frame)
    assert len(result.quarantine) >= 2


def test_a_volume_that_says_nothing_makes_no_bar_one_without_a_trade():
    """Rates and indices have volume 0 throughout: a bar without prices is missing there."""
    frame = untraded(3, [20, 50], dict.fromkeys(["open", "high", "low", "close"]))
    silent = change(frame, pl.col("symbol") == "S2", volume=pl.lit(0.0))
    assert found(silent, zero_volume="keep")["not_finite"] == [("S2", 20), ("S2", 50)]


def test_order_and_repeats_of_the_source_do_not_matter():
    frame = untraded(3, [20, 21, 50], FORMS["zeros with the last close"])
    shuffled = frame.sample(fraction=1, shuffle=True, seed=4)
    assert validate_panel(shuffled, Settings()).health["rows_without_trade"] == 3
    twice = pl.concat([frame, frame.filter(pl.col("high") == 0)])
    result = validate_panel(twice, Settings())
    assert (result.health["rows_without_trade"], len(result.quarantine)) == (6, 0)


def exchange(seed: int, untraded: str, **rare) -> Market:
    settings = MarketSettings(
        columns={"open": ""},
        simulator={"symbols": 60, "bars": 300, "rare": {"share": 0.35, "untraded": untraded, **rare}},
    )
    return load_panel(settings, data_folder=Path(), seed=seed)


@pytest.mark.parametrize("form", ["zeros", "nulls"])
@pytest.mark.parametrize("traded_share", [0.1, 0.5])
def test_an_exchange_with_rarely_traded_names_loses_no_symbol(form, traded_share):
    market = exchange(2, form, traded_share=traded_share)
    result = validate_panel(market.panel, Settings())
    assert not result.failures, terminal_table(result.health)
    assert result.health["rows_without_trade"] == len(market.faults) > 0.1 * len(market.panel)
    assert result.health["symbols_out"] == 60
    assert len(result.quarantine) < 0.005 * len(result.panel)
    assert result.panel.join(market.faults, on=["symbol", "timestamp"], how="semi").is_empty()
    assert f"{len(market.faults):,} bars without a trade" in terminal_table(result.health)
    assert any(label == "bars without a trade" for _, label in page_values("t", result.health, [])["tiles"])


def test_where_the_source_leaves_such_bars_out_the_stop_says_what_to_set():
    panel = exchange(2, "missing").panel
    stopped = validate_panel(panel, Settings())
    assert {failure["check"] for failure in stopped.health["failures"]} == {"little_quarantine"}
    assert "validation.min_coverage" in terminal_table(stopped.health)
    assert not validate_panel(panel, Settings(min_coverage=0.3)).failures


def test_the_share_of_the_quarantine_is_that_of_the_rows_that_were_traded():
    """A tenth of what was traded is faulty: more than is put up with, though less than that of all rows."""
    frame = untraded(3, list(range(20, 150)), FORMS["zeros with the last close"])
    traded = (pl.col("high") > 0) & pl.col("symbol").is_in(["S0", "S4"])
    bar = pl.int_range(pl.len()).over("symbol") % 5 == 0
    faulty = change(frame, traded & bar, low=pl.lit(-1.0))
    share = validate_panel(faulty, Settings()).health["rows_quarantined"] / (len(frame) - 130)
    assert validate_panel(faulty, Settings(max_quarantine_share=share + 0.001)).failures == ()
    assert validate_panel(faulty, Settings(max_quarantine_share=share - 0.001)).failures


def test_a_panel_without_any_trade_is_refused():
    frame = untraded(3, list(range(160)), FORMS["zeros throughout"]).filter(pl.col("symbol") == "S2")
    result = validate_panel(frame, Settings())
    assert "something_left" in {failure["check"] for failure in result.health["failures"]}
    assert result.health["rows_without_trade"] == 160


@pytest.mark.parametrize("seed", [164, 2, 6])
def test_a_symbol_that_hardly_ever_trades_has_no_week_of_its_own(seed):
    """By chance it misses some days of the week: that makes no other calendar of its bars."""
    rare = {"share": 0.33, "traded_share": 0.1, "untraded": "nulls"}
    simulator = {"symbols": 24, "bars": 200, "sectors": 4, "rare": rare}
    market = load_panel(MarketSettings(simulator=simulator), data_folder=Path(), seed=seed)
    result = examine(market.panel, Settings())
    assert set(result.findings["reason"]) - {"not_tradable"} == {"no_trade"}
    assert len(result.findings.filter(pl.col("reason") == "no_trade")) == len(market.faults)
