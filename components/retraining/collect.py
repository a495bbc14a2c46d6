"""From the answer log to the table that drift is measured on: what the champion answered on bars that it has
not learned from.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from components.contracts import SERVED, hour_folder
from components.contracts.documents.champion import ChampionRecord
from components.contracts.served import read_served


def collect_served(served: Path, champion: ChampionRecord | None, *, window_bars: int) -> pl.DataFrame:
    """The champion's newest answer for each symbol on the newest `window_bars` bars after its training data.

    Answers of other versions are left out: their scores are not the champion's. Bars that the champion has
    learned from are left out: they are its reference.

    Parameters
    ----------
    served : folder of the answer log
    champion : None where there is none; then no row comes back

    Returns
    -------
    A SERVED table, sorted by its key.
    """
    if champion is None:
        return pl.DataFrame(schema=SERVED.columns)
    rows = read_served(served, since=_since(champion), bundle_sha256=champion.bundle_sha256).filter(
        pl.col("timestamp") > champion.known_until
    )
    newest = rows["timestamp"].unique().sort().tail(window_bars)
    return rows.filter(pl.col("timestamp").is_in(newest.implode())).sort(SERVED.key)


def answers_wanted(champion: ChampionRecord | None) -> Callable[[str], bool]:
    """Which files of the answer log, by their names in it, may hold answers that `collect_served` counts."""
    since = _since(champion) if champion else None
    first = f"{hour_folder('', since).name}/" if since else ""
    return lambda name: champion is not None and name >= first


def _since(champion: ChampionRecord) -> datetime | None:
    """The moment before which no answer counts: one on a later bar was given later.

    None in a simulation whose
    bars lie ahead of this clock, which says nothing then.
    """
    return champion.known_until if champion.known_until < datetime.now(UTC) else None
