"""Rows as the online store would have held them when their bar was the newest: made, packed and unpacked bar
by bar as materialising and serving do.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl

from components.contracts import (
    FACTORS,
    LIVE_ROWS,
    CatalogEntry,
    read_catalog,
    read_stamp,
    read_table,
    write_table,
)
from components.feature_store.config import Settings
from components.feature_store.publication import row_type, schema_hash, sequence_rows
from components.progress import report, stage, track

STAGE = "live rows"


def run_live_rows(
    factors: str | os.PathLike,
    catalog: str | os.PathLike,
    rows: str | os.PathLike,
    *,
    settings: str,
    bars: int,
    code: str,
) -> None:
    """Write the rows of the newest `bars` bars as LIVE_ROWS to `rows`.

    `settings` are those of the feature store as JSON.
    """
    with stage(STAGE):
        parsed = Settings.model_validate_json(settings)
        made = live_rows(read_table(factors, FACTORS), read_catalog(catalog), parsed, bars)
        write_table(
            made,
            rows,
            LIVE_ROWS,
            code_version=code,
            config_hash=f"bars={bars},lookback_bars={parsed.lookback_bars}",
            inputs={"factors": read_stamp(factors).content_sha256},
        )
        report(STAGE, f"{len(made):,} rows of {made['timestamp'].n_unique()} bars")


def live_rows(
    factors: pl.DataFrame, catalog: Sequence[CatalogEntry], settings: Settings, bars: int
) -> pl.DataFrame:
    """The rows of the newest `bars` bars, each as the store held it before anything of the next bar was
    known.

    A row that became known later than that is not among them: nobody could have been answered from it.

    Returns
    -------
    A LIVE_ROWS table.
    """
    columns, context = (
        [entry.column for entry in catalog if entry.role == role] for role in ("input", "context")
    )
    moments = factors["timestamp"].unique().sort()
    until = _known_until(factors, moments)
    # No window reaches further back; as many bars more make good for rows that were known too late.
    names, reach = [*columns, *context], settings.lookback_bars + 2 * bars
    recent = factors.select("timestamp", "symbol", "known_time", *names)
    recent = recent.group_by("symbol", maintain_order=True).tail(reach).sort(FACTORS.key)
    made = []
    for moment in track(STAGE, moments.tail(bars).to_list(), what="bars"):
        # Of the next bar nothing is known yet, whatever its rows say.
        known = recent.filter((pl.col("timestamp") <= moment) & (pl.col("known_time") < until[moment]))
        if not known.is_empty():
            made.append(_of_bar(known, moment, columns, context, settings.lookback_bars))
    return pl.concat(made).sort(LIVE_ROWS.key)


def _known_until(factors: pl.DataFrame, moments: pl.Series) -> dict[datetime, datetime]:
    """For each bar the moment at which the first row of the next one is known; for the newest bar the end of
    time.
    """
    first = factors.group_by("timestamp").agg(pl.col("known_time").min()).sort("timestamp")["known_time"]
    until = [*first.to_list()[1:], datetime.max.replace(tzinfo=UTC)]
    return dict(zip(moments.to_list(), until, strict=True))


def _of_bar(
    known: pl.DataFrame, moment: datetime, columns: Sequence[str], context: Sequence[str], lookback_bars: int
) -> pl.DataFrame:
    """The rows of the bar at `moment` out of what the online store would hold of `known`."""
    schema = schema_hash(columns)
    online = sequence_rows(known, columns, context, lookback_bars, schema=schema)
    names = [*columns, *context]
    packed = np.frombuffer(b"".join(online["row"]), dtype=row_type(len(names)))
    values = pl.DataFrame(packed["values"].astype(np.float32), schema=dict.fromkeys(names, pl.Float32))
    at = pl.Series("timestamp", packed["timestamp_us"].astype(np.int64)).cast(LIVE_ROWS.columns["timestamp"])
    read = online.select("symbol", "known_time", "window").with_columns(at)
    return (
        pl.concat([read, values.fill_nan(None)], how="horizontal")
        .filter(pl.col("timestamp") == moment)
        .select(*LIVE_ROWS.columns, *names)
    )
