"""Mining from the files of a run: formulas that predict what the experts leave unexplained, as YAML and as a
page.
"""

import os
from dataclasses import dataclass

from components.mining.config import Settings
from components.mining.mine import Mined, mine_formulas
from components.mining.page import write_mining_page
from components.mining.result import write_formulas
from components.mining.tables import read_run
from components.progress import report, stage, warn
from components.timeline import Settings as TimelineSettings


@dataclass(frozen=True)
class Inputs:
    """TRAINING_SET, LABELS and ALL_PREDICTIONS of one run, and the catalog of the training set's columns."""

    training_set: str | os.PathLike
    labels: str | os.PathLike
    catalog: str | os.PathLike
    predictions: str | os.PathLike


@dataclass(frozen=True)
class Outputs:
    """Where the formulas and the page are written."""

    formulas: str | os.PathLike
    page: str | os.PathLike


def run(
    inputs: Inputs,
    outputs: Outputs,
    *,
    horizon: int,
    target: str,
    seed: int,
    settings: str,
    timeline: str,
) -> Mined:
    """Search, judge and write.

    Parameters
    ----------
    horizon, target : of the label that the experts learned, in bars and by its column
    settings, timeline : settings of mining and of the timeline as JSON

    Raises
    ------
    ContractError
        If a table is damaged, or the predictions were made from other tables.
    MiningError
        As `mine_formulas`.
    """
    with stage("mining"):
        parsed = Settings.model_validate_json(settings)
        tables = read_run(inputs.training_set, inputs.labels, inputs.catalog, inputs.predictions)
        times = TimelineSettings.model_validate_json(timeline)
        mined = mine_formulas(tables, parsed, times, horizon=horizon, target=target, seed=seed)
        write_formulas(mined, outputs.formulas)
        write_mining_page(
            mined, outputs.page, target=target, horizon=horizon, significance=parsed.significance
        )
        if mined.sample.note:
            warn("mining", mined.sample.note)
        report(
            "mining",
            f"{len(mined.accepted)} of {mined.tries} formulas accepted, {mined.evaluated:,} searched",
        )
    return mined
