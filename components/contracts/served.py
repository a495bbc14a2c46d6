"""Where the answers of the service lie and how they are read:

Parquet parts by the hour in which the answers were given.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from components.contracts.errors import ContractError
from components.contracts.schemas import SERVED
from components.contracts.tables import read_stamp

HOUR_FORMAT = "%Y-%m-%dT%H"
_BAR = ("timestamp", "symbol")
# The endpoint whose features the service read from the online store itself.
_OWN = "signals"
_TRIES = 3


def hour_folder(folder: str | os.PathLike, moment: datetime) -> Path:
    """Folder of the answers given in the hour of `moment` (UTC): `hour=YYYY-MM-DDTHH` below `folder`."""
    return Path(folder) / f"hour={moment.astimezone(UTC).strftime(HOUR_FORMAT)}"


def served_parts(folder: str | os.PathLike, *, since: datetime | None = None) -> list[Path]:
    """The parts of the answer log, oldest hour first; with `since` (UTC) only those that may hold answers
    given at or after it.
    """
    first = hour_folder(folder, since).name if since else ""
    return sorted(path for path in Path(folder).glob("hour=*/*.parquet") if path.parent.name >= first)


def read_served(
    folder: str | os.PathLike,
    *,
    since: datetime | None = None,
    columns: Sequence[str] | None = None,
    bundle_sha256: str | None = None,
) -> pl.DataFrame:
    """One answer for each bar and symbol that the service answered: the newest whose features came from the
    store, else the newest.

    So a client that tries made-up features through `/score` does not displace what was really served.

    Parameters
    ----------
    folder : `served` of a run's folder
    since : only answers given at or after this moment (`answered_at`, UTC)
    columns : the input and context columns that are wanted; None: all that any answer has
    bundle_sha256 : only answers of this model; None: of any

    Returns
    -------
    A SERVED table sorted by (timestamp, symbol), one row each; a column that an answer's champion did not
    have is null. No rows where nothing was served. Memory: the rows returned and one part at a time.

    Raises
    ------
    ContractError
        If a part is cut off, carries no stamp, or is of another kind or schema version; the message names the
        file.
    """
    for _ in range(_TRIES - 1):
        try:
            return _read(served_parts(folder, since=since), since, columns, bundle_sha256)
        except FileNotFoundError:
            # The log writer merged the parts of an hour in the meantime.
            continue
    return _read(served_parts(folder, since=since), since, columns, bundle_sha256)


def _read(
    parts: Sequence[Path], since: datetime | None, columns: Sequence[str] | None, bundle_sha256: str | None
) -> pl.DataFrame:
    empty = pl.DataFrame(schema={**SERVED.columns, **dict.fromkeys(columns or (), SERVED.extra)})
    newest = _newest(parts, since, bundle_sha256)
    if newest.is_empty():
        return empty
    chosen = []
    for (part,), rows in newest.partition_by("part", as_dict=True, maintain_order=True).items():
        lazy = pl.scan_parquet(parts[part])
        if columns is not None:
            held = lazy.collect_schema().names()
            wanted = (*SERVED.optional, *columns)
            lazy = lazy.select(*SERVED.columns, *(name for name in wanted if name in held))
        chosen.append(lazy.collect()[rows["row"]])
    wide = pl.concat([empty, *chosen], how="diagonal").sort(_BAR)
    return wide.select(
        *empty.columns,
        *(
            name
            for name in _column_order(parts, newest)
            if name in wide.columns and name not in empty.columns
        ),
    )


def _column_order(parts: Sequence[Path], newest: pl.DataFrame) -> list[str]:
    """The columns of the newest answer in its own order, then those of other champions by name: whichever way
    the log lies in parts.
    """
    last = newest.sort("answered_at", "request_id")["part"][-1]
    first = list(pl.read_parquet_schema(parts[last]))
    return [
        *first,
        *sorted(
            {name for part in newest["part"].unique() for name in pl.read_parquet_schema(parts[part])}
            - set(first)
        ),
    ]


def _newest(parts: Sequence[Path], since: datetime | None, bundle_sha256: str | None) -> pl.DataFrame:
    """For each bar and symbol the answer that counts:

    `part` (index into `parts`), `row`, `answered_at`, `request_id`.
    """
    wanted = [] if since is None else [pl.col("answered_at") >= since]
    wanted += [] if bundle_sha256 is None else [pl.col("bundle_sha256") == bundle_sha256]
    keys = []
    for index, part in enumerate(parts):
        _check(part)
        lazy = pl.scan_parquet(part).with_columns(
            pl.lit(index, pl.Int64).alias("part"),
            pl.int_range(pl.len()).alias("row"),
            (pl.col("endpoint") == _OWN).alias("own"),
        )
        keys.append(
            (lazy.filter(*wanted) if wanted else lazy)
            .select(*_BAR, "answered_at", "request_id", "part", "row", "own")
            .collect()
        )
    if not keys:
        return pl.DataFrame()
    return (
        pl.concat(keys)
        .sort("own", "answered_at", "request_id")
        .unique(_BAR, keep="last", maintain_order=True)
        .sort("part", "row")
    )


def _check(part: Path) -> None:
    if not part.exists():
        raise FileNotFoundError(part)
    stamp = read_stamp(part)
    if (stamp.table, stamp.schema_version) != (SERVED.name, SERVED.version):
        raise ContractError(
            f"{part} is a {stamp.table} table of schema {stamp.schema_version}; expected {SERVED.name} of"
            f" schema {SERVED.version}. Move it out of the answer log, or serve with the code that wrote it."
        )
