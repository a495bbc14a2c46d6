"""LOBSTER: orders of one stock by their numbers, and the touch after each message; as one Parquet file, or as
LOBSTER's own pair of CSV files (https://lobsterdata.com/info/DataStructure.php).
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts.documents.instruments import Instrument, Instruments
from components.contracts.source_files import require_file
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
    TICKS,
    TRADE,
)
from components.ticks.at_hand import book_name
from components.ticks.config import Settings
from components.ticks.errors import TicksError
from components.ticks.sources.instruments import Values, instrument, read_or_refuse, wanted, whole
from components.ticks.sources.protocol import RecordedDay, Recording

SETTING = "ticks.lobster.path"
COLUMNS = {
    "symbol": pl.String,
    "exch_ts": pl.Datetime("ns", "UTC"),
    "type": pl.Int64,
    "order_id": pl.Int64,
    "size": pl.Float64,
    "price": pl.Float64,
    "direction": pl.Int64,
    "bid_price": pl.Float64,
    "ask_price": pl.Float64,
    "bid_size": pl.Float64,
    "ask_size": pl.Float64,
}
CROSS, TRADING_HALT = 6, 7
KINDS = {1: ADD, 2: REDUCE, 3: DELETE, 4: EXECUTE, 5: HIDDEN, CROSS: TRADE}
# AMZN_2012-06-21_34200000_57600000_message_1.csv
CSV_NAME = re.compile(r"(?P<symbol>[^_]+)_(?P<day>\d{4}-\d{2}-\d{2})_.*message.*\.csv", re.IGNORECASE)
CSV_PRICE = 10_000.0
MESSAGE_COLUMNS = ("time", "type", "order_id", "size", "price", "direction")
TOUCH_COLUMNS = ("ask_price", "ask_size", "bid_price", "bid_size")
# LOBSTER's price of a side without orders.
EMPTY = 9_999_999_999


def read(settings: Settings, data_folder: Path, seed: int) -> Recording:
    """The messages of each symbol and day; `seed` is not used.

    A row of the order that came, went or was executed, then a QUOTE for each side of the touch that is not
    what it was. The exchange's clock is the only one.

    Raises
    ------
    TicksError
        If the file is missing, broken, or not LOBSTER's.
    """
    path = require_file(Path(data_folder) / settings.lobster.path, SETTING, TicksError)
    own = path.suffix.lower() == ".csv"
    rows = _from_csv(path, settings.lobster.timezone) if own else _from_parquet(path)
    zone = settings.lobster.timezone
    day = pl.col("exch_ts").dt.convert_time_zone(zone).dt.date().cast(pl.String)
    rows = rows.with_columns(day.alias("session"))
    named = rows["symbol"].unique().sort().to_list()
    symbols = wanted(named, settings.symbols, str(path), "ticks.symbols")
    wanted(named, tuple(settings.instruments), str(path), "ticks.instruments")
    days = wanted(rows["session"].unique().sort().to_list(), settings.sessions, str(path), "ticks.sessions")
    rows = rows.filter(pl.col("symbol").is_in(symbols) & pl.col("session").is_in(days))
    asked = settings.instruments
    found = {name: instrument(_values(path, name, rows), asked.get(name)) for name in symbols}
    return Recording(Instruments(symbols=found), _days(rows, found), _notes(rows))


def _days(rows: pl.DataFrame, instruments: dict[str, Instrument]) -> Iterator[RecordedDay]:
    for symbol, session in rows.select("symbol", "session").unique().sort("symbol", "session").rows():
        own = rows.filter((pl.col("symbol") == symbol) & (pl.col("session") == session))
        yield RecordedDay(symbol, session, ticks_of(own, instruments[symbol]))


def ticks_of(rows: pl.DataFrame, sizes: Instrument) -> pl.DataFrame:
    """The RAW_TICKS of one symbol's day, from rows of COLUMNS and `session` in the order of the file."""
    price, quantity = (lambda name: whole(name, sizes.tick_size)), (lambda name: whole(name, sizes.lot_size))
    numbered = rows.with_row_index("message").with_columns(
        pl.col("message").cast(pl.Int64), pl.col("exch_ts").dt.timestamp("ns").alias("time")
    )
    halts = pl.col("type") == TRADING_HALT
    # A message of type 7 says in its price what happens: below 0 a halt, 0 that quotes are taken again (which
    # is told by the quotes), above 0 that trading is.
    halted = pl.when(pl.col("price") < 0).then(HALT).when(pl.col("price") > 0).then(RESUME)
    kind = pl.when(halts).then(halted).otherwise(pl.col("type").replace_strict(KINDS, default=None))
    nothing = halts | (pl.col("type") == CROSS)
    event = numbered.select(
        "message",
        "time",
        pl.lit(0).alias("place"),
        kind.cast(pl.Int8).alias("kind"),
        pl.when(nothing).then(0).otherwise(pl.col("direction")).cast(pl.Int8).alias("side"),
        pl.when(halts).then(0).otherwise(price("price")).alias("price"),
        pl.when(halts).then(0).otherwise(quantity("size")).alias("quantity"),
        pl.when(nothing | (pl.col("type") == 5)).then(0).otherwise(pl.col("order_id")).alias("order_id"),
    ).drop_nulls("kind")
    sides = [_quotes(numbered, name, side, price, quantity) for name, side in (("bid", BUY), ("ask", SELL))]
    ordered = pl.concat([event, *sides]).sort("message", "place")
    return ordered.select(
        pl.lit(rows["symbol"][0]).alias("symbol"),
        pl.lit(rows["session"][0]).alias("session"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("sequence"),
        "message",
        pl.col("time").alias("exchange_ts"),
        pl.col("time").alias("ingest_ts"),
        "kind",
        "side",
        "price",
        "quantity",
        "order_id",
        pl.lit(0, pl.Int64).alias("update_id"),
        pl.lit(0, pl.Int64).alias("previous_update_id"),
    ).select(*TICKS.columns)


def _quotes(numbered: pl.DataFrame, name: str, side: int, price, quantity) -> pl.DataFrame:
    """The touch of one side where it is not what it was before the message."""
    touch = numbered.select(
        "message",
        "time",
        pl.lit(1 if side == BUY else 2).alias("place"),
        pl.lit(QUOTE, pl.Int8).alias("kind"),
        pl.lit(side, pl.Int8).alias("side"),
        price(f"{name}_price").alias("price"),
        quantity(f"{name}_size").alias("quantity"),
        pl.lit(0, pl.Int64).alias("order_id"),
    )
    # A side without orders: LOBSTER says so with a price that can't be.
    touch = touch.with_columns(pl.when(pl.col("quantity") > 0).then("price").otherwise(0).alias("price"))
    same = (pl.col("price") == pl.col("price").shift()) & (pl.col("quantity") == pl.col("quantity").shift())
    return touch.filter(~same.fill_null(False))


def _values(path: Path, symbol: str, rows: pl.DataFrame) -> Values:
    own = rows.filter(pl.col("symbol") == symbol)
    priced = [own.filter(pl.col("type") != TRADING_HALT)["price"], own["bid_price"], own["ask_price"]]
    sized = [own["size"], own["bid_size"], own["ask_size"]]
    prices, sizes = (np.unique(np.concatenate([one.to_numpy() for one in many])) for many in (priced, sized))
    return Values(str(path), symbol, prices, sizes)


def _notes(rows: pl.DataFrame) -> tuple[str, ...]:
    resumed = rows.filter((pl.col("type") == TRADING_HALT) & (pl.col("price") == 0)).height
    return (f"{resumed} messages say that quotes are taken again after a halt",) if resumed else ()


def _from_parquet(path: Path) -> pl.DataFrame:
    rows = read_or_refuse(lambda: pl.read_parquet(path), str(path))
    missing = [name for name in COLUMNS if name not in rows.columns]
    if missing:
        raise TicksError(
            f"{path}: column {missing[0]!r} is missing (found: {', '.join(rows.columns)[:300]}). LOBSTER's"
            f" messages have {', '.join(COLUMNS)}."
        )
    return _checked(
        read_or_refuse(lambda: rows.select(pl.col(c).cast(t) for c, t in COLUMNS.items()), str(path)), path
    )


def _from_csv(path: Path, zone: str) -> pl.DataFrame:
    """LOBSTER's own file of messages, and the order book beside it, of which the touch is read."""
    named = CSV_NAME.fullmatch(path.name)
    if not named:
        raise TicksError(
            f"{path} ({SETTING}) is not named as LOBSTER names its files, such as"
            " AMZN_2012-06-21_34200000_57600000_message_1.csv. Keep LOBSTER's name: it holds symbol and day."
        )
    book = Path(book_name(str(path)))
    require_file(book, SETTING, TicksError)
    messages, touch = _csv(path, MESSAGE_COLUMNS), _csv(book, TOUCH_COLUMNS)
    if len(messages) != len(touch):
        raise TicksError(
            f"{path} has {len(messages):,} lines, {book} {len(touch):,}; LOBSTER writes one of the book for"
            " each message. Export both again."
        )
    return _checked(
        read_or_refuse(lambda: _typed(messages, touch, named["symbol"], named["day"], zone), str(path)), path
    )


def _csv(path: Path, names: tuple[str, ...]) -> pl.DataFrame:
    """The first columns of a file without a header, as text; a file may have more."""
    frame = read_or_refuse(lambda: pl.read_csv(path, has_header=False, infer_schema=False), str(path))
    if frame.width < len(names):
        raise TicksError(
            f"{path} has {frame.width} columns; {len(names)} are expected: {', '.join(names)}. Give LOBSTER's"
            " own file."
        )
    return frame.select(pl.nth(place).alias(name) for place, name in enumerate(names))


def _typed(messages: pl.DataFrame, touch: pl.DataFrame, symbol: str, day: str, zone: str) -> pl.DataFrame:
    """Text as numbers; seconds after midnight are split, because as one number they lose nanoseconds."""
    seconds = pl.col("time").str.split_exact(".", 1)
    fraction = seconds.struct.field("field_1").fill_null("").str.pad_end(9, "0").str.head(9)
    midnight = pl.lit(day).str.to_date().cast(pl.Datetime("ns")).dt.replace_time_zone(zone)
    after = seconds.struct.field("field_0").cast(pl.Int64) * 1_000_000_000 + fraction.cast(pl.Int64)
    both = pl.concat([messages, touch], how="horizontal")
    halts = pl.col("type").str.strip_chars() == str(TRADING_HALT)
    price = pl.col("price").cast(pl.Float64)
    scaled = pl.when(halts).then(price).otherwise(price / CSV_PRICE).alias("price")
    empty = pl.col("ask_price", "bid_price").cast(pl.Float64)
    return both.select(
        pl.lit(symbol).alias("symbol"),
        (midnight + pl.duration(nanoseconds=after, time_unit="ns"))
        .dt.convert_time_zone("UTC")
        .alias("exch_ts"),
        pl.col("type", "order_id", "direction").cast(pl.Int64),
        pl.col("size", "bid_size", "ask_size").cast(pl.Float64),
        scaled,
        pl.when(empty.abs() >= EMPTY).then(0.0).otherwise(empty / CSV_PRICE).name.keep(),
    ).select(*COLUMNS)


def _checked(rows: pl.DataFrame, path: Path) -> pl.DataFrame:
    """The rows, or a TicksError that says which is none of LOBSTER's."""
    lines = rows.with_row_index("line", offset=1)
    for name in COLUMNS:
        empty = lines.filter(pl.col(name).is_null())
        if len(empty):
            raise TicksError(f"{path}: {name} is empty in row {empty['line'][0]:,}. Export the file again.")
    unknown = lines.filter(~pl.col("type").is_in([*KINDS, TRADING_HALT]))
    if len(unknown):
        raise TicksError(
            f"{path}: type {unknown['type'][0]} in row {unknown['line'][0]:,} is none of LOBSTER's (1 to 7)."
            " Give LOBSTER's own messages."
        )
    return rows
