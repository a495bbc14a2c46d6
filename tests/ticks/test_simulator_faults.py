"""Faults of simulated order books: each is where the truth says, and nowhere in a clean market."""

import polars as pl
import pytest

from components.contracts.tick_schemas import BUY, DEPTH, HALT, QUOTE, RESUME, SELL, SNAPSHOT
from components.settings import validate_settings
from components.ticks.sources import simulator
from components.ticks.sources.simulator_config import SimulatorSettings

DAY = "2026-01-05"
MIDNIGHT = int(1_767_657_600 * 1e9)


def made(*faults: str, symbol: str = "S2", start: str = "2026-01-05T14:00:00Z") -> simulator.Made:
    values = {"symbols": 2, "session_minutes": 5, "faults": faults, "start": start}
    settings = validate_settings(SimulatorSettings, values, source="test")
    return simulator.simulate_session(settings, 3, symbol, DAY)


def depth_messages(ticks: pl.DataFrame) -> pl.DataFrame:
    return ticks.filter(pl.col("kind") == DEPTH).unique("ingest_ts", maintain_order=True)


def broken_chain(ticks: pl.DataFrame) -> int:
    """Depth messages that don't follow on the one before; what is told again does not count."""
    messages = depth_messages(ticks)
    expected = messages["update_id"].shift(1)
    return int((messages["previous_update_id"] != expected).sum())


def crossed_quotes(ticks: pl.DataFrame) -> int:
    quotes = ticks.filter(pl.col("kind") == QUOTE)
    bid, ask = (quotes.filter(pl.col("side") == side)["price"] for side in (BUY, SELL))
    return int((ask <= bid).sum())


def crossed_levels(ticks: pl.DataFrame) -> int:
    """Depth messages that set an ask at or below the bid last quoted."""
    bid = pl.when((pl.col("kind") == QUOTE) & (pl.col("side") == BUY)).then("price").forward_fill()
    rows = ticks.with_columns(bid.alias("bid")).filter((pl.col("kind") == DEPTH) & (pl.col("quantity") > 0))
    return len(rows.filter((pl.col("side") == SELL) & (pl.col("price") <= pl.col("bid"))))


def signs(one: simulator.Made) -> dict[str, int]:
    """How often each kind of fault is to be seen."""
    ticks = one.ticks
    messages = depth_messages(ticks)
    return {
        "broken": broken_chain(ticks),
        "repeated": int(messages["update_id"].is_duplicated().sum()) // 2,
        "backwards": int((messages["exchange_ts"].diff() < 0).sum()),
        "crossed_quotes": crossed_quotes(ticks),
        "crossed_levels": crossed_levels(ticks),
        "restarts": int((ticks["message"].diff() < 0).sum()),
        "halts": len(ticks.filter(pl.col("kind") == HALT)),
    }


def test_a_clean_market_shows_no_fault():
    one = made()
    assert set(signs(one).values()) == {0}
    assert one.truth.faults == []


@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        ("gaps", {"broken": 3}),
        # A swap breaks the chain at both messages and after them; a repeat before and after it.
        ("out_of_order", {"broken": 9, "backwards": 3}),
        ("duplicates", {"repeated": 3, "backwards": 3, "broken": 6}),
        ("crossed", {"crossed_quotes": 3, "crossed_levels": 3}),
        ("halt", {"halts": 1}),
    ],
)
def test_each_switch_shows_and_is_told_in_the_truth(fault, shown):
    one = made(fault)
    found = {name: count for name, count in signs(one).items() if count}
    assert found == shown
    told = one.truth.faults
    assert [entry.kind for entry in told] == [fault] * (1 if fault == "halt" else 3)
    at = one.ticks.filter(pl.col("ingest_ts").is_in([entry.ingest_ts for entry in told]))
    assert (len(at) > 0) == (fault != "gaps")
    assert all(entry.rows > 0 for entry in told)


@pytest.mark.parametrize("fault", ["gaps", "out_of_order"])
def test_after_a_broken_chain_the_whole_book_comes_again(fault):
    one = made(fault)
    asked = one.ticks.filter(pl.col("kind") == SNAPSHOT)["message"].n_unique()
    assert asked == 4
    clean = made()
    assert clean.ticks.filter(pl.col("kind") == SNAPSHOT)["message"].n_unique() == 1


def test_nothing_happens_while_a_symbol_is_halted_and_only_one_is():
    one = made("halt")
    ticks = one.ticks.with_row_index()
    halt, resume = (ticks.filter(pl.col("kind") == kind).row(0, named=True) for kind in (HALT, RESUME))
    assert resume["index"] == halt["index"] + 1
    assert resume["exchange_ts"] - halt["exchange_ts"] == pytest.approx(15e9, abs=2)
    other = made("halt", symbol="S1")
    assert other.truth.faults == []
    assert signs(other)["halts"] == 0


def test_numbers_of_messages_start_anew_at_midnight_of_the_collector():
    one = made("numbering_reset", start="2026-01-05T23:58:00Z")
    assert {name for name, count in signs(one).items() if count} == {"restarts"}
    first = one.ticks.filter(pl.col("ingest_ts") >= MIDNIGHT).row(0, named=True)
    assert first["message"] == 0
    assert first["sequence"] > 0
    (told,) = one.truth.faults
    assert (told.kind, told.ingest_ts) == ("numbering_reset", first["ingest_ts"])


def test_all_faults_at_once_are_planted_without_hiding_each_other():
    one = made("gaps", "crossed", "duplicates", "out_of_order", "halt")
    kinds = [entry.kind for entry in one.truth.faults]
    assert sorted(kinds) == sorted(["gaps", "crossed", "duplicates", "out_of_order"] * 3 + ["halt"])
    found = signs(one)
    assert all(found[name] for name in ("broken", "repeated", "backwards", "crossed_quotes", "halts"))
