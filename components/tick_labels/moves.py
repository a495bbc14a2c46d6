"""How much there is to learn from: moves that pay and do not overlap."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from components.compiling import compiled
from components.contracts.errors import ContractError
from components.tick_labels.config import Settings


def moves_that_pay(paying: pl.DataFrame, latency_ns: Mapping[str, int]) -> dict[str, int]:
    """How many of the labels of each symbol share no moment with one counted before.

    Parameters
    ----------
    paying : `symbol`, `timestamp` and `label_end` of LABELS of one horizon that pay, by time for each symbol
    latency_ns : from a sample to its entry, by symbol
    """
    counted = dict.fromkeys(latency_ns, 0)
    for (symbol,), rows in paying.group_by("symbol", maintain_order=True):
        # The next microsecond, as `label_end` has it.
        start = rows["timestamp"].to_physical().to_numpy() - (-latency_ns[symbol] // 1_000)
        counted[symbol] = int(count_apart(start, rows["label_end"].to_physical().to_numpy()))
    return counted


@compiled()
def count_apart(starts, ends):
    """How many of these stretches, sorted by start, are left where each begins after the one before ended."""
    count, over = 0, np.iinfo(np.int64).min
    for row in range(len(starts)):
        if starts[row] >= over:
            count, over = count + 1, ends[row]
    return count


def require_moves(counted: dict[str, int], settings: Settings) -> None:
    """ContractError where fewer moves pay than there must be to learn from."""
    total = sum(counted.values())
    if total < settings.fewest_moves:
        each = ", ".join(f"{symbol} {count:,}" for symbol, count in sorted(counted.items()))
        raise ContractError(
            f"Only {total:,} moves over {settings.primary_horizon_ms:,} ms pay after {settings.fee_bps:g} bps"
            f" a side and the walk of the book without overlapping ({each}); {settings.fewest_moves:,} are"
            " needed to learn from. Give more sessions, set tick_labels.primary_horizon_ms to a longer"
            " horizon, or tick_labels.fewest_moves to what you put up with."
        )
