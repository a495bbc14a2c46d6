"""The catalog travels beside a factors table and says what each of its columns is."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from components.contracts.errors import ContractError
from components.contracts.files import atomic_write_text, require_json


@dataclass(frozen=True)
class CatalogEntry:
    """One column of a factors table.

    `role`: `input` columns are what models see; `context` columns travel with the training set (regime,
    volatility for bands) without being model inputs; `raw` columns are for people, drift and lookup. Experts
    of the modality `base` see the inputs of `base` only, those of `rich` all of them.
    """

    column: str
    factor: str
    group: str
    role: Literal["input", "context", "raw"]
    normalisation: Literal["none", "rank", "zscore", "minmax", "robust"]
    warm_up_bars: int
    expression: str
    source: str
    modality: Literal["base", "rich"] = "base"
    period: str = ""


def inputs_of(catalog: Iterable[CatalogEntry], modality: str, coarser: str = "") -> list[CatalogEntry]:
    """The input columns that models of a modality see of one period: of the panel's own unless `coarser`
    names another.
    """
    return [
        entry
        for entry in catalog
        if entry.role == "input" and entry.modality in ("base", modality) and entry.period == coarser
    ]


def write_catalog(entries: Sequence[CatalogEntry], path: str | os.PathLike) -> None:
    """Write the catalog as JSON, atomically."""
    atomic_write_text(path, json.dumps([asdict(entry) for entry in entries], indent=1))


def read_catalog(path: str | os.PathLike) -> list[CatalogEntry]:
    """Read a catalog written by `write_catalog`; ContractError where it is not one."""
    remedy = "Run the features stage again."
    entries = require_json(path, list, remedy=remedy)
    try:
        return [CatalogEntry(**entry) for entry in entries]
    except TypeError as error:
        raise ContractError(f"{path} is not a factor catalog ({error}). {remedy}") from error
