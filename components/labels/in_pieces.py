"""Builds the labels of a panel that is larger than memory, with the bits of `build_labels`.

A label looks a fixed number of bars back and ahead, and across all symbols of its bar. So a block of bars is
read together with the bars around it that its labels look at, which themselves get none. Only whether labels
are believed is asked of whole symbols.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from components.contracts import LABELS
from components.contracts.cut import SYMBOL, TIME, Cut, Shelf, cut_of
from components.contracts.parts import write_part, write_parts
from components.contracts.row_limit import refuse_too_many
from components.labels.build import About, columns_read, labels_of, price_column
from components.labels.config import Settings
from components.labels.judged import judge
from components.memory.given_back import give_back
from components.metrics.far_labels import far_labels_in_parts, with_excess
from components.timeline.entry import label_reach


def margin_bars(settings: Settings) -> tuple[int, int]:
    """How many bars before and after its own a label looks at, at most."""
    costs = settings.costs
    windows = (settings.barriers.volatility_bars, settings.betas.window_bars, costs.volume_bars)
    # The spread multiplies each return with the one before it, which needs one close more.
    return max(*windows, costs.spread_bars + 1), label_reach(max(settings.horizons))


def build_in_pieces(
    panel: pl.LazyFrame,
    cut: Cut,
    settings: Settings,
    target: str | os.PathLike,
    *,
    code_version: str,
    config_hash: str,
    inputs: Mapping[str, str],
) -> int:
    """Write the labels of a panel, sorted by time and symbol, to `target` with their stamp; file and content
    hash are the same for any cut. Returns how many labels there are.

    Raises
    ------
    LabelsRefused
        As `judge`; nothing is written then.
    """
    rows = panel.select(pl.len()).collect(engine="streaming").item()
    refuse_too_many(rows * len(settings.horizons), "The table of labels")
    target, labelled, parts = Path(target), 0, []
    target.parent.mkdir(parents=True, exist_ok=True)
    about = About(cut.symbols, price_column(panel, settings))
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as name:
        folder = Path(name)
        learned_first = Shelf(folder / "learned_first", cut)
        for block in cut.bar_blocks:
            table = _of_block(panel, cut, settings, about, block)
            labelled += len(table) - table["log_return"].null_count()
            learned_first.put_bars(block, _learned_first(table, cut, settings))
            parts.append(write_part(table, folder / f"part_{block:05d}"))
            # Or it would stand beside the next one.
            del table
            give_back()
        judge(_far(learned_first, settings), settings)
        stamped = {"code_version": code_version, "config_hash": config_hash, "inputs": inputs}
        write_parts(parts, target, LABELS, **stamped)
    return labelled


def tables_in_pieces(panel: pl.DataFrame, settings: Settings, rows: int) -> Iterator[pl.DataFrame]:
    """What `build_labels` makes of a panel, in blocks of bars of about so many rows of the panel, one after
    another; the bits are the same for any cut.
    """
    scan = panel.lazy()
    cut = cut_of(scan, rows)
    about = About(cut.symbols, price_column(scan, settings))
    for block in cut.bar_blocks:
        yield _of_block(scan, cut, settings, about, block)
        give_back()


def _of_block(panel: pl.LazyFrame, cut: Cut, settings: Settings, about: About, block: int) -> pl.DataFrame:
    """The labels of a block of bars."""
    before, after = margin_bars(settings)
    moments = cut.moments_of(block)
    first, last = (int(cut.moments.search_sorted(at)) for at in (moments[0], moments[-1]))
    begin, end = cut.moments[max(first - before, 0)], cut.moments[min(last + after, len(cut.moments) - 1)]
    rows = (
        panel.select(columns_read(panel.collect_schema()))
        .filter(pl.col("timestamp").is_between(begin, end))
        .collect(engine="streaming")
        .sort("timestamp", "symbol")
    )
    asked = slice(
        int(rows["timestamp"].search_sorted(moments[0], side="left")),
        int(rows["timestamp"].search_sorted(moments[-1], side="right")),
    )
    return labels_of(rows, settings, about, asked)


def _learned_first(table: pl.DataFrame, cut: Cut, settings: Settings) -> pl.DataFrame:
    """The labels of the horizon that experts learn first, as they go on the shelf."""
    labels = table.filter(pl.col("horizon") == settings.primary_horizon)
    return with_excess(labels.select("timestamp", "symbol", "horizon", "log_return")).select(
        cut.moments.search_sorted(labels["timestamp"]).alias(TIME),
        cut.symbols.search_sorted(labels["symbol"]).alias(SYMBOL),
        "horizon",
        "log_return",
        "excess",
    )


def _far(shelf: Shelf, settings: Settings) -> pl.DataFrame:
    """The far labels of the whole panel."""
    known = shelf.lazy().drop_nulls("log_return")
    whole = known.select(pl.col("excess").abs().median()).collect(engine="streaming").item()
    times = known.select(pl.col(TIME).unique()).collect(engine="streaming").to_series().sort()
    return far_labels_in_parts(
        _by_symbol(shelf), settings.primary_horizon, whole, shelf.cut.moments.gather(times)
    )


def _by_symbol(shelf: Shelf) -> Iterator[pl.DataFrame]:
    cut = shelf.cut
    for block in cut.symbol_blocks:
        rows = shelf.symbols(block)
        yield rows.with_columns(
            cut.moments.gather(rows[TIME]).alias("timestamp"),
            cut.symbols.gather(rows[SYMBOL]).alias("symbol"),
        )
