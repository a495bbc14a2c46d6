"""Bars of a Qlib data folder, read in its own layout: calendars/<frequency>.txt, instruments/<list>.txt,
features/<symbol>/<field>.<frequency>.bin.

A bin is a row of little-endian 32-bit floats: first the calendar's position of the first value, then one
value a step.
"""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts.source_files import require_file
from components.market.bars import Bars
from components.market.config import Settings
from components.market.errors import MarketError
from components.market.files import SourceFiles
from components.market.stamps import bar_times
from components.reading.object_store import Address, find_stored
from components.timeline.periods import is_daily

FREQUENCIES = {"1d": "day", "4h": "240min", "1h": "60min", "15m": "15min", "1m": "1min"}
FIELDS = ("open", "high", "low", "close", "volume", "vwap")
RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"com{number}" for number in range(10)),
    *(f"lpt{number}" for number in range(10)),
}


def read_qlib(settings: Settings, data_folder: Path, seed: int) -> Bars:
    """Bars of the symbols of `qlib.instruments` while they are on that list; steps at which a symbol has no
    price at all are left out.

    Raises
    ------
    MarketError
        If the folder is not Qlib's, a list or bin is missing, cut off or does not fit the calendar, or a
        wanted symbol is not on the list.
    """
    root, frequency = _root(settings, data_folder), _frequency(settings)
    steps = _calendar(root, frequency, settings)
    spans, without = _spans(root, settings)
    fields = _fields(root, spans, frequency, settings)
    frames = [
        _symbol_bars(root, symbol, intervals, fields, frequency, steps, settings)
        for symbol, intervals in spans.items()
    ]
    rows = pl.concat(frames)
    moments = steps.select("step", "timestamp", "event_time", "known_time")
    prices = (
        "as stored, adjusted where the folder's are"
        if settings.qlib.adjusted
        else "divided by the folder's $factor: as traded"
    )
    notes = (f"Prices of the Qlib folder are {prices}.",)
    if without:
        notes = (
            *notes,
            (
                f"{len(without)} symbols of the list {settings.qlib.instruments} have no bars in the folder:"
                f" {', '.join(without[:5])}{', ...' if len(without) > 5 else ''}."
            ),
        )
    return Bars(
        rows.join(moments, on="step", how="left", maintain_order="left").drop("step", "stamp"), notes=notes
    )


def qlib_files(settings: Settings, data_folder: Path) -> SourceFiles:
    """Every file that `read_qlib` reads."""
    root, frequency = _root(settings, data_folder), _frequency(settings)
    spans, _ = _spans(root, settings)
    fields = _fields(root, spans, frequency, settings)
    bins = [_bin(root, symbol, field, frequency) for symbol in spans for field in fields]
    return SourceFiles((root / "calendars" / f"{frequency}.txt", _list(root, settings), *bins), True)


def stored_qlib(settings: Settings) -> SourceFiles:
    """The files of a folder in an object store that `read_qlib` may read once they are here: its texts, and
    the bins of the frequency.
    """
    ends = (".txt", f".{_frequency(settings)}.bin")
    return SourceFiles(find_stored(Address(settings.path, "market.path", MarketError), ends), True)


def _root(settings: Settings, data_folder: Path) -> Path:
    root = Path(data_folder) / settings.path
    missing = [name for name in ("calendars", "instruments", "features") if not (root / name).is_dir()]
    if missing:
        raise MarketError(
            f"{root} (market.path) is no Qlib data folder: it lacks {', '.join(missing)}/. Give the folder"
            " that qlib.init calls provider_uri."
        )
    return root


def _frequency(settings: Settings) -> str:
    return settings.qlib.frequency or FREQUENCIES[settings.period]


def _calendar(root: Path, frequency: str, settings: Settings) -> pl.DataFrame:
    """Columns `step` (position, from 0), `stamp` (Datetime as written), and the three moments of each step's
    bar.
    """
    path = root / "calendars" / f"{frequency}.txt"
    require_file(path, "market.qlib.frequency", MarketError)
    stamps = [line.strip() for line in _lines(path) if line.strip()]
    if not stamps:
        raise MarketError(f"{path} holds no step. Dump the folder again.")
    frame = pl.DataFrame(
        {"timestamp": stamps, "step": range(len(stamps))},
        schema={"timestamp": pl.String(), "step": pl.Int64()},
    )
    clock = settings.model_copy(update={"stamp": "session_date"}) if is_daily(settings.period) else settings
    return bar_times(frame, clock, str(path)).with_columns(
        pl.Series("stamp", [_moment(text, path, "step") for text in stamps], dtype=pl.Datetime("us"))
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise MarketError(
            f"{path} is no text in UTF-8 (byte {error.start}). Dump the folder again."
        ) from error


def _moment(text: str, path: Path, where: str) -> datetime:
    """A day or moment as written, without its zone."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError as error:
        raise MarketError(
            f"{path}, {where}: {text[:60]!r} is no day or time such as 2020-01-02. Dump the folder again."
        ) from error


def _list(root: Path, settings: Settings) -> Path:
    return root / "instruments" / f"{settings.qlib.instruments.lower()}.txt"


def _spans(root: Path, settings: Settings) -> tuple[dict[str, list[tuple[datetime, datetime]]], list[str]]:
    """Intervals (first and last moment) of each wanted symbol that has a folder, in the order of the list;
    and the symbols without one.
    """
    path = _list(root, settings)
    require_file(path, "market.qlib.instruments", MarketError)
    spans: dict[str, list[tuple[datetime, datetime]]] = {}
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) < 3:
            raise MarketError(
                f"{path}, line {number}: {line[:80]!r} is not symbol, first and last day, parted by tabs."
                " Dump the folder again."
            )
        if settings.symbols is None or parts[0] in settings.symbols:
            first, last = (_moment(text, path, f"line {number}") for text in parts[1:3])
            spans.setdefault(parts[0], []).append(
                (first, last if ":" in parts[2] else last + timedelta(days=1, microseconds=-1))
            )
    absent = [symbol for symbol in settings.symbols or [] if symbol not in spans]
    without = [symbol for symbol in spans if not _folder(root, symbol).is_dir()]
    if absent or len(without) == len(spans):
        raise MarketError(
            f"{path} lists no {', '.join(absent[:5]) or 'symbol with bars in features/'}. Mend market.symbols"
            " or market.qlib.instruments."
        )
    return {symbol: intervals for symbol, intervals in spans.items() if symbol not in without}, without


def _fields(root: Path, spans: dict[str, list], frequency: str, settings: Settings) -> list[str]:
    """The fields to read: those that the first symbol has, the factor only where it is used."""
    first = next(iter(spans))
    fields = [field for field in FIELDS if _bin(root, first, field, frequency).is_file()]
    if "close" not in fields:
        raise MarketError(
            f"{_bin(root, first, 'close', frequency)} does not exist. Check market.qlib.frequency and"
            " market.period, or dump the folder again."
        )
    return fields if settings.qlib.adjusted else [*fields, "factor"]


def _folder(root: Path, symbol: str) -> Path:
    """Qlib prefixes the names that Windows keeps for devices."""
    name = symbol.lower()
    return root / "features" / (f"_qlib_{name}" if name in RESERVED else name)


def _bin(root: Path, symbol: str, field: str, frequency: str) -> Path:
    return _folder(root, symbol) / f"{field}.{frequency}.bin"


def _symbol_bars(
    root: Path,
    symbol: str,
    intervals: list,
    fields: list[str],
    frequency: str,
    steps: pl.DataFrame,
    settings: Settings,
) -> pl.DataFrame:
    values = {field: _values(_bin(root, symbol, field, frequency), len(steps)) for field in fields}
    listed = [pl.col("stamp").is_between(first, last) for first, last in intervals]
    frame = steps.select(
        "step",
        "stamp",
        pl.lit(symbol).alias("symbol"),
        *(pl.Series(field, column) for field, column in values.items()),
    ).filter(pl.any_horizontal(listed))
    frame = frame.with_columns(pl.col(fields).cast(pl.Float64).fill_nan(None)).filter(
        pl.any_horizontal(
            pl.col(field).is_not_null() for field in fields if field not in ("factor", "volume")
        )
    )
    if settings.qlib.adjusted:
        return frame
    prices = [field for field in fields if field not in ("factor", "volume")]
    volume = [pl.col("volume") * pl.col("factor")] if "volume" in fields else []
    return frame.with_columns(*(pl.col(field) / pl.col("factor") for field in prices), *volume).drop("factor")


def _values(path: Path, length: int) -> np.ndarray:
    """The values of a bin along the whole calendar, NaN outside of it."""
    require_file(path, "a bin of the Qlib folder", MarketError)
    content = path.read_bytes()
    stored = np.frombuffer(content[: len(content) // 4 * 4], dtype="<f4")
    first = int(stored[0]) if len(stored) and np.isfinite(stored[0]) else -1
    if len(content) % 4 or first < 0 or first + len(stored) - 1 > length:
        raise MarketError(
            f"{path} does not fit the calendar of {length:,} steps: it begins at step {first} and holds"
            f" {len(content):,} bytes. It is cut off or of another calendar: dump it again."
        )
    values = np.full(length, np.nan, dtype=np.float32)
    values[first : first + len(stored) - 1] = stored[1:]
    return values
