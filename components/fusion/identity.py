"""Which company a ticker belonged to, from a file of intervals; and the reading of a slow table's files."""

from datetime import datetime
from pathlib import Path

import polars as pl

from components.contracts.source_files import require_file
from components.fusion.config import TableSettings
from components.fusion.errors import FusionError


def read_frame(path: Path, table: TableSettings) -> pl.DataFrame:
    """The file's content; FusionError where it is neither Parquet nor CSV."""
    try:
        return pl.read_csv(path, try_parse_dates=True) if ".csv" in path.suffixes else pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise FusionError(
            f"{path} can't be read ({str(error).splitlines()[0][:200]}). It may be cut off or of another"
            " kind: fetch it again."
        ) from error


def read_identity(table: TableSettings, data_folder: Path | None) -> pl.DataFrame:
    """Columns `symbol`, `starts` (Date), `company` (String): from each day on, the ticker is another
    company's. The first one has no row: it reaches back without end.

    With a company column, intervals of the same company are one. Without, an interval that begins more than
    max_gap_days after the one before has ended is another company's, named after its first day.
    """
    settings = table.identity
    path = Path(data_folder or ".") / settings.path
    require_file(path, f"identity of fusion table {table.name!r}", FusionError)
    frame = read_frame(path, table)
    needed = [settings.symbol, settings.start, settings.end]
    for name in [*needed, settings.company] if settings.company else needed:
        if name not in frame.columns:
            raise FusionError(
                f"{path} has no column {name!r} (identity of fusion table {table.name!r}). It has"
                f" {', '.join(frame.columns)}."
            )
    company = pl.col(settings.company).cast(pl.String) if settings.company else pl.lit(None, dtype=pl.String)
    intervals = (
        frame.select(
            pl.col(settings.symbol).cast(pl.String).alias("symbol"),
            pl.col(settings.start).cast(pl.Date).alias("starts"),
            pl.col(settings.end).cast(pl.Date).fill_null(datetime.max.date()).alias("ends"),
            company.alias("company"),
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
