"""Reads one file of bars: which column is which, and what its cells are."""

import difflib
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.contracts import TIME
from components.market.config import CONTRACT_COLUMNS, SPARE_COLUMNS, Settings
from components.market.errors import MarketError
from components.market.found import ReadAs
from components.market.stamps import bar_times, in_utc
from components.reading.encoding import refuse_doubtful
from components.reading.keys import key_text, stripped
from components.reading.numbers import missing_as_null, read_numbers
from components.reading.place import Place, shown
from components.reading.stamps import Cells, Stamps, read_clock, read_stamps
from components.reading.table import SourceTable, collect, open_csv, open_parquet
from components.timeline.periods import is_daily

PRICE_COLUMNS = ("open", "high", "low", "close", "volume")
SHORT_NAMES = {"open": ("o", "op"), "high": ("h", "hi"), "low": ("l", "lo"), "volume": ("v", "vol")}
OPTIONAL_NUMBERS = (
    "vwap",
    "trades",
    "funding_rate",
    "open_interest",
    "borrow_bps",
    "market_cap",
    "price_limit",
)
NUMBERS = (*PRICE_COLUMNS, *OPTIONAL_NUMBERS)
CLOCKS = ("known_time", "exchange_ts", "ingest_ts")
ROW = "source_row"
# What a column of the times of day is called.
CALLED_TIME = (
    "time",
    "hour",
    "uhrzeit",
    "zeit",
    "heure",
    "hora",
    "ora",
    "tijd",
    "czas",
    "время",
    "时间",
    "時刻",
)


@dataclass(frozen=True)
class FileBars:
    """The bars of a file in its order, with `source_row` (from 1); how it was read; notes for a person;
    whether their symbol is the file's name.
    """

    rows: pl.DataFrame
    read_as: ReadAs
    notes: tuple[str, ...]
    named_by_file: bool = False


def read_file(path: Path, settings: Settings, symbol: str | None) -> FileBars:
    """One file as bars.

    Parameters
    ----------
    symbol : of a file without a column of symbols; None: it must have one

    Raises
    ------
    MarketError
        If the file, a column or a value can't be used.
    """
    place = Place(path, MarketError, section="market")
    table = _open(place, settings)
    names = column_names(table, settings, symbol is not None)
    time_column = _time_column(table, names, settings)
    taken = dict(names) | ({"time_of_day": time_column} if time_column else {})
    rows = table.rows.select(pl.col(name).alias(column) for column, name in taken.items())
    frame = collect(table, rows.with_row_index(ROW, offset=1))
    if table.csv is not None:
        frame = frame.filter(pl.any_horizontal(pl.all().exclude(ROW).is_not_null()))
    if frame.is_empty():
        raise place.refusal("holds column names but no rows. Fetch or export it again.")
    texts, notes = _texts(frame, table, names, symbol)
    frame = frame.with_columns(texts)
    if settings.symbols is not None:
        frame = frame.filter(pl.col("symbol").is_in(settings.symbols))
    read = _typed(frame, table, names, settings, time_column)
    return FileBars(read.rows, read.read_as, (*notes, *read.notes), "symbol" not in names)


def _open(place: Place, settings: Settings) -> SourceTable:
    if settings.source == "parquet":
        return open_parquet(place)
    mapped = settings.columns
    usual = [name for name in CONTRACT_COLUMNS if name not in mapped]
    times = mapped.get("timestamp", "timestamp")
    wanted = [times, *(name for name in (*mapped.values(), *usual) if name and name != times)]
    return open_csv(place, settings.csv, wanted)


def column_names(table: SourceTable, settings: Settings, symbol_is_known: bool) -> dict[str, str]:
    """Name in the file by contract column, for all columns that are there."""
    place, found, names = table.place, table.names, {}
    for column in CONTRACT_COLUMNS:
        name = settings.columns.get(column, column)
        if not name:
            continue
        if name in found:
            names[column] = name
        elif column in settings.columns:
            raise place.refusal(
                f"market.columns.{column} names {name!r}, which is not there. {_suggest(name, found)}"
            )
        elif (
            column in ("timestamp", "close")
            or (column == "symbol" and not symbol_is_known)
            or _called_otherwise(column, found)
        ):
            raise place.refusal(
                f"column {column!r} is missing. {_suggest(column, found)} If it has another name, set"
                f" market.columns.{column}."
            )
    if settings.sectors is not None:
        names.pop("sector", None)
    _require_own_columns(names, table)
    return names


def _require_own_columns(names: dict[str, str], table: SourceTable) -> None:
    for name in names.values():
        if name in table.repeated:
            raise table.place.refusal(
                f"two columns are called {name!r}, so it can't be told which is meant. Rename one in the"
                " file, or name"
                " all columns with market.csv.names and skip the header with market.csv.skip_lines."
            )
    users: dict[str, str] = {}
    for column, name in names.items():
        if column in ("timestamp", *CLOCKS):
            continue
        if name in users:
            raise table.place.refusal(
                f"column {name!r} is taken for {users[name]} and for {column}; it can be only one. Mend"
                f" market.columns (an empty name leaves {', '.join(SPARE_COLUMNS)} out)."
            )
        users[name] = column


def _called_otherwise(column: str, found: tuple[str, ...]) -> bool:
    """Whether a column that a panel may lack seems to be there under another spelling, so that it is not
    dropped by mistake.
    """
    return column in SPARE_COLUMNS and any(
        name.casefold().strip() in (column, *SHORT_NAMES[column]) for name in found
    )


def _suggest(name: str, found: tuple[str, ...]) -> str:
    folded = {other.casefold().strip(): other for other in found}
    close = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=2, cutoff=0.6)]
    listed = ", ".join(shown(other) for other in found[:30]) + (", ..." if len(found) > 30 else "")
    return (
        f"Close: {', '.join(map(repr, close))}. " if close else ""
    ) + f"The file has {listed or 'no columns'}."


def _time_column(table: SourceTable, names: dict[str, str], settings: Settings) -> str | None:
    """The column of the times of day, as set, or as found: in a file of bars within the day whose own column
    of times holds dates alone, the one column called time.
    """
    if settings.time_column is not None:
        if settings.time_column not in table.names:
            raise table.place.refusal(
                f"market.time_column names {settings.time_column!r}, which is not there."
                f" {_suggest(settings.time_column, table.names)}"
            )
        return settings.time_column
    if is_daily(settings.period):
        return None
    called = [
        name
        for name in table.names
        if name not in names.values() and name.strip("<>[]\"' ").casefold() in CALLED_TIME
    ]
    if len(called) != 1:
        return None
    head = collect(table, table.rows.select(names["timestamp"], called[0]).head(1000)).drop_nulls()
    days = head[names["timestamp"]]
    if days.dtype == pl.String and days.str.contains(":").any():
        return None
    if isinstance(days.dtype, pl.Datetime) and (days.dt.truncate("1d") != days).any():
        return None
    return called[0] if len(head) and read_clock(head[called[0]]) is not None else None


def _texts(
    frame: pl.DataFrame, table: SourceTable, names: dict[str, str], symbol: str | None
) -> tuple[list[pl.Series], tuple[str, ...]]:
    """`symbol` and, where there, `sector` as text; and notes on them."""
    texts, notes = [], ()
    if "symbol" in names:
        keys, notes = key_text(frame["symbol"], table.place, names["symbol"])
        texts.append(keys)
    else:
        texts.append(pl.repeat(symbol, len(frame), dtype=pl.String, eager=True).alias("symbol"))
    if "sector" in names:
        labels = stripped(frame["sector"].cast(pl.String))
        texts.append(missing_as_null(labels) if table.csv is not None else labels)
    if table.text is not None and table.text.rivals:
        for values in texts:
            unique = values.drop_nulls().unique().to_list()
            refuse_doubtful(unique, table.text, table.place, f"column {names.get(values.name, '')!r}")
    return texts, notes


def _typed(
    frame: pl.DataFrame,
    table: SourceTable,
    names: dict[str, str],
    settings: Settings,
    time_column: str | None,
) -> FileBars:
    """Types of the contract, and the three moments of each bar."""
    numbers, decimal = _numbers(frame, table, names, settings)
    frame = frame.with_columns(numbers)
    if frame.is_empty():
        empty = [pl.lit(None, dtype=TIME).alias(name) for name in ("timestamp", "event_time", "known_time")]
        return FileBars(frame.drop("time_of_day", strict=False).with_columns(empty), ReadAs(), ())
    stamps = _moments(frame, "timestamp", names, settings, table)
    moments = stamps.moments
    if time_column is not None:
        moments = moments + _clock(frame["time_of_day"], time_column, table)
        frame = frame.drop("time_of_day")
    elif not is_daily(settings.period):
        _refuse_dates_alone(moments, frame["symbol"], names, table)
    others = [
        _moments(frame, column, names, settings, table).moments.alias(column)
        for column in CLOCKS
        if column in frame.columns
    ]
    frame = frame.with_columns(moments.alias("timestamp"), *others)
    frame = frame.with_columns(
        in_utc(frame[column], settings, f"{table.place.path}: column {names[column]!r}", frame["symbol"])
        .cast(TIME)
        .alias(column)
        for column in ("exchange_ts", "ingest_ts")
        if column in frame.columns
    )
    csv = table.csv and table.csv.model_copy(update={"decimal": decimal})
    read_as = ReadAs(csv, stamps.form, stamps.unit, time_column)
    return FileBars(bar_times(frame, settings, str(table.place.path)), read_as, stamps.notes)


def _moments(
    frame: pl.DataFrame, column: str, names: dict[str, str], settings: Settings, table: SourceTable
) -> Stamps:
    values = frame[column]
    if values.dtype == pl.String:
        values = missing_as_null(values)
    cells = Cells(table.place, names[column], f"market.columns.{column}")
    return read_stamps(values, cells, settings.timestamp_format, settings.timestamp_unit)


def _clock(values: pl.Series, name: str, table: SourceTable) -> pl.Series:
    clock = read_clock(values)
    if clock is None:
        raise table.place.refusal(
            f"column {name!r} (market.time_column) holds no times of day such as 09:30 or 09:30:00 in all"
            " rows (first"
            f" {shown(values.drop_nulls().first())}). Mend the file, or name another column."
        )
    return clock


def _refuse_dates_alone(
    moments: pl.Series, symbols: pl.Series, names: dict[str, str], table: SourceTable
) -> None:
    """Refuse bars within the day whose times are dates alone, so that most stand at the same moment."""
    if not (moments.dt.truncate("1d") == moments).all():
        return
    keys = pl.DataFrame({"symbol": symbols, "moment": moments})
    if 2 * keys.n_unique() > len(keys):
        return
    others = collect(table, table.rows.select(pl.exclude(*names.values())).head(1000))
    clocks = [name for name in others.columns if read_clock(others[name].drop_nulls()) is not None]
    such = f" Such columns: {', '.join(map(repr, clocks))}." if clocks else ""
    raise table.place.refusal(
        f"column {names['timestamp']!r} holds dates alone, so that the bars of a day can't be told apart. Set"
        f" market.time_column to the column of the times of day.{such} For daily bars set market.period."
    )


def _numbers(
    frame: pl.DataFrame, table: SourceTable, names: dict[str, str], settings: Settings
) -> tuple[list[pl.Series], str | None]:
    """The columns of numbers as Float64, and the decimal mark that they show."""
    columns = {column: frame[column] for column in NUMBERS if column in frame.columns}
    texts = {names[column]: values for column, values in columns.items() if values.dtype == pl.String}
    separator = table.csv.separator if table.csv is not None else ","
    read, decimal = read_numbers(texts, settings.csv.decimal, separator, table.place)
    numbers = [
        _of_text(values, read[names[column]], names[column], table.place, frame[ROW])
        if names[column] in read
        else _of_numbers(values, names[column], table.place)
        for column, values in columns.items()
    ]
    for values in numbers:
        _require_some(values, names[values.name], table.place, columns[values.name])
        if values.name == "borrow_bps":
            _require_fees(values, names[values.name], table.place, frame[ROW])
    return numbers, decimal


def _of_text(text: pl.Series, numbers: pl.Series, name: str, place: Place, rows: pl.Series) -> pl.Series:
    lost = (missing_as_null(text).is_not_null() & numbers.is_null()).arg_true()
    if len(lost):
        first = int(lost[0])
        raise place.refusal(
            f"column {name!r} holds {len(lost):,} values that are no numbers, first {shown(text[first])} in"
            " row"
            f" {rows[first]:,}. Mend the file, map another column with market.columns.{text.name}, or see"
            " market.csv.decimal."
        )
    return numbers.alias(text.name)


def _of_numbers(values: pl.Series, name: str, place: Place) -> pl.Series:
    if values.dtype.is_numeric() or values.dtype == pl.Null:
        return values.cast(pl.Float64)
    raise place.refusal(
        f"column {name!r} has type {values.dtype}, expected numbers. Map another column with"
        f" market.columns.{values.name}."
    )


def _require_fees(fees: pl.Series, name: str, place: Place, rows: pl.Series) -> None:
    """Refuse a fee below 0, by which a backtest would earn, and one without an end; NaN is not known."""
    odd = ((fees < 0) | fees.is_infinite()).arg_true()
    if len(odd):
        first = int(odd[0])
        raise place.refusal(
            f"column {name!r} holds {len(odd):,} fees below 0 or infinite, first {fees[first]:g} in row"
            f" {rows[first]:,}. Mend the file, or map another column with market.columns.borrow_bps."
        )


def _require_some(numbers: pl.Series, name: str, place: Place, cells: pl.Series) -> None:
    if (
        numbers.name not in PRICE_COLUMNS
        or not len(numbers)
        or not numbers.drop_nulls().drop_nans().is_empty()
    ):
        return
    spare = ", or leave it out with an empty name there" if numbers.name in SPARE_COLUMNS else ""
    first = cells.drop_nulls().first() if cells.dtype == pl.String else None
    said = f" (first {shown(first)})" if first else ""
    raise place.refusal(
        f"column {name!r} holds no number at all, only nulls or NaN{said}. Export it again, map another"
        f" column with market.columns.{numbers.name}{spare}."
    )
