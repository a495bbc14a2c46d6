"""The sector, and where there is one the industry, of each symbol as it was known at each bar, from a file of
intervals.
"""

from datetime import date, timedelta
from pathlib import Path

import polars as pl

from components.contracts.source_files import require_file
from components.market.config import SectorSettings
from components.market.errors import MarketError


def add_sectors(panel: pl.DataFrame, settings: SectorSettings, data_folder: Path) -> pl.DataFrame:
    """`panel` with its columns `sector` and, with `settings.industry`, `industry` as known at each bar's
    timestamp; null where nothing was known.

    An interval says that the label was seen from its first to its last day. The dates at which any interval
    begins or ends are taken as the days on which somebody looked. At a bar counts what was seen of its symbol
    on the newest such day that lies `lag_days` or more before it; a label stays in force when its symbol is
    no longer seen, and is never filled back. Where intervals overlap, the one that began last counts, then
    the one that ends last. The industry is that of the same look, null where that names none or lies before
    `settings.industry_from`.

    Raises
    ------
    MarketError
        If the file or a column is missing or of the wrong type.
    """
    seen = _seen(_intervals(settings, data_folder))
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
    return dated.join(joined, on=["symbol", "day"], how="left", maintain_order="left").drop("day")


def _intervals(settings: SectorSettings, data_folder: Path) -> pl.DataFrame:
    """Columns `symbol`, `sector`, `start`, `end` and, where the settings name it, `industry`; an interval
    that is still open ends on the last of all days.
    """
    path = require_file(Path(data_folder) / settings.path, "market.sectors.path", MarketError)
    frame = _read(path)
    _require_columns(frame, settings, path)
    if settings.valid:
        frame = frame.filter(pl.col(settings.valid).fill_null(False))
    _require_dates(frame, settings, path)
    columns = {
        "symbol": pl.col(settings.symbol).cast(pl.String),
        "sector": pl.col(settings.sector).cast(pl.String),
        "start": pl.col(settings.start).cast(pl.Date),
        "end": pl.col(settings.end).cast(pl.Date).fill_null(date.max),
    }
    needed = list(columns)
    if settings.industry:
        columns["industry"] = pl.col(settings.industry).cast(pl.String)
    return frame.select(value.alias(name) for name, value in columns.items()).drop_nulls(needed)


def _read(path: Path) -> pl.DataFrame:
    try:
        if path.suffix.lower() == ".csv":
            return pl.read_csv(path, try_parse_dates=True)
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise MarketError(
            f"{path} (market.sectors.path) can't be read: {str(error).splitlines()[0]}. Fetch it again."
        ) from error


def _require_columns(frame: pl.DataFrame, settings: SectorSettings, path: Path) -> None:
    """MarketError unless the file has the columns that the settings name."""
    for key in ("symbol", "sector", "start", "end", "industry", "valid"):
        name = getattr(settings, key)
        if name and name not in frame.columns:
            raise MarketError(
                f"{path} has no column {name!r} (market.sectors.{key}). It has {', '.join(frame.columns)}."
            )
    if settings.valid and frame[settings.valid].dtype != pl.Boolean:
        raise MarketError(
            f"{path}: column {settings.valid!r} has type {frame[settings.valid].dtype}, expected true or"
            " false (market.sectors.valid)."
        )


def _require_dates(frame: pl.DataFrame, settings: SectorSettings, path: Path) -> None:
    for key in ("start", "end"):
        days = frame[getattr(settings, key)]
        empty = days.null_count() == len(days)
        if not days.dtype.is_temporal() and not empty:
            raise MarketError(
                f"{path}: column {days.name!r} has type {days.dtype}, expected dates (market.sectors.{key})."
            )


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
