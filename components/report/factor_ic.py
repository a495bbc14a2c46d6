"""How each factor alone orders what happens next: RankIC by window, by year and over lags."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from components.contracts import CatalogEntry
from components.metrics import ic_summary, row_correlations, to_matrix
from components.progress import track

LAGS = (0, 1, 2, 3, 5, 8, 12, 20)
DECAY_FACTORS = 6
TABLE = {
    "column": pl.String,
    "group": pl.String,
    "rank_ic": pl.Float64,
    "t": pl.Float64,
    "icir": pl.Float64,
    "rank_ic_test": pl.Float64,
}
BY_YEAR = {"column": pl.String, "year": pl.Int32, "rank_ic": pl.Float64}
DECAY = {"column": pl.String, "lag": pl.Int32, "rank_ic": pl.Float64}


@dataclass(frozen=True)
class FactorIc:
    """`table`: column, group, rank_ic, t, icir before the test window, and rank_ic_test.

    `by_year`: rows (column, year, rank_ic).
    `decay`: rows (column, lag, rank_ic), before the test window."""

    table: pl.DataFrame
    by_year: pl.DataFrame
    decay: pl.DataFrame


@dataclass(frozen=True)
class _Grid:
    """Bars and symbols of the factors as axes. `ranks` are the label's, shape (bars, symbols)."""

    calendar: pl.Series
    rows: np.ndarray
    columns: np.ndarray
    ranks: np.ndarray

    @classmethod
    def of(cls, factors: pl.DataFrame, labels: pl.DataFrame, target: str, horizon: int) -> "_Grid":
        calendar, symbols = factors["timestamp"].unique().sort(), factors["symbol"].unique().sort()
        ranked = pl.col(target).cast(pl.Float64).rank().over("timestamp").alias("rank")
        label = labels.filter(pl.col("horizon") == horizon).select("timestamp", "symbol", ranked)
        rows = calendar.search_sorted(factors["timestamp"]).to_numpy()
        columns = symbols.search_sorted(factors["symbol"]).to_numpy()
        return cls(calendar, rows, columns, to_matrix(label, "rank", calendar, symbols))

    def ranks_of(self, factors: pl.DataFrame, entry: CatalogEntry) -> np.ndarray:
        """The column's ranks by bar, shape (bars, symbols), NaN where there is no value."""
        matrix = np.full(self.ranks.shape, np.nan)
        values = pl.col(entry.column).fill_nan(None)
        values = values if entry.normalisation == "rank" else values.rank().over("timestamp")
        found = factors.select(values.cast(pl.Float64).fill_null(np.nan)).to_series()
        matrix[self.rows, self.columns] = found.to_numpy()
        return matrix


def factor_ic(
    factors: pl.DataFrame,
    labels: pl.DataFrame,
    catalog: list[CatalogEntry],
    *,
    target: str,
    horizon: int,
    first_test: datetime,
) -> FactorIc:
    """Cross-sectional rank correlation of each input column with the label of one horizon.

    Inputs that are the same for all symbols of a bar (calendar, market regime) order nothing and are left
    out.

    Parameters
    ----------
    factors, labels : FACTORS and LABELS frames
    first_test : timestamp where the test window begins; factors are ranked and drawn by what was seen before
        it
    """
    grid = _Grid.of(factors, labels, target, horizon)
    before = (grid.calendar < first_test).to_numpy()
    years = grid.calendar.dt.year().to_numpy()
    entries = [entry for entry in catalog if entry.role == "input"]
    table, by_year, strongest = [], [], {}
    for entry in track("report", entries, what="factor IC"):
        matrix = grid.ranks_of(factors, entry)
        daily = row_correlations(matrix, grid.ranks)
        known = ic_summary(daily[before], horizon=horizon)
        if not np.isfinite(known["mean"]):
            continue
        figures = (known["mean"], known["t_hac"], known["icir"], _mean(daily[~before]))
        table.append((entry.column, entry.group, *figures))
        by_year.extend((entry.column, int(year), _mean(daily[years == year])) for year in np.unique(years))
        strongest[entry.column] = (abs(known["mean"]), matrix)
        kept = sorted(strongest, key=lambda name: -strongest[name][0])[:DECAY_FACTORS]
        strongest = {name: strongest[name] for name in kept}
    decay = [
        (name, lag, _mean(_late(matrix, grid.ranks, lag)[before[lag:]]))
        for name, (_, matrix) in strongest.items()
        for lag in LAGS
    ]
    ordered = pl.DataFrame(table, schema=TABLE, orient="row").sort(
        pl.col("rank_ic").abs(), descending=True, nulls_last=True
    )
    return FactorIc(
        ordered,
        pl.DataFrame(by_year, schema=BY_YEAR, orient="row"),
        pl.DataFrame(decay, schema=DECAY, orient="row"),
    )


def _late(matrix: np.ndarray, ranks: np.ndarray, lag: int) -> np.ndarray:
    """Correlation of the values with the ranks `lag` bars later, by the later bar."""
    return row_correlations(matrix[: len(matrix) - lag], ranks[lag:])


def _mean(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None
