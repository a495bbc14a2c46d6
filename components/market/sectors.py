"""The sector, and where there is one the industry, of each symbol as it was known at each bar, from a file of
intervals.
"""

from datetime import date, timedelta
from pathlib import Path

import polars as pl

from components.contracts.source_files import require_file
from components.market.config import SectorSettings
from components.market.errors import MarketError
from components.reading.encoding import refuse_doubtful
from components.reading.joins import NothingMatches, join_note
from components.reading.keys import key_text, stripped
from components.reading.numbers import missing_as_null
from components.reading.place import Place
from components.reading.stamps import Cells, read_stamps
from components.reading.table import SourceTable, collect, is_csv, open_csv, open_parquet

TRUE, FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


def add_sectors(
    panel: pl.DataFrame, settings: SectorSettings, data_folder: Path
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """`panel` with its columns `sector` and, with `settings.industry`, `industry` as known at each bar's
    timestamp, null where nothing was known; and a note where the file names few of the panel's symbols.

    An interval says that the label was seen from its first to its last day. The dates at which any interval
    begins or ends are taken as the days on which somebody looked. At a bar counts what was seen of its symbol
    on the newest such day that lies `lag_days` or more before it; a label stays in force when its symbol is
    no longer seen, and is never filled back. Where intervals overlap, the one that began last counts, then
    the one that ends last. The industry is that of the same look, null where that names none or lies before
    `settings.industry_from`.

    Raises
    ------
    MarketError
        If the file or a column is missing or of the wrong type, or no symbol of the panel is in it.
    """
    intervals, place = _intervals(settings, data_folder)
    note = _join_note(panel, intervals, place)
    seen = _seen(intervals)
    if settings.industry_from is not None and "industry" in seen.columns:
        seen = seen.with_columns(
            pl.when(pl.col("day") >= settings.industry_from).then("industry").alias("industry")
        )
    known = seen.with_columns(pl.col("day") + timedelta(days=settings.lag_days)).sort("day")
    days = (
        panel.select("symbol", pl.col("timestamp").dt.date().alias("day")).drop_nulls().unique().sort("day")
    )
    joined = days.join_asof(known, on="day", by="symbol", strategy="backward", check_sortedness=False)
    dated = panel.drop("sector", *(["industry"] if settings.industry else []), strict=False).with_columns(
        pl.col("timestamp").dt.date().alias("day")
    )
    labelled = dated.join(joined, on=["symbol", "day"], how="left", maintain_order="left").drop("day")
    return labelled, (note,) if note else ()


def _join_note(panel: pl.DataFrame, intervals: pl.DataFrame, place: Place) -> str:
    try:
        return join_note(panel["symbol"].unique(), intervals["symbol"].unique(), str(place.path))
    except NothingMatches as error:
        raise place.refusal(
            f"{error}. Check market.sectors.symbol, or write the symbols alike on both sides."
        ) from None


def _intervals(settings: SectorSettings, data_folder: Path) -> tuple[pl.DataFrame, Place]:
    """Columns `symbol`, `sector`, `start`, `end` and, where the settings name it, `industry`; an interval
    that is still open ends on the last of all days.
    """
    path = require_file(Path(data_folder) / settings.path, "market.sectors.path", MarketError)
    place = Place(path, MarketError, section="market.sectors")
    table = _open(place, settings)
    columns = _columns(settings, table)
    frame = collect(table, table.rows.select(pl.col(name).alias(column) for column, name in columns.items()))
    if settings.valid:
        frame = frame.filter(_flags(frame["valid"], columns["valid"], place))
    labels = [name for name in ("sector", "industry") if name in columns]
    days = [_days(frame[name], columns[name], settings, place) for name in ("start", "end")]
    frame = frame.with_columns(
        key_text(frame["symbol"], place, columns["symbol"])[0],
        *(stripped(frame[name].cast(pl.String)) for name in labels),
        days[0],
        days[1].fill_null(date.max),
    )
    for name in ("symbol", *labels):
        if table.text is not None:
            used = frame[name].drop_nulls().unique().to_list()
            refuse_doubtful(used, table.text, place, f"column {columns[name]!r}")
    needed = ["symbol", "sector", "start", "end"]
    return frame.select(*needed, *labels[1:]).drop_nulls(needed), place


def _open(place: Place, settings: SectorSettings) -> SourceTable:
    wanted = (settings.start, settings.symbol, settings.sector, settings.end)
    return open_csv(place, settings.csv, wanted) if is_csv(place.path) else open_parquet(place)


def _columns(settings: SectorSettings, table: SourceTable) -> dict[str, str]:
    """Name in the file by role; MarketError unless the file has the columns that the settings name."""
    columns = {}
    for key in ("symbol", "sector", "start", "end", "industry", "valid"):
        name = getattr(settings, key)
        if name and name not in table.names:
            raise MarketError(
                f"{table.place.path} has no column {name!r} (market.sectors.{key}). It has"
                f" {', '.join(table.names)}."
            )
        if name in table.repeated:
            raise table.place.refusal(f"two columns are called {name!r} (market.sectors.{key}). Rename one.")
        if name:
            columns[key] = name
    return columns


def _flags(values: pl.Series, name: str, place: Place) -> pl.Series:
    """True or false, also as text; an empty cell is false."""
    if values.dtype == pl.String:
        text = stripped(values).str.to_lowercase()
        known = text.is_in([*TRUE, *FALSE])
        if not known.all():
            raise place.refusal(
                f"column {name!r} holds {text.filter(~known)[0]!r}, expected true or false"
                " (market.sectors.valid)."
            )
        values = text.is_in(TRUE)
    if values.dtype != pl.Boolean:
        raise place.refusal(
            f"column {name!r} has type {values.dtype}, expected true or false (market.sectors.valid)."
        )
    return values.fill_null(False)


def _days(values: pl.Series, name: str, settings: SectorSettings, place: Place) -> pl.Series:
    if values.null_count() == len(values):
        return values.cast(pl.Date)
    values = missing_as_null(values) if values.dtype == pl.String else values
    cells = Cells(place, name, f"market.sectors.{values.name}")
    stamps = read_stamps(values, cells, settings.timestamp_format, settings.timestamp_unit)
    return stamps.moments.dt.replace_time_zone(None).dt.date().alias(values.name)


def _seen(intervals: pl.DataFrame) -> pl.DataFrame:
    """Columns `symbol`, `day`, `sector` and, where the intervals have it, `industry`: what was seen of each
    symbol on each day on which somebody looked.
    """
    days = (
        pl.concat([intervals["start"], intervals["end"].filter(intervals["end"] < date.max)]).unique().sort()
    )
    looked = intervals.join(days.alias("day").to_frame(), how="cross").filter(
        pl.col("day").is_between(pl.col("start"), pl.col("end"))
    )
    labels = [name for name in ("sector", "industry") if name in intervals.columns]
    return (
        looked.sort("symbol", "day", "start", "end", *labels)
        .unique(["symbol", "day"], keep="last")
        .select("symbol", "day", *labels)
    )
