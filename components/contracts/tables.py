"""The tables that stages hand over: their columns, their keys, and how they are written, stamped, read and
checked.

Every table is long, sorted by its key, UTC, Parquet with zstd. The stamp travels in the Parquet metadata.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import polars as pl

from components.contracts.errors import ContractError
from components.contracts.files import atomic_path

TIME = pl.Datetime("us", "UTC")
STAMP_KEY = "alphaloop.stamp"


@dataclass(frozen=True)
class Table:
    """One kind of table: its name, schema version, required columns, and the columns that identify a row.

    `extra` is the type that all further columns must have (factors), or None where none are allowed.
    `optional` columns may be absent; where present they must have the given type.
    """

    name: str
    version: int
    columns: Mapping[str, pl.DataType]
    key: tuple[str, ...]
    optional: Mapping[str, pl.DataType] = field(default_factory=dict)
    extra: pl.DataType | None = None


# A bar. `event_time` is its opening moment, `timestamp` the moment it was complete, `known_time` when we
# could have had it. `exchange_ts` and `ingest_ts` are what the exchange's clock and the collector's clock
# said, where a source has them.
PANEL = Table(
    name="panel",
    version=1,
    columns={
        "timestamp": TIME,
        "symbol": pl.String(),
        "period": pl.String(),
        "event_time": TIME,
        "known_time": TIME,
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Float64(),
        "sector": pl.String(),
    },
    key=("timestamp", "symbol"),
    optional={
        "vwap": pl.Float64(),
        "trades": pl.Float64(),
        "funding_rate": pl.Float64(),
        "open_interest": pl.Float64(),
        "exchange_ts": TIME,
        "ingest_ts": TIME,
        "industry": pl.String(),
    },
)

# Bars as a source gave them: the panel's columns in any order of rows, faults included. Only validation reads
# it.
RAW_PANEL = Table(name="raw_panel", version=1, columns=PANEL.columns, key=(), optional=PANEL.optional)

# Values of slow tables (fundamentals, on-chain, macro, ...) at each bar, as known by the bar's known_time;
# null where nothing was known.
FUSED = Table(
    name="fused",
    version=1,
    columns={"timestamp": TIME, "symbol": pl.String()},
    key=("timestamp", "symbol"),
    extra=pl.Float64(),
)

# Factor values, one Float32 column a factor; null where the warm-up is not complete.
FACTORS = Table(
    name="factors",
    version=1,
    columns={"timestamp": TIME, "symbol": pl.String(), "known_time": TIME},
    key=("timestamp", "symbol"),
    extra=pl.Float32(),
)

# One row a bar, symbol and horizon. `label_end` is when the label became known, of the optional targets too;
# null labels have no complete future. Units and formulas of the targets: components/labels/build.py.
LABELS = Table(
    name="labels",
    version=1,
    columns={
        "timestamp": TIME,
        "symbol": pl.String(),
        "horizon": pl.Int32(),
        "label_end": TIME,
        "log_return": pl.Float64(),
        "direction": pl.Int8(),
        "sector_neutral_return": pl.Float64(),
    },
    key=("timestamp", "symbol", "horizon"),
    optional={
        "trend": pl.Int8(),
        "return_quantile": pl.Float64(),
        "realised_volatility": pl.Float64(),
        "beta_neutral_return": pl.Float64(),
        "barrier": pl.Int8(),
        "barrier_return": pl.Float64(),
        "barrier_end": TIME,
        "trade_class": pl.Int8(),
        "cost": pl.Float64(),
    },
)

# The rows of a training set that an expert's modality may learn from.
LEARNABLE = Table(
    name="learnable",
    version=1,
    columns={"timestamp": TIME, "symbol": pl.String()},
    key=("timestamp", "symbol"),
)

# What Feast's point-in-time join returns: the model's inputs at each (timestamp, symbol).
TRAINING_SET = Table(
    name="training_set",
    version=1,
    columns={"timestamp": TIME, "symbol": pl.String(), "sector": pl.String()},
    key=("timestamp", "symbol"),
    extra=pl.Float32(),
)

# What every expert and the stacker give. score, uncertainty and p10/p50/p90 are in the target's unit (log
# return over the horizon).
PREDICTIONS = Table(
    name="predictions",
    version=1,
    columns={
        "timestamp": TIME,
        "symbol": pl.String(),
        "period": pl.String(),
        "horizon": pl.Int32(),
        "target": pl.String(),
        "expert": pl.String(),
        "fold": pl.String(),
        "train_window": pl.String(),
        "score": pl.Float64(),
        "uncertainty": pl.Float64(),
        "p10": pl.Float64(),
        "p50": pl.Float64(),
        "p90": pl.Float64(),
        "head_scale": pl.Float64(),
        "head_bias": pl.Float64(),
    },
    key=("timestamp", "symbol", "horizon"),
)

# The predictions of several experts in one table.
ALL_PREDICTIONS = Table(
    name="all_predictions",
    version=1,
    columns=PREDICTIONS.columns,
    key=("timestamp", "symbol", "horizon", "expert"),
)

# Experts side by side, one Float64 column `score_<expert>` and `uncertainty_<expert>` each, with the label
# and the regime.
OOF = Table(
    name="oof",
    version=1,
    columns={
        "timestamp": TIME,
        "symbol": pl.String(),
        "period": pl.String(),
        "horizon": pl.Int32(),
        "target": pl.String(),
        "fold": pl.String(),
        "label": pl.Float64(),
        "label_end": TIME,
        "log_return": pl.Float64(),
        "regime": pl.String(),
    },
    key=("timestamp", "symbol", "horizon"),
    extra=pl.Float64(),
)

# What the service answered, one row a request, symbol and bar, with the factor values (Float32) that went in.
# `timestamp` is the close of the bar that the factors belong to, `known_time` when they were known,
# `answered_at` when the answer was given.
SERVED = Table(
    name="served",
    version=1,
    columns={
        "answered_at": TIME,
        "request_id": pl.String(),
        "symbol": pl.String(),
        "endpoint": pl.String(),
        "timestamp": TIME,
        "known_time": TIME,
        "model_version": pl.Int64(),
        "bundle_sha256": pl.String(),
        "publication": pl.String(),
        "stale": pl.Boolean(),
        "score": pl.Float64(),
        "uncertainty": pl.Float64(),
        "p10": pl.Float64(),
        "p50": pl.Float64(),
        "p90": pl.Float64(),
        "position": pl.Float64(),
    },
    key=("answered_at", "request_id", "symbol", "timestamp"),
    extra=pl.Float32(),
)

# Numeric codes of the market regime as the column `regime_state` holds them.
REGIMES = ("bear", "neutral", "bull", "high_volatility")
REGIME_COLUMN = "regime_state"
# Standard deviation of one-bar log returns over 20 bars: the unit in which experts scale their bands.
VOLATILITY_COLUMN = "volatility_20"
# Codes of the names of a row's sector and industry (components/features/library/context.py), null where
# unknown.
SECTOR_COLUMN = "sector_code"
INDUSTRY_COLUMN = "industry_code"

TABLES = {
    table.name: table
    for table in (
        RAW_PANEL,
        PANEL,
        FUSED,
        FACTORS,
        LABELS,
        LEARNABLE,
        TRAINING_SET,
        PREDICTIONS,
        ALL_PREDICTIONS,
        OOF,
        SERVED,
    )
}


@dataclass(frozen=True)
class Stamp:
    """Where a table came from. `inputs` maps the name of each table that went in to its content SHA-256."""

    table: str
    schema_version: int
    content_sha256: str
    code_version: str
    config_hash: str
    train_window: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)


def content_sha256(frame: pl.DataFrame) -> str:
    """SHA-256 over column names, types and values; independent of chunks, file format and what lies under
    nulls.
    """
    digest = hashlib.sha256()
    for series in frame.iter_columns():
        digest.update(f"{series.name}:{series.dtype}:{len(series)}".encode())
        if series.null_count():
            digest.update(series.is_null().to_numpy().tobytes())
        if series.dtype == pl.String:
            filled = series.fill_null("")
            digest.update(filled.str.len_bytes().to_numpy().tobytes())
            digest.update(filled.str.join("").item().encode() if len(filled) else b"")
        else:
            physical = series.to_physical()
            filled = physical.fill_null(False if physical.dtype == pl.Boolean else 0)
            digest.update(memoryview(filled.rechunk().to_numpy()).cast("B") if len(filled) else b"")
    return digest.hexdigest()


def check_table(frame: pl.DataFrame, table: Table, *, source: str = "") -> pl.DataFrame:
    """Return `frame` with its columns in the table's order, or refuse it.

    Raises
    ------
    ContractError
        For a missing, surplus or wrongly typed column, a repeated key, or rows out of order; the message
        gives examples.
    """
    where = source or f"the {table.name} table"
    missing = [name for name in table.columns if name not in frame.columns]
    if missing:
        raise ContractError(
            f"{where}: column {missing[0]!r} is missing (found: {', '.join(frame.columns)}). A {table.name}"
            f" table needs {', '.join(table.columns)}."
        )
    known = {**table.columns, **table.optional}
    for name, dtype in frame.schema.items():
        expected = known.get(name, table.extra)
        if expected is None:
            raise ContractError(
                f"{where}: column {name!r} does not belong in a {table.name} table. Remove it; allowed are"
                f" {', '.join(known)}."
            )
        if dtype != expected:
            raise ContractError(
                f"{where}: column {name!r} has type {dtype}, expected {expected}. Cast it before handing the"
                " table over."
            )
    ordered = frame.select(*table.columns, *(c for c in frame.columns if c not in table.columns))
    if not table.key:
        return ordered
    if len(ordered) and not ordered.select(_is_sorted(table.key)).item():
        raise ContractError(
            f"{where}: rows are not sorted by {', '.join(table.key)}. Sort the table first; out of order may"
            " also mean that time runs backwards in the source."
        )
    repeated = ordered.select(_is_repeat(table.key).alias("repeat")).to_series()
    if repeated.any():
        first = ordered.filter(repeated).select(table.key).head(5).rows()
        raise ContractError(
            f"{where}: {int(repeated.sum()):,} rows repeat a ({', '.join(table.key)}), first {first}. Each"
            " may occur once."
        )
    return ordered


def _is_sorted(key: Sequence[str]) -> pl.Expr:
    """True when the rows ascend in the lexicographic order of `key`."""
    ascends, ties = pl.lit(False), pl.lit(True)
    for name in key:
        previous = pl.col(name).shift(1)
        ascends = ascends | (ties & (pl.col(name) > previous))
        ties = ties & (pl.col(name) == previous)
    return (ascends | ties).fill_null(True).all()


def _is_repeat(key: Sequence[str]) -> pl.Expr:
    """For sorted rows: True where the key equals that of the row before."""
    return pl.all_horizontal(*(pl.col(name) == pl.col(name).shift(1) for name in key)).fill_null(False)


def write_table(
    frame: pl.DataFrame,
    path: str | os.PathLike,
    table: Table,
    *,
    code_version: str,
    config_hash: str,
    inputs: Mapping[str, str] | None = None,
    train_window: str = "",
) -> Stamp:
    """Check `frame` against its contract and write it with its stamp, atomically. Returns the stamp."""
    frame = check_table(frame, table, source=str(path))
    stamp = Stamp(
        table=table.name,
        schema_version=table.version,
        content_sha256=content_sha256(frame),
        code_version=code_version,
        config_hash=config_hash,
        train_window=train_window,
        inputs=dict(inputs or {}),
    )
    with atomic_path(path) as temporary:
        frame.write_parquet(
            temporary,
            compression="zstd",
            compression_level=1,
            metadata={STAMP_KEY: json.dumps(asdict(stamp))},
        )
    return stamp


def read_stamp(path: str | os.PathLike) -> Stamp:
    """The stamp of a table written by `write_table`.

    Raises
    ------
    ContractError
        If the file is missing, empty, cut off, not Parquet, or carries no stamp.
    """
    metadata = _metadata(path)
    if STAMP_KEY not in metadata:
        raise ContractError(
            f"{path} carries no stamp, so nobody can tell which code and data made it. Let the pipeline write"
            " it; for your own data use market.source: parquet."
        )
    return Stamp(**json.loads(metadata[STAMP_KEY]))


def read_table(path: str | os.PathLike, table: Table, *, verify: bool = True) -> pl.DataFrame:
    """Read a stamped table. `verify` recomputes its content hash (about a second a gigabyte).

    Raises
    ------
    ContractError
        If the file is unreadable, of another kind or schema version, or its content does not match its stamp.
    """
    stamp = read_stamp(path)
    if (stamp.table, stamp.schema_version) != (table.name, table.version):
        raise ContractError(
            f"{path} is a {stamp.table} table of schema {stamp.schema_version}; expected {table.name} of"
            f" schema {table.version}. Run the stage that writes it again."
        )
    frame = check_table(pl.read_parquet(path), table, source=str(path))
    if verify and content_sha256(frame) != stamp.content_sha256:
        raise ContractError(
            f"{path} was changed after it was written: its content does not match the SHA-256 in its stamp."
            " Delete it and run again."
        )
    return frame


def require_one_origin(paths: Sequence[str | os.PathLike], input_name: str) -> str:
    """Content hash of `input_name` that all the tables at `paths` were made from.

    Raises
    ------
    ContractError
        If one of them was made from other data than the first; the message names the file that disagrees.
    """
    origins = {str(path): read_stamp(path).inputs.get(input_name, "") for path in paths}
    first_path, first = next(iter(origins.items()))
    for path, origin in origins.items():
        if not origin or origin != first:
            raise ContractError(
                f"{path} was made from {input_name} {origin[:12] or '(unknown)'}, but {first_path} from"
                f" {first[:12] or '(unknown)'}. Tables of different origin must not be mixed: run the stages"
                " that wrote them again on one data set."
            )
    return first


def _metadata(path: str | os.PathLike) -> dict[str, str]:
    path = Path(path)
    if not path.exists():
        raise ContractError(f"{path} does not exist. Run the stage that writes it, or check the path.")
    if path.stat().st_size == 0:
        raise ContractError(f"{path} is empty (0 bytes). Run the stage that writes it again.")
    try:
        return pl.read_parquet_metadata(path)
    except pl.exceptions.ComputeError as error:
        raise ContractError(
            f"{path} is not a whole Parquet file ({error}). It may have been cut off while being copied;"
            " fetch it again."
        ) from error
