"""What the doors of the feature store do: publish factors and put the newest values online, and join a
training set as known at each moment.
"""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from components.contracts import (
    FACTORS,
    PANEL,
    TRAINING_SET,
    atomic_write_text,
    map_table,
    read_catalog,
    read_stamp,
)
from components.contracts.parts import scan_table, write_parts
from components.contracts.row_limit import table_rows
from components.feature_store.closes import newest_closes
from components.feature_store.config import Settings
from components.feature_store.online_universe import newest_universe
from components.feature_store.publication import CURRENT, FactorTable
from components.feature_store.store import (
    FEAST_CONFIG,
    publication_store,
    publish_factors,
    put_online,
    restore,
    training_parts,
)
from components.lasting.folder import is_address, opened
from components.memory.need import MIB, Need
from components.progress import report, stage
from components.settings import config_hash

# Simulated factors, 34,794 and 291,217 rows of 182 columns: 175 and 367 MiB.
NEED = Need("materialise", base=150 * MIB, row=0, cell=4.2)

# Rows are joined a part at a time: 225, 287, 338 MiB with 115,810, 485,564, 1,942,256 rows of 261 columns.
TRAINING_SET_NEED = Need("training set", base=225 * MIB, row=60, cell=0)


@dataclass(frozen=True)
class Factors:
    """A FACTORS table with its catalog, the panel that it was made of, and the UNIVERSE of that."""

    factors: str | os.PathLike
    catalog: str | os.PathLike
    panel: str | os.PathLike
    universe: str | os.PathLike


@dataclass(frozen=True)
class Described:
    """Where it is written what is online: the publication, and the universe beside it."""

    registry: str | os.PathLike
    universe: str | os.PathLike


@dataclass(frozen=True)
class TrainingInputs:
    """A FACTORS table with its catalog, the panel with the wanted rows, and the name of what
    `run_materialise` published of these factors, bars of a `period`.
    """

    factors: str | os.PathLike
    catalog: str | os.PathLike
    panel: str | os.PathLike
    publication: str
    period: str


def run_materialise(
    inputs: Factors, outputs: Described, *, folder: str, period: str, settings: str, code: str
) -> str:
    """Publish the factors to Feast, put the newest values of each symbol online beside the universe, and
    describe both; returns the publication's name.

    Parameters
    ----------
    folder : of the feature store, a path or an address
    settings : of the feature store as JSON

    Raises
    ------
    ContractError
        If a table is damaged.
    FeatureStoreError
        As `write_publication`, and where the online store does not answer.
    """
    with stage("materialise"):
        NEED.require(inputs.factors)
        parsed = Settings.model_validate_json(settings)
        table = FactorTable(
            map_table(inputs.factors, FACTORS),
            read_catalog(inputs.catalog),
            period,
            read_stamp(inputs.factors).content_sha256,
        )
        bars = newest_closes(table.factors, map_table(inputs.panel, PANEL))
        universe = newest_universe(inputs.universe)
        address = folder if is_address(folder) else ""
        with opened(folder, lambda name: name == CURRENT, last=[FEAST_CONFIG, CURRENT]) as store:
            publication = publish_factors(table, parsed, store)
            symbols = put_online(publication, parsed, store, address=address, closes=bars, universe=universe)
        atomic_write_text(outputs.registry, json.dumps({**publication, "code_version": code}, indent=1))
        atomic_write_text(outputs.universe, json.dumps(universe.as_json()))
        outside = f", {len(universe.outside):,} of them outside the universe" if universe.outside else ""
        report(
            "materialise",
            f"{symbols:,} symbols online at {publication['newest'][:16]}{outside}, service"
            f" {publication['service']}, {len(publication['columns'])} inputs",
        )
    return publication["publication"]


def run_make_training_set(
    inputs: TrainingInputs, target: str | os.PathLike, *, folder: str, settings: str, code: str
) -> None:
    """Join the model's inputs to every (timestamp, symbol) of the panel through Feast, as known at that
    moment, and write the TRAINING_SET to `target`.

    Raises
    ------
    ContractError
        If a table is damaged, or the publication is of another factors table or catalog.
    """
    with stage("training set"):
        TRAINING_SET_NEED.require(inputs.factors)
        parsed, target = Settings.model_validate_json(settings), Path(target)
        rows = scan_table(inputs.panel, PANEL).select("timestamp", "symbol", "sector")
        wanted = (CURRENT, f"data/{inputs.publication}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        # What is online is wanted by its name: a publication that is written again prunes others.
        with (
            opened(folder, lambda name: name.startswith(wanted)) as place,
            tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as parts,
        ):
            catalog = read_catalog(inputs.catalog)
            published = restore(
                inputs.publication, inputs.factors, catalog, inputs.period, settings=parsed, folder=place
            )
            with publication_store(published, place) as store:
                files = training_parts(store, published["service"], rows, Path(parts))
            panel_sha256 = read_stamp(inputs.panel).content_sha256
            write_parts(
                files,
                target,
                TRAINING_SET,
                code_version=code,
                config_hash=config_hash(parsed),
                inputs={"factors": published["factors_sha256"], "panel": panel_sha256},
            )
        report("training set", f"{table_rows(target):,} rows, {len(published['columns'])} inputs")
