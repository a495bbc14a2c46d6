"""Recorded messages of an exchange's streams: rows, the key over midnight, broken files."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.contracts.tick_schemas import BUY, DEPTH, QUOTE, SELL, SNAPSHOT, TRADE
from components.ticks.config import InstrumentSettings, Settings
from components.ticks.errors import TicksError
from components.ticks.sources.depth_messages import read

NIGHT = datetime(2024, 7, 18, 23, 59, 59, tzinfo=UTC)
LATER = NIGHT + timedelta(seconds=2)
NS, US = pl.Datetime("ns", "UTC"), pl.Datetime("us", "UTC")


def is_one_screen(error: Exception) -> None:
    """At most 1,500 characters on 15 lines."""
    text = str(error)
    assert text
    assert len(text) <= 1_500
    assert text.count("\n") < 15


def events() -> pl.DataFrame:
    """A snapshot, two depth updates, a touch and a trade; `seq` starts anew at midnight."""
    blank = {"price": None, "qty": None, "aggressor": None, "ask_price": None, "ask_qty": None}
    blank |= {"exch_ts": NIGHT, "first_update_id": None, "update_id": 5, "prev_update_id": None}
    touch = {"price": 100.1, "qty": 0.25, "ask_price": 100.3, "ask_qty": 2.0, "exch_ts": None}
    trade = {"price": 100.3, "qty": 0.5, "aggressor": "BUY", "update_id": 70}
    chained = {"update_id": 8, "prev_update_id": 5, "first_update_id": 7}
    rows = [
        {"local_ts": NIGHT, "seq": 0, "kind": "snapshot"},
        {"local_ts": NIGHT, "seq": 1, "kind": "depth", **chained},
        {"local_ts": LATER, "seq": 0, "kind": "depth", "update_id": 9, "first_update_id": 9},
        {"local_ts": LATER, "seq": 1, "kind": "bbo", "update_id": 9, **touch},
        {"local_ts": LATER, "seq": 2, "kind": "trade", **trade},
    ]
    frame = pl.DataFrame([{"symbol": "BTC", "session": "night", **blank, **one} for one in rows])
    ids = pl.col("first_update_id", "update_id", "prev_update_id").cast(pl.Int64)
    numbers = pl.col("price", "qty", "ask_price", "ask_qty").cast(pl.Float64)
    times = pl.col("local_ts").cast(NS), pl.col("exch_ts").cast(US), pl.col("seq").cast(pl.Int32)
    return frame.with_columns(ids, numbers, *times, pl.col("aggressor").cast(pl.String))


def levels() -> pl.DataFrame:
    """Two levels of the snapshot, one of each update."""
    rows = [
        (NIGHT, 0, "B", 100.1, 1.0),
        (NIGHT, 0, "A", 100.3, 2.0),
        (NIGHT, 1, "A", 100.4, 3.0),
        (LATER, 0, "B", 100.1, 0.0),
    ]
    names = ["local_ts", "seq", "side", "price", "qty"]
    frame = pl.DataFrame(rows, schema=names, orient="row").with_columns(
        pl.col("local_ts").cast(NS), pl.col("seq").cast(pl.Int32)
    )
    return frame.with_columns(pl.lit("BTC").alias("symbol"), pl.lit("night").alias("session"))


def write(folder, messages, quoted) -> Settings:
    messages.write_parquet(folder / "lob_events.parquet")
    quoted.write_parquet(folder / "lob_levels.parquet")
    return Settings(source="depth_messages")


def read_all(folder, messages, quoted):
    recording = read(write(folder, messages, quoted), folder, 0)
    return recording, list(recording.days)


def test_rows_and_the_key_over_midnight(tmp_path):
    recording, days = read_all(tmp_path, events(), levels())
    assert [(day.symbol, day.session) for day in days] == [("BTC", "night")]
    size = recording.instruments.symbols["BTC"]
    assert (size.tick_size, size.lot_size) == (0.1, 0.25)
    shown = ["message", "kind", "side", "price", "quantity", "update_id", "previous_update_id"]
    assert days[0].ticks.select(shown).rows() == [
        (0, SNAPSHOT, BUY, 1001, 4, 5, 0),
        (0, SNAPSHOT, SELL, 1003, 8, 5, 0),
        (1, DEPTH, SELL, 1004, 12, 8, 5),
        # Of a stream that names the first id of an update only; `seq` 0 is not the snapshot's.
        (0, DEPTH, BUY, 1001, 0, 9, 8),
        (1, QUOTE, BUY, 1001, 1, 9, 0),
        (1, QUOTE, SELL, 1003, 8, 9, 0),
        (2, TRADE, BUY, 1003, 2, 70, 0),
    ]
    night = int(NIGHT.timestamp()) * 10**9
    assert days[0].ticks["exchange_ts"].to_list() == [*[night] * 4, 0, 0, night]
    assert days[0].ticks["ingest_ts"].to_list() == [*[night] * 3, *[night + 2 * 10**9] * 4]


def named(asked: Settings, **steps: float) -> Settings:
    """The settings with the steps of BTC."""
    instruments = Settings(instruments={"BTC": steps}).instruments
    return asked.model_copy(update={"instruments": instruments})


def test_steps_that_the_settings_name(tmp_path):
    asked = write(tmp_path, events(), levels())
    day = next(read(named(asked, tick_size=0.05, lot_size=0.125), tmp_path, 0).days)
    assert day.ticks.row(0, named=True)["price"] == 2002
    assert day.ticks.row(0, named=True)["quantity"] == 8
    with pytest.raises(TicksError, match="no multiple of"):
        read(named(asked, tick_size=0.25), tmp_path, 0)
    mistyped = asked.model_copy(update={"instruments": {"BTX": InstrumentSettings(tick_size=0.05)}})
    with pytest.raises(TicksError, match=r"has no 'BTX' \(ticks.instruments\)"):
        read(mistyped, tmp_path, 0)


def test_a_folder_is_no_file_of_events(tmp_path):
    asked = write(tmp_path, events(), levels())
    (tmp_path / "lob_levels.parquet").unlink()
    (tmp_path / "lob_levels.parquet").mkdir()
    with pytest.raises(TicksError, match=r"ticks.depth_messages.levels\) is a folder"):
        read(asked, tmp_path, 0)


def test_an_update_without_levels_breaks_no_chain(tmp_path):
    empty = {"seq": 2, "kind": "depth", "local_ts": NIGHT, "update_id": 12, "prev_update_id": 8}
    after = {"seq": 3, "kind": "depth", "local_ts": NIGHT, "update_id": 15, "prev_update_id": 12}
    blank = dict.fromkeys(events().columns) | {"symbol": "BTC", "session": "night"}
    schema = events().schema
    more = pl.DataFrame([{**blank, **empty}, {**blank, **after}], schema=schema)
    moved = levels().with_columns(
        pl.when(pl.col("local_ts") == LATER).then(3).otherwise(pl.col("seq")).cast(pl.Int32).alias("seq"),
        pl.lit(NIGHT).cast(NS).alias("local_ts"),
    )
    _, days = read_all(tmp_path, pl.concat([events()[:2], more]), moved)
    chain = days[0].ticks.filter(pl.col("kind") == DEPTH).select("update_id", "previous_update_id").rows()
    assert chain == [(8, 5), (15, 8)]


def blank_kind(frame):
    return frame.with_columns(pl.lit(None, pl.String).alias("kind"))


def half_unnamed(frame):
    return frame.with_columns(pl.when(pl.int_range(pl.len()) % 2 == 0).then("symbol").alias("symbol"))


BROKEN = [
    (lambda m: m.drop("update_id"), lambda q: q, "column 'update_id' is missing"),
    (lambda m: m, lambda q: q.drop("side"), "column 'side' is missing"),
    (blank_kind, lambda q: q, "no time, number or kind"),
    (lambda m: m.with_columns(kind=pl.lit("odd")), lambda q: q, "none of the kinds"),
    (lambda m: m.with_columns(aggressor=pl.lit("SOMEBODY")), lambda q: q, "aggressor"),
    (lambda m: m.with_columns(ask_price=pl.lit(None, pl.Float64)), lambda q: q, "a bbo without one of"),
    (lambda m: m, lambda q: q.with_columns(side=pl.lit("X")), "neither side"),
    (lambda m: m, lambda q: q.with_columns(price=pl.lit(float("nan"))), "price of BTC is nan"),
    (lambda m: m, lambda q: q.with_columns(qty=pl.lit(1 / 3)), "fits no step"),
    (lambda m: m.with_columns(seq=pl.lit("first")), lambda q: q, "can't be read"),
    (lambda m: m[:0], lambda q: q, "holds no events"),
    (lambda m: m, lambda q: q[:0], "holds no level of its 3 depth messages and snapshots"),
    (half_unnamed, lambda q: q, "symbol or session is empty in some rows"),
]


@pytest.mark.parametrize(("events_spoiled", "levels_spoiled", "said"), BROKEN, ids=[one[2] for one in BROKEN])
def test_a_broken_file_says_what_is_wrong(tmp_path, events_spoiled, levels_spoiled, said):
    with pytest.raises(TicksError) as refused:
        read_all(tmp_path, events_spoiled(events()), levels_spoiled(levels()))
    assert said in str(refused.value)
    is_one_screen(refused.value)


@given(st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_column_holds_the_error_is_one_screen(tmp_path, data):
    frames = [events(), levels()]
    which = data.draw(st.integers(0, 1))
    column = data.draw(st.sampled_from(frames[which].columns))
    odd = [None, -1, 0, 2**62, float("nan"), float("inf"), 1e300, "x", "", True, [1], datetime(1, 1, 1)]
    value = data.draw(st.sampled_from(odd))
    frames[which] = frames[which].with_columns(pl.lit(value).alias(column))
    try:
        read_all(tmp_path, *frames)
    except TicksError as error:
        is_one_screen(error)


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_holds_the_error_is_one_screen(tmp_path, content):
    asked = write(tmp_path, events(), levels())
    (tmp_path / "lob_levels.parquet").write_bytes(content)
    with pytest.raises(TicksError) as refused:
        read(asked, tmp_path, 0)
    is_one_screen(refused.value)
