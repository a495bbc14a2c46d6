"""The universe that can be traded, beside the online rows: which symbols are outside of it at their newest
bar.

It is no part of the publication: another universe only judges and sizes anew, and no model learns from it.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from components.contracts import UNIVERSE, read_stamp, read_table

KEY = "universe"


@dataclass(frozen=True)
class OnlineUniverse:
    """`rules` is the hash of the settings `market.universe` by which the universe was made (`config_hash`);
    `outside` are the symbols whose newest bar is not in it.
    """

    rules: str
    outside: frozenset[str]

    def as_json(self) -> dict[str, Any]:
        """JSON types only."""
        return {**asdict(self), "outside": sorted(self.outside)}


def newest_universe(universe: str | os.PathLike) -> OnlineUniverse:
    """Of a stamped UNIVERSE table.

    Raises
    ------
    ContractError
        If the table is damaged.
    """
    table = read_table(universe, UNIVERSE)
    newest = table.group_by("symbol").agg(pl.col("tradable").sort_by("timestamp").last())
    outside = newest.filter(~pl.col("tradable"))["symbol"]
    return OnlineUniverse(read_stamp(universe).config_hash, frozenset(outside))


def read_online_universe(current: Mapping[str, Any]) -> OnlineUniverse | None:
    """That of the description of what is online; None where it does not say."""
    found = current.get(KEY)
    return None if found is None else OnlineUniverse(found["rules"], frozenset(found["outside"]))
