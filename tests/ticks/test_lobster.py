"""LOBSTER's files: rows, halts, both forms alike, the touch at every message, and broken files."""

import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.contracts.tick_schemas import (
    ADD,
    BUY,
    DELETE,
    EXECUTE,
    HALT,
    HIDDEN,
    QUOTE,
    REDUCE,
    RESUME,
    SELL,
    TRADE,
)
from components.ticks.config import Settings
from components.ticks.errors import TicksError
from components.ticks.sources.lobster import read
from tests.ticks.test_depth_messages import is_one_screen

MESSAGES = """\
34200.017459617,1,11,100,2239500,-1
34200.189607670,2,11,40,2239500,-1
34200.190226476,4,11,20,2239500,-1
34200.372779672,5,0,63,2237950,1
34201.000000001,7,0,0,-1,-1
34202.5,7,0,0,0,-1
34203.25,7,0,0,1,-1
34204.0,6,-1,500,2238000,-1
34205.0,3,11,40,2239500,-1
"""
BOOK = """\
2239500,100,2231800,100
2239500,60,2231800,100
2239500,40,2231800,100
2239500,40,2231800,100
2239500,40,2231800,100
2239500,40,2231800,100
2239500,40,2231800,100
2239500,40,2231800,100
9999999999,0,2231800,100
"""
NAME = "AMZN_2012-06-21_34200000_57600000_{}_1.csv"
OPEN = datetime(2012, 6, 21, 13, 30, tzinfo=UTC)
REAL = Path(os.environ.get("ALPHALOOP_DATA", "nowhere"), "lobster_amzn_2012-06-21_l1.parquet")


def settings_for(path: str) -> Settings:
    return Settings(source="lobster", lobster={"path": path})


@pytest.fixture
def csv(tmp_path) -> str:
    (tmp_path / NAME.format("message")).write_text(MESSAGES)
    (tmp_path / NAME.format("orderbook")).write_text(BOOK)
    return NAME.format("message")


def only_day(folder, path):
    recording = read(settings_for(path), folder, 0)
    return recording, next(recording.days)


def test_rows_of_lobsters_own_files(tmp_path, csv):
    recording, day = only_day(tmp_path, csv)
    assert (day.symbol, day.session) == ("AMZN", "2012-06-21")
    size = recording.instruments.symbols["AMZN"]
    assert (size.tick_size, size.lot_size) == (0.005, 1.0)
    events = day.ticks.filter(pl.col("kind") != QUOTE)
    wanted = ["kind", "side", "price", "quantity", "order_id"]
    assert events.select(wanted).rows() == [
        (ADD, SELL, 44790, 100, 11),
        (REDUCE, SELL, 44790, 40, 11),
        (EXECUTE, SELL, 44790, 20, 11),
        (HIDDEN, BUY, 44759, 63, 0),
        (HALT, 0, 0, 0, 0),
        (RESUME, 0, 0, 0, 0),
        (TRADE, 0, 44760, 500, 0),
        (DELETE, SELL, 44790, 40, 11),
    ]
    start = int(OPEN.timestamp()) * 10**9
    assert events["exchange_ts"].to_list()[:2] == [start + 17_459_617, start + 189_607_670]
    assert events["ingest_ts"].equals(events["exchange_ts"].alias("ingest_ts"))
    quotes = day.ticks.filter(pl.col("kind") == QUOTE).select("message", "side", "price", "quantity").rows()
    assert quotes == [
        (0, BUY, 44636, 100),
        (0, SELL, 44790, 100),
        (1, SELL, 44790, 60),
        (2, SELL, 44790, 40),
        (8, SELL, 0, 0),
    ]
    assert "1 messages" in recording.notes[0]


def test_the_parquet_file_gives_the_same_rows(tmp_path, csv):
    lines = [line.split(",") for line in MESSAGES.splitlines()]
    books = [line.split(",") for line in BOOK.splitlines()]
    start = int(OPEN.timestamp()) * 10**9 - 34_200 * 10**9
    frame = pl.DataFrame(
        {
            "symbol": ["AMZN"] * len(lines),
            "exch_ts": [start + int(Decimal(one[0]) * 10**9) for one in lines],
            "type": [int(one[1]) for one in lines],
            "order_id": [int(one[2]) for one in lines],
            "size": [int(one[3]) for one in lines],
            "price": [float(one[4]) / (1 if one[1] == "7" else 10_000) for one in lines],
            "direction": [int(one[5]) for one in lines],
            "ask_price": [float(one[0]) / 10_000 if one[0] != "9999999999" else 0.0 for one in books],
            "ask_size": [int(one[1]) for one in books],
            "bid_price": [float(one[2]) / 10_000 for one in books],
            "bid_size": [int(one[3]) for one in books],
        }
    ).with_columns(pl.col("exch_ts").cast(pl.Datetime("ns", "UTC")))
    frame.write_parquet(tmp_path / "day.parquet")
    assert only_day(tmp_path, "day.parquet")[1].ticks.equals(only_day(tmp_path, csv)[1].ticks)


def touch_of(ticks: pl.DataFrame) -> pl.DataFrame:
    """Best bid and ask after each message, from the QUOTE rows."""
    quotes = ticks.filter(pl.col("kind") == QUOTE)
    messages = ticks.select("message").unique().sort("message")
    for side, name in ((BUY, "bid"), (SELL, "ask")):
        own = quotes.filter(pl.col("side") == side).select(
            "message", pl.col("price").alias(f"{name}_price"), pl.col("quantity").alias(f"{name}_size")
        )
        messages = messages.join(own, on="message", how="left", maintain_order="left")
    return messages.fill_null(strategy="forward")


@pytest.mark.skipif(not REAL.exists(), reason="no LOBSTER sample in ALPHALOOP_DATA")
def test_the_recorded_touch_at_every_message():
    recorded = pl.read_parquet(REAL)
    _, day = only_day(REAL.parent, REAL.name)
    found = touch_of(day.ticks)
    assert len(found) == len(recorded) == 57_515
    for name in ("bid_price", "ask_price"):
        assert np.allclose(found[name].to_numpy() * 0.005, recorded[name].to_numpy(), atol=1e-9)
    for name in ("bid_size", "ask_size"):
        assert (found[name].to_numpy() == recorded[name].to_numpy()).all()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text.replace(",1,11,", ",9,11,"), "type 9 in row 1"),
        (lambda text: text.replace("34200.189607670", "noon"), "can't be read as events"),
        (lambda text: text.replace("2237950", ""), "price is empty in row 4"),
        (lambda text: text + "34206,3,11,40,2239500,-1\n", "10 lines"),
        (lambda text: "", "is empty (0 bytes)"),
        (lambda text: "1,2\n", "has 2 columns"),
    ],
)
def test_a_broken_file_says_what_is_wrong(tmp_path, csv, spoil, said):
    (tmp_path / csv).write_text(spoil(MESSAGES))
    with pytest.raises(TicksError) as refused:
        only_day(tmp_path, csv)
    assert said in str(refused.value)
    is_one_screen(refused.value)


def test_a_name_that_holds_no_symbol_and_a_symbol_that_is_not_there(tmp_path, csv):
    (tmp_path / csv).rename(tmp_path / "messages.csv")
    with pytest.raises(TicksError, match="not named as LOBSTER"):
        only_day(tmp_path, "messages.csv")
    (tmp_path / "messages.csv").rename(tmp_path / csv)
    asked = settings_for(csv).model_copy(update={"symbols": ("MSFT",)})
    with pytest.raises(TicksError, match="has no 'MSFT'"):
        read(asked, tmp_path, 0)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode), st.sampled_from([".csv", ".parquet"]))
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_holds_the_error_is_one_screen(tmp_path, content, form):
    name = NAME.format("message") if form == ".csv" else "day.parquet"
    (tmp_path / name).write_bytes(content)
    (tmp_path / NAME.format("orderbook")).write_text(BOOK)
    try:
        recording = read(settings_for(name), tmp_path, 0)
        list(recording.days)
    except TicksError as error:
        is_one_screen(error)


@given(st.data())
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_cell_holds_the_error_is_one_screen(tmp_path, data):
    lines = [line.split(",") for line in MESSAGES.splitlines()]
    line, column = data.draw(st.integers(0, len(lines) - 1)), data.draw(st.integers(0, 5))
    odd = st.sampled_from(["", "nan", "inf", "-1", "1e400", "9" * 30, "x", "0.1", '"', "\u00e9"])
    lines[line][column] = data.draw(odd)
    (tmp_path / NAME.format("message")).write_text("\n".join(",".join(one) for one in lines))
    (tmp_path / NAME.format("orderbook")).write_text(BOOK)
    try:
        recording = read(settings_for(NAME.format("message")), tmp_path, 0)
        list(recording.days)
    except TicksError as error:
        is_one_screen(error)
