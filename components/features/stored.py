"""The factors table so far, to which rows of new bars are added, and what must hold for that."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from components.contracts import FACTORS
from components.features.catalog import catalog, declared_factors
from components.features.config import Settings
from components.features.errors import FeatureError
from components.features.library import Factor
from components.features.support import unsupported


class Stored:
    """The factors table so far."""

    def __init__(self, previous: pl.DataFrame | pl.LazyFrame):
        self.frame = previous.lazy()
        self.columns = self.frame.collect_schema().names()
        self.eager = previous if isinstance(previous, pl.DataFrame) else None
        self.last = self.frame.select(pl.col("timestamp").max()).collect().item()
        if self.last is None:
            raise FeatureError(
                "The factors table holds no rows, so there is nothing to add to. Build the whole table."
            )

    def since(self, moment: datetime, columns: Sequence[str]) -> pl.DataFrame:
        """The rows from `moment` on."""
        if self.eager is not None and self.eager["timestamp"].is_sorted():
            return self.eager[int(self.eager["timestamp"].search_sorted(moment)) :].select(columns)
        return self.frame.filter(pl.col("timestamp") >= moment).select(columns).collect()

    def symbols_before(self, moment: datetime) -> pl.Series:
        """The symbols that had bars before `moment`."""
        return (
            self.frame.filter(pl.col("timestamp") < moment)
            .select(pl.col("symbol").unique())
            .collect()
            .to_series()
        )

    def series(self, columns: Sequence[str]) -> pl.DataFrame:
        """One row a timestamp, of columns that are equal for all symbols."""
        return (
            self.frame.select("timestamp", *columns)
            .unique("timestamp", keep="first")
            .sort("timestamp")
            .collect()
        )


def buildable(stored: Stored, panel: pl.DataFrame, settings: Settings, period: str) -> list[Factor]:
    """The factors that the panel supports; refused where the stored table has others than these settings
    give.
    """
    expected = {entry.column: entry.factor for entry in catalog(settings, period)}
    surplus = [name for name in stored.columns if name not in expected and name not in FACTORS.columns]
    if surplus:
        raise FeatureError(
            f"The factors table has a column {surplus[0]!r} that these settings do not give. Build the whole"
            " table with these settings."
        )
    gone = unsupported(panel, settings)
    added = [
        factor for column, factor in expected.items() if column not in stored.columns and factor not in gone
    ]
    if added:
        raise FeatureError(
            f"The factors table lacks {added[0]!r}, which these settings and this panel give. Build the whole"
            " table again, so that its history has the column too."
        )
    return [factor for factor in declared_factors(settings, period) if factor.name not in gone]


def refuse_other_bars(panel: pl.DataFrame, stored: Stored) -> None:
    """Refuse a panel that has lost or gained bars since the table was built."""
    old, known = panel.select(*FACTORS.key), stored.since(panel["timestamp"][0], FACTORS.key)
    if old.equals(known):
        return
    lost, gained = known.join(old, on=FACTORS.key, how="anti"), old.join(known, on=FACTORS.key, how="anti")
    what, rows = (
        ("has no bar for", lost)
        if len(lost)
        else ("has a bar that the factors table does not know for", gained)
    )
    if rows.is_empty():
        raise FeatureError(
            "The factors table or the panel is out of order or repeats rows. Build the whole table again."
        )
    row = rows.sort(*FACTORS.key).row(0, named=True)
    raise FeatureError(
        f"The panel {what} {row['symbol']} at {row['timestamp']:%Y-%m-%d %H:%M} ({len(rows):,} such bars), so"
        " it isn't the one that the factors table was built from. Build the whole table again."
    )


def refuse_revised(table: pl.DataFrame, stored: Stored) -> None:
    """Refuse a panel whose newest old rows come out otherwise than stored."""
    known = stored.since(stored.last, [name for name in table.columns if name in stored.columns])
    if table.select(known.columns).equals(known):
        return
    for name in known.columns:
        differs = table[name].ne_missing(known[name])
        if differs.any():
            row = int(differs.arg_true()[0])
            raise FeatureError(
                f"A bar was revised: {name} of {table['symbol'][row]} at"
                f" {table['timestamp'][row]:%Y-%m-%d %H:%M} is stored as {known[name][row]}, the panel now"
                f" gives {table[name][row]}. Build the whole table again, so that no row rests on the old"
                " bar."
            )
