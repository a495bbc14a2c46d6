"""What the join needs of a panel: symbols as numbers and times as integers, made once for all tables."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

NEVER_US = np.iinfo(np.int64).min


@dataclass(frozen=True)
class PanelKeys:
    """The rows of a panel, times in microseconds since 1970.

    `symbols` sorted; for each row the number of its `symbol` and when it was known; `first_us`: the first bar
    of each symbol, NEVER_US for those as old as the panel.
    """

    symbols: list[str]
    symbol: np.ndarray
    known_us: np.ndarray
    first_us: np.ndarray
    keys: pl.DataFrame

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """The distinct known times, and the number of each row's."""
        return np.unique(self.known_us, return_inverse=True)


def panel_keys(panel: pl.DataFrame) -> PanelKeys:
    """The keys of a PANEL table."""
    symbols = panel["symbol"].unique().sort().to_list()
    code = panel["symbol"].cast(pl.Enum(symbols)).to_physical().cast(pl.Int64).to_numpy()
    known = panel["known_time"].to_physical().fill_null(NEVER_US + 1).to_numpy()
    first = (
        panel.group_by("symbol")
        .agg(pl.col("timestamp").min())
        .sort("symbol")["timestamp"]
        .to_physical()
        .to_numpy()
    )
    young = np.where(first > first.min(), first, NEVER_US) if len(first) else first
    return PanelKeys(symbols, code, known, young, panel.select("timestamp", "symbol"))
