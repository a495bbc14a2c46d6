"""Loads the panel of any source: one table of raw bars, with what fell out said aloud."""

import difflib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from components.contracts import RAW_PANEL, check_table
from components.market.at_hand import at_hand
from components.market.bars import FILE
from components.market.config import SPARE_COLUMNS, Settings
from components.market.errors import MarketError
from components.market.limits import add_price_limit
from components.market.sectors import add_sectors
from components.market.source_hash import market_sha256
from components.market.sources import SOURCES
from components.timeline.coverage import symbol_coverage
from components.timeline.periods import LENGTHS

NAMED_SYMBOLS = 5
# Usual distance of neighbouring bars, in bars of the period, below which the period is wrong.
CLOSEST_BARS = 0.6


@dataclass(frozen=True)
class Market:
    """A loaded market.

    `panel`: RAW_PANEL; the order of the source's rows and its faults are kept.
    `truth`: `timestamp, symbol, expected_return_5` (simulator only), else None.
    `faults`: `symbol, timestamp, kind` of the planted faults (simulator only), else None.
    `notes`: what a person should know, such as symbols with many missing bars.
    `origins`: of a panel of `files`, in its order: `source_file` (number among them), `source_row` (from 1).
    `found`: YAML of the settings by which files were read where the config gave none; may be empty.
    `source_sha256`: content hash of what was read, as `market_sha256` gives it.
    """

    panel: pl.DataFrame
    truth: pl.DataFrame | None
    faults: pl.DataFrame | None
    notes: tuple[str, ...]
    files: tuple[str, ...] = ()
    origins: pl.DataFrame | None = None
    found: str = ""
    source_sha256: str = ""


def load_panel(settings: Settings, *, data_folder: Path, seed: int, now: datetime | None = None) -> Market:
    """Read or simulate the market that `settings` describe.

    Parameters
    ----------
    data_folder : where relative paths lie
    seed : of the simulator; files do not use it
    now : when the source counts as read, where `settings.as_of` does not say it; none: the clock's time

    Raises
    ------
    MarketError
        If files, columns, types or times cannot be used, a wanted symbol is not there, or no row lies between
        start and end.
    """
    with at_hand(settings) as (local, shown):
        market = _load(local, data_folder, seed, now)
        # Hashed after it was read: so the hash is never that of an older content than the panel's.
        sha256 = market_sha256(local, data_folder, seed)
    return replace(
        market,
        notes=tuple(map(shown, market.notes)),
        files=tuple(map(shown, market.files)),
        source_sha256=sha256,
    )


def _load(settings: Settings, data_folder: Path, seed: int, now: datetime | None) -> Market:
    """The market of files that lie on this disk, or of any other source."""
    bars = SOURCES[settings.source](settings, Path(data_folder), seed)
    rows = _require_symbols(bars.rows, settings, data_folder, seed)
    rows = _between(rows, settings)
    if settings.source != "simulator":
        rows = _mark_unfinished(rows, settings.as_of or now or datetime.now(UTC))
    said: tuple[str, ...] = ()
    if settings.sectors is not None:
        rows, said = add_sectors(rows, settings.sectors, Path(data_folder))
    elif "sector" not in rows.columns:
        rows = rows.with_columns(pl.lit(None, dtype=pl.String).alias("sector"))
    rows = add_price_limit(rows, settings.price_limit)
    absent = [name for name in SPARE_COLUMNS if name not in rows.columns]
    rows = rows.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in absent)
    _require_spacing(rows, settings)
    optional = [name for name in RAW_PANEL.optional if name in rows.columns]
    panel = rows.with_columns(pl.lit(settings.period).alias("period")).select(*RAW_PANEL.columns, *optional)
    return Market(
        check_table(panel, RAW_PANEL),
        _between(bars.truth, settings),
        _between(bars.faults, settings),
        (*bars.notes, *said, *_notes(panel, absent, settings)),
        bars.files,
        rows.select(FILE, "source_row") if bars.files else None,
        bars.found,
    )


def _require_symbols(rows: pl.DataFrame, settings: Settings, data_folder: Path, seed: int) -> pl.DataFrame:
    if settings.symbols is None:
        return rows
    found = set(rows["symbol"].drop_nulls().unique())
    absent = [symbol for symbol in settings.symbols if symbol not in found]
    if absent:
        every = (
            SOURCES[settings.source](settings.model_copy(update={"symbols": None}), Path(data_folder), seed)
            .rows["symbol"]
            .drop_nulls()
            .unique()
            .sort()
            .to_list()
        )
        close = difflib.get_close_matches(absent[0], every, n=3)
        advice = (
            f"Close to {absent[0]!r}: {', '.join(close)}."
            if close
            else f"The source has {len(every):,} symbols, such as {', '.join(every[:NAMED_SYMBOLS])}."
        )
        raise MarketError(
            f"market.symbols lists {len(absent)} symbols that the source does not have: {_some(absent)}."
            f" {advice}"
        )
    return rows


def _mark_unfinished(rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Add `unfinished` where some bar ends, or becomes known, after `now`.

    The clock is read here, where the source is read, and nowhere later: what a file holds does not become
    final by waiting. It enters the panel as this column only, and only where it is true of some row. So the
    tasks after this one repeat as long as no bar is unfinished, and run again once one is.
    """
    unfinished = (pl.max_horizontal("timestamp", "known_time") > now).fill_null(False)
    marked = rows.with_columns(unfinished.alias("unfinished"))
    return marked if marked["unfinished"].any() else rows


def _require_spacing(rows: pl.DataFrame, settings: Settings) -> None:
    """Refuse bars that stand closer together than the period says: windows, horizons and yearly figures would
    all be wrong.
    """
    steps = rows.select((pl.col("timestamp").sort().diff().over("symbol")).alias("step")).filter(
        pl.col("step") > timedelta(0)
    )["step"]
    usual = steps.median()
    if usual is not None and usual < CLOSEST_BARS * LENGTHS[settings.period]:
        raise MarketError(
            f"Bars of a symbol usually stand {usual} apart, but market.period is {settings.period}. Set"
            " market.period to what the bars are, or resample them."
        )


def _between(rows: pl.DataFrame | None, settings: Settings) -> pl.DataFrame | None:
    """The rows whose bar ended between start and end; rows without a time are kept for validation to name."""
    if rows is None or (settings.start is None and settings.end is None):
        return rows
    first, last = rows["timestamp"].min(), rows["timestamp"].max()
    day = pl.col("timestamp").dt.date()
    kept = rows.filter(
        *([day >= settings.start] if settings.start else []), *([day <= settings.end] if settings.end else [])
    )
    if kept.is_empty() and len(rows) and "close" in rows.columns:
        raise MarketError(
            f"No bar ends between market.start={settings.start} and market.end={settings.end}: the source"
            f" runs from {first:%Y-%m-%d} to {last:%Y-%m-%d}."
        )
    return kept


def _notes(panel: pl.DataFrame, absent: list[str], settings: Settings) -> tuple[str, ...]:
    keys = panel.select("symbol", "timestamp").drop_nulls().unique()
    coverage = symbol_coverage(keys, keys["timestamp"].unique().sort())
    thin = coverage.filter(pl.col("coverage") < settings.min_coverage)
    notes = []
    if absent:
        notes.append(
            f"The source has no column {', '.join(absent)}: checks and factors that need it are left out"
            + ("; signals are traded at the next close." if "open" in absent else ".")
        )
    if len(thin):
        named = [
            f"{row['symbol']} ({row['coverage']:.0%} of {row['expected_bars']:,} bars,"
            f" {row['first']:%Y-%m-%d} to {row['last']:%Y-%m-%d})"
            for row in thin.head(NAMED_SYMBOLS).to_dicts()
        ]
        more = f" and {len(thin) - NAMED_SYMBOLS} more" if len(thin) > NAMED_SYMBOLS else ""
        notes.append(
            f"{len(thin)} symbols have less than {settings.min_coverage:.0%} of the bars between their first"
            f" and last: {', '.join(named)}{more}."
        )
    without = panel["sector"].null_count()
    if settings.sectors is not None and without:
        symbols = panel.filter(pl.col("sector").is_null())["symbol"].n_unique()
        notes.append(
            f"{without:,} of {len(panel):,} rows ({symbols} symbols) have no sector that was known at the"
            " time; they count as unknown."
        )
    return tuple(notes)


def describe(panel: pl.DataFrame) -> str:
    """One line: rows, symbols, first and last bar."""
    first, last = panel["timestamp"].min(), panel["timestamp"].max()
    form = "%Y-%m-%d" if first is not None and last - first > timedelta(days=2) else "%Y-%m-%d %H:%M"
    span = f"{first:{form}} to {last:{form}}" if first is not None else "no times"
    return f"{len(panel):,} rows, {panel['symbol'].n_unique():,} symbols, {span}"


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:NAMED_SYMBOLS])) + (
        f" and {len(names) - NAMED_SYMBOLS} more" if len(names) > NAMED_SYMBOLS else ""
    )
