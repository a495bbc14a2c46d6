"""From the answer log to the table that drift is measured on: what the champion answered on bars that it has
not learned from.
"""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from components.contracts import SERVED
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
    known_until = champion.known_until
    # An answer on a later bar was given later; in a simulation whose bars lie ahead of this clock that says
    # nothing.
    since = known_until if known_until < datetime.now(UTC) else None
    rows = read_served(served, since=since, bundle_sha256=champion.bundle_sha256).filter(
        pl.col("timestamp") > known_until
    )
    newest = rows["timestamp"].unique().sort().tail(window_bars)
    return rows.filter(pl.col("timestamp").is_in(newest.implode())).sort(SERVED.key)
