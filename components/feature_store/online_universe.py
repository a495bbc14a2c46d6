"""The universe that can be traded, beside the online rows: which symbols are outside of it at their newest
bar.

It is no part of the publication: another universe only judges and sizes anew, and no model learns from it.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from components.contracts import UNIVERSE, ContractError, map_table, read_stamp

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
    table = map_table(universe, UNIVERSE)
    newest = table.group_by("symbol").agg(pl.col("tradable").sort_by("timestamp").last())
    outside = newest.filter(~pl.col("tradable"))["symbol"]
    return OnlineUniverse(read_stamp(universe).config_hash, frozenset(outside))


def read_online_universe(current: Mapping[str, Any], *, source: str) -> OnlineUniverse | None:
    """That of a store's current.json; None where it does not say.

    Raises
    ------
    ContractError
        If what stands there is of another form.
    """
    found = current.get(KEY)
    if found is None:
        return None
    try:
        outside = found["outside"]
        if not isinstance(outside, list):
            raise TypeError(f"outside is {outside!r}")
        return OnlineUniverse(str(found["rules"]), frozenset(map(str, outside)))
    except (KeyError, TypeError) as error:
        raise ContractError(
            f"{source} holds {KEY!r} of another form ({type(error).__name__}: {error}); expected rules and"
            " the symbols outside. Run `alphaloop materialise`; it writes them anew."
        ) from error
