"""Which company a ticker belonged to, from a file of intervals; and the opening of a slow table's files."""

from datetime import datetime
from pathlib import Path

import polars as pl

from components.contracts.source_files import require_file
from components.fusion.config import IdentitySettings, TableSettings
from components.fusion.errors import FusionError
from components.reading.keys import key_text, stripped
from components.reading.numbers import missing_as_null
from components.reading.place import Place
from components.reading.stamps import Cells, read_stamps
from components.reading.table import SourceTable, collect, is_csv, open_csv, open_parquet


def open_slow(
    path: Path, settings: TableSettings | IdentitySettings, owner: str, wanted: list[str]
) -> SourceTable:
    """A file of a slow table or of identities, open; FusionError where it is neither Parquet nor CSV."""
    place = Place(path, FusionError, owner=owner)
    return open_csv(place, settings.csv, wanted) if is_csv(path) else open_parquet(place)


def _date(frame: pl.DataFrame, name: str, settings: IdentitySettings, place: Place) -> pl.Series:
    values = frame[name]
    if values.null_count() == len(values):
        return values.cast(pl.Date)
    values = missing_as_null(values) if values.dtype == pl.String else values
    cells = Cells(place, name, "start and end of identity")
    moments = read_stamps(values, cells, settings.timestamp_format, settings.timestamp_unit).moments
    return moments.dt.replace_time_zone(None).dt.date()


def read_identity(table: TableSettings, data_folder: Path | None) -> pl.DataFrame:
    """Columns `symbol`, `starts` (Date), `company` (String): from each day on, the ticker is another
    company's. The first one has no row: it reaches back without end.

    With a company column, intervals of the same company are one. Without, an interval that begins more than
    max_gap_days after the one before has ended is another company's, named after its first day.
    """
    settings = table.identity
    path = Path(data_folder or ".") / settings.path
    require_file(path, f"identity of fusion table {table.name!r}", FusionError)
    owner = f"identity of fusion table {table.name!r}"
    source = open_slow(path, settings, owner, [settings.start, settings.symbol, settings.end])
    frame = collect(source, source.rows)
    needed = [settings.symbol, settings.start, settings.end]
    for name in [*needed, settings.company] if settings.company else needed:
        if name not in frame.columns:
            raise FusionError(
                f"{path} has no column {name!r} (identity of fusion table {table.name!r}). It has"
                f" {', '.join(frame.columns)}."
            )
    company = (
        stripped(frame[settings.company].cast(pl.String)).alias("company")
        if settings.company
        else pl.lit(None, dtype=pl.String).alias("company")
    )
    intervals = (
        frame.select(
            key_text(frame[settings.symbol], source.place, settings.symbol)[0].alias("symbol"),
            _date(frame, settings.start, settings, source.place).alias("starts"),
            _date(frame, settings.end, settings, source.place).fill_null(datetime.max.date()).alias("ends"),
            company,
        )
        .drop_nulls(["symbol", "starts"])
        .sort("symbol", "starts", "ends", "company")
    )
    before = pl.col("ends").cum_max().shift(1).over("symbol")
    changed = pl.col("company").ne_missing(pl.col("company").shift(1).over("symbol"))
    new = changed if settings.company else (pl.col("starts") - before).dt.total_days() > settings.max_gap_days
    first = pl.col("starts").cum_count().over("symbol") == 1
    return (
        intervals.with_columns((first | new.fill_null(False)).alias("new"), first.alias("first"))
        .filter("new")
        .select(
            "symbol",
            "starts",
            pl.coalesce("company", pl.col("starts").cast(pl.String)).alias("company"),
            "first",
        )
    )
