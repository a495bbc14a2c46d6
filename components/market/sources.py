"""Sources of bars behind one protocol, found by name:

CSV and Parquet files, a Qlib folder, what was fetched from Yahoo, an exchange or Wind, the simulator.
"""

import difflib
from pathlib import Path
from typing import Protocol

import polars as pl

from components.contracts import TIME
from components.market.bars import Bars
from components.market.config import CONTRACT_COLUMNS, SPARE_COLUMNS, Settings
from components.market.errors import MarketError
from components.market.fetched import read_fetched
from components.market.files import find_files
from components.market.qlib_folder import read_qlib
from components.market.simulator import simulate
from components.market.stamps import bar_times, in_utc, read_stamps

PRICE_COLUMNS = ("open", "high", "low", "close", "volume")
SHORT_NAMES = {"open": ("o", "op"), "high": ("h", "hi"), "low": ("l", "lo"), "volume": ("v", "vol")}
OPTIONAL_NUMBERS = ("vwap", "trades", "funding_rate", "open_interest", "price_limit")
CLOCKS = ("exchange_ts", "ingest_ts")
NOT_A_VALUE = ["", "NA", "N/A", "n/a", "null", "NULL", "None", "-"]


class Source(Protocol):
    """Anything that gives bars."""

    def __call__(self, settings: Settings, data_folder: Path, seed: int) -> Bars:
        """The bars in the source's order, with `timestamp, symbol, event_time, known_time`, prices, volume
        and, where known, `sector`.
        """
        ...


def read_parquet(settings: Settings, data_folder: Path, seed: int) -> Bars:
    """Bars of Parquet files; only the columns that are needed are read.

    Raises MarketError for files that cannot be used.
    """
    return _read_files(settings, data_folder, lambda path: pl.scan_parquet(path, glob=False))


def read_csv(settings: Settings, data_folder: Path, seed: int) -> Bars:
    """Bars of CSV files.

    Values are read as text and converted here, so that an error can name the value and its row.
    """

    def scan(path: Path) -> pl.LazyFrame:
        return pl.scan_csv(
            path, glob=False, infer_schema=False, separator=settings.csv_separator, null_values=NOT_A_VALUE
        )

    return _read_files(settings, data_folder, scan)


def read_simulator(settings: Settings, data_folder: Path, seed: int) -> Bars:
    """Bars of the simulated market, without the columns that `market.columns` leaves out."""
    market = simulate(settings, seed)
    rows = (
        market.panel
        if settings.symbols is None
        else market.panel.filter(pl.col("symbol").is_in(settings.symbols))
    )
    left_out = [column for column, name in settings.columns.items() if not name]
    return Bars(rows.drop("period", *left_out), market.truth, market.faults)


SOURCES: dict[str, Source] = {
    "csv": read_csv,
    "parquet": read_parquet,
    "simulator": read_simulator,
    "qlib": read_qlib,
    "yahoo": read_fetched,
    "ccxt": read_fetched,
    "wind": read_fetched,
}


def _read_files(settings: Settings, data_folder: Path, scan) -> Bars:
    files = find_files(settings, data_folder)
    frames = [_read_file(path, settings, files.many, scan) for path in files.paths]
    for column in SPARE_COLUMNS:
        having = [column in frame.columns for frame in frames]
        if any(having) and not all(having):
            without = files.paths[having.index(False)]
            raise MarketError(
                f"{without}: column {column!r} is missing, but {sum(having)} of {len(frames)} files of"
                f" market.path have it. Export the file again, map its column with market.columns.{column},"
                " or load the files as panels of their own."
            )
    return Bars(pl.concat(frames, how="diagonal"))


def _read_file(path: Path, settings: Settings, many: bool, scan) -> pl.DataFrame:
    """One file as bars.

    Among many files, one without a symbol column holds the symbol that its name (without endings) says.
    """
    try:
        lazy = scan(path)
        found = lazy.collect_schema().names()
        names = _column_names(found, settings, many, path)
        lazy = lazy.select(pl.col(name).alias(column) for column, name in names.items())
        if "symbol" in names and settings.symbols is not None:
            lazy = lazy.filter(pl.col("symbol").cast(pl.String).str.strip_chars().is_in(settings.symbols))
        frame = lazy.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, UnicodeError) as error:
        raise _unreadable(path, settings, error) from error
    if "symbol" not in names:
        stem = path.name.split(".")[0]
        frame = frame.with_columns(pl.lit(stem).alias("symbol"))
        frame = frame if settings.symbols is None or stem in settings.symbols else frame.clear()
    if frame.is_empty() and settings.symbols is None:
        raise MarketError(f"{path} holds column names but no rows. Fetch or export it again.")
    return _typed(frame, settings, path)


def _column_names(found: list[str], settings: Settings, many: bool, path: Path) -> dict[str, str]:
    """Name in the file by contract column, for all columns that are there."""
    names = {}
    for column in CONTRACT_COLUMNS:
        name = settings.columns.get(column, column)
        if not name:
            continue
        if name in found:
            names[column] = name
        elif column in settings.columns:
            raise MarketError(
                f"{path}: market.columns.{column} names {name!r}, which is not there. {_suggest(name, found)}"
            )
        elif (
            column in ("timestamp", "close")
            or (column == "symbol" and not many)
            or _called_otherwise(column, found)
        ):
            raise MarketError(
                f"{path}: column {column!r} is missing. {_suggest(column, found)} If it has another name, set"
                f" market.columns.{column}."
            )
    if settings.sectors is not None:
        names.pop("sector", None)
    return names


def _called_otherwise(column: str, found: list[str]) -> bool:
    """Whether a column that a panel may lack seems to be there under another spelling, so that it is not
    dropped by mistake.
    """
    return column in SPARE_COLUMNS and any(
        name.casefold().strip() in (column, *SHORT_NAMES[column]) for name in found
    )


def _suggest(name: str, found: list[str]) -> str:
    folded = {other.casefold().strip(): other for other in found}
    close = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=2, cutoff=0.6)]
    listed = ", ".join(repr(other) for other in found[:30]) + (", ..." if len(found) > 30 else "")
    return (
        f"Close: {', '.join(map(repr, close))}. " if close else ""
    ) + f"The file has {listed or 'no columns'}."


def _typed(frame: pl.DataFrame, settings: Settings, path: Path) -> pl.DataFrame:
    """Types of the contract, and the three moments of each bar."""
    numbers = [
        _numbers(frame[column], settings, path)
        for column in (*PRICE_COLUMNS, *OPTIONAL_NUMBERS)
        if column in frame.columns
    ]
    texts = [
        frame[column].cast(pl.String).str.strip_chars()
        for column in ("symbol", "sector")
        if column in frame.columns
    ]
    frame = frame.with_columns(*numbers, *texts)
    where = {
        column: f"{path}: column {settings.columns.get(column, column)!r}"
        for column in CLOCKS
        if column in frame.columns
    }
    frame = frame.with_columns(
        in_utc(
            read_stamps(frame[column], settings, named),
            settings,
            named,
            frame.get_column("symbol", default=None),
        )
        .cast(TIME)
        .alias(column)
        for column, named in where.items()
    )
    if frame.is_empty():
        return frame.with_columns(
            pl.lit(None, dtype=TIME).alias(name) for name in ("timestamp", "event_time", "known_time")
        )
    return bar_times(frame, settings, str(path))


def _numbers(values: pl.Series, settings: Settings, path: Path) -> pl.Series:
    name = settings.columns.get(values.name, values.name)
    if values.dtype == pl.String:
        numbers = values.str.strip_chars().cast(pl.Float64, strict=False)
        lost = (values.is_not_null() & numbers.is_null()).arg_true()
        if len(lost):
            first = int(lost[0])
            raise MarketError(
                f"{path}: column {name!r} holds {len(lost):,} values that are no numbers, first"
                f" {values[first][:60]!r} in row {first + 1:,}. Mend the file, or map another column with"
                f" market.columns.{values.name}."
            )
    elif values.dtype.is_numeric() or values.dtype == pl.Null:
        numbers = values.cast(pl.Float64)
    else:
        raise MarketError(
            f"{path}: column {name!r} has type {values.dtype}, expected numbers. Map another column with"
            f" market.columns.{values.name}."
        )
    spare = ", or leave it out with an empty name there" if values.name in SPARE_COLUMNS else ""
    if len(numbers) and values.name in PRICE_COLUMNS and numbers.drop_nulls().drop_nans().is_empty():
        raise MarketError(
            f"{path}: column {name!r} holds no number at all, only nulls or NaN. Export it again, map another"
            f" column with market.columns.{values.name}{spare}."
        )
    return numbers


def _unreadable(path: Path, settings: Settings, error: BaseException) -> MarketError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
    kind = {"csv": "CSV", "parquet": "Parquet"}[settings.source]
    return MarketError(
        f"{path} can't be read as {kind} to its end: {reason}. It may be cut off, damaged or of another kind:"
        " fetch it again, or mend market.source."
    )
