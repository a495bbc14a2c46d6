"""The labels of one symbol's session as a piece of work, which may be done in another process or on another
machine.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from components.contracts.documents import Document
from components.contracts.documents.instruments import Instrument
from components.contracts.tick_days import TickDay, day_columns
from components.memory.need import MIB, Need
from components.tick_labels.arrival_check import ROWS, check_arrivals
from components.tick_labels.build import NS_A_US, label_session, require_order
from components.tick_labels.config import Settings
from components.tick_labels.moments import Events

# The libraries, and for each row the columns that are looked at. Measured on 1, 3.1 and 20 million rows with
# a sample for 72 of them and four horizons: 218, 298 and 1,092 MiB.
NEED = Need("tick labels", base=180 * MIB, row=50, cell=0)
LABEL_DAY = "components.tick_labels.day:label_day"
LABELS_FILE, COUNTS_FILE = "labels.arrow", "counts.json"
# Only rows are drawn by it, to be looked at again.
CHECK_SEED = 0


class Counts(Document):
    """Why how many samples have no label of the primary horizon (REASONS of moments.py, by number), and how
    many labels are known and pay, by horizon in samples.
    """

    reasons: dict[int, int]
    known: dict[int, int]
    pays: dict[int, int]


def total(counts: Iterable[Counts]) -> Counts:
    """What was counted, of all together."""
    parts = list(counts)
    return Counts(**{name: dict(_sum(getattr(one, name) for one in parts)) for name in Counts.model_fields})


def _sum(numbers: Iterable[Mapping[int, int]]) -> Counter:
    found = Counter()
    for one in numbers:
        found.update(one)
    return found


def label_day(arguments: Mapping[str, Any], folder: Path) -> None:
    """Write the labels of one symbol's session into an empty folder, checked, and their counts; no labels
    where no sample lies in it.

    arguments : `symbol`, `session` and `path` of the ticks, `features` (the table), `instrument`,
        `latency_ns`, `settings` (JSON)

    Raises
    ------
    ContractError
        If the labels begin before an order could arrive, or ticks are out of order.
    """
    settings = Settings.model_validate_json(arguments["settings"])
    day = TickDay(arguments["symbol"], arguments["session"], Path(arguments["path"]))
    NEED.require(day.path)
    events = Events(**day_columns(day, Events._fields))
    require_order(events, f"{day.symbol}, session {day.session}")
    samples = _samples(arguments["features"], day.symbol, events.ingest_ts)
    instrument, latency_ns = Instrument.model_validate(arguments["instrument"]), arguments["latency_ns"]
    parts = label_session(events, samples, instrument, latency_ns, settings)
    counts, looked_at = _write(parts, folder / LABELS_FILE, settings)
    counts.write(folder / COUNTS_FILE)
    if looked_at:
        rows = pl.concat(looked_at).with_columns(pl.lit(day.symbol).alias("symbol"))
        check_arrivals(rows, events, latency_ns, settings.sample_ms, CHECK_SEED)


def _samples(features: str, symbol: str, ingest_ts: np.ndarray) -> pl.Series:
    """The moments of the symbol that lie in the session."""
    begin, end = int(ingest_ts[0]) // NS_A_US, int(ingest_ts[-1]) // NS_A_US
    own = (pl.col("symbol") == symbol) & pl.col("timestamp").cast(pl.Int64).is_between(begin, end)
    return pl.scan_parquet(features).filter(own).select("timestamp").collect().to_series()


def _write(
    parts: Iterator[tuple[pl.DataFrame, np.ndarray]], path: Path, settings: Settings
) -> tuple[Counts, list[pl.DataFrame]]:
    """Write the labels; returns what is counted of them, and rows to be looked at again."""
    counts, looked_at, writer = [], [], None
    primary = settings.horizons.index(settings.primary_horizon)
    try:
        for labels, why in parts:
            table = labels.to_arrow()
            writer = writer or pa.ipc.new_file(path, table.schema)
            writer.write_table(table)
            known = labels.filter(pl.col("log_return").is_not_null())
            counts.append(_counted(labels, why[:, primary]))
            looked_at.append(known.sample(min(ROWS, len(known)), seed=CHECK_SEED))
    finally:
        if writer:
            writer.close()
    return total(counts), looked_at


def _counted(labels: pl.DataFrame, why: np.ndarray) -> Counts:
    classes = labels.group_by("horizon").agg(
        known=pl.col("trade_class").count(), pays=(pl.col("trade_class") != 0).sum()
    )
    return Counts(
        reasons=dict(Counter(why.tolist())),
        known=dict(classes.select("horizon", "known").rows()),
        pays=dict(classes.select("horizon", "pays").rows()),
    )
