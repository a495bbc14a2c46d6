"""What the door of the universe calls: read the panel, write which of its rows can be traded."""

import os

from components.contracts import PANEL, UNIVERSE, map_table, read_stamp, write_table
from components.market.universe import described, tradable_universe
from components.market.universe_config import UniverseSettings
from components.memory.need import MIB, Need
from components.progress import report, stage
from components.settings import config_hash

# Simulated panels of 48,664 and 290,827 rows: 113 and 145 to 160 MiB.
NEED = Need("universe", base=100 * MIB, row=150, cell=0)


def run_make_universe(
    panel: str | os.PathLike, universe: str | os.PathLike, *, settings: str, code: str
) -> None:
    """Write the UNIVERSE table of a PANEL; `settings` is JSON of `market.universe`.

    Raises
    ------
    ContractError
        If the panel is damaged.
    MarketError
        As `tradable_universe`.
    """
    with stage("universe"):
        NEED.require(panel)
        parsed = UniverseSettings.model_validate_json(settings)
        made = tradable_universe(map_table(panel, PANEL), parsed)
        stamp = {"code_version": code, "config_hash": config_hash(parsed)}
        write_table(made, universe, UNIVERSE, inputs={"panel": read_stamp(panel).content_sha256}, **stamp)
        report("universe", described(made))
