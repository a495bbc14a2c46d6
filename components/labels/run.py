"""What the door of labels calls: the labels of a panel's bars, at every horizon."""

import os
from dataclasses import dataclass

import polars as pl

from components.contracts import LABELS, PANEL, read_stamp, read_table, write_table
from components.labels.build import build_labels
from components.labels.config import Settings
from components.progress import report, stage
from components.settings import config_hash


@dataclass(frozen=True)
class Inputs:
    """`panel`: a PANEL table."""

    panel: str | os.PathLike


@dataclass(frozen=True)
class Outputs:
    """Where the LABELS table goes."""

    labels: str | os.PathLike


def run(inputs: Inputs, outputs: Outputs, *, settings: str, code: str) -> pl.DataFrame:
    """Label every bar, symbol and horizon, entered one bar after the signal; returns the LABELS table."""
    with stage("labels"):
        parsed = Settings.model_validate_json(settings)
        table = build_labels(read_table(inputs.panel, PANEL), parsed)
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
