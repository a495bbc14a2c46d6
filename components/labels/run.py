"""What the door of labels calls: the labels of a panel's bars, at every horizon, refused where a few of them
outweigh the rest.
"""

import os
from dataclasses import dataclass

import polars as pl

from components.contracts import LABELS, PANEL, AlphaloopError, read_stamp, read_table, write_table
from components.labels.build import build_labels
from components.labels.config import Settings
from components.metrics.far_labels import far_labels, far_sizes
from components.progress import report, stage, warn
from components.settings import config_hash

# Far labels at fewer moments are as well the news of a few days.
FEWEST_MOMENTS = 5


class LabelsRefused(AlphaloopError):
    """A few labels, far beyond what is usual for their symbols, hold too much of all squared labels."""


@dataclass(frozen=True)
class Inputs:
    """`panel`: a PANEL table."""

    panel: str | os.PathLike


@dataclass(frozen=True)
class Outputs:
    """Where the LABELS table goes."""

    labels: str | os.PathLike


def run(inputs: Inputs, outputs: Outputs, *, settings: str, code: str) -> pl.DataFrame:
    """Label every bar, symbol and horizon, entered one bar after the signal; returns the LABELS table.

    Raises
    ------
    LabelsRefused
        If labels far beyond the usual hold more than `max_far_share` of the whole, as missed splits make
        them; nothing is written then.
    """
    with stage("labels"):
        parsed = Settings.model_validate_json(settings)
        table = build_labels(read_table(inputs.panel, PANEL), parsed)
        _judge(table, parsed)
        write_table(
            table,
            outputs.labels,
            LABELS,
            code_version=code,
            config_hash=config_hash(parsed),
            inputs={"panel": read_stamp(inputs.panel).content_sha256},
        )
        labelled = table["log_return"].is_not_null().sum()
        report(
            "labels",
            f"{labelled:,} of {len(table):,} rows labelled, horizons {sorted(parsed.horizons)} bars; rows"
            " without their complete future stay unlabelled",
        )
    return table


def _judge(table: pl.DataFrame, settings: Settings) -> None:
    """Refuse labels of which a few outweigh the rest; judged at the horizon that experts learn first."""
    horizon = settings.primary_horizon
    for far in far_labels(table.filter(pl.col("horizon") == horizon)).iter_rows(named=True):
        said = (
            f"{far['labels']:,} labels over {horizon} bars lie more than {far_sizes(horizon):.0f} usual sizes"
            f" of their symbol from the market and hold {far['share']:.1%} of all squared labels; the"
            f" farthest is {far['symbol']} at {far['timestamp']:%Y-%m-%d %H:%M} with a log return of"
            f" {far['log_return']:+.2f}."
        )
        remedy = (
            " A split or a wrong price may have been missed: look at the panel's prices there and adjust them"
            " or leave them out. Where such moves are real, raise labels.max_far_share (now"
            f" {settings.max_far_share:g})."
        )
        if far["share"] <= settings.max_far_share:
            report("labels", said)
        elif far["moments"] < FEWEST_MOMENTS:
            warn("labels", said + remedy)
        else:
            raise LabelsRefused(said + remedy)
