"""What the door of the market calls: load the panel of the configured source, and write it with its
origin.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from components.contracts import RAW_PANEL, write_table
from components.market.config import Settings
from components.market.errors import MarketError
from components.market.load import Market, describe, load_panel
from components.market.source_hash import market_sha256
from components.market.truth import write_truth
from components.memory.need import MIB, Need
from components.progress import report, stage, warn
from components.settings import config_hash

# Of the simulator, which knows beforehand how many bars it makes; 36,000, 150,000 and 2,000,000: 70, 113 and
# 742 MiB.
NEED = Need("ingest", base=60 * MIB, row=357, cell=0)


@dataclass(frozen=True)
class Inputs:
    """The simulator's `seed`, and the content hash that the `source` had when the run began; empty where
    nobody hashed it.

    Files lie in the folder that ALPHALOOP_DATA names, or in S3.
    """

    seed: int
    source: str = ""


@dataclass(frozen=True)
class Outputs:
    """Where RAW_PANEL goes, and the simulator's truth (an empty table for any other source)."""

    panel: str | os.PathLike
    truth: str | os.PathLike


def run_source(*, settings: str, seed: int) -> str:
    """The content hash of the market data where it lies."""
    with stage("source"):
        found = market_sha256(Settings.model_validate_json(settings), _data_folder(), seed)
        report("source", f"market data {found[:12]}")
    return found


def run(inputs: Inputs, outputs: Outputs, *, settings: str, code: str) -> Market:
    """Load the raw panel; its faults stay in, for validation to find.

    Raises
    ------
    MarketError
        As `load_panel`, and where the data are not those that the run began with.
    """
    with stage("ingest"):
        parsed = Settings.model_validate_json(settings)
        if parsed.source == "simulator":
            NEED.require_for(parsed.simulator.symbols * parsed.simulator.bars, len(RAW_PANEL.columns))
        market = load_panel(parsed, data_folder=_data_folder(), seed=inputs.seed)
        if inputs.source and inputs.source != market.source_sha256:
            raise MarketError(
                f"The market data changed since this run began: it was {inputs.source[:12]} then and is"
                f" {market.source_sha256[:12]} now. Run again when nobody writes to it."
            )
        origin = {"source": market.source_sha256}
        stamp = {"code_version": code, "config_hash": config_hash(parsed), "inputs": origin}
        write_table(market.panel, outputs.panel, RAW_PANEL, **stamp)
        write_truth(market.truth, outputs.truth)
        for note in market.notes:
            warn("ingest", note)
        report("ingest", describe(market.panel))
    return market


def _data_folder() -> Path:
    return Path(os.environ.get("ALPHALOOP_DATA", "data"))
