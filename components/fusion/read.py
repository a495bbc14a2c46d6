"""Reads slow tables: each becomes feeds of typed rows (symbol, end of the observation, when it became known,
values), with what was refused counted.
"""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from components.contracts import TIME, file_sha256
from components.fusion.config import ColumnSettings, Settings, TableSettings
from components.fusion.errors import FusionError
from components.fusion.times import known_by_column, known_by_rule, observation_end

ROW, KEY, ENDS, KNOWN, COMPANY, REFUSED, CONTRADICTED = (
    "_row",
    "_key",
    "_ends",
    "_known",
    "_company",
    "_refused",
    "_contradicted",
)
MARKET = ""
EXAMPLES = 5
REASONS = {
    "no key": "the symbol, or the name of the series, is missing",
    "no observation time": "what time the row speaks of is missing",
    "no known time": "when the row became known is missing",
    "known before observed": "the row claims to have been known before its observation was complete",
}


@dataclass(frozen=True)
class Feed:
    """Rows that share their times, and the columns taken from them.

    `rows`: _row (position in the file), _key (symbol, empty for the market), _ends, _known (UTC), _company
    (String, null without), _contradicted (another row of the same symbol, company, observation and known time
    has other values), and a Float64 column a value before its transform, null where missing or out of range;
    sorted by (_key, _known, _row). `refused`: the rows that can't be used, with _refused. `out_of_range`:
    values that count as missing because of lowest and highest, by column. `conflicting`: values that count as
    missing, or whose last one was taken, because rows of the same symbol, company, observation and known time
    disagree.
    """

    table: TableSettings
    columns: tuple[ColumnSettings, ...]
    rows: pl.DataFrame
    refused: pl.DataFrame
    out_of_range: Mapping[str, int]
    conflicting: Mapping[str, int]

    @property
    def names(self) -> list[str]:
        """Names of the fused columns."""
        return [column.name for column in self.columns]


@dataclass(frozen=True)
class SlowTable:
    """One slow table as read.

    `raw` holds the used columns as the file has them, after `where`, with _row; `rows_in_file` counts before
    it.
    """

    settings: TableSettings
    raw: pl.DataFrame
    rows_in_file: int
    feeds: tuple[Feed, ...]
    identity: pl.DataFrame | None
    sha256: str

    def refusals(self) -> dict[str, int]:
        """How many rows were refused, by reason."""
        found = pl.concat([feed.refused.select(REFUSED) for feed in self.feeds])
        return {reason: int((found[REFUSED] == reason).sum()) for reason in REASONS}


def read_tables(settings: Settings, data_folder: Path) -> tuple[SlowTable, ...]:
    """All slow tables of the config; FusionError where one cannot be read or has too many rows that can't be
    right.
    """
    return tuple(read_table(table, data_folder) for table in settings.tables)


def read_table(table: TableSettings, data_folder: Path) -> SlowTable:
    """One slow table from its file."""
    path = require_file(Path(data_folder) / table.path, f"fusion table {table.name!r}")
    return from_frame(table, read_frame(path, table), data_folder=data_folder, sha256=file_sha256(path))


def from_frame(
    table: TableSettings, frame: pl.DataFrame, *, data_folder: Path | None = None, sha256: str = ""
) -> SlowTable:
    """One slow table from a frame with the file's columns.

    Raises
    ------
    FusionError
        For missing or wrongly typed columns, an unknown series, or more refused rows than
        `max_refused_share`.
    """
    raw = _used(frame, table)
    identity = read_identity(table, data_folder) if table.identity else None
    groups = [(column,) for column in table.columns] if table.layout == "long" else [table.columns]
    slow = SlowTable(
        table, raw, len(frame), tuple(_feed(raw, table, columns) for columns in groups), identity, sha256
    )
    refused = slow.refusals()
    total = sum(len(feed.rows) + len(feed.refused) for feed in slow.feeds)
    if total and sum(refused.values()) > table.max_refused_share * total:
        worst = max(refused, key=refused.get)
        first = (
            next(feed.refused for feed in slow.feeds if (feed.refused[REFUSED] == worst).any())
            .filter(pl.col(REFUSED) == worst)
            .row(0, named=True)
        )
        raise FusionError(
            f"{table.path}: {sum(refused.values()):,} of {total:,} rows can't be used, {refused[worst]:,} of"
            f" them because {REASONS[worst]} (row {first[ROW]:,}: complete {first[ENDS]}, known"
            f" {first[KNOWN]}). Check observed, frequency, observed_clock, known and known_clock of table"
            f" {table.name!r}, or raise max_refused_share."
        )
    return slow


def require_file(path: Path, setting: str) -> Path:
    """`path`, or a FusionError that names `setting` where it is no readable file."""
    if not path.is_file():
        siblings = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, siblings, n=1)
        advice = (
            f"Did you mean {close[0]!r}?"
            if close
            else "Check the path, or set ALPHALOOP_DATA to the folder that holds the data."
        )
        raise FusionError(f"{path} does not exist ({setting}). {advice}")
    if path.stat().st_size == 0:
        raise FusionError(f"{path} is empty (0 bytes; {setting}). Fetch or export it again.")
    return path


def read_frame(path: Path, table: TableSettings) -> pl.DataFrame:
    """The file's content; FusionError where it is neither Parquet nor CSV."""
    try:
        return pl.read_csv(path, try_parse_dates=True) if ".csv" in path.suffixes else pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise FusionError(
            f"{path} can't be read ({str(error).splitlines()[0][:200]}). It may be cut off or of another"
            " kind: fetch it again."
        ) from error


def _used(frame: pl.DataFrame, table: TableSettings) -> pl.DataFrame:
    """The columns that the table uses, times typed, rows that `where` keeps."""
    long = table.layout == "long"
    values = (
        [table.value]
        if long
        else [name for column in table.columns for name in (column.source_column, column.divide_by) if name]
    )
    texts = [
        *([table.symbol] if table.key == "symbol" else []),
        *([table.series] if long else []),
        *([table.company] if table.company else []),
    ]
    times = list(dict.fromkeys([table.observed, *([table.known] if table.known else [])]))
    for name in (*times, *texts, *values, *table.where):
        if name not in frame.columns:
            close = difflib.get_close_matches(name, frame.columns, n=1)
            advice = f"Did you mean {close[0]!r}?" if close else f"It has {', '.join(frame.columns[:20])}."
            raise FusionError(
                f"{table.path} has no column {name!r}, which fusion table {table.name!r} names. {advice}"
            )
    frame = frame.with_row_index(ROW).with_columns(_typed_time(frame[name], table) for name in times)
    for name, kept in table.where.items():
        frame = frame.filter(pl.col(name).cast(pl.String).is_in(kept))
    for name in values:
        if not (frame[name].dtype.is_numeric() or frame[name].dtype == pl.Null):
            raise FusionError(
                f"{table.path}: column {name!r} of fusion table {table.name!r} has type {frame[name].dtype},"
                " expected numbers. Name another column."
            )
    roles = {"a time": times, "a name": texts, "a value": values}
    for name in dict.fromkeys([*times, *texts, *values]):
        used = [role for role, names in roles.items() if name in names]
        if len(used) > 1:
            raise FusionError(
                f"Fusion table {table.name!r} takes the column {name!r} of {table.path} for"
                f" {' and for '.join(used)}; it can be only one. Name another column."
            )
    if frame.is_empty():
        raise FusionError(
            f"{table.path} holds no rows for fusion table"
            f" {table.name!r}{' after `where`' if table.where else ''}. Check the"
            f" file{' and where' if table.where else ''}."
        )
    keep = list(dict.fromkeys([ROW, *times, *texts, *values]))
    return frame.select(
        (
            pl.col(name).cast(pl.Float64)
            if name in values
            else pl.col(name).cast(pl.String)
            if name in texts
            else pl.col(name)
        )
        for name in keep
    )


def _typed_time(column: pl.Series, table: TableSettings) -> pl.Series:
    """Dates stay dates; moments come in UTC."""
    if column.dtype == pl.String:
        day = column.str.to_date("%Y-%m-%d", strict=False)
        try:
            column = (
                day
                if day.null_count() == column.null_count()
                else column.str.to_datetime(time_unit="us", strict=False)
            )
        except pl.exceptions.ComputeError:
            example = column.drop_nulls().first()
            raise FusionError(
                f"{table.path}: column {column.name!r} of fusion table {table.name!r} holds {example!r},"
                " expected times such as 2024-05-01 or 2024-05-01 16:30. Write them so, or name another"
                " column."
            ) from None
    if column.dtype == pl.Date:
        return column
    if isinstance(column.dtype, pl.Datetime):
        if column.dtype.time_zone is None:
            column = column.dt.replace_time_zone(table.timezone, ambiguous="latest", non_existent="null")
        return column.dt.convert_time_zone("UTC").cast(TIME)
    raise FusionError(
        f"{table.path}: column {column.name!r} of fusion table {table.name!r} has type {column.dtype},"
        " expected dates or times. Name another column."
    )


def _feed(raw: pl.DataFrame, table: TableSettings, columns: Sequence[ColumnSettings]) -> Feed:
    first = columns[0]
    frequency = first.frequency or table.frequency
    rows = raw
    if table.layout == "long":
        rows = raw.filter(pl.col(table.series) == first.source_column)
        if rows.is_empty():
            names = raw[table.series].drop_nulls().unique().sort().to_list()
            close = difflib.get_close_matches(first.source_column, names, n=1)
            raise FusionError(
                f"{table.path} has no series {first.source_column!r} (fusion table {table.name!r})."
                f" {f'Did you mean {close[0]!r}?' if close else f'It has {len(names)}: ' + ', '.join(names[:20])}"
            )
    stamp = pl.col(table.observed)
    lag = first.release_lag_days if first.release_lag_days is not None else table.release_lag_days
    known = (
        known_by_column(pl.col(table.known), raw.schema[table.known], table)
        if table.known
        else known_by_rule(stamp, frequency, lag, table)
    )
    company = pl.col(table.company) if table.company else pl.lit(None, dtype=pl.String)
    values = [_value(column, table).alias(column.name) for column in columns]
    rows = rows.select(
        ROW,
        _key(table).alias(KEY),
        observation_end(stamp, frequency, table).alias(ENDS),
        known.alias(KNOWN),
        company.alias(COMPANY),
        *values,
    )
    ranged = rows.with_columns(
        pl.when(_in_range(column)).then(pl.col(column.name)).alias(column.name) for column in columns
    )
    lost = {
        column.name: rows[column.name].count() - ranged[column.name].count()
        for column in columns
        if (column.lowest, column.highest) != (None, None)
    }
    judged = ranged.with_columns(_refusal().alias(REFUSED))
    kept = judged.filter(pl.col(REFUSED).is_null()).drop(REFUSED).sort(KEY, KNOWN, ROW)
    marked, conflicting = _contradictions(
        kept, [column.name for column in columns], missing=table.conflicts == "missing"
    )
    return Feed(
        table, tuple(columns), marked, judged.filter(pl.col(REFUSED).is_not_null()), lost, conflicting
    )


def _contradictions(
    rows: pl.DataFrame, names: Sequence[str], *, missing: bool
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The rows with _contradicted, how many values contradict each other by column; these become null if
    `missing`.
    """
    same = [KEY, COMPANY, ENDS, KNOWN]
    repeated = rows.filter(pl.struct(same).is_duplicated())
    disagrees = repeated.select(
        ROW,
        *(
            ((pl.col(name).n_unique() - pl.col(name).is_null().any()) > 1).over(same).alias(f"_not_{name}")
            for name in names
        ),
    )
    marked = rows.join(disagrees, on=ROW, how="left", maintain_order="left").with_columns(
        pl.col(f"_not_{name}").fill_null(False) for name in names
    )
    counts = {name: marked.filter(pl.col(f"_not_{name}"))[name].count() for name in names}
    values = [
        pl.when(~pl.col(f"_not_{name}")).then(pl.col(name)).alias(name) if missing else pl.col(name)
        for name in names
    ]
    return (
        marked.select(
            ROW,
            KEY,
            ENDS,
            KNOWN,
            COMPANY,
            pl.any_horizontal(f"_not_{name}" for name in names).alias(CONTRADICTED),
            *values,
        ),
        counts,
    )


def _key(table: TableSettings) -> pl.Expr:
    if table.key == "market":
        return pl.lit(MARKET)
    symbol = pl.col(table.symbol).str.strip_chars()
    symbol = symbol.str.to_uppercase() if table.upper_case else symbol
    symbol = symbol.replace(table.symbols) if table.symbols else symbol
    return pl.when(symbol.str.len_bytes() > 0).then(symbol)


def _value(column: ColumnSettings, table: TableSettings) -> pl.Expr:
    value = pl.col(table.value if table.layout == "long" else column.source_column)
    value = value / pl.col(column.divide_by) if column.divide_by else value
    value = value * column.scale
    return pl.when(value.is_finite()).then(value)


def _in_range(column: ColumnSettings) -> pl.Expr:
    value = pl.col(column.name)
    inside = pl.lit(True)
    inside = inside & (value >= column.lowest) if column.lowest is not None else inside
    return inside & (value <= column.highest) if column.highest is not None else inside


def _refusal() -> pl.Expr:
    return (
        pl.when(pl.col(KEY).is_null())
        .then(pl.lit("no key"))
        .when(pl.col(ENDS).is_null())
        .then(pl.lit("no observation time"))
        .when(pl.col(KNOWN).is_null())
        .then(pl.lit("no known time"))
        .when(pl.col(KNOWN) < pl.col(ENDS))
        .then(pl.lit("known before observed"))
        .otherwise(None)
    )


def read_identity(table: TableSettings, data_folder: Path | None) -> pl.DataFrame:
    """Columns `symbol`, `starts` (Date), `company` (String): from each day on, the ticker is another
    company's. The first one has no row: it reaches back without end.

    With a company column, intervals of the same company are one. Without, an interval that begins more than
    max_gap_days after the one before has ended is another company's, named after its first day.
    """
    settings = table.identity
    path = require_file(Path(data_folder or ".") / settings.path, f"identity of fusion table {table.name!r}")
    frame = read_frame(path, table)
    for name in (
        settings.symbol,
        settings.start,
        settings.end,
        *([settings.company] if settings.company else []),
    ):
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


def tables_sha256(tables: Sequence[SlowTable]) -> str:
    """One hash over the content of all files."""
    return hashlib.sha256("".join(table.sha256 for table in tables).encode()).hexdigest()


def example_rows(feed: Feed, reason: str) -> list[dict[str, Any]]:
    """The first refused rows of one kind, JSON-able."""
    found = feed.refused.filter(pl.col(REFUSED) == reason).head(EXAMPLES)
    return [
        {"row": row[ROW], "symbol": row[KEY], "complete": str(row[ENDS]), "known": str(row[KNOWN])}
        for row in found.to_dicts()
    ]
