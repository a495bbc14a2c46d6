"""What the door of labels calls: the labels of a panel's bars, at every horizon, refused where a few of them
outweigh the rest; made in pieces where the whole does not fit.
"""

import os
from dataclasses import dataclass

import polars as pl

from components.contracts import LABELS, PANEL, read_stamp, read_table, write_table
from components.contracts.cut import cut_of
from components.contracts.parts import scan_table
from components.contracts.row_limit import table_rows
from components.contracts.tables import stamp_of
from components.labels.build import build_labels
from components.labels.config import Settings
from components.labels.in_pieces import build_in_pieces, margin_bars
from components.labels.judged import judge
from components.memory.cutting import Held
from components.memory.need import MIB, Need
from components.metrics.far_labels import far_labels
from components.progress import report, stage
from components.settings import config_hash

# What making labels holds at its peak, measured on 500,000 and 1,000,000 rows with one and three horizons,
# and in pieces of 100,000 and 400,000 rows: the libraries, for each row of the panel its bar and matrices,
# and for each of its labels the columns.
BASE_BYTES = 110 * MIB
ROW_BYTES, LABEL_BYTES = 400, 220
# Smaller pieces save no memory that matters and cost time.
FEWEST_ROWS = 50_000


@dataclass(frozen=True)
class Inputs:
    """`panel`: a PANEL table."""

    panel: str | os.PathLike


@dataclass(frozen=True)
class Outputs:
    """Where the LABELS table goes."""

    labels: str | os.PathLike


def run(inputs: Inputs, outputs: Outputs, *, settings: str, code: str) -> None:
    """Label every bar, symbol and horizon, entered one bar after the signal.

    Raises
    ------
    LabelsRefused
        If labels far beyond the usual hold more than `max_far_share` of the whole, as missed splits make
        them; nothing is written then.
    TooLittleMemory
        If not even the smallest pieces can ever fit.
    """
    with stage("labels"):
        parsed = Settings.model_validate_json(settings)
        stamp_of(inputs.panel, PANEL)
        rows = table_rows(inputs.panel)
        holds = held(pl.scan_parquet(inputs.panel), parsed)
        least = min(holds.at_once(rows), holds.at_least())
        Need("labels", base=least, row=0, cell=0).require(inputs.panel)
        about = {
            "code_version": code,
            "config_hash": config_hash(parsed),
            "inputs": {"panel": read_stamp(inputs.panel).content_sha256},
        }
        if holds.fits_at_once(rows):
            labelled = _write_whole(inputs, outputs, parsed, **about)
        else:
            labelled = _write_in_pieces(inputs, outputs, parsed, holds.rows_of_a_piece(), **about)
        report(
            "labels",
            f"{labelled:,} of {rows * len(parsed.horizons):,} rows labelled, horizons"
            f" {sorted(parsed.horizons)} bars; rows without their complete future stay unlabelled",
        )


def held(panel: pl.LazyFrame, settings: Settings) -> Held:
    """What making the labels of a panel holds; a piece also holds the bars around it that it looks at."""
    labels = LABEL_BYTES * len(settings.horizons)
    counts = (
        pl.col("symbol").n_unique(),
        pl.col("timestamp").n_unique().alias("bars"),
        pl.len().alias("rows"),
    )
    symbols, bars, rows = panel.select(*counts).collect(engine="streaming").row(0)
    # Matrices hold all symbols at every bar, those too that are not there.
    row = int(ROW_BYTES * symbols * bars / max(rows, 1)) + labels
    margin = ROW_BYTES * sum(margin_bars(settings)) * symbols
    return Held(BASE_BYTES, row, margin, row, FEWEST_ROWS)


def _write_whole(source: Inputs, outputs: Outputs, settings: Settings, **about: object) -> int:
    """Make all labels and write them; returns how many there are."""
    table = build_labels(read_table(source.panel, PANEL), settings)
    judge(far_labels(table.filter(pl.col("horizon") == settings.primary_horizon)), settings)
    write_table(table, outputs.labels, LABELS, **about)
    return int(table["log_return"].is_not_null().sum())


def _write_in_pieces(source: Inputs, outputs: Outputs, settings: Settings, rows: int, **about: object) -> int:
    report("labels", f"made in pieces of about {rows:,} rows, because all at once would not fit into memory")
    panel = scan_table(source.panel, PANEL)
    return build_in_pieces(panel, cut_of(panel, rows), settings, outputs.labels, **about)
