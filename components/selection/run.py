"""What the doors of selection call: from the training set, labels and catalog of one panel to the inputs by
fold, the evidence table and the overview; and from these two to the page.
"""

import os
from dataclasses import dataclass

from components.contracts import (
    LABELS,
    TRAINING_SET,
    map_table,
    read_catalog,
    read_stamp,
    read_table,
    require_one_origin,
    write_chosen,
    write_table,
)
from components.memory.need import MIB, Need
from components.progress import report, stage
from components.selection.config import Settings
from components.selection.evidence import EVIDENCE
from components.selection.overview import Overview
from components.selection.page import write_evidence_page
from components.selection.purpose import Purpose
from components.selection.select import Selection, select_inputs
from components.settings import config_hash
from components.timeline import Settings as TimelineSettings

# Simulated, 81,465 rows: 352 MiB; measured at one size alone.
NEED = Need("selection", base=280 * MIB, row=900, cell=0)


@dataclass(frozen=True)
class Inputs:
    """A TRAINING_SET and LABELS of one panel, and the catalog of the columns."""

    training_set: str | os.PathLike
    labels: str | os.PathLike
    catalog: str | os.PathLike


@dataclass(frozen=True)
class Outputs:
    """Where the inputs by fold, the EVIDENCE table and the overview (JSON) are written."""

    selection: str | os.PathLike
    evidence: str | os.PathLike
    overview: str | os.PathLike


def run_select(
    inputs: Inputs, outputs: Outputs, purpose: Purpose, *, settings: str, timeline: str, code: str
) -> Selection:
    """Choose the inputs of every fold and write the three artifacts.

    Parameters
    ----------
    settings, timeline : settings of selection and of the timeline as JSON
    code : version of the code, for the stamp

    Raises
    ------
    ContractError
        If the tables are of different panels.
    SelectionError
        As `select_inputs`.
    """
    with stage("selection"):
        NEED.require(inputs.training_set)
        parsed = Settings.model_validate_json(settings)
        require_one_origin([inputs.training_set, inputs.labels], "panel")
        stamp = read_stamp(inputs.training_set)
        found = select_inputs(
            map_table(inputs.training_set, TRAINING_SET),
            map_table(inputs.labels, LABELS),
            read_catalog(inputs.catalog),
            purpose,
            settings=parsed,
            timeline=TimelineSettings.model_validate_json(timeline),
            training_set_sha256=stamp.content_sha256,
        )
        origin = {"training_set": stamp.content_sha256, "labels": read_stamp(inputs.labels).content_sha256}
        about = {"code_version": code, "config_hash": config_hash(parsed), "inputs": origin}
        write_table(found.evidence, outputs.evidence, EVIDENCE, **about)
        found.overview.write(outputs.overview)
        write_chosen(found.chosen, outputs.selection)
        report("selection", _said(found))
    return found


def run_draw_selection(
    overview: str | os.PathLike, evidence: str | os.PathLike, page: str | os.PathLike
) -> None:
    """Draw the evidence page of a selection to `page`, from its overview and its EVIDENCE table."""
    with stage("selection page"):
        write_evidence_page(Overview.read(overview), read_table(evidence, EVIDENCE), page)


def _said(found: Selection) -> str:
    counts = [len(names) for names in found.chosen.by_fold.values()]
    total = found.evidence["factor"].n_unique()
    return (
        f"{min(counts)} to {max(counts)} of {total} inputs a fold; {len(found.overview.core)} core and"
        f" {len(found.overview.plus)} plus factors over all folds"
    )
