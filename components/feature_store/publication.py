"""Publishing: a factors table becomes one Parquet file a factor group in a folder named after its content.

Layout of a store's folder: `data/<publication>/<group>.parquet`, `data/<publication>/publication.json`,
`current.json` (the publication that is online), `registry.db`, `feature_store.yaml` for Feast's own tools,
and `online.db` where SQLite is the online store.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.contracts import (
    PAST_RETURN_BARS,
    RETURN_COLUMN,
    AlphaloopError,
    CatalogEntry,
    atomic_path,
    content_sha256,
    read_json,
)
from components.feature_store.config import Settings
from components.metrics import bars_per_year

SEQUENCE, CURRENT, PUBLICATION = "sequence", "current.json", "publication.json"
# Raise when the files of a publication or their meaning change.
LAYOUT_VERSION = 3
_KEYS = ("timestamp", "symbol", "known_time")
# Names of the values in the view `sequence`; Feast refuses two features of one name.
_RESERVED = {"window", "row", "known_at_us", "event_timestamp"}


class FeatureStoreError(AlphaloopError):
    """The feature store lacks what was asked of it, or holds something else."""


def schema_hash(columns: Sequence[str]) -> str:
    """Version of a model schema: 12 hex digits over the input columns in their order."""
    return hashlib.sha256(json.dumps(list(columns)).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class FactorTable:
    """A FACTORS table with the catalog of its columns; `sha256` is the content hash from its stamp, computed
    where it is not given.
    """

    factors: pl.DataFrame
    catalog: Sequence[CatalogEntry]
    period: str
    sha256: str | None = None


def write_publication(
    table: FactorTable, settings: Settings, folder: str | os.PathLike, *, cut: datetime | None = None
) -> dict[str, Any]:
    """Write the files of a publication, atomically, and return its description.

    What is there already and whole is kept.

    Parameters
    ----------
    cut : rows known later stay out of the online window; none: the newest known_time of the table

    Returns
    -------
    `publication` (name of the folder), `service`, `raw_service`, `schema`, `views` (group to columns),
    `columns` (model inputs in catalog order), `context`, `raw_columns`, `period`, `bars_per_year`,
    `lookback_bars`, `past_return_bars` (of the returns behind a row's values), `ttl_days`, `cut`, `first`,
    `newest`, `symbols`, `factors_sha256`, `files` (name to SHA-256). JSON types only; moments are ISO 8601 in
    UTC.

    Raises
    ------
    FeatureStoreError
        If the table is empty, or the catalog does not describe its columns.
    """
    _check(table.factors, table.catalog)
    known = _known_rows(table.factors, cut)
    description = _describe(table, settings, known)
    target = Path(folder) / "data" / description["publication"]
    written = read_json(target / PUBLICATION)
    if written and _damaged(target, written) is None:
        os.utime(target)
        return written
    with atomic_path(target) as temporary:
        temporary.mkdir()
        _write_views(table.factors, known, description, temporary)
        description["files"] = {path.name: _file_sha256(path) for path in sorted(temporary.glob("*.parquet"))}
        (temporary / PUBLICATION).write_text(json.dumps(description, indent=1), encoding="utf-8")
    _prune(target, settings.keep_publications)
    return description


def _known_rows(factors: pl.DataFrame, cut: datetime | None) -> pl.DataFrame:
    known = factors.filter(pl.col("known_time") <= cut) if cut else factors
    if known.is_empty():
        raise FeatureStoreError(
            f"No row of the factors table was known by {cut}. Choose a later cut, or check the market stage."
            if cut
            else "The factors table has no rows. Check the market stage."
        )
    return known


def _write_views(
    factors: pl.DataFrame, known: pl.DataFrame, description: Mapping[str, Any], folder: Path
) -> None:
    """One Parquet file a factor group, and the one with the online windows of the rows that are `known`."""
    for group, columns in description["views"].items():
        _write(factors.select(*_KEYS, *columns), folder / f"{group}.parquet")
    rows = sequence_rows(
        known,
        description["columns"],
        description["context"],
        description["lookback_bars"],
        schema=description["schema"],
        past_return_bars=description["past_return_bars"],
    )
    _write(rows, folder / f"{SEQUENCE}.parquet")


def verify_publication(publication: Mapping[str, Any], folder: str | os.PathLike) -> None:
    """Refuse a publication whose files are missing or differ from what was published; the message names the
    file.
    """
    damaged = damaged_file(publication, folder)
    if damaged:
        raise FeatureStoreError(
            f"{damaged} is missing or differs from what was published. Run `alphaloop materialise`"
            " again; it writes the file anew."
        )


def damaged_file(publication: Mapping[str, Any], folder: str | os.PathLike) -> Path | None:
    """The first file of a publication that is missing or differs from what was published."""
    target = Path(folder) / "data" / publication["publication"]
    name = _damaged(target, publication)
    return target / name if name else None


def read_current(folder: str | os.PathLike) -> dict[str, Any]:
    """Description of the publication that is online in `folder`.

    Raises
    ------
    FeatureStoreError
        If nothing was ever materialised there.
    """
    path = Path(folder) / CURRENT
    current = read_json(path)
    if current is None:
        raise FeatureStoreError(
            f"There is no feature store in {folder} ({path.name} is missing or unreadable). Run `alphaloop"
            " materialise` or `alphaloop run` first."
        )
    return current


def row_type(values: int) -> np.dtype:
    """Layout of the online value `row`: when the bar was complete and when it was known (microseconds since
    1970, UTC), the schema, and `values` float32 (the inputs, then the context, then the symbol's returns over
    its last bars, oldest first; NaN for null); little-endian, without padding."""
    return np.dtype(
        [("timestamp_us", "<i8"), ("known_at_us", "<i8"), ("schema", "S12"), ("values", "<f4", (values,))]
    )


def sequence_rows(
    known: pl.DataFrame,
    columns: Sequence[str],
    context: Sequence[str],
    lookback_bars: int,
    *,
    schema: str = "",
    past_return_bars: int = 0,
) -> pl.DataFrame:
    """One row a symbol: its newest bar with the window of inputs that leads up to it.

    Returns
    -------
    `timestamp`, `symbol`, `known_time` (when all of the window was known), `window` (bytes: float32,
    little-endian, lookback_bars x inputs, oldest first, NaN before the first bar and for null), `row` (bytes
    of the newest bar, see `row_type`; with RETURN_COLUMN over `past_return_bars`), `known_at_us` (the newest
    bar's own known_time, microseconds since 1970).
    """
    places = known.select("symbol", "timestamp").with_row_index("__place").sort("symbol", "timestamp")
    places = places.with_columns(pl.int_range(pl.len()).reverse().over("symbol").alias("__age"))
    recent = _newest_bars(known, places, lookback_bars, [*columns, *context])
    newest = recent.filter(pl.col("__age") == 0)
    windows = _windows(recent, lookback_bars, columns)
    past = np.empty((len(newest), 0), dtype="<f4")
    if past_return_bars:
        returns = _newest_bars(known, places, past_return_bars, [RETURN_COLUMN])
        past = _windows(returns, past_return_bars, [RETURN_COLUMN])[:, :, 0]
    values = np.concatenate([_matrix(newest, [*columns, *context]), past], axis=1)
    return newest.select("timestamp", "symbol").with_columns(
        recent.group_by("symbol", maintain_order=True).agg(pl.col("known_time").max())["known_time"],
        pl.Series("window", [window.tobytes() for window in windows], dtype=pl.Binary),
        pl.Series("row", _packed(newest, values, schema), dtype=pl.Binary),
        newest["known_time"].dt.epoch("us").alias("known_at_us"),
    )


def _newest_bars(known: pl.DataFrame, places: pl.DataFrame, bars: int, names: Sequence[str]) -> pl.DataFrame:
    """The last `bars` rows of each symbol, oldest first, with their age in bars; `places` are all rows in
    that order, each with its place in `known` and its age.
    """
    newest = places.filter(pl.col("__age") < bars)
    return known.select(*_KEYS, *names)[newest["__place"]].with_columns(newest["__age"])


def _windows(recent: pl.DataFrame, bars: int, columns: Sequence[str]) -> np.ndarray:
    """Values of each symbol's last bars, float32 (symbols, bars, columns), NaN before the first."""
    row = recent.select(pl.col("symbol").rle_id()).to_series().to_numpy()
    windows = np.full((int(row[-1]) + 1 if len(row) else 0, bars, len(columns)), np.nan, dtype="<f4")
    windows[row, bars - 1 - recent["__age"].to_numpy()] = _matrix(recent, columns)
    return windows


def _packed(newest: pl.DataFrame, values: np.ndarray, schema: str) -> list[bytes]:
    """The online value `row` of each symbol."""
    rows = np.empty(len(newest), dtype=row_type(values.shape[1]))
    rows["timestamp_us"] = newest["timestamp"].dt.epoch("us").to_numpy()
    rows["known_at_us"] = newest["known_time"].dt.epoch("us").to_numpy()
    rows["schema"] = schema.encode()
    rows["values"] = values
    return [row.tobytes() for row in rows]


def _matrix(frame: pl.DataFrame, columns: Sequence[str]) -> np.ndarray:
    return (
        frame.select(pl.col(column).fill_null(float("nan")) for column in columns)
        .to_numpy()
        .astype("<f4")
        .reshape(len(frame), len(columns))
    )


def _describe(table: FactorTable, settings: Settings, known: pl.DataFrame) -> dict[str, Any]:
    catalog, sha256 = table.catalog, table.sha256 or content_sha256(table.factors)
    by_role = {
        role: [entry.column for entry in catalog if entry.role == role]
        for role in ("input", "context", "raw")
    }
    schema = schema_hash(by_role["input"])
    cut = known["known_time"].max()
    identity = [
        LAYOUT_VERSION,
        [asdict(entry) for entry in catalog],
        settings.lookback_bars,
        settings.ttl_days,
        table.period,
        cut.isoformat(),
    ]
    return {
        "publication": f"{sha256[:12]}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]}",
        "service": f"alpha_v{schema}",
        "raw_service": f"raw_v{schema}",
        "schema": schema,
        "views": {
            group: [entry.column for entry in catalog if entry.group == group]
            for group in dict.fromkeys(entry.group for entry in catalog)
        },
        "columns": by_role["input"],
        "context": by_role["context"],
        "raw_columns": by_role["raw"],
        "period": table.period,
        "bars_per_year": bars_per_year(table.period, table.factors["timestamp"].unique().sort()),
        "lookback_bars": settings.lookback_bars,
        "past_return_bars": PAST_RETURN_BARS if RETURN_COLUMN in by_role["context"] else 0,
        "ttl_days": settings.ttl_days,
        "first": table.factors["timestamp"].min().isoformat(),
        "newest": known["timestamp"].max().isoformat(),
        "cut": cut.isoformat(),
        "symbols": known["symbol"].unique().sort().to_list(),
        "factors_sha256": sha256,
    }


def _check(factors: pl.DataFrame, catalog: Sequence[CatalogEntry]) -> None:
    described = [entry.column for entry in catalog]
    values = [column for column in factors.columns if column not in _KEYS]
    missing = [column for column in described if column not in values]
    surplus = [column for column in values if column not in set(described)]
    repeated = [column for column in described if described.count(column) > 1]
    if missing or surplus or repeated:
        problem = (
            f"describes {missing[0]!r}, which the table lacks"
            if missing
            else f"lacks the column {surplus[0]!r}"
            if surplus
            else f"describes {repeated[0]!r} twice"
        )
        raise FeatureStoreError(
            f"The factor catalog {problem}. Catalog and table must come from one run of the features stage:"
            " run it again."
        )
    if SEQUENCE in {entry.group for entry in catalog}:
        raise FeatureStoreError(
            f"A factor group is called {SEQUENCE!r}, which is the name of the view with the online windows."
            " Rename the group."
        )
    if _RESERVED.intersection(described):
        raise FeatureStoreError(
            f"A factor column is called {min(_RESERVED.intersection(described))!r}, which the feature store"
            " uses itself. Rename the factor."
        )
    if not any(entry.role == "input" for entry in catalog):
        raise FeatureStoreError(
            "The factor catalog has no column with the role 'input', so no model could learn from it. Check"
            " the features stage."
        )


def _write(frame: pl.DataFrame, path: Path) -> None:
    frame.write_parquet(path, compression="zstd", compression_level=1)


def _damaged(target: Path, publication: Mapping[str, Any]) -> str | None:
    """Name of the first file that is missing or changed, None where all are as published."""
    for name, sha256 in publication.get("files", {}).items():
        path = target / name
        if not path.is_file() or _file_sha256(path) != sha256:
            return name
    return None if publication.get("files") else PUBLICATION


def _file_sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _prune(newest: Path, keep: int) -> None:
    """Delete the oldest publications beside `newest`, never one that is online."""
    current = read_json(newest.parent.parent / CURRENT) or {}
    others = [
        path
        for path in newest.parent.iterdir()
        if path.is_dir()
        and not path.name.startswith(".")
        and path.name not in (newest.name, current.get("publication"))
    ]
    for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[keep - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
