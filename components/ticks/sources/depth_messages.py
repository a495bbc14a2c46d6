"""Messages of an exchange's streams as a collector wrote them: depth updates and snapshots with their levels,
best bid and ask, trades.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import polars as pl

from components.contracts.documents.instruments import Instrument, Instruments
from components.contracts.source_files import require_file
from components.contracts.tick_schemas import BUY, DEPTH, QUOTE, SELL, SNAPSHOT, TICKS, TRADE
from components.ticks.config import Settings
from components.ticks.errors import TicksError
from components.ticks.sources.instruments import Values, instrument, read_or_refuse, wanted, whole
from components.ticks.sources.protocol import RecordedDay, Recording

# `seq` starts anew at midnight, so that only with the time it names a message.
KEY = ("local_ts", "seq")
TIME = pl.Datetime("ns", "UTC")
EVENT_COLUMNS = {
    "symbol": pl.String,
    "session": pl.String,
    "local_ts": TIME,
    "seq": pl.Int64,
    "kind": pl.String,
    "exch_ts": TIME,
    "first_update_id": pl.Int64,
    "update_id": pl.Int64,
    "prev_update_id": pl.Int64,
    "price": pl.Float64,
    "qty": pl.Float64,
    "aggressor": pl.String,
    "ask_price": pl.Float64,
    "ask_qty": pl.Float64,
}
LEVEL_COLUMNS = {
    "symbol": pl.String,
    "session": pl.String,
    "local_ts": TIME,
    "seq": pl.Int64,
    "side": pl.String,
    "price": pl.Float64,
    "qty": pl.Float64,
}
KINDS = {"snapshot": SNAPSHOT, "depth": DEPTH, "bbo": QUOTE, "trade": TRADE}
WITH_LEVELS = ("snapshot", "depth")
TOUCH = ("price", "qty", "ask_price", "ask_qty")
SIDES = {"B": BUY, "A": SELL}
AGGRESSORS = {"BUY": BUY, "SELL": SELL}


def read(settings: Settings, data_folder: Path, seed: int) -> Recording:
    """The messages of each symbol and recording in the order of the file of events; `seed` is not used.

    A message is a row for each level, for each side of the touch, or for the trade. `exchange_ts` is 0 where
    the exchange stamped none. Depth messages that name only the first of their update ids continue the one
    before it.

    Raises
    ------
    TicksError
        If a file is missing, broken, or lacks what is needed.
    """
    names = settings.depth_messages
    events = _scan(Path(data_folder) / names.events, "ticks.depth_messages.events", EVENT_COLUMNS)
    levels = _scan(Path(data_folder) / names.levels, "ticks.depth_messages.levels", LEVEL_COLUMNS)
    source = str(Path(data_folder) / names.events)
    pairs = events.select("symbol", "session").unique().sort("symbol", "session")
    there = read_or_refuse(pairs.collect, source)
    if len(there.drop_nulls()) < len(there):
        raise TicksError(f"{source}: symbol or session is empty in some rows. Fill or remove them.")
    named = sorted(set(there["symbol"]))
    symbols = wanted(named, settings.symbols, source, "ticks.symbols")
    wanted(named, tuple(settings.instruments), source, "ticks.instruments")
    sessions = wanted(sorted(set(there["session"])), settings.sessions, source, "ticks.sessions")
    days = [pair for pair in there.rows() if pair[0] in symbols and pair[1] in sessions]
    found = {
        symbol: instrument(_values(source, symbol, events, levels), settings.instruments.get(symbol))
        for symbol in symbols
    }
    return Recording(Instruments(symbols=found), _days(days, events, levels, found, source))


def _scan(path: Path, setting: str, columns: dict[str, pl.DataType]) -> pl.LazyFrame:
    """A file's columns by their types; TicksError where one is missing."""
    require_file(path, setting, TicksError)
    schema = read_or_refuse(lambda: pl.read_parquet_schema(path), str(path))
    missing = [name for name in columns if name not in schema]
    if missing:
        raise TicksError(
            f"{path} ({setting}): column {missing[0]!r} is missing (found: {', '.join(schema)[:300]}). Depth"
            f" messages need {', '.join(columns)}."
        )
    return pl.scan_parquet(path).select(pl.col(name).cast(kind) for name, kind in columns.items())


def _values(source: str, symbol: str, events: pl.LazyFrame, levels: pl.LazyFrame) -> Values:
    """All that is quoted of a symbol, in every session: whole ticks mean the same in all of them."""

    def distinct(*columns: tuple[pl.LazyFrame, str]) -> pl.DataFrame:
        own = pl.col("symbol") == symbol
        quoted = [frame.filter(own).select(pl.col(name).alias("x")) for frame, name in columns]
        return pl.concat(quoted).drop_nulls().unique().sort("x").collect(engine="streaming")

    prices = ((events, "price"), (events, "ask_price"), (levels, "price"))
    quantities = ((events, "qty"), (events, "ask_qty"), (levels, "qty"))
    read = [read_or_refuse(partial(distinct, *columns), source) for columns in (prices, quantities)]
    return Values(source, symbol, *(frame["x"].to_numpy() for frame in read))


def _days(
    days: list[tuple[str, str]],
    events: pl.LazyFrame,
    levels: pl.LazyFrame,
    instruments: dict[str, Instrument],
    source: str,
) -> Iterator[RecordedDay]:
    for symbol, session in days:
        own = (pl.col("symbol") == symbol) & (pl.col("session") == session)
        messages = read_or_refuse(events.filter(own).collect, source)
        quoted = read_or_refuse(levels.filter(own).collect, source)
        _require_sound(messages, quoted, f"{source}, {symbol} {session}")
        yield RecordedDay(symbol, session, ticks_of(messages, quoted, instruments[symbol]))


def _require_sound(messages: pl.DataFrame, levels: pl.DataFrame, place: str) -> None:
    """TicksError where a message or a level lacks what its kind has."""
    of_levels = messages["kind"].is_in(WITH_LEVELS).sum()
    if of_levels and levels.is_empty():
        raise TicksError(
            f"{place}: the file of ticks.depth_messages.levels holds no level of its {of_levels:,} depth"
            " messages and snapshots. Give both files of one recording."
        )
    trade = pl.col("kind") == "trade"
    foreign = ~pl.col("aggressor").is_in(list(AGGRESSORS))
    checks = (
        (messages, _without("local_ts", "seq", "kind"), "has no time, number or kind"),
        (messages, ~pl.col("kind").is_in(list(KINDS)), f"is of none of the kinds {', '.join(KINDS)}"),
        (
            messages,
            (pl.col("kind") == "bbo") & _without(*TOUCH),
            f"is a bbo without one of {', '.join(TOUCH)}",
        ),
        (messages, trade & _without("price", "qty", "aggressor"), "has no price, qty or aggressor"),
        (messages, trade & foreign, f"has an aggressor other than {', '.join(AGGRESSORS)}"),
        (levels, _without("local_ts", "seq", "side", "price", "qty"), "has no time, number, side or value"),
        (levels, ~pl.col("side").is_in(list(SIDES)), f"is of neither side ({', '.join(SIDES)})"),
    )
    for frame, fault, says in checks:
        bad = frame.filter(fault)
        if len(bad):
            what = "message" if frame is messages else "level"
            first = bad.row(0, named=True)
            raise TicksError(
                f"{place}: the {what} at {first['local_ts']} with seq {first['seq']} {says} ({len(bad):,}"
                " such rows). Mend or remove them."
            )


def _without(*names: str) -> pl.Expr:
    return pl.any_horizontal(pl.col(*names).is_null())


def ticks_of(messages: pl.DataFrame, levels: pl.DataFrame, sizes: Instrument) -> pl.DataFrame:
    """The RAW_TICKS of one symbol's session, from rows of EVENT_COLUMNS in the order of the file and the
    levels that belong to them.
    """
    chained = pl.coalesce("prev_update_id", pl.col("first_update_id") - 1)
    about = messages.with_row_index("row").select(
        "row",
        *KEY,
        pl.col("kind").alias("name"),
        pl.col("exch_ts").dt.timestamp("ns").fill_null(0).alias("exchange_ts"),
        pl.col("local_ts").dt.timestamp("ns").alias("ingest_ts"),
        pl.col("update_id").fill_null(0),
        pl.when(pl.col("kind") == "depth")
        .then(chained)
        .otherwise(0)
        .fill_null(0)
        .alias("previous_update_id"),
        "price",
        "qty",
        "ask_price",
        "ask_qty",
        "aggressor",
    )
    about = _linked(about, levels)
    rows = [
        _of_levels(about, levels),
        _of_touch(about, BUY, "price", "qty"),
        _of_touch(about, SELL, "ask_price", "ask_qty"),
        _row(about.filter(pl.col("name") == "trade"), pl.col("aggressor").replace_strict(AGGRESSORS)),
    ]
    ordered = pl.concat(rows).sort("row", "place", maintain_order=True)
    return ordered.select(
        pl.lit(messages["symbol"][0]).alias("symbol"),
        pl.lit(messages["session"][0]).alias("session"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("sequence"),
        pl.col("seq").alias("message"),
        "exchange_ts",
        "ingest_ts",
        pl.col("name").replace_strict(KINDS, return_dtype=pl.Int8).alias("kind"),
        pl.col("side").cast(pl.Int8),
        whole("price", sizes.tick_size).alias("price"),
        whole("qty", sizes.lot_size).alias("quantity"),
        pl.lit(0, pl.Int64).alias("order_id"),
        "update_id",
        "previous_update_id",
    ).select(*TICKS.columns)


def _linked(about: pl.DataFrame, levels: pl.DataFrame) -> pl.DataFrame:
    """Without the depth messages that change no level; what continues one continues the message before it."""
    has_levels = about.join(levels.select(KEY).unique(), on=KEY, how="semi").select("row")
    empty = about.filter(pl.col("name").is_in(WITH_LEVELS)).join(has_levels, on="row", how="anti")
    if not len(empty):
        return about
    before: dict[int, int] = {}
    for own, previous in empty.select("update_id", "previous_update_id").rows():
        before[own] = before.get(previous, previous)
    linked = pl.col("previous_update_id").replace(before)
    return about.join(empty.select("row"), on="row", how="anti").with_columns(linked)


def _of_levels(about: pl.DataFrame, levels: pl.DataFrame) -> pl.DataFrame:
    """A row for each level. Of messages that the file holds twice the first has the levels."""
    own = about.filter(pl.col("name").is_in(WITH_LEVELS)).drop("price", "qty").unique(KEY, keep="first")
    joined = levels.select(*KEY, "side", "price", "qty").join(own, on=KEY, how="inner", maintain_order="left")
    return _row(joined, pl.col("side").replace_strict(SIDES))


def _of_touch(about: pl.DataFrame, side: int, price: str, quantity: str) -> pl.DataFrame:
    quotes = about.filter(pl.col("name") == "bbo")
    return _row(
        quotes.with_columns(pl.col(price).alias("price"), pl.col(quantity).alias("qty")), pl.lit(side)
    )


def _row(frame: pl.DataFrame, side: pl.Expr) -> pl.DataFrame:
    return frame.select(
        "row",
        side.cast(pl.Int64).alias("side"),
        (-side).cast(pl.Int64).alias("place"),
        "seq",
        "name",
        "exchange_ts",
        "ingest_ts",
        "price",
        "qty",
        "update_id",
        "previous_update_id",
    )
