"""What the door of the market calls: load the panel of the configured source, and write it with its
origin.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from components.contracts import RAW_PANEL, write_table
from components.market.config import Settings
from components.market.load import Market, describe, load_panel
from components.market.source_hash import market_sha256
from components.market.truth import write_truth
from components.progress import report, stage, warn
from components.settings import config_hash


@dataclass(frozen=True)
class Inputs:
    """The simulator's `seed`, and the content hash of the `source`; empty where nobody has hashed it yet.

    Files lie in the folder that ALPHALOOP_DATA names.
    """

    seed: int
    source: str = ""


@dataclass(frozen=True)
class Outputs:
    """Where RAW_PANEL goes, and the simulator's truth (an empty table for any other source)."""

    panel: str | os.PathLike
    truth: str | os.PathLike


def run(inputs: Inputs, outputs: Outputs, *, settings: str, code: str) -> Market:
    """Load the raw panel; its faults stay in, for validation to find."""
    with stage("ingest"):
        parsed = Settings.model_validate_json(settings)
        folder = Path(os.environ.get("ALPHALOOP_DATA", "data"))
        market = load_panel(parsed, data_folder=folder, seed=inputs.seed)
        origin = {"source": inputs.source or market_sha256(parsed, folder, inputs.seed)}
        stamp = {"code_version": code, "config_hash": config_hash(parsed), "inputs": origin}
        write_table(market.panel, outputs.panel, RAW_PANEL, **stamp)
        write_truth(market.truth, outputs.truth)
        for note in market.notes:
            warn("ingest", note)
        report("ingest", describe(market.panel))
    return market
