"""Reads the tables that selection works on and writes what it found: inputs by fold as JSON, the evidence as
Parquet and as a page.
"""

import json
import os

from components.contracts import (
    LABELS,
    TRAINING_SET,
    ContractError,
    atomic_write_text,
    read_catalog,
    read_stamp,
    read_table,
    require_one_origin,
    write_chosen,
    write_table,
)
from components.selection.choose import EVIDENCE
from components.selection.config import Settings
from components.selection.models import Family
from components.selection.page import render
from components.selection.select import select_factors
from components.settings import config_hash
from components.timeline import Settings as TimelineSettings

Path = str | os.PathLike


def select_on_tables(
    training_set: Path,
    labels: Path,
    catalog: Path,
    *,
    settings: Settings,
    timeline: TimelineSettings,
    family: Family,
    horizon: int,
    target: str,
    seed: int,
    modality: str,
    gate_weights: str,
    code: str,
    selection: Path,
    evidence: Path,
    page: Path,
) -> str:
    """Select from stamped tables of one panel and write the three artifacts.

    `gate_weights`: JSON by fold and input, or empty. Returns a line for people.
    """
    require_one_origin([training_set, labels], "panel")
    stamp = read_stamp(training_set)
    found = select_factors(
        read_table(training_set, TRAINING_SET),
        read_table(labels, LABELS),
        read_catalog(catalog),
        settings=settings,
        timeline=timeline,
        family=family,
        horizon=horizon,
        target=target,
        seed=seed,
        modality=modality,
        gate_weights=_weights(gate_weights),
        training_set_sha256=stamp.content_sha256,
    )
    inputs = {"training_set": stamp.content_sha256, "labels": read_stamp(labels).content_sha256}
    write_table(
        found.evidence,
        evidence,
        EVIDENCE,
        code_version=code,
        config_hash=config_hash(settings),
        inputs=inputs,
    )
    atomic_write_text(page, render(found))
    write_chosen(found.chosen, selection)
    counts = [len(names) for names in found.chosen.by_fold.values()]
    total = found.evidence["factor"].n_unique()
    return (
        f"{min(counts)} to {max(counts)} of {total} inputs a fold; {len(found.overview.core)} core and"
        f" {len(found.overview.plus)} plus factors over all folds"
    )


def _weights(text: str) -> dict[str, dict[str, float]] | None:
    if not text:
        return None
    try:
        weights = json.loads(text)
        return {
            fold: {name: float(weight) for name, weight in by_input.items()}
            for fold, by_input in weights.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise ContractError(
            f"The gate weights are not JSON of the form {{fold: {{input: weight}}}} ({error}). Leave them"
            " empty, or export them again."
        ) from error
